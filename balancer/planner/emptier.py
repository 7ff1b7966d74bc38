"""What emptying host by host leaves undone: other hosts instead, and hosts whose VMs take turns.

Exchanges put a host that costs less in the place of one that was emptied. Small exact models
empty a host onto a few others whose own VMs may make room, where single moves find none.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.empty import empty, only_whole, take_back
from balancer.planner.formulate import all_columns, formulate
from balancer.planner.ilp import Effort, Solver
from balancer.planner.neighbour import neighbours
from balancer.planner.problem import Bools, Ints, Problem
from balancer.planner.score import TIER_TOLERANCE, better, legal_end, measure
from balancer.planner.search import trim
from balancer.planner.state import State
from balancer.planner.tiers import solve_tiers
from balancer.planner.work import Work

EXCHANGES = 24  # dear hosts that were emptied, times cheaper ones, that are tried
EXCHANGE_UNITS = 3000.0
COLUMNS_MAX = 420  # of one model
RECEIVERS = 3
EFFORT = Effort(150)
TRIES_MAX = 24  # models in a row without a gain


def more_asleep(problem: Problem, place: Ints, work: Work, seed: int, solver: Solver) -> Ints:
    """Return `place`, or a better one that empties more hosts, or cheaper ones.

    Args:
        problem: The task, its goal being consolidation.
        place: A legal end.
        work: The budget.
        seed: Of the choice of neighbourhoods.
        solver: HiGHS, CBC, or whichever is installed.
    """
    place = only_whole(problem, place)
    place = _exchanged(problem, place, work)
    place = _by_models(problem, place, work, solver)
    if problem.sleepers.count(place) >= problem.sleepers.count(problem.home):
        # Nothing to empty: what is moved, if anything, is moved for what comes before.
        place = neighbours(problem, trim(problem, place, work), work, seed, solver)
    return place


def _exchanged(problem: Problem, place: Ints, work: Work) -> Ints:
    """Put hosts back and empty cheaper ones instead, as long as that is found to pay."""
    goal = problem.policy.goal
    key = measure(problem, place).key(goal)
    for _ in range(EXCHANGES):
        for dear, cheap in _pairs(problem, place):
            if not work.spend(EXCHANGE_UNITS):
                return place
            state = State(problem, place)
            for vm in np.flatnonzero((problem.home == dear) & (place != problem.home)).tolist():
                state.move(vm, dear)
            attempt = empty(state, cheap, work)
            found = measure(problem, state.place).key(goal)
            if attempt.blocking is None and better(found, key) and legal_end(problem, state.place):
                place, key = state.place, found
                break
            take_back(state, attempt)
        else:
            break
    return place


def _pairs(problem: Problem, place: Ints) -> list[tuple[int, int]]:
    """Return hosts that were emptied with awake ones that it would cost less to empty instead."""
    sleepers = problem.sleepers
    cost = np.bincount(
        problem.home[sleepers.keepers],
        problem.move_cost[sleepers.keepers],
        minlength=len(problem.hosts),
    )
    emptied = sleepers.awake(problem.home) & ~sleepers.awake(place)
    able = sleepers.awake(place) & sleepers.awake(problem.home) & ~sleepers.stuck
    gains = [
        (float(cost[cheap] - cost[dear]), dear, cheap)
        for dear in np.flatnonzero(emptied).tolist()
        for cheap in np.flatnonzero(able).tolist()
        if cost[cheap] < cost[dear] - TIER_TOLERANCE
    ]
    return [(dear, cheap) for _, dear, cheap in sorted(gains)[:EXCHANGES]]


def _by_models(problem: Problem, place: Ints, work: Work, solver: Solver) -> Ints:
    """Empty one more host at a time by an exact model of it and a few others."""
    goal, sleepers = problem.policy.goal, problem.sleepers
    least = sleepers.bound(measure(problem, place).crowding)
    stale = 0
    tried: set[int] = set()
    while sleepers.count(place) > least and stale < TRIES_MAX and work.spend(1000):
        host = _next(problem, place, tried)
        if host is None:
            break
        tried.add(host)
        vm, to = _columns(problem, place, host)
        if not 0 < len(vm) <= COLUMNS_MAX:
            continue
        stale += 1
        key = measure(problem, place).key(goal)
        found = solve_tiers(formulate(problem, vm, to, place), place, work, EFFORT, solver).place
        if better(measure(problem, found).key(goal), key) and legal_end(problem, found):
            place, stale = found, 0
            tried.clear()
    return place


def _next(problem: Problem, place: Ints, tried: set[int]) -> int | None:
    """Return the awake host that has the fewest VMs and has not been tried."""
    sleepers = problem.sleepers
    carried = sleepers.carried(place)
    able = np.flatnonzero(sleepers.awake(place) & ~sleepers.stuck).tolist()
    left = [host for host in able if host not in tried]
    return min(left, key=lambda host: (carried[host], host), default=None)


def _columns(problem: Problem, place: Ints, host: int) -> tuple[Ints, Ints]:
    """Return columns of all VMs on `host`, and of the largest on hosts with most room, to those."""
    sleepers = problem.sleepers
    there = np.flatnonzero((place == host) & sleepers.keepers)
    receivers = sleepers.awake(place)
    receivers[host] = False
    room = (sleepers.ceiling - State(problem, place).used()).min(axis=0)
    # Whom most of them may go to, first.
    ways = problem.allowed[there].sum(axis=0)
    order = sorted(np.flatnonzero(receivers).tolist(), key=lambda at: (-ways[at], -room[at], at))
    chosen = np.zeros(len(problem.hosts), dtype=bool)
    chosen[order[:RECEIVERS]] = True
    able = np.zeros(len(problem.vms), dtype=bool)
    able[problem.movable] = True
    others = np.flatnonzero(chosen[place] & able)
    size = (problem.weight * problem.scale.mean(axis=1, keepdims=True)).max(axis=0)
    most = max(0, COLUMNS_MAX // RECEIVERS - len(there))
    others = others[np.argsort(-size[others], kind="stable")[:most]]
    return _to(problem, np.union1d(there, others), chosen)


def _to(problem: Problem, vms: Ints, hosts: Bools) -> tuple[Ints, Ints]:
    vm, host = all_columns(problem, vms)
    keep = hosts[host]
    return vm[keep], host[keep]
