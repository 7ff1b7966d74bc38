"""Keeping room for failures: moves after which less finds no host, and moves taken back.

The searches know nothing of failures: it takes a drill to see what a move does to them. So there
is a stage that looks for moves by what a drill says is missing, and whatever a search found is
brought back to losing no more than before it, by a few moves more or less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from balancer.model.plan import Lost
from balancer.planner.drill import Loss
from balancer.planner.problem import Ints, Problem, utilisation
from balancer.planner.score import (
    NOTHING_LOST,
    TIER_TOLERANCE,
    before_lost,
    charging,
    comes_first,
    legal_end,
    lost,
    measure,
    overloaded,
    unsure,
)
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Goal

DRILLS_MAX = 120  # to bring one placement back: each takes up to some milliseconds
TRIALS_MAX = 400  # of one step: drills of single moves and of swaps
ENOUGH = 60  # trials after which the best so far is taken
SECURING = 0.1  # of the work, at most, to lower what is lost from the start
FEW_MOVES = 240  # up to which all moves of all VMs are tried
TRIAL_UNITS, TRIAL_UNITS_VM, TRIAL_UNITS_SET = 1000.0, 0.5, 10.0
# Losses looked at, moves taken back, hosts to make a hole on, targets, and VMs there.
SUSPECTS, BACK, HOLES, TARGETS, THERE = 3, 40, 4, 4, 3

Step = tuple[tuple[int, int], ...]  # (VM, host) each
Risk = tuple[Lost, int]  # what is lost, and failures of which that is not known
NO_RISK: Risk = (NOTHING_LOST, 0)


def secured(problem: Problem, place: Ints, start: Ints, *, with_less: bool = False) -> Ints:
    """Return `place`, changed so that no more is lost than at `start`.

    A few moves more or less mostly do; else moves since `start` are left out, but for those by
    which `place` serves better what comes first.

    Args:
        problem: The task.
        place: A placement.
        start: What it came from.
        with_less: Only leave moves out, make no others.
    """
    if not problem.policy.reserve.for_failures:
        return place
    most = _risk(problem, start)
    if _risk(problem, place) <= most:
        return place
    problem.drill.refused += 1
    state = State(problem, place)
    steps = partial(_back if with_less else _steps, state, start)
    _lower(state, most, steps, Work(DRILLS_MAX * _units(problem)))
    if _risk(problem, state.place) <= most:
        return state.place
    if comes_first(problem, state.place, start):
        return _needed(problem, state.place, start, most)
    return _left_out(problem, state.place, start, most)


def failures_bind(problem: Problem, place: Ints) -> bool:
    """Tell whether what came to `place` met failures that are to be survived.

    What knows nothing of them, as models do not, would then find little but what is refused. That
    they bind mostly shows as early as moves are constructed.
    """
    if not problem.policy.reserve.for_failures:
        return False
    return problem.drill.refused > 0 or lost(problem, place) > NOTHING_LOST


def _needed(problem: Problem, place: Ints, start: Ints, most: Risk) -> Ints:
    """Return `place` without moves that take room and that nothing needs which comes first."""
    moved = np.flatnonzero(place != start)
    hot = np.asarray(overloaded(problem, utilisation(problem, start)).any(axis=0))
    urgent = hot[start[moved]] | problem.draining[start[moved]]
    order = moved[np.lexsort([moved, -problem.drill.memory[moved], urgent])]
    work, goal = Work(DRILLS_MAX * _units(problem)), problem.policy.goal
    served = measure(problem, place).key(goal)

    def without(base: Ints, some: Ints) -> Ints:
        """Return `base` with as many of `some` taken back as are not needed."""
        now = _risk(problem, base)
        if not len(some) or now <= most or not work.spend(_units(problem)):
            return base
        trial = base.copy()
        trial[some] = start[some]
        less = _tried(problem, trial, work) < now and legal_end(problem, trial)
        if less and _no_worse(measure(problem, trial).key(goal), served, goal):
            return trial
        if len(some) == 1:
            return base
        half = len(some) // 2
        return without(without(base, some[:half]), some[half:])

    return without(place, order)


def _no_worse(key: tuple[float, ...], other: tuple[float, ...], goal: Goal) -> bool:
    """Tell whether what comes before failures is no worse than in another key."""
    pairs = list(zip(key, other, strict=True))[: before_lost(goal)]
    return all(a <= b + TIER_TOLERANCE for a, b in pairs)


def _left_out(problem: Problem, place: Ints, start: Ints, most: Risk) -> Ints:
    """Return `start` with as many of the moves to `place` as may be, small VMs first."""
    moved = np.flatnonzero(place != start)
    order = moved[np.lexsort([moved, problem.drill.size[moved]])]
    work = Work(DRILLS_MAX * _units(problem))

    def with_more(base: Ints, more: Ints) -> Ints:
        """Return `base` with as many of `more` moved as may be."""
        if not len(more) or not work.spend(_units(problem)):
            return base
        trial = base.copy()
        trial[more] = place[more]
        if _tried(problem, trial, work) <= most and legal_end(problem, trial):
            return trial
        if len(more) == 1:
            return base
        half = len(more) // 2
        return with_more(with_more(base, more[:half]), more[half:])

    half = len(order) // 2
    return with_more(with_more(start.copy(), order[:half]), order[half:])


def secure(state: State, work: Work) -> None:
    """Lower what is lost, as far as single moves, moves taken back and swaps go.

    What is left may be lost whatever is tried: the rest of the search gets most of the work.
    """
    part = work.part(SECURING * work.units)
    _lower(state, NO_RISK, partial(_steps, state, state.problem.home), part)
    work.note(part)


def _units(problem: Problem) -> float:
    sets = sum(len(sets) for sets in problem.drill.sets)
    return TRIAL_UNITS + TRIAL_UNITS_VM * len(problem.vms) + TRIAL_UNITS_SET * sets


def _risk(problem: Problem, place: Ints) -> Risk:
    """Return what is lost at a placement; what could not be told of it comes after all that is."""
    return lost(problem, place), unsure(problem, place)


def _tried(problem: Problem, place: Ints, work: Work) -> Risk:
    """Return what is lost at a placement, and take from the work what was rehearsed for it."""
    with charging(problem, work):
        return _risk(problem, place)


def _lower(state: State, most: Risk, steps: Callable[[], Iterator[Step]], work: Work) -> None:
    """Make the steps that lower what is lost to `most`, each the best of those tried.

    None makes worse what comes first.
    """
    problem = state.problem
    goal = problem.policy.goal
    units = _units(problem)
    while (now_lost := _risk(problem, state.place)) > most:
        now = measure(problem, state.place).key(goal)
        best: tuple[Risk, tuple[float, ...], Step] | None = None
        for number, step in enumerate(steps()):
            enough = number >= (TRIALS_MAX if best is None else ENOUGH)
            if enough or not work.spend(units):
                break
            trial = state.place.copy()
            for vm, host in step:
                trial[vm] = host
            found = _tried(problem, trial, work)
            if found >= now_lost or (best is not None and found > best[0]):
                continue
            moves = int((trial != problem.home).sum())
            if moves > problem.cap or not legal_end(problem, trial):
                continue
            key = (found, measure(problem, trial).key(goal), step)
            if _no_worse(key[1], now, goal) and (best is None or key < best):
                best = key
        if best is None:
            return
        for vm, host in best[2]:
            state.move(vm, host)


def _steps(state: State, start: Ints) -> Iterator[Step]:
    """Yield what may help, most promising first: moves taken back, single moves, swaps."""
    problem = state.problem
    yield from _back(state, start)
    singles = list(dict.fromkeys(_singles(state)))
    yield from (((vm, host),) for vm, host in singles)
    movable = problem.movable.tolist()
    few = len(movable) ** 2 <= FEW_MOVES
    ones = movable if few else list(dict.fromkeys(vm for vm, _ in singles))
    for vm in ones:
        for other in movable:
            here, there = int(state.place[vm]), int(state.place[other])
            smaller = problem.drill.size[other] < problem.drill.size[vm]
            if here == there or not (smaller or (few and vm < other)):
                continue
            if problem.allowed[vm, there] and problem.allowed[other, here]:
                yield ((vm, there), (other, here))


def _back(state: State, start: Ints) -> Iterator[Step]:
    """Yield moves since `start` to be taken back, those into a failure's way first; then pairs.

    A VM that took its place may have to go back with it.
    """
    problem, place = state.problem, state.place
    moved = np.flatnonzero(place != start)
    if not len(moved):
        return
    in_the_way = np.zeros(len(problem.hosts), dtype=bool)
    for loss in _largest(state):
        in_the_way |= problem.drill.permits[problem.drill.kind[loss.vm]]
        in_the_way[list(loss.failed)] = True
    order = moved[np.lexsort([moved, -problem.drill.memory[moved], ~in_the_way[place[moved]]])]
    for vm in order[:BACK].tolist():
        yield ((vm, int(start[vm])),)
    for vm in order[:BACK].tolist():
        here = moved[place[moved] == start[vm]]
        for other in here[:THERE].tolist():
            yield ((vm, int(start[vm])), (other, int(start[other])))


def _largest(state: State) -> list[Loss]:
    """Return some of what is lost, in the order in which it would have restarted."""
    rank, size = state.problem.drill.rank, state.problem.drill.size
    found = sorted(
        state.problem.drill.losses(state.place),
        key=lambda one: (rank[one.vm], -size[one.vm], one.vm, one.failed),
    )
    return found[:SUSPECTS]


def _singles(state: State) -> Iterator[tuple[int, int]]:
    """Yield (VM, host): of all that can move where those are few, else by what is lost."""
    problem = state.problem
    if len(problem.movable) * len(problem.hosts) <= FEW_MOVES:
        for vm in problem.movable.tolist():
            yield from ((vm, host) for host in _open(state, vm))
        return
    drill, place = problem.drill, state.place
    free = drill.room - np.bincount(place, drill.memory, minlength=len(drill.room))
    can = np.zeros(len(place), dtype=bool)
    can[problem.movable] = True
    for loss in _largest(state):
        lack = drill.size[loss.vm] - free
        able = drill.permits[drill.kind[loss.vm]] & drill.up & (lack > 0)
        able[list(loss.failed)] = False
        holes = np.flatnonzero(able)
        for hole in holes[np.argsort(lack[holes], kind="stable")][:HOLES].tolist():
            there = np.flatnonzero((place == hole) & can)
            there = there[np.lexsort([there, drill.memory[there]])]
            enough = there[drill.memory[there] >= lack[hole]]
            for vm in (*enough[:THERE].tolist(), *there[-THERE:].tolist()):
                yield from ((vm, host) for host in _open(state, vm)[:TARGETS])
        failing = np.flatnonzero(np.isin(place, loss.failed) & can)
        failing = failing[np.lexsort([failing, -drill.size[failing]])][:THERE]
        for vm in {loss.vm, *failing.tolist()} & set(problem.movable.tolist()):
            yield from ((vm, host) for host in _open(state, vm)[:TARGETS])


def _open(state: State, vm: int) -> list[int]:
    """Return the hosts that a VM may go to now, most free memory first; home above all."""
    problem, drill = state.problem, state.problem.drill
    able = state.rule_change(vm).legal & state.fits(vm) & ~problem.draining
    hosts = np.flatnonzero(able)
    room = drill.room - np.bincount(state.place, drill.memory, minlength=len(drill.room))
    order = hosts[np.lexsort([hosts, -room[hosts], hosts != problem.home[vm]])]
    return [int(host) for host in order.tolist()]
