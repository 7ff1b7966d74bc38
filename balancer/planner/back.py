"""Bringing VMs back: each to the host it was on, as far as rules and room allow now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from balancer.model.cluster import Cluster
from balancer.model.plan import NotMoved, Plan
from balancer.planner import explain
from balancer.planner.carry import carry
from balancer.planner.drain import for_drain
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found
from balancer.planner.plan import FINISH_UNITS, Stamp, assemble, named
from balancer.planner.problem import build
from balancer.planner.score import legal_end
from balancer.planner.state import State
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

    Exempt from caps a run and windows like the drain before it; reserve, thresholds and rules
    hold. What cannot go back is named in `not_moved` and stays where it is.

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
    problem = build(cluster, policy, now=now)
    index = {host.name: at for at, host in enumerate(problem.hosts)}
    state = State(problem)
    stay: list[NotMoved] = []
    wanted = [
        (vm, index[homes[one.id]])
        for vm, one in enumerate(problem.vms)
        if homes.get(one.id) in index and one.is_load and homes[one.id] != one.host
    ]
    wanted.sort(key=lambda pair: (-problem.vms[pair[0]].memory_assigned_bytes, pair[0]))
    for vm, host in wanted:
        against = explain.obstacles(state, vm, host)
        if not against:
            before = int(state.place[vm])
            state.move(vm, host)
            if legal_end(problem, state.place):
                continue
            state.move(vm, before)
            against = ("a rule or the load of the host stands against it",)
        one = problem.vms[vm]
        stay.append(NotMoved(one.id, one.name, one.host, "; ".join(against)))
    work = Work(FINISH_UNITS)
    carried = carry(problem, state.place, work, solver, asked_for=True)
    for vm, text in carried.dropped.items():
        one = problem.vms[vm]
        stay.append(NotMoved(one.id, one.name, one.host, text))
    stamp = Stamp(now, snapshot_sha256)
    made = assemble(problem, Found(carried.place), carried, work, stamp, solver, asked_for=True)
    made = replace(made, id="", not_moved=tuple(stay), unresolved=())
    return named(made), policy
