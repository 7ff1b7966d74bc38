"""What the moves of a plan may take together, besides their number: bytes, and what a day has left.

The least that a VM's way can copy is what a migration that has the cluster to itself copies, at the
fastest that its host can send: no plan copies less, so what is proven under these sizes is proven.
What a schedule really copies is more where migrations share links, or where the target is busy;
`refit` searches again with sizes as a schedule had them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from balancer.migration.rates import effective_transport
from balancer.model.cluster import Transport
from balancer.planner.timing import Timing

if TYPE_CHECKING:  # a task has this as a part of it
    from balancer.planner.problem import Problem

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GIB = 2**30


@dataclass(frozen=True)
class Budgets:
    """Caps on sums over the VMs that end elsewhere; only those that could bind.

    GiB are whole bytes over a power of two, so sums of them are exact.

    Attributes:
        size: (B, N) what moving each VM takes: GiB, or one migration.
        most: (B,) what there is.
        names: What each is called.
        in_gib: Whether it is GiB.
    """

    size: Floats
    most: Floats
    names: tuple[str, ...]
    in_gib: tuple[bool, ...]

    def __bool__(self) -> bool:
        return bool(self.names)

    def allow(self, moved: Bools) -> bool:
        """Tell whether the (N,) VMs `moved` may all end elsewhere."""
        return not self or bool((self.size[:, moved].sum(axis=1) <= self.most).all())


def budgets_of(problem: Problem) -> Budgets:
    """Read the caps on bytes of a run and of a day, and a day's migrations of VMs it binds."""
    rows = [one for one in _rows(problem) if one[0][problem.movable].sum() > one[1]]
    return Budgets(
        np.array([size for size, *_ in rows]).reshape(len(rows), len(problem.vms)),
        np.array([most for _, most, *_ in rows], dtype=float),
        tuple(name for *_, name, _ in rows),
        tuple(in_gib for *_, in_gib in rows),
    )


def _rows(problem: Problem) -> Iterator[tuple[Floats, float, str, bool]]:
    caps, calm, limits = problem.caps, problem.calm, problem.policy.limits
    if caps.bytes is not None:
        name = f"the cap of {caps.bytes / GIB:.1f} GiB a run"
        yield problem.copied, caps.bytes / GIB, name, True
    if calm.past is None:
        return
    bound = (~calm.exempt).astype(float)
    if calm.day_bytes is not None:
        name = f"the budget of {(limits.bytes_per_day or 0) / GIB:.1f} GiB a day"
        yield problem.copied * bound, calm.day_bytes / GIB, name, True
    if calm.day_moves is not None and calm.exempt.any():  # else it is the cap of the run
        name = f"the budget of {limits.migrations_per_day} migrations a day"
        yield bound, float(calm.day_moves), name, False


def least_copied(problem: Problem) -> Floats:
    """Return the (N,) GiB that each VM that is movable copies at least; zero of the others."""
    timing = Timing(problem)
    copied = np.zeros(len(problem.vms))
    for host in np.unique(problem.home[problem.movable]).tolist():
        vms = problem.movable[problem.home[problem.movable] == host]
        targets = np.flatnonzero(problem.allowed[vms].any(axis=0)).tolist()
        fastest = max(
            timing.rate_alone(host, target, mode)
            for target in targets
            if target != host
            for mode in _modes(problem, host, target)
        )
        copied[vms] = [timing.forecast(vm, fastest).bytes / GIB for vm in vms.tolist()]
    return copied


def _modes(problem: Problem, source: int, target: int) -> tuple[Transport, ...]:
    """Return the transports that a plan may use between two hosts."""
    if problem.policy.transport.write_settings:
        return tuple(Transport)
    ends = (problem.hosts[at].migration.transport for at in (source, target))
    return (effective_transport(*ends),)
