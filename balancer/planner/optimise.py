"""From a task to a placement: construction, relaxation, local search, ILPs, until it stays put.

Carrying out a plan and planning again must find nothing. An optimum has that by itself: the
cost of moving obeys the triangle inequality, so whatever a second plan gained, the first could
have had. A local optimum does not; so the planner goes to the end of its own plan, plans from
there as a second run would, and takes over what that finds, until it finds nothing or the work
is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from balancer.planner.agree import Agreement
from balancer.planner.bound import ASSIGNMENT_COLUMNS, Bound, assignment_bound, decoupled_bound
from balancer.planner.emptier import more_asleep
from balancer.planner.formulate import all_columns, count_columns, formulate
from balancer.planner.ilp import Solver, uses_highs
from balancer.planner.lagrange import Dual
from balancer.planner.neighbour import (
    exact,
    has_room_for_pool,
    has_room_for_whole,
    is_medium,
    is_small,
    neighbours,
    pooled,
    search_before_whole,
    whole,
)
from balancer.planner.problem import Ints, Problem
from balancer.planner.relax import Relaxed, focus, relax
from balancer.planner.restrain import restrain
from balancer.planner.score import (
    BEFORE_SLEEP,
    LOST,
    TIER_TOLERANCE,
    Measure,
    before_lost,
    better,
    caps_bind,
    legal_end,
    measure,
    tier_names,
)
from balancer.planner.search import construct, local, polish, shake, trim
from balancer.planner.secure import failures_bind, secured
from balancer.planner.starts import best_start
from balancer.planner.tiers import is_proven, model_units
from balancer.planner.work import Work
from balancer.policy.policy import Goal

ROUNDS_MAX = 6
# Shares of the work: of proving a bound, and of what a long search has more; then of the first
# round where a second has to follow.
PROVING, PROVING_MORE, LONG = 0.08, 0.3, 4e6
FIRST_ROUND = 0.8
# Of what is left at the start, for a search above thresholds; not with less for each VM and host.
ABOVE, ABOVE_LEAST = 0.4, 1.0
# Times the relaxation, from which on thresholds are tight where no rounding keeps them, and
# the best columns go into one model; and the search before, where no model of the whole is to
# follow and where one is, which then has as much between both.
FAR, SEARCH_BEFORE_POOL, SEARCH_BEFORE_BOTH = 1.5, 0.5, 0.2
SLICES = 5  # that the search is given out in
# Of one: to means that need no time to cool down, and to what hosts choose for themselves, first of
# all where there are few migrations a host; else it takes its time, and not more of a slice.
SMALL_SLICE, LARGE_SLICE, FEW_EACH, AGREEING_UNITS, AGREEING_MOST = 0.3, 3.0, 1, 25_000.0, 1.7
HOPED = 1e-7  # of the gap, what means are expected to gain with a unit before they are tried
# Of trials before a small model, for each of its columns and at most as a share of what it can
# spare; none where that is less than one round of trials, which may be as much over.
SHAKEN_UNITS, SHAKEN_SHARE, SHAKEN_LEAST = 200.0, 0.25, 12_000.0
IDLE_MAX = 12  # slices in a row without a gain before it is over
TURN_UNITS, TINY_GAIN = 200.0, 1e-12  # a turn costs and gains at least

Means = tuple[float, Callable[[Ints, Work, int], Ints]]


@dataclass(frozen=True)
class Found:
    """The placement, per tier a bound if the exact model gave one, and bounds of J."""

    place: Ints
    bounds: tuple[float, ...] | None = None
    proven: bool = False
    balance: tuple[Bound, ...] = ()
    kept: Measure | None = None  # the tiers that a plan has to keep for `balance` to hold
    relaxed: Relaxed | None = None
    agreement: Agreement | None = None
    weighed: bool = False  # it was seen whether its best columns should go into one model
    branched: bool = False  # the whole task has


def optimise(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
    """Return a placement from which planning again finds nothing, as far as the cap allows."""
    proving = PROVING * work.units
    first = work.part(FIRST_ROUND * (work.units - proving))
    # Whether failures bind, so that there will be no model of the whole, is not known yet.
    branches = _branches(problem, first, solver) and not problem.policy.reserve.for_failures
    if _chooses(problem, solver) and not branches:
        proving += (PROVING_MORE - PROVING) * max(0.0, work.units - LONG)
    search = work.part(work.units - proving)
    found = _settled(problem, search, seed, solver)
    work.note(search)
    return _bounded(problem, found, work.part(proving), seed, solver)


def _chooses(problem: Problem, solver: Solver) -> bool:
    """Tell whether hosts can choose for themselves, so that there is a proof to work for."""
    asked = problem.policy.goal is Goal.BALANCE and not is_small(problem)
    return asked and problem.mean_is_constant and uses_highs(solver)


def _branches(problem: Problem, work: Work, solver: Solver) -> bool:
    """Tell whether a model of the whole is to follow the search, unless failures bind.

    CBC cannot be told to stop by what it has done.
    """
    return uses_highs(solver) and has_room_for_whole(problem, work, search_before_whole(problem))


def _settled(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
    """Search, and go on from the end as a second plan would."""
    first = work.part(FIRST_ROUND * work.units)
    found = once(problem, first, seed, solver)
    work.note(first)
    for _ in range(ROUNDS_MAX):
        place = found.place
        moves = measure(problem, place).moves
        if found.proven or work.cut_short() or moves == 0 or not work.spend(0):
            break
        if caps_bind(problem, place):
            # There is no second plan to fear: the rest of the work goes into this one.
            found = _continued(problem, found, work, seed + 1, solver)
            break
        after = _again(problem, place, work, seed, solver)
        if after is None:
            break
        found = replace(found, place=after, proven=False)
    return found


def _again(problem: Problem, place: Ints, work: Work, seed: int, solver: Solver) -> Ints | None:
    """Return where a second plan would end that begins where this one does, if it is better."""
    goal = problem.policy.goal
    again = restrain(problem.at(place), problem.calm.past, problem.calm.exempt)
    after = once(again, work, seed, solver).place
    key = measure(problem, after).key(goal)
    if legal_end(problem, after) and better(key, measure(problem, place).key(goal)):
        return after
    return None


def _bounded(problem: Problem, found: Found, work: Work, seed: int, solver: Solver) -> Found:
    """Add the bound that knows VMs are whole, after some more looking for one."""
    agreement = found.agreement
    if found.proven or agreement is None:
        return found
    value = measure(problem, found.place).balance
    while not found.branched and not agreement.is_settled(value) and work.spend(0):
        place = agreement.improve(found.place, work, solver)
        if np.array_equal(place, found.place):
            continue
        if not caps_bind(problem, place):  # another plan would begin where this one ends
            part = work.part(0.5 * work.units)
            after = _again(problem, place, part, seed, solver)
            work.note(part)
            place = place if after is None else after
        found = replace(found, place=place)
        value = measure(problem, place).balance
    bound = Bound(agreement.dual.bound, "Lagrangian")
    return _noted_if_proven(problem, replace(found, balance=(*found.balance, bound)))


def _noted_if_proven(problem: Problem, found: Found) -> Found:
    """Note that a plan is the best where its best bound says so and nothing is above balance."""
    *upper, value = measure(problem, found.place).key(problem.policy.goal)
    best = max((bound.value for bound in found.balance), default=0.0)
    if max(upper) > TIER_TOLERANCE or not is_proven(value, best):
        return found
    return replace(found, bounds=(*upper, best), proven=True)


def once(
    problem: Problem,
    work: Work,
    seed: int,
    solver: Solver,
    start: Ints | None = None,
    *,
    proof: bool = True,
) -> Found:
    """Return the best placement of one search; without `proof` small tasks are not proven."""
    goal = problem.policy.goal
    place = construct(problem, work, start)
    if work.cut_short() or not len(problem.movable) or problem.cap < 1:
        return Found(trim(problem, place, work))
    if _is_perfect(problem, place):
        return Found(place, _least(problem, place), proven=True)
    if is_small(problem):
        begun = _shaken(problem, local(problem, work, place), work, seed)
        answer = exact(problem, begun, work, solver, proof=proof)
        return Found(answer.place, answer.bounds, answer.proven)
    if goal is Goal.CONSOLIDATE:
        return Found(more_asleep(problem, place, work, seed, solver))
    if goal is not Goal.BALANCE:
        return Found(neighbours(problem, trim(problem, place, work), work, seed, solver))
    kept, built = measure(problem, place), place
    place, relaxed = best_start(problem, place, kept, work, solver)
    if start is None and np.array_equal(place, built) and not is_medium(problem):
        place = _from_above(problem, place, relaxed, work, seed, solver)
    bounds = () if relaxed is None else (Bound(relaxed.bound, "assignment LP"),)
    agreement = None
    if relaxed is not None and problem.mean_is_constant:
        agreement = Agreement(problem, Dual(problem, relaxed))
    found = Found(place, balance=bounds, kept=kept, relaxed=relaxed, agreement=agreement)
    return _continued(problem, found, work, seed, solver)


def _from_above(
    problem: Problem, place: Ints, relaxed: Relaxed | None, work: Work, seed: int, solver: Solver
) -> Ints:
    """Return a better start for a large cluster by a search that does not mind thresholds.

    Where they lie just above what the best plan needs, relief spends the moves that it needs, and
    no rounding of the relaxation gets below them. From an even load it is not far. On medium
    clusters the model of the best columns finds more.
    """
    if relaxed is None or relaxed.bound <= 0.0 or not _is_far(problem, place, relaxed):
        return place  # a relaxation that was cut short proves nothing
    highest = problem.before.max(axis=1, keepdims=True, where=problem.play, initial=0.0)
    loose = replace(problem, threshold=np.maximum(problem.threshold, np.minimum(highest, 1.0)))
    is_loose = not np.array_equal(loose.threshold, problem.threshold)
    if not is_loose or work.cut_short() or work.units < ABOVE_LEAST * problem.allowed.size:
        return place
    part = work.part(ABOVE * work.units)
    tried = once(loose, part, seed, solver).place
    work.note(part)
    tried = construct(problem, work, tried)
    if work.cut_short() or not legal_end(problem, tried):
        return place
    tried, goal = secured(problem, tried, place), problem.policy.goal
    is_better = better(measure(problem, tried).key(goal), measure(problem, place).key(goal))
    return tried if is_better and legal_end(problem, tried) else place


def _shaken(problem: Problem, place: Ints, work: Work, seed: int) -> Ints:
    """Return a better start for a small model, which else spends half of its time to find one.

    Where hosts' failures are to be survived what trials find may be refused, and to mend it takes
    longer than they save.
    """
    if problem.policy.goal is not Goal.BALANCE or not problem.mean_is_constant:
        return place
    columns = count_columns(problem)
    spare = work.units - model_units(columns)  # the model has to be made after all
    part = work.part(min(SHAKEN_UNITS * columns, SHAKEN_SHARE * spare))
    if problem.policy.reserve.for_failures or part.units < SHAKEN_LEAST:
        return place
    place = shake(problem, place, 0.0, part, seed)
    work.note(part)
    return trim(problem, place, work)


def _continued(problem: Problem, found: Found, work: Work, seed: int, solver: Solver) -> Found:
    """Search on from what was found, by all means there are."""
    branches = not found.branched and _branches(problem, work, solver)
    branches = branches and not failures_bind(problem, found.place)
    units_before = search_before_whole(problem)
    if not found.weighed and has_room_for_pool(problem, work, before_whole=branches):
        units = (SEARCH_BEFORE_BOTH if branches else SEARCH_BEFORE_POOL) * work.units
        units_before -= units
        place = _searched_for(units, problem, found, work, seed, solver)
        found = replace(found, place=place, weighed=True)
        if _is_far(problem, found.place, found.relaxed):
            place = pooled(problem, found.place, found.relaxed, work, solver)
            found, units_before = replace(found, place=place), SEARCH_BEFORE_BOTH * work.units
    if branches and units_before > 0.0:
        place = _searched_for(units_before, problem, found, work, seed, solver)
        found = replace(found, place=place)
    branches = branches and not work.cut_short() and not failures_bind(problem, found.place)
    if branches and has_room_for_whole(problem, work, 0.0):
        found = _branched(problem, found, work, solver)
    if found.proven:
        return found
    return replace(found, place=_searched(problem, found, work, seed, solver))


def _branched(problem: Problem, found: Found, work: Work, solver: Solver) -> Found:
    """Solve the task as a whole, as far as there is work."""
    place = found.place
    # Where caps bind there is no second plan to fear, and what is kept for one may be used up.
    most = work.left() if caps_bind(problem, place) else work.units
    solved = whole(problem, place, found.relaxed, work, solver, most)
    place, bounds = trim(problem, solved.place, work), found.balance
    if solved.bounds[-1] > 0.0:
        bounds = (*bounds, Bound(solved.bounds[-1], "branch and bound"))
    kept = measure(problem, place)
    kept = kept if found.kept is None else kept.strictest(found.kept)
    found = replace(found, place=place, kept=kept, balance=bounds, weighed=True, branched=True)
    return _noted_if_proven(problem, found)


def _is_far(problem: Problem, place: Ints, relaxed: Relaxed | None) -> bool:
    """Tell whether the relaxation is far below: VMs are few and large, or rules decide much.

    Single moves are coarse then, and what they have decided for tiers above balance, they keep.
    """
    return relaxed is not None and measure(problem, place).balance > FAR * relaxed.bound


def _searched_for(
    units: float, problem: Problem, found: Found, work: Work, seed: int, solver: Solver
) -> Ints:
    """Search with a part of the work."""
    part = work.part(units)
    place = _searched(problem, found, part, seed, solver)
    work.note(part)
    return place


def _searched(problem: Problem, found: Found, work: Work, seed: int, solver: Solver) -> Ints:
    """Give out the work in slices, each to the means that lately gained most with one."""
    place, goal, agreement = found.place, problem.policy.goal, found.agreement
    means = _means(problem, found, work, solver)
    # The first is tried first, the others once it gains less than they may be expected to.
    gained = [float("inf"), *(_hoped(problem, found, place) for _ in means[1:])]
    units, chosen, idle = work.units / SLICES, -1, 0
    for turn in count(seed):
        if idle >= IDLE_MAX or not work.spend(TURN_UNITS):
            break
        if agreement is not None and agreement.proves(measure(problem, place).balance):
            break
        lazy = not any(gained)
        chosen = (chosen + 1) % len(means) if lazy else gained.index(max(gained))
        share, search = means[chosen]
        begun, part = work.units, work.part(share * units)
        tried = search(place, part, turn)
        work.note(part)
        before, after = measure(problem, place), measure(problem, tried)
        gained[chosen] = 0.0
        if better(after.key(goal), before.key(goal)):
            place, idle = tried, 0
            spent = max(TURN_UNITS, begun - work.units)
            gained[chosen] = max(TINY_GAIN, before.balance - after.balance) / spent
        else:
            idle += 1
    return trim(problem, place, work)


def _means(problem: Problem, found: Found, work: Work, solver: Solver) -> list[Means]:
    """Return what to search with, and the share of a slice that each takes.

    They are what hosts choose for themselves, ruining and recreating and what of that goes
    together, neighbourhood ILPs, and chains of moves.
    """
    relaxed, agreement = found.relaxed, found.agreement
    bound, prices = (0.0, None) if relaxed is None else (relaxed.bound, relaxed.reduced_cost)

    def rows(place: Ints) -> Ints | None:
        return None if relaxed is None else focus(problem, place, relaxed)

    def shaken(place: Ints, part: Work, seed: int) -> Ints:
        if agreement is None:
            return shake(problem, place, bound, part, seed, rows(place))
        begun, before = work.units, measure(problem, place).balance
        place = shake(problem, place, bound, part, seed, rows(place), agreement.note)
        gained = before - measure(problem, place).balance
        if gained > _hoped(problem, found, place) * (begun - work.units):
            return place
        return agreement.combine(place, work, solver)  # the part has been used up

    means: list[Means] = [
        (SMALL_SLICE, lambda at, part, by: neighbours(problem, at, part, by, solver, prices)),
        (SMALL_SLICE, lambda at, part, _: polish(problem, at, part, rows(at))),
    ]
    if problem.mean_is_constant:
        means.insert(0, (1.0, shaken))
    if agreement is not None:
        few = problem.cap <= FEW_EACH * len(problem.hosts)
        share = max(1.0, AGREEING_UNITS * len(problem.hosts) * SLICES / max(1.0, work.units))
        if few or share <= AGREEING_MOST:
            means.insert(
                0 if few else 1,
                (
                    LARGE_SLICE if few else share,
                    lambda at, part, _: agreement.improve(at, part, solver),
                ),
            )
    return means


def _hoped(problem: Problem, found: Found, place: Ints) -> float:
    """Return what means that have not been tried may be expected to gain with a unit of work."""
    bound = 0.0 if found.relaxed is None else found.relaxed.bound
    return HOPED * max(0.0, measure(problem, place).balance - bound)


def _is_perfect(problem: Problem, place: Ints) -> bool:
    """Tell whether no tier can be any lower: nothing moves and nothing is wrong."""
    found, goal = measure(problem, place), problem.policy.goal
    key = found.key(goal)
    upper = (
        key[:-1] if problem.policy.goal is Goal.BALANCE else key[: before_lost(goal) + len(LOST)]
    )
    if problem.policy.goal is Goal.CONSOLIDATE:
        upper = key[:BEFORE_SLEEP]
        if found.awake > problem.sleepers.bound():
            return False
    return (
        found.moves == 0
        and all(value == 0.0 for value in upper)
        and (problem.policy.goal is not Goal.BALANCE or found.balance == 0.0)
    )


def _least(problem: Problem, place: Ints) -> tuple[float, ...]:
    """Return the bounds of the tiers at a placement that is perfect: what stays awake, and zero."""
    names = tier_names(problem.policy.goal)
    awake = measure(problem, place).awake
    return tuple(float(awake) if name == "awake" else 0.0 for name in names)


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
    if problem.policy.goal is Goal.CONSOLIDATE:  # J only breaks ties: no need to be exact
        return decoupled_bound(problem, kept, solver)
    if uses_highs(solver):
        relaxed = relax(problem, place, kept, work)
        if relaxed is not None:
            return Bound(relaxed.bound, "assignment LP")
    elif 0 < count_columns(problem) <= ASSIGNMENT_COLUMNS:
        vm, host = all_columns(problem)
        return assignment_bound(formulate(problem, vm, host, problem.home), kept, solver)
    return decoupled_bound(problem, kept, solver)
