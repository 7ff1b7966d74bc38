"""Emptying hosts: the VMs of the drained hosts move, and no other.

The same tiers as ever, evacuation first, then the least cost, then the most even end; but what is
elsewhere stays where it is. A drain is something a person asked for and waits for: caps a run and
windows do not hold for it, and where room is short it may use the reserve and break soft rules.
Both are said before anything moves, as are failures that are then no longer survived. Hard rules
and memory are kept at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from balancer.errors import InputError
from balancer.model.cluster import Cluster, HostState
from balancer.model.plan import Plan
from balancer.planner.carry import carry
from balancer.planner.drill import Drill, Loss
from balancer.planner.ilp import Solver
from balancer.planner.optimise import once
from balancer.planner.plan import EFFORT, Stamp, assemble, named
from balancer.planner.problem import GIB, MEMORY, Ints, Problem, build, utilisation
from balancer.planner.refit import FINISH_UNITS
from balancer.planner.remedy import remedy_of
from balancer.planner.search import settle_ties
from balancer.planner.state import State
from balancer.planner.stays import what_binds, what_keeps
from balancer.planner.survival import not_survived, what_may_fail
from balancer.planner.words import RESOURCES, cite, percent
from balancer.planner.work import Work
from balancer.policy.capacity import usable, why_immovable
from balancer.policy.policy import Goal, Limits, Policy
from balancer.policy.rules import HostReserve
from balancer.policy.windows import ALWAYS


@dataclass(frozen=True, slots=True)
class Stuck:
    """A VM that cannot leave a drained host.

    Attributes:
        reason: The fact, rule or lack that keeps it.
        remedy: What would let it go.
        immovable: Nothing but a change to the VM itself would: it cannot be live migrated now.
        missing_bytes: Memory that the roomiest host lacks for it; None where memory is not it.
    """

    vm: str
    name: str
    host: str
    reason: str
    remedy: str
    immovable: bool
    missing_bytes: int | None = None


@dataclass(frozen=True)
class Evacuation:
    """How hosts are emptied. The plan is legal on `cluster` under `policy`, and only there.

    Attributes:
        cluster: The snapshot with the hosts marked as draining.
        policy: What of the policy holds for a drain.
        concessions: What is done that a rebalancing would not do, in sentences.
    """

    plan: Plan
    cluster: Cluster
    policy: Policy
    stuck: tuple[Stuck, ...] = ()
    concessions: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that are emptied."""
        return tuple(host.name for host in self.cluster.hosts if host.state is HostState.DRAINING)

    @property
    def refused(self) -> tuple[Stuck, ...]:
        """The VMs for which there is no room or a rule stands against every host."""
        return tuple(one for one in self.stuck if not one.immovable)


def drain(
    cluster: Cluster,
    policy: Policy,
    hosts: Collection[str],
    *,
    now: datetime,
    keep_reserve: bool = False,
    snapshot_sha256: str = "",
    interrupted: Callable[[], bool] | None = None,
    seed: int = 0,
    solver: Solver = "auto",
) -> Evacuation:
    """Plan the live migrations that empty `hosts` of everything that runs.

    The reserve is touched only if the hosts cannot be emptied without it, and what it keeps for
    failures of hosts as little as can be.

    Args:
        cluster: The snapshot.
        policy: Rules, thresholds and concurrency hold; caps a run and windows do not.
        hosts: Names, as the snapshot has them.
        now: When the plan is made.
        keep_reserve: Rather leave VMs behind than use the reserve.
        snapshot_sha256: Of the snapshot document, carried into the plan.
        interrupted: Asked now and then; the best plan so far is returned once it says yes.
        seed: Of the search's choices.
        solver: HiGHS, CBC, or whichever is installed.

    Raises:
        InputError: No such host, a host that cannot be emptied, or contradicting rules.
    """
    marked = mark(cluster, hosts)
    strict = for_drain(policy, keep_reserve=True, firm=keep_reserve)
    stamp = Stamp(now, snapshot_sha256)
    lost = frozenset[Loss]()
    if policy.reserve.for_failures:
        present = build(cluster, for_drain(policy, keep_reserve=True))
        lost = frozenset(Drill(present, whole=True).losses(present.home))
    found = _plan(marked, strict, stamp, seed, interrupted, solver, lost)
    if any(not one.immovable for one in found.stuck) and not keep_reserve and _has_reserve(policy):
        found = _plan(marked, for_drain(policy), stamp, seed, interrupted, solver, lost)
        used = _reserve_used(found, policy)
        found = replace(found, concessions=(*used, *found.concessions))
    return found


