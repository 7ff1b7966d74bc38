"""Questions about single VMs: the best host for a new one, and why one is not elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.planner.lowered import receivers
from balancer.planner.problem import CPU, GIB, MEMORY, Floats, Problem, build
from balancer.planner.restrain import restrain
from balancer.planner.score import OVERLOAD_WEIGHT, host_costs
from balancer.planner.state import State
from balancer.planner.stays import obstacles
from balancer.planner.words import RESOURCES, beyond, percent
from balancer.policy.capacity import why_no_target
from balancer.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class PlacementAdvice:
    """One host for a new VM: what J would be, and what speaks for it or against it."""

    host: str
    score_after: float
    reason: str
    obstacle: str


def place(
    cluster: Cluster, policy: Policy, cpu_cores: float, memory_bytes: int
) -> tuple[PlacementAdvice, ...]:
    """Rank all hosts for a new VM: those that can take it by J, then the others likewise.

    Args:
        cluster: The snapshot.
        policy: Thresholds and reserve; rules do not know the VM yet.
        cpu_cores: Cores it is expected to use on a host of speed 1.
        memory_bytes: Its memory.

    Raises:
        InputError: Rules contradict each other, or a size is negative or not finite.
    """
    if not (np.isfinite(cpu_cores) and cpu_cores >= 0 and memory_bytes >= 0):
        raise InputError(
            f"a VM cannot use {cpu_cores} cores and {memory_bytes} bytes",
            remedy="give sizes of zero or more",
        )
    problem = build(cluster, policy)
    able = receivers(problem.caps, problem.hosts)
    size = np.array([[cpu_cores], [float(memory_bytes)]])
    found = [_advise(problem, host, size, able=bool(able[host])) for host in range(len(able))]
    return tuple(sorted(found, key=lambda one: (one.obstacle != "", one.score_after, one.host)))


def _advise(problem: Problem, host: int, size: Floats, *, able: bool) -> PlacementAdvice:
    used = problem.before.copy()
    used[:, host] += size[:, 0] * problem.scale[:, host]
    capacity = np.where(problem.up, _cores(problem), 0.0)
    total = capacity.sum(axis=1, keepdims=True)
    mean = np.divide(
        (used * capacity).sum(axis=1, keepdims=True),
        total,
        out=np.zeros_like(total),
        where=total > 0,
    )
    score = float(host_costs(problem, used, mean, OVERLOAD_WEIGHT).sum())
    name = problem.hosts[host].name
    before, after = problem.before[:, host], used[:, host]
    reason = ", ".join(
        f"{label} {percent(before[at])} -> {percent(after[at])}" for at, label in RESOURCES.items()
    )
    return PlacementAdvice(name, score, reason, _obstacle(problem, host, size, after, able=able))


def _cores(problem: Problem) -> Floats:
    """Return (2, H) usable capacities in each host's own cores, and bytes."""
    speed = np.array([host.cpu_speed for host in problem.hosts])
    cores: Floats = 1.0 / (problem.scale * np.stack([speed, np.ones(len(speed))]))
    return cores


def _obstacle(problem: Problem, host: int, size: Floats, after: Floats, *, able: bool) -> str:
    target = problem.hosts[host]
    if (fact := why_no_target(target)) is not None:
        return fact
    if not able:
        return f"the policy or the cluster allows no migration on {target.name}"
    if after[MEMORY] > 1.0:
        free = max(0.0, 1.0 - problem.before[MEMORY, host]) / problem.scale[MEMORY, host] / GIB
        return (
            f"{target.name} has {free:.1f} GiB of memory free, "
            f"{size[MEMORY, 0] / GIB:.1f} are needed"
        )
    for at in (CPU, MEMORY):
        limit = float(problem.threshold[at, 0])
        if after[at] > limit:
            share = beyond(after[at], limit, ", above ")
            return f"{target.name} would be overloaded: {RESOURCES[at]} {share}"
    return ""


def why_not(
    cluster: Cluster, policy: Policy, vm_id: str, host: str, past: Past | None = None
) -> tuple[str, ...]:
    """Return every fact and rule that keeps a VM from a host; empty if nothing does.

    With a past, cool-downs and the day's budget are among them.

    Raises:
        InputError: No such VM or host, or rules contradict each other.
    """
    problem = restrain(build(cluster, policy), past)
    vms = [at for at, vm in enumerate(problem.vms) if vm.id == vm_id]
    hosts = [at for at, one in enumerate(problem.hosts) if one.name == host]
    if not vms:
        raise InputError(f"no VM with id {vm_id!r}", remedy="give the id as the snapshot has it")
    if not hosts:
        known = ", ".join(one.name for one in problem.hosts)
        raise InputError(f"no host named {host!r}", remedy=f"the hosts are: {known}")
    return obstacles(State(problem), vms[0], hosts[0])
