"""From a task to a placement: construction, relaxation, local search, ILPs, until it stays put.

Carrying out a plan and planning again must find nothing. An optimum has that by itself: the
cost of moving obeys the triangle inequality, so whatever a second plan gained, the first could
have had. A local optimum does not; so the planner goes to the end of its own plan, plans from
there as a second run would, and takes over what that finds, until it finds nothing or the work
is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from balancer.planner.bound import ASSIGNMENT_COLUMNS, Bound, assignment_bound, decoupled_bound
from balancer.planner.formulate import all_columns, formulate
from balancer.planner.ilp import Solver, highs_is_there
from balancer.planner.neighbour import exact, is_small, neighbours, whole
from balancer.planner.problem import Ints, Problem
from balancer.planner.relax import ROUND_UP, Relaxed, focus, relax, rounded
from balancer.planner.restrain import restrain
from balancer.planner.score import Measure, better, legal_end, measure
from balancer.planner.search import construct, local, polish, shake, trim
from balancer.planner.work import Work
from balancer.policy.policy import Goal

ROUNDS_MAX = 6
# Shares of the work that is left: of the first round where a second has to follow, and of the
# relaxation; of each turn, that of ruining and recreating. The ILPs get as much as one turn.
FIRST_ROUND, RELAXATION, SHAKING = 0.75, 0.6, 0.5
TURNS = 3


@dataclass(frozen=True)
class Found:
    """The placement, per tier a bound if the exact model gave one, and bounds of J."""

    place: Ints
    bounds: tuple[float, ...] | None = None
    proven: bool = False
    balance: tuple[Bound, ...] = ()
    kept: Measure | None = None  # the tiers that a plan has to keep for `balance` to hold


def optimise(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
    """Return a placement from which planning again finds nothing, as far as the cap allows."""
    goal = problem.policy.goal
    first = work.part(FIRST_ROUND * work.units)
    found = once(problem, first, seed, solver)
    work.note(first)
    for _ in range(ROUNDS_MAX):
        place = found.place
        moves = measure(problem, place).moves
        if found.proven or work.cut_short() or moves == 0 or not work.spend(0):
            break
        if moves >= problem.cap:
            # There is no second plan to fear: the rest of the work goes into this one.
            after = once(problem, work, seed + 1, solver, start=place).place
            found = replace(found, place=after)
            break
        again = restrain(problem.at(place), problem.calm.past)
        after = once(again, work, seed, solver).place
        key = measure(problem, after).key(goal)
        if not legal_end(problem, after) or not better(key, measure(problem, place).key(goal)):
            break
        found = replace(found, place=after, proven=False)
    return found


def once(
    problem: Problem, work: Work, seed: int, solver: Solver, start: Ints | None = None
) -> Found:
    """Return the best placement of one search, from which another may still find something."""
    goal = problem.policy.goal
    place = construct(problem, work, start)
    if work.cut_short() or not len(problem.movable) or problem.cap < 1:
        return Found(trim(problem, place, work))
    if _is_perfect(problem, place):
        return Found(place, (0.0,) * len(measure(problem, place).key(goal)), proven=True)
    if is_small(problem):
        answer = exact(problem, local(problem, work, place), work, solver)
        return Found(answer.place, answer.bounds, answer.proven)
    if goal is not Goal.BALANCE:
        return Found(neighbours(problem, trim(problem, place, work), work, seed, solver))
    kept = measure(problem, place)
    place, relaxed = _best_start(problem, place, kept, work, solver)
    bounds: tuple[Bound, ...] = ()
    rows = None
    if relaxed is not None:
        bounds, rows = (Bound(relaxed.bound, "assignment LP"),), focus(problem, place, relaxed)
    place = _searched(problem, place, relaxed, rows, work, seed)
    solved = whole(problem, place, work, solver)
    if solved is not None:
        place, bounds = solved.place, (*bounds, Bound(solved.bounds[-1], "branch and bound"))
    place = trim(problem, neighbours(problem, place, work, seed, solver), work)
    return Found(place, balance=bounds, kept=kept)


def _searched(
    problem: Problem,
    place: Ints,
    relaxed: Relaxed | None,
    rows: Ints | None,
    work: Work,
    seed: int,
) -> Ints:
    """Take turns at ruining and recreating and at chains; leave a share for the ILPs."""
    bound = 0.0 if relaxed is None else relaxed.bound
    for turn in range(TURNS):
        units = work.units / (TURNS - turn + 1)
        if problem.mean_is_constant:
            part = work.part(SHAKING * units)
            place = shake(problem, place, bound, part, seed + turn, rows)
            work.note(part)
        part = work.part((1 - SHAKING) * units)
        place = polish(problem, place, part, rows)
        work.note(part)
    return place


def _best_start(
    problem: Problem, place: Ints, kept: Measure, work: Work, solver: Solver
) -> tuple[Ints, Relaxed | None]:
    """Return the constructed placement or a rounding of the relaxation, whichever is better."""
    if solver == "cbc" or not highs_is_there():
        return place, None
    goal = problem.policy.goal
    part = work.part(RELAXATION * work.units)
    relaxed = relax(problem, place, kept, part)
    work.note(part)
    if relaxed is None:
        return place, None
    best = measure(problem, place).key(goal)
    for round_up in ROUND_UP:
        if not work.spend(0):
            break
        tried = construct(problem, work, rounded(problem, place, relaxed, round_up, work))
        key = measure(problem, tried).key(goal)
        if better(key, best):
            place, best = tried, key
    return place, relaxed


def _is_perfect(problem: Problem, place: Ints) -> bool:
    """Tell whether no tier can be any lower: nothing moves and nothing is wrong."""
    found = measure(problem, place)
    key = found.key(problem.policy.goal)
    upper = key[:-1] if problem.policy.goal is Goal.BALANCE else key[:3]
    return (
        found.moves == 0
        and all(value == 0.0 for value in upper)
        and (problem.policy.goal is not Goal.BALANCE or found.balance == 0.0)
    )


def balance_bound(
    problem: Problem, place: Ints, kept: Measure, work: Work, solver: Solver
) -> Bound:
    """Return a proven lower bound of J for plans at least as good as `place` above it.

    Args:
        problem: The task.
        place: The plan's end.
        kept: Its measure.
        work: The clock; where it has run out the bound is 0, which J never goes below.
        solver: Which solver.
    """
    if work.cut_short():
        return Bound(0.0, "none")
    if solver != "cbc" and highs_is_there():
        relaxed = relax(problem, place, kept, work)
        if relaxed is not None:
            return Bound(relaxed.bound, "assignment LP")
    elif 0 < len(all_columns(problem)[0]) <= ASSIGNMENT_COLUMNS:
        vm, host = all_columns(problem)
        return assignment_bound(formulate(problem, vm, host, problem.home), kept, solver)
    return decoupled_bound(problem, kept, solver)