def mark(cluster: Cluster, hosts: Collection[str]) -> Cluster:
    """Return the snapshot with these hosts draining, whether they are up or paused.

    Raises:
        InputError: There is no such host, or it is down or does not answer.
    """
    for name in hosts:
        host = cluster.host_by_name.get(name)
        if host is None:
            known = ", ".join(sorted(cluster.host_by_name))
            raise InputError(f"no host named {name!r}", remedy=f"the hosts are: {known}")
        if host.state in (HostState.DOWN, HostState.UNKNOWN):
            raise InputError(
                f"{name} cannot be drained: it is {host.state.value}",
                remedy="a host must answer to be emptied; bring it back first",
            )
    return replace(
        cluster,
        hosts=tuple(
            replace(host, state=HostState.DRAINING) if host.name in hosts else host
            for host in cluster.hosts
        ),
    )


def for_drain(policy: Policy, *, keep_reserve: bool = False, firm: bool = False) -> Policy:
    """Return what of a policy holds while hosts are emptied.

    Args:
        policy: The policy in force.
        keep_reserve: Whether what is kept free on each host stays free.
        firm: Whether VMs rather stay than that fewer failures are survived.
    """
    limits, reserve = policy.limits, policy.reserve
    spent = replace(reserve, cpu_fraction=0.0, memory_fraction=0.0, memory_bytes=0)
    return replace(
        policy,
        goal=Goal.RULES_ONLY,
        reserve=reserve if keep_reserve else spent,
        firm=firm,
        rules=tuple(
            rule for rule in policy.rules if keep_reserve or not isinstance(rule, HostReserve)
        ),
        limits=Limits(
            concurrent_per_host=limits.concurrent_per_host,
            concurrent_per_cluster=limits.concurrent_per_cluster,
        ),
        calendar=ALWAYS,
    )


def _has_reserve(policy: Policy) -> bool:
    reserve = policy.reserve
    return bool(reserve.cpu_fraction or reserve.memory_fraction or reserve.memory_bytes) or any(
        isinstance(rule, HostReserve) for rule in policy.rules
    )


def _risks(problem: Problem, place: Ints, lost: Collection[Loss]) -> list[str]:
    """Return a sentence for each failure that is survived less than when `lost` was."""
    return [
        f"no longer survived: {one.subject}: {one.problem} ({one.reason})"
        for one in not_survived(problem, place, had=lost)
    ]


def _reserve_used(found: Evacuation, policy: Policy) -> list[str]:
    """Return a sentence for each host that ends with less free than the reserve."""
    ends = {one.vm: one.target for one in found.plan.migrations}  # the last leg of each wins
    held: dict[str, int] = dict.fromkeys(ends.values(), 0)
    for vm in found.cluster.vms:
        host = ends.get(vm.id, vm.host)
        if vm.is_load and host in held:
            held[host] += vm.memory_needed_bytes
    said: list[str] = []
    for name, size in sorted(held.items()):
        over = size - usable(found.cluster.host_by_name[name], policy).memory_bytes
        if over > 0:
            said.append(f"{over / GIB:.1f} GiB of the memory reserve of {name} are used")
    return said


def _plan(
    marked: Cluster,
    policy: Policy,
    stamp: Stamp,
    seed: int,
    interrupted: Callable[[], bool] | None,
    solver: Solver,
    lost: Collection[Loss],
) -> Evacuation:
    problem = _only_drained(build(marked, policy, now=stamp.now))
    work = Work(EFFORT, None, None, interrupted)
    found = once(problem, work, seed, solver)
    found = replace(found, place=settle_ties(problem, found.place))
    carried = carry(problem, found.place, work.apart(FINISH_UNITS), solver)
    # What is told is told of all failures, whatever a drain that keeps the reserve can hold.
    all_failures = replace(problem, policy=replace(policy, firm=False))
    made = assemble(all_failures, found, carried, work, stamp, solver)
    drained = {host.name for host in marked.hosts if host.state is HostState.DRAINING}
    failures = {one.problem for one in not_survived(all_failures, carried.place)}
    touched = drained | {one.target for one in made.migrations}
    made = replace(
        made,
        not_moved=tuple(one for one in made.not_moved if one.host in drained),
        unresolved=tuple(
            one for one in made.unresolved if one.subject in touched or one.problem in failures
        ),
    )
    return Evacuation(
        plan=named(replace(made, id="")),
        cluster=marked,
        policy=policy,
        stuck=_stuck(problem, carried.place, carried.dropped),
        concessions=(
            *_risks(all_failures, carried.place, lost),
            *_concessions(problem, carried.place),
        ),
    )


