"""Bringing VMs back: each to the host it was on, as far as rules and room allow now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from balancer.model.cluster import Cluster
from balancer.model.plan import NotMoved, Plan
from balancer.planner.carry import carry
from balancer.planner.construct import bound_together
from balancer.planner.drain import for_drain
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found
from balancer.planner.plan import Stamp, assemble, named
from balancer.planner.problem import Problem, build
from balancer.planner.refit import FINISH_UNITS
from balancer.planner.score import legal_end
from balancer.planner.state import State
from balancer.planner.stays import obstacles
from balancer.planner.work import Work
from balancer.policy.policy import Policy


def bring_back(
    cluster: Cluster,
    policy: Policy,
    homes: Mapping[str, str],
    *,
    now: datetime,
    snapshot_sha256: str = "",
    solver: Solver = "auto",
) -> tuple[Plan, Policy]:
    """Plan to move VMs to where they were, the largest first; return also what it was judged by.

    Exempt like the drain before it from caps a run, windows, and what is asked of failures; what
    is kept free on each host, thresholds and rules hold. What cannot go back is named in
    `not_moved` and stays where it is.

    Args:
        cluster: The snapshot.
        policy: The policy in force.
        homes: The host of each VM, by id. VMs that are gone, stopped or there already are passed
            over.
        now: When the plan is made.
        snapshot_sha256: Of the snapshot document, carried into the plan.
        solver: HiGHS, CBC, or whichever is installed.

    Raises:
        InputError: Rules contradict each other.
    """
    policy = for_drain(policy, keep_reserve=True)
    # The drain made the empty host that one large hole is; what fitted before it is to fit again.
    policy = replace(policy, reserve=replace(policy.reserve, host_failures=0, domain_failure=""))
    problem = build(cluster, policy, now=now)
    index = {host.name: at for at, host in enumerate(problem.hosts)}
    state = State(problem)
    stay: list[NotMoved] = []
    wanted = {
        vm: index[homes[one.id]]
        for vm, one in enumerate(problem.vms)
        if homes.get(one.id) in index and one.is_load and homes[one.id] != one.host
    }
    for unit in _units(problem, wanted):
        for vm, why in _move(state, unit, wanted).items():
            one = problem.vms[vm]
            stay.append(NotMoved(one.id, one.name, one.host, why))
    work = Work(FINISH_UNITS)
    carried = carry(problem, state.place, work, solver, asked_for=True)
    for vm, text in carried.dropped.items():
        one = problem.vms[vm]
        stay.append(NotMoved(one.id, one.name, one.host, text))
    stamp = Stamp(now, snapshot_sha256)
    made = assemble(problem, Found(carried.place), carried, work, stamp, solver, asked_for=True)
    made = replace(made, id="", not_moved=tuple(stay), unresolved=())
    return named(made), policy


def _units(problem: Problem, wanted: Mapping[int, int]) -> list[list[int]]:
    """Return what goes back as one, the largest first: VMs that must be together, else each."""
    units, bound = list[list[int]](), set[int]()
    for members, _ in bound_together(problem.groups):
        going = [vm for vm in members.tolist() if vm in wanted]
        if len(going) > 1:
            units.append(going)
            bound.update(going)
    units += [[vm] for vm in wanted if vm not in bound]
    sizes = [vm.memory_assigned_bytes for vm in problem.vms]
    return sorted(units, key=lambda unit: (-sum(sizes[vm] for vm in unit), unit))


def _move(state: State, unit: list[int], wanted: Mapping[int, int]) -> dict[int, str]:
    """Move a unit to where it was; if it may not, leave it and return why, by VM."""
    problem, before = state.problem, {vm: int(state.place[vm]) for vm in unit}
    against = dict[int, str]()
    for vm in unit:
        for other in unit:
            state.move(other, before[other] if other == vm else wanted[other])
        if why := obstacles(state, vm, wanted[vm]):
            against[vm] = "; ".join(why)
    for vm in unit:
        state.move(vm, wanted[vm])
    if not against and legal_end(problem, state.place):
        return {}
    for vm in unit:
        state.move(vm, before[vm])
    whole = next(iter(against.values()), "a rule or the load of the host stands against it")
    return {vm: against.get(vm, whole) for vm in unit}
