"""Where a search begins: as constructed by single moves, or as the relaxation rounds."""

from __future__ import annotations

from balancer.planner.dive import dive
from balancer.planner.ilp import Solver, uses_highs
from balancer.planner.problem import Ints, Problem
from balancer.planner.relax import ROUND_UP, Relaxed, relax, rounded
from balancer.planner.score import Measure, better, measure
from balancer.planner.search import construct
from balancer.planner.secure import secured
from balancer.planner.work import Work

RELAXATION = 0.6  # of the work, at most


def best_start(
    problem: Problem, place: Ints, kept: Measure, work: Work, solver: Solver
) -> tuple[Ints, Relaxed | None]:
    """Return the constructed placement or a better rounding of the relaxation; and that.

    Args:
        problem: The task.
        place: As constructed; a legal end.
        kept: Its measure, of which the relaxation keeps drains and hard rules.
        work: The budget.
        solver: Which solver; without HiGHS there is no relaxation.
    """
    if not uses_highs(solver):
        return place, None
    goal = problem.policy.goal
    part = work.part(RELAXATION * work.units)
    relaxed = relax(problem, place, kept, part)
    work.note(part)
    if relaxed is None:
        return place, None
    best, start = measure(problem, place).key(goal), place
    for round_up in (*ROUND_UP, None):
        if not work.spend(0):
            break
        if round_up is None:
            begun = dive(problem, start, relaxed, work)
        else:
            begun = rounded(problem, start, relaxed, round_up, work)
        tried = construct(problem, work, begun)
        tried = secured(problem, tried, start)
        key = measure(problem, tried).key(goal)
        if better(key, best):
            place, best = tried, key
    return place, relaxed