def _only_drained(problem: Problem) -> Problem:
    """Return the task with every VM that is not on a draining host left where it is."""
    allowed = problem.allowed.copy()
    staying = np.flatnonzero(~problem.from_drain)
    allowed[staying] = False
    allowed[staying, problem.home[staying]] = True
    return replace(problem, allowed=allowed)


def _stuck(problem: Problem, place: Ints, dropped: dict[int, str]) -> tuple[Stuck, ...]:
    state = State(problem, place)
    left = np.flatnonzero(problem.from_drain & problem.draining[place]).tolist()
    return tuple(_why_stuck(state, vm, dropped.get(vm)) for vm in left)


def _why_stuck(state: State, vm: int, dropped: str | None) -> Stuck:
    problem = state.problem
    one = problem.vms[vm]
    if (fact := why_immovable(problem.cluster, one)) is not None:
        return Stuck(one.id, one.name, one.host, fact, remedy_of(one), immovable=True)
    missing = None if dropped else _missing_bytes(state, vm)
    if missing is not None:
        host, lack = missing
        needed = float(problem.weight[MEMORY, vm]) / GIB
        reason = (
            f"it needs {needed:.1f} GiB of memory, and {lack / GIB:.1f} GiB are missing on "
            f"{host}, which has most room among the hosts that it may go to"
        )
        remedy = f"free {lack / GIB:.1f} GiB on {host}, or shut down {one.name} or another VM"
        return Stuck(
            one.id, one.name, one.host, reason, remedy, immovable=False, missing_bytes=lack
        )
    bound, open_hosts = what_binds(state, vm)
    remedy = f"change what stands against it, or shut {one.name} down"
    if not dropped and not bound and open_hosts and problem.policy.firm:
        dropped = f"without it, {what_may_fail(problem.policy.reserve)} could not fail any more"
        remedy = f"drain without --keep-reserve, or shut down {one.name} or another VM"
    reason = dropped or what_keeps(state, vm)
    return Stuck(one.id, one.name, one.host, reason, remedy, immovable=False)


def _missing_bytes(state: State, vm: int) -> tuple[str, int] | None:
    """Return the roomiest host among those that rules and facts allow, and what it lacks."""
    problem = state.problem
    legal = state.rule_change(vm).legal & ~problem.draining
    if not legal.any():
        return None
    free = (1.0 / problem.scale - state.load)[MEMORY]
    host = max(np.flatnonzero(legal).tolist(), key=lambda at: (free[at], -at))
    lack = float(problem.weight[MEMORY, vm]) - float(free[host])
    return (problem.hosts[host].name, int(np.ceil(lack))) if lack > 0 else None


def _concessions(problem: Problem, place: Ints) -> tuple[str, ...]:
    """Say what the drain does that no other plan would: reserve used, soft rules, overload."""
    said = [*_soft_broken(problem, place)]
    used, moved = utilisation(problem, place), place != problem.home
    for host in sorted(set(place[moved].tolist())):
        name = problem.hosts[host].name
        bytes_used = used[MEMORY, host] / problem.scale[MEMORY, host]
        share = bytes_used / max(1.0, usable(problem.hosts[host], problem.policy).memory_bytes)
        for resource, label in RESOURCES.items():
            level = share if resource == MEMORY else used[resource, host]
            limit = problem.threshold[resource, 0]
            if level > limit and level > problem.before[resource, host]:
                said.append(
                    f"{name} ends with {label} at {percent(level)}, above the threshold "
                    f"of {percent(limit)}"
                )
    return tuple(said)


def _soft_broken(problem: Problem, place: Ints) -> list[str]:
    """Return a sentence for each soft rule that is broken more at `place` than it was."""
    said: set[str] = set()
    soft = problem.soft
    for vm in np.flatnonzero(place != problem.home).tolist():
        row = soft[problem.soft_row[vm]]
        if row[place[vm]] > row[problem.home[vm]]:
            rules = [one for one in problem.lists_of_vm.get(problem.vms[vm].id, ()) if not one.hard]
            what = ", ".join(cite(one.rule) for one in rules) or "a preference"
            said.add(
                f"{problem.vms[vm].name} goes to {problem.hosts[place[vm]].name} against {what}"
            )
    for group in problem.groups:
        before, after = group.counts(problem.home), group.counts(place)
        if not group.hard and group.broken(after) > group.broken(before):
            said.add(f"the soft rule {cite(group.said.rule)} is broken")
    return sorted(said)
