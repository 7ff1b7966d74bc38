"""What a store averaged over equal parts of a time, as readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from balancer.demand.readings import Floats, Readings, empty
from balancer.model.cluster import Cluster

SECOND_US = 1_000_000
Ints = npt.NDArray[np.int64]


def averaged(
    cluster: Cluster, rows: list[tuple[Any, ...]], start_us: int, width_us: int
) -> Readings:
    """Return rows of (VM, host, bucket, mean cores, mean bytes, count) as arrays.

    Args:
        cluster: Says how fast the hosts are that they were read on.
        rows: As the store averaged them.
        start_us: Microseconds since 1970 when bucket 0 begins.
        width_us: Microseconds from one bucket to the next.
    """
    if not rows:
        return empty()
    keys, hosts, buckets, cores, memory, counts = zip(*rows, strict=True)
    vms = tuple(sorted(set(keys)))
    column = {key: at for at, key in enumerate(vms)}
    speeds = {host.name: host.cpu_speed for host in cluster.hosts}
    times, row = np.unique(np.array(buckets, dtype=np.int64), return_inverse=True)
    at = (row, np.array([column[key] for key in keys], dtype=np.int64))
    count = np.array(counts, dtype=float)
    speed = np.array([speeds.get(str(host), 1.0) for host in hosts])
    work = _numbers(cores) * speed
    shape = (len(times), len(vms))
    begins_s: Floats = (start_us + times.astype(np.float64) * width_us) / SECOND_US
    return Readings(
        begins_s,
        vms,
        _mean(work, count, at, shape),
        _mean(_numbers(memory), count, at, shape),
    )


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else float(value) for value in values])


def _mean(values: Floats, count: Floats, at: tuple[Ints, Ints], shape: tuple[int, int]) -> Floats:
    """Return values meant over what falls into one cell, each weighing its count."""
    known = ~np.isnan(values)
    total, weight = np.zeros(shape), np.zeros(shape)
    cells = tuple(index[known] for index in at)
    np.add.at(total, cells, values[known] * count[known])
    np.add.at(weight, cells, count[known])
    mean: Floats = np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0)
    return mean
