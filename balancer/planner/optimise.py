"""From a task to a placement: construction, local search, ILP, and again until it stays put.

Carrying out a plan and planning again must find nothing. An optimum has that by itself: the
cost of moving obeys the triangle inequality, so whatever a second plan gained, the first could
have had. A local optimum does not; so the planner goes to the end of its own plan, plans from
there as a second run would, and takes over what that finds, until it finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from balancer.planner.bound import ASSIGNMENT_COLUMNS, Bound, assignment_bound, decoupled_bound
from balancer.planner.formulate import all_columns, formulate
from balancer.planner.ilp import Solver
from balancer.planner.neighbour import exact, neighbours, pool
from balancer.planner.problem import Ints, Problem
from balancer.planner.score import Measure, better, legal_end, measure
from balancer.planner.search import local
from balancer.planner.work import Work
from balancer.policy.policy import Goal

# One unit is about a microsecond: construction and local search, then the ILPs.
LOCAL_UNITS, ILP_UNITS = 6e6, 1.5e6
POOL_UNITS = 1e6  # enough for the solve of each tier to begin
ROUNDS_MAX = 6
POOL_COLUMNS_MAX = 7000


@dataclass(frozen=True)
class Found:
    """The placement, and per tier a bound if the exact model gave one."""

    place: Ints
    bounds: tuple[float, ...] | None = None
    proven: bool = False


def optimise(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
    """Return a placement from which planning again finds nothing, as far as the cap allows."""
    goal = problem.policy.goal
    found = once(problem, work, seed, solver)
    for _ in range(ROUNDS_MAX):
        place = found.place
        moves = measure(problem, place).moves
        if found.proven or work.cut_short() or moves == 0 or moves >= problem.cap:
            break
        after = once(problem.at(place), work, seed, solver).place
        key = measure(problem, after).key(goal)
        if not legal_end(problem, after) or not better(key, measure(problem, place).key(goal)):
            break
        found = replace(found, place=after, proven=False)
    return found


def once(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
    """Return the best placement of one search, from which another may still find something."""
    local_work = work.renewed(LOCAL_UNITS)
    place = local(problem, local_work)
    work.stopped_by = local_work.stopped_by if local_work.cut_short() else work.stopped_by
    ilp_work = work.renewed(ILP_UNITS)
    if work.cut_short() or not len(problem.movable) or problem.cap < 1:
        return Found(place)
    if _is_perfect(problem, place):
        return Found(place, (0.0,) * len(measure(problem, place).key(problem.policy.goal)), True)
    answer = exact(problem, place, ilp_work, solver)
    if answer is not None:
        _carry(work, ilp_work)
        return Found(answer.place, answer.bounds, answer.proven)
    place = neighbours(problem, place, ilp_work, seed, solver)
    vm, host = all_columns(problem)
    if (
        0 < len(vm) <= POOL_COLUMNS_MAX
        and not ilp_work.cut_short()
        and problem.policy.goal is Goal.BALANCE
    ):
        relaxed = assignment_bound(
            formulate(problem, vm, host, place), measure(problem, place), solver
        )
        if relaxed.reduced_cost is not None:
            pool_work = work.renewed(POOL_UNITS)
            place = pool(problem, place, relaxed.reduced_cost, pool_work, solver)
            _carry(work, pool_work)
    _carry(work, ilp_work)
    return Found(place)


def _carry(work: Work, spent: Work) -> None:
    if spent.cut_short():
        work.stopped_by = spent.stopped_by


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


def balance_bound(problem: Problem, kept: Measure, solver: Solver) -> Bound:
    """Return a proven lower bound of J for plans at least as good in the tiers above it."""
    vm, host = all_columns(problem)
    if 0 < len(vm) <= ASSIGNMENT_COLUMNS:
        return assignment_bound(formulate(problem, vm, host, problem.home), kept, solver)
    return decoupled_bound(problem, kept, solver)
