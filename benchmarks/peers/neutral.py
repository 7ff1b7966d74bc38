"""The neutral judge: it knows a cluster and where its VMs end, and nothing of who said so.

It is written from the definitions alone and shares no code with any planner, ours included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, Unit

GIB = 2**30
CPU_LIMIT, MEMORY_LIMIT = 0.80, 0.85  # of the default policy
MOVE_COST = 0.04
TANGENTS = (0.0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
ROUNDING = 1e-9

Floats = npt.NDArray[np.float64]
Place = Mapping[str, str]  # VM id to host name


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a placement is worth. Utilisations are shares of a host, 0..1, over all hosts.

    Attributes:
        moves: VMs that are not where they were.
        gib: Their memory.
        over: Hosts above a limit of CPU or memory.
        cpu_sd, cpu_max, memory_sd, memory_max: Spread and maximum of the hosts' utilisations.
        score: J, the balance score: unevenness, overload and the cost of moving.
        broken: How often rules are broken.
    """

    moves: int
    gib: float
    over: int
    cpu_sd: float
    cpu_max: float
    memory_sd: float
    memory_max: float
    score: float
    broken: int


def judge(cluster: Cluster, place: Place) -> Verdict:
    """Measure where VMs end; every VM that runs counts, and every host is up.

    Raises:
        ValueError: The placement lacks a VM or names a host that is not there.
    """
    names = {host.name: at for at, host in enumerate(cluster.hosts)}
    missing = [vm.id for vm in cluster.vms if place.get(vm.id) not in names]
    if missing or len(place) != len(cluster.vms):
        raise ValueError(f"not a placement of {cluster.name}: {missing[:3] or 'unknown VMs'}")
    at = np.array([names[place[vm.id]] for vm in cluster.vms], dtype=np.int64)
    need = np.array([(vm.cpu_used_cores, vm.memory_assigned_bytes) for vm in cluster.vms]).T
    room = np.array([(host.cpu_cores, host.memory_bytes) for host in cluster.hosts]).T
    load = np.stack([np.bincount(at, row, minlength=len(names)) for row in need])
    used = load / room
    moved = np.array([place[vm.id] != vm.host for vm in cluster.vms])
    gib = need[1, moved] / GIB
    limit = np.array([[CPU_LIMIT], [MEMORY_LIMIT]])
    excess = np.maximum(0.0, used - limit)
    mean = load.sum(axis=1, keepdims=True) / room.sum(axis=1, keepdims=True)
    cost = MOVE_COST * (gib + 2.0).sum() / (room[1].mean() / GIB)
    return Verdict(
        moves=int(moved.sum()),
        gib=float(gib.sum()),
        over=int((excess > ROUNDING).any(axis=0).sum()),
        cpu_sd=float(used[0].std()),
        cpu_max=float(used[0].max()),
        memory_sd=float(used[1].std()),
        memory_max=float(used[1].max()),
        score=float(unevenness(used - mean).sum() + 10.0 * excess.sum() + cost),
        broken=sum(_broken(cluster, place)),
    )


def unevenness(off: Floats) -> Floats:
    """Return the largest tangent of the parabola, of those that touch it at `TANGENTS`."""
    lines = [2.0 * at * np.abs(off) - at * at for at in TANGENTS]
    return np.asarray(np.max(lines, axis=0), dtype=np.float64)


def _broken(cluster: Cluster, place: Place) -> Iterator[int]:
    """Yield how often each hard rule is broken where its VMs end."""
    for rule in cluster.rules:
        for form in rule.says(cluster) if rule.hard else ():
            match form:
                case AllowedHosts():
                    yield sum(place[vm] not in form.hosts for vm in form.vms)
                case Cap():
                    there = [sum(place[vm] in hosts for vm in form.vms) for hosts in form.domains]
                    yield sum(max(0, count - form.limit) for count in there)
                case Unit():
                    where = [any(place[vm] in hosts for vm in form.vms) for hosts in form.domains]
                    yield max(0, sum(where) - 1)
                case _:
                    raise ValueError(f"the neutral judge does not know what {rule} says")
