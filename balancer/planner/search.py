"""Local search: construction tier by tier, chains of moves, and trimming.

Each part leaves the tiers above its own no worse; what it did is measured from scratch and kept
only if it is better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from balancer.planner.chains import improve_by_chains
from balancer.planner.construct import best_target, evacuate, mend
from balancer.planner.descent import Descent, descend
from balancer.planner.empty import empty_hosts
from balancer.planner.problem import Ints, Problem
from balancer.planner.ruin import Note, ruin_and_recreate
from balancer.planner.score import better, gained, legal_end, means, measure
from balancer.planner.secure import secure, secured
from balancer.planner.state import State
from balancer.planner.units import move_units
from balancer.planner.work import Work
from balancer.policy.policy import Goal

CHAIN_PASSES = 4


def local(problem: Problem, work: Work, start: Ints | None = None) -> Ints:
    """Return the best placement that construction and local search find from `start`."""
    place = polish(problem, construct(problem, work, start), work)
    return trim(problem, place, work)


def construct(problem: Problem, work: Work, start: Ints | None = None) -> Ints:
    """Return a placement that serves the tiers in their order, by single moves from `start`."""
    stages = [_upper]
    if problem.policy.reserve.for_failures:
        stages = [_upper, secure] if problem.packs else [_first, secure, _upper]
    if problem.policy.goal is Goal.BALANCE:
        stages.append(_balance)
    # Units last: each takes as many moves as it has VMs, and single VMs do most of the work.
    if problem.policy.goal is not Goal.RULES_ONLY:
        stages.append(move_units)
    if problem.policy.goal is Goal.CONSOLIDATE:
        stages.append(empty_hosts)
    place = problem.home if start is None else start
    for stage in stages:
        place = _staged(problem, place, stage, work)
    return place.copy()


def polish(problem: Problem, place: Ints, work: Work, rows: Ints | None = None) -> Ints:
    """Return `place` or, for the goal of balance, what chains of moves make of it.

    Args:
        problem: The task.
        place: A legal end.
        work: The budget.
        rows: The VMs to look at; all that are movable unless given.
    """
    if problem.policy.goal is not Goal.BALANCE:
        return place
    return _staged(problem, place, partial(_chains, rows=rows), work)


def shake(
    problem: Problem,
    place: Ints,
    bound: float,
    work: Work,
    seed: int,
    rows: Ints | None = None,
    note: Note | None = None,
) -> Ints:
    """Return `place` or what ruining and recreating parts of it found; for constant means."""

    def stage(state: State, budget: Work) -> None:
        engine = Descent(state, rows=rows)
        best = ruin_and_recreate(engine, bound, budget, seed, note)
        for vm in np.flatnonzero(state.place != best).tolist():
            state.move(vm, int(best[vm]))

    return _staged(problem, place, stage, work)


def _staged(
    problem: Problem, place: Ints, stage: Callable[[State, Work], None], work: Work
) -> Ints:
    """Run one stage and keep what it did only if, measured afresh, it is better."""
    goal = problem.policy.goal
    state = State(problem, place)
    stage(state, work)
    # Means may have moved, and what seemed a gain be none.
    found = secured(problem, state.place, place)
    key = measure(problem, found).key(goal)
    kept = better(key, measure(problem, place).key(goal)) and legal_end(problem, found)
    return found if kept else place


def _first(state: State, work: Work) -> None:
    """Serve what comes before failures: drains, hard rules, overload."""
    problem = state.problem
    evacuate(state, work)
    mend(state, work, hard=True)
    if problem.policy.goal is not Goal.RULES_ONLY and _is_overloaded(state):
        descend(state, work, relief=True)
        if problem.reluctant.any() and _is_overloaded(state):
            descend(state, work, relief=True, last_resort=True)


def _upper(state: State, work: Work) -> None:
    if state.problem.policy.goal is Goal.CONSOLIDATE:  # wake a host rather than crowd one
        state.packed = True
        _serve(state, work)
        state.packed = False
        left = measure(state.problem, state.place)
        if not any((left.drain, left.rules, left.overload, left.soft)):
            return
    _serve(state, work)


def _serve(state: State, work: Work) -> None:
    _first(state, work)
    if state.problem.policy.goal.mends_soft_rules:
        mend(state, work, hard=False)


def _is_overloaded(state: State) -> bool:
    problem = state.problem
    return bool(((state.used() > problem.threshold) & problem.play).any())


def _balance(state: State, work: Work) -> None:
    descend(state, work)


def _chains(state: State, work: Work, rows: Ints | None = None) -> None:
    """Make chains of moves and the single moves that they open, in passes where means move."""
    for _ in range(1 if state.problem.mean_is_constant else CHAIN_PASSES):
        engine = Descent(state, rows=rows)
        if not improve_by_chains(engine, work) or not work.spend(0):
            return


def trim(problem: Problem, place: Ints, work: Work) -> Ints:
    """Take back moves that the goal does not need, dearest first, and settle for cheaper targets.

    For goals short of balance this is what keeps everything else where it is; for balance it
    finds little, since a move that does not pay is not made.
    """
    goal = problem.policy.goal
    state = State(problem, place)
    key = measure(problem, place).key(goal)
    moved = np.flatnonzero(place != problem.home)
    order = moved[np.lexsort([moved, -problem.move_cost[moved]])].tolist()
    for vm in order:
        if not work.spend(300):
            break
        at = int(state.place[vm])
        for target in (int(problem.home[vm]), _retarget(state, vm)):
            if target is None or target == at:
                continue
            state.move(vm, target)
            if (after := gained(problem, state.place, key, work)) is not None:
                key = after
                break
            state.move(vm, at)
    return state.place


def settle_ties(problem: Problem, place: Ints) -> Ints:
    """Return `place` with moved VMs on hosts nearer to them, where all else is the same."""
    goal = problem.policy.goal
    key = measure(problem, place).key(goal)
    for vm in np.flatnonzero(place != problem.home).tolist() if problem.nearer else ():
        near = problem.nearer.get(vm, frozenset())
        for host in sorted(near) if int(place[vm]) not in near else ():
            trial = place.copy()
            trial[vm] = host
            if host != problem.home[vm] and legal_end(problem, trial):
                after = measure(problem, trial).key(goal)
                if not better(key, after):
                    place, key = trial, after
                    break
    return place


def _retarget(state: State, vm: int) -> int | None:
    """Return the best other target for a VM that has to move."""
    change = state.rule_change(vm)
    legal = change.legal & (change.hard <= 0) & state.fits(vm, even_overload=True)
    legal[state.problem.home[vm]] = False
    found = best_target(state, vm, means(state.problem, state.place), change, legal)
    return None if found is None else found[0]
