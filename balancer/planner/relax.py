"""The assignment relaxation by column generation: a bound, prices, and a placement to start from.

The linear model has a column for every (VM, host), but a solution uses a few hundred of them. So
it is solved over a pool, and numpy prices all N x H columns at once against the duals: those
that would better it join the pool. Each host and resource has a row that says its load, and phi
in segments of its slopes. At any time duals give a bound for all columns, pooled or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.linear import INF
from balancer.planner.pool import Pool, Prices, whole_units
from balancer.planner.problem import Bools, Floats, Ints, Problem
from balancer.planner.score import ROUNDING, Measure
from balancer.planner.state import State
from balancer.planner.work import Work

ROUNDS_MAX = 80
GAP_RELATIVE = 2e-5  # of J, within which the pool is good enough
ROUND_UP = (0.5, 0.7)  # shares of a VM from which rounding moves it
# VMs that are worth looking at further: those with the lowest reduced costs; for each that moves.
FOCUS, FOCUS_EACH = 500, 3


@dataclass(frozen=True)
class Relaxed:
    """What the relaxation gave.

    Attributes:
        bound: No plan that keeps the tiers above has a lower J.
        reduced_cost: (N, H) of every column, infinite where not allowed.
        share: (N, H) how much of each VM the solution puts on each host away from home.
        prices: The same of what moves as one, and the prices of loads and cap.
        pool: The model over the columns that were needed, to go on with.
    """

    bound: float
    reduced_cost: Floats
    share: Floats
    prices: Prices
    pool: Pool


def relax(problem: Problem, place: Ints, kept: Measure, work: Work) -> Relaxed | None:
    """Solve the relaxation, from the columns of `place`; None if there was no time for a bound.

    Args:
        problem: The task.
        place: A legal end that is as good as `kept` in the tiers above balance.
        kept: The tiers that every plan bounded is at least as good in.
        work: The budget.
    """
    pool = Pool(problem, kept)
    of_vm = pool.sets.of_vm
    moved = np.flatnonzero(place != problem.home)
    first = np.unique(of_vm[moved], return_index=True)[1]
    pool.add(of_vm[moved[first]], place[moved[first]])
    bound, found = 0.0, None
    for _ in range(ROUNDS_MAX):
        prices = pool.solve(work)
        if prices is None:
            break
        cost, value, bound = prices.cost, prices.value, max(bound, prices.bound)
        share = np.zeros(cost.shape)
        share[pool.at, pool.host] = pool.x
        found = Relaxed(bound, cost[of_vm], share[of_vm], prices, pool)
        if not pool.grow(cost) or value - bound <= GAP_RELATIVE * abs(value):
            break
    return found


def focus(problem: Problem, place: Ints, relaxed: Relaxed) -> Ints:
    """Return the movable VMs, or of many those that are moved or that prices speak for."""
    rows = problem.movable
    moved = place[rows] != problem.home[rows]
    most = max(FOCUS, FOCUS_EACH * int(moved.sum()))
    if len(rows) <= most:
        return rows
    lowest = relaxed.reduced_cost.min(axis=1)[rows]
    lowest[moved] = -INF
    return np.sort(rows[np.argsort(lowest, kind="stable")[:most]])


def rounded(problem: Problem, place: Ints, relaxed: Relaxed, round_up: float, work: Work) -> Ints:
    """Return a legal end that follows the relaxation where it is decided, largest VMs first.

    VMs that have to move, or that broken rules count, are left as in `place`: their tiers are
    settled, and fractions of them mean nothing.
    """
    free = free_vms(problem)
    target = relaxed.share.argmax(axis=1)
    follow = free & (relaxed.share.max(axis=1, initial=0.0) >= round_up)
    wanted = np.where(follow, target, np.where(free, problem.home, place))
    return settled(problem, wanted, work)


def free_vms(problem: Problem) -> Bools:
    """Return the (N,) VMs whose moves no tier above balance asks for or speaks against."""
    free: Bools = ~problem.from_drain & (problem.astray == 0) & (problem.soft_row == 0)
    free = free & ~problem.reluctant
    for group in problem.groups:
        if group.broken(group.before):
            free[group.members] = False
    return free


def settled(problem: Problem, wanted: Ints, work: Work) -> Ints:
    """Return a legal end with as many of the VMs where they are wanted as it allows.

    Sets that move as one do so here, too.
    """
    state, free = State(problem), free_vms(problem)
    size = (problem.weight * problem.scale.mean(axis=1, keepdims=True)).max(axis=0)
    one_of = {int(unit[0]): unit.tolist() for unit in whole_units(problem)}
    others = {vm for unit in one_of.values() for vm in unit[1:]}
    left = np.flatnonzero(wanted != problem.home)
    # What others still have to leave for may fit in a later turn.
    left = left[np.lexsort([left, -size[left], free[left]])]
    while len(left):
        later: list[int] = []
        for vm in left.tolist():
            if state.moves >= problem.cap or not work.spend(40):
                return state.place
            if vm not in others and not _settle(state, one_of.get(vm, [vm]), wanted, free):
                later.append(vm)
        if len(later) == len(left):
            break
        left = np.array(later, dtype=np.int64)
    return state.place


def _settle(state: State, vms: list[int], wanted: Ints, free: Bools) -> bool:
    """Move VMs where they are wanted, all or none; tell whether that was legal."""
    problem = state.problem
    before = state.kept() if len(vms) > 1 else None
    for vm in vms:
        host = int(wanted[vm])
        change = state.rule_change(vm)
        harm = free[vm] and max(change.hard[host], change.resort[host], change.soft[host]) > 0
        legal = change.legal[host] and not harm and state.fits(vm, even_overload=True)[host]
        if before is None and not (legal and state.may_move(vm)):
            return False
        state.move(vm, host)
    if before is None:
        return True
    legal_end = state.within() and all(
        problem.groups[at].legal(state.counts[at]) for vm in vms for at in problem.groups_about(vm)
    )
    hosts = sorted({int(wanted[vm]) for vm in vms})
    fits = bool((state.used()[:, hosts] <= state.ceiling()[:, hosts] * (1 + ROUNDING)).all())
    if not (legal_end and fits):
        state.restore(before)
    return legal_end and fits
