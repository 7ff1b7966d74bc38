"""Emptying hosts so that they may sleep: host by host, the cheapest first, each as a whole.

A host that is only half emptied has cost its moves and saved nothing, so one that cannot be emptied
within this plan is left as it is. VMs go to hosts that are awake anyhow, up to the ceiling of
consolidation, and never against a rule, hard or soft, or the wish to be moved last of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from balancer.planner.problem import Bools, Floats, Ints, Problem
from balancer.planner.score import ROUNDING, better, legal_end, measure
from balancer.planner.state import State
from balancer.planner.work import Work

VM_UNITS, HOST_UNITS = 60.0, 400.0
SOFT = 1e-9  # of a soft cost: differences below are rounding


@dataclass(frozen=True, slots=True)
class Attempt:
    """How emptying one host went: what was moved, or the VM that stood in the way."""

    moved: tuple[tuple[int, int], ...]  # (VM, where it was), in order
    blocking: int | None = None


def empty_hosts(state: State, work: Work) -> None:
    """Move VMs so that as few hosts as can be stay awake; the cheapest of the ways that were tried.

    Args:
        state: Where from; it is moved.
        work: The budget.
    """
    problem = state.problem
    goal = problem.policy.goal
    key = measure(problem, state.place).key(goal)
    best: Ints | None = None
    least = problem.sleepers.bound(measure(problem, state.place).crowding)
    for order in _orders(problem):
        for tight in (False, True):
            trial = State(problem, state.place)
            _empty_in_order(trial, order(trial), work, tight=tight)
            found = measure(problem, trial.place).key(goal)
            if better(found, key) and legal_end(problem, trial.place):
                key, best = found, trial.place
            few = problem.sleepers.count(trial.place) <= least
            if few or not work.spend(0):
                _take(state, best)
                return
    _take(state, best)


def _take(state: State, place: Ints | None) -> None:
    if place is not None:
        for vm in np.flatnonzero(state.place != place).tolist():
            state.move(vm, int(place[vm]))


def _orders(problem: Problem) -> Iterator[Callable[[State], Floats]]:
    """Yield what hosts are ordered by: what emptying costs; capacity given up; migrations."""
    yield _cost
    capacity = (1.0 / problem.scale) / np.maximum((1.0 / problem.scale).max(axis=1), 1e-9)[:, None]
    if np.ptp(capacity.sum(axis=0)) > ROUNDING:
        yield lambda state: capacity.sum(axis=0) + 1e-3 * _cost(state)
    if problem.cap < len(problem.movable):
        yield lambda state: state.problem.sleepers.carried(state.place).astype(float)


def _cost(state: State) -> Floats:
    """Return the (H,) cost of moving away what is on each host; what has moved already is free."""
    problem = state.problem
    at_home = np.flatnonzero(state.place == problem.home)
    weights = problem.move_cost[at_home]
    cost = np.bincount(problem.home[at_home], weights, minlength=len(problem.hosts))
    return np.asarray(cost, dtype=np.float64)


def _empty_in_order(state: State, rank: Floats, work: Work, *, tight: bool) -> None:
    problem, goal = state.problem, state.problem.policy.goal
    key = measure(problem, state.place).key(goal)
    for host in np.argsort(rank, kind="stable").tolist():
        awake = problem.sleepers.awake(state.place)
        if int(awake.sum()) <= problem.sleepers.floor:
            return
        if not awake[host] or problem.sleepers.stuck[host]:
            continue
        if not work.spend(HOST_UNITS):
            return
        attempt = empty(state, host, work, tight=tight)
        if attempt.blocking is not None:
            continue
        found = measure(problem, state.place).key(goal)
        if better(found, key) and legal_end(problem, state.place):
            key = found
        else:
            take_back(state, attempt)


def take_back(state: State, attempt: Attempt) -> None:
    """Undo what an attempt moved."""
    for vm, source in reversed(attempt.moved):
        state.move(vm, source)


def empty(state: State, host: int, work: Work, *, tight: bool = False) -> Attempt:
    """Move everything off `host` that keeps it awake, or nothing.

    Args:
        state: Where from; it is moved if all of it could go.
        host: One that is up.
        work: The budget.
        tight: Fill one host after the other, which leaves large holes for large VMs; otherwise
            the load is kept even.
    """
    problem = state.problem
    there = np.flatnonzero((state.place == host) & problem.sleepers.keepers)
    targets = problem.sleepers.awake(state.place)
    targets[host] = False
    first = there[problem.allowed[there].sum(axis=1) <= 1]
    if len(first):
        return Attempt((), int(first[0]))
    if not state.affords_all(there[problem.home[there] == host]):
        return Attempt((), int(there[0]))
    moved: list[tuple[int, int]] = []
    for item in _items(problem, there, targets):
        if not work.spend(VM_UNITS * len(item)):
            take_back(state, Attempt(tuple(moved)))
            return Attempt((), int(item[0]))
        if not _place(state, item, targets, moved, tight=tight):
            take_back(state, Attempt(tuple(moved)))
            return Attempt((), int(item[0]))
    return Attempt(tuple(moved))


def _items(problem: Problem, vms: Ints, targets: Bools) -> list[Ints]:
    """Return what is placed in one go, the most awkward first: sets that belong together, VMs."""
    apart: list[set[int]] = []
    there = set(vms.tolist())
    for group in problem.groups:
        mates = there & set(group.members.tolist()) if group.limit is None else set[int]()
        if len(mates) > 1:
            for other in [one for one in apart if one & mates]:
                apart.remove(other)
                mates |= other
            apart.append(mates)
    single = there.difference(*apart)
    items = [np.array(sorted(one), dtype=np.int64) for one in apart]
    items += [np.array([vm], dtype=np.int64) for vm in sorted(single)]
    share = problem.scale.mean(axis=1, keepdims=True)
    size = [float((problem.weight[:, one].sum(axis=1) * share[:, 0]).max()) for one in items]
    ways = [int((problem.allowed[one].all(axis=0) & targets).sum()) for one in items]
    order = np.lexsort([-np.array(size), np.array(ways)]).tolist() if items else []
    return [items[at] for at in order]


def _place(
    state: State, item: Ints, targets: Bools, moved: list[tuple[int, int]], *, tight: bool
) -> bool:
    """Move one item to a host of `targets`; what has been moved is added to `moved`."""
    problem = state.problem
    fits, filled = _room(state, item, targets)
    order = np.flatnonzero(fits)
    order = order[np.argsort(-filled[order] if tight else filled[order], kind="stable")]
    if len(item) == 1:
        vm = int(item[0])
        able = harmless(state, vm)[order]
        if not able.any():
            return False
        moved.append((vm, int(state.place[vm])))
        state.move(vm, int(order[able.argmax()]))
        return True
    before = [state.problem.groups[at].broken(state.counts[at]) for at in _about(problem, item)]
    for host in order.tolist():
        step = [(vm, int(state.place[vm])) for vm in item.tolist()]
        for vm in item.tolist():
            state.move(vm, host)
        if _no_worse(state, item, before):
            moved.extend(step)
            return True
        take_back(state, Attempt(tuple(step)))
    # They need not be on one host, only in one rack or site: each for itself, then.
    mark = len(moved)
    if all(
        _place(state, item[at : at + 1], targets, moved, tight=tight) for at in range(len(item))
    ):
        return True
    take_back(state, Attempt(tuple(moved[mark:])))
    del moved[mark:]
    return False


def _room(state: State, item: Ints, targets: Bools) -> tuple[Bools, Floats]:
    """Return the (H,) targets that hold all of `item` below the ceiling, and how full they get."""
    problem = state.problem
    size = problem.weight[:, item].sum(axis=1, keepdims=True)
    top = np.maximum(problem.sleepers.ceiling, 1e-9)
    filled = ((state.load + size) * problem.scale / top).max(axis=0)
    allowed = problem.allowed[item].all(axis=0)
    return targets & allowed & (filled <= 1.0 + ROUNDING), filled


def harmless(state: State, vm: int) -> Bools:
    """Return the (H,) hosts to which `vm` may go without harm to any tier above this one."""
    problem = state.problem
    if not problem.ruled[vm] and not problem.crowds:
        return np.asarray(problem.allowed[vm], dtype=bool)
    change = state.rule_change(vm)
    able = change.legal & (change.hard <= 0) & (change.resort <= 0) & (change.soft <= SOFT)
    return np.asarray(able, dtype=bool)


def _about(problem: Problem, item: Ints) -> list[int]:
    return sorted({at for vm in item.tolist() for at in problem.groups_about(vm)})


def _no_worse(state: State, item: Ints, before: list[int]) -> bool:
    """Tell whether no rule about `item` is broken more than `before`, with all of it moved."""
    problem = state.problem
    for at, was in zip(_about(problem, item), before, strict=True):
        group, counts = problem.groups[at], state.counts[at]
        if group.broken(counts) > was or not group.legal(counts):
            return False
    rows = problem.soft[problem.soft_row[item]]
    each = np.arange(len(item))
    soft = rows[each, state.place[item]] - rows[each, problem.home[item]]
    reluctant = problem.reluctant[item] & (state.place[item] != problem.home[item])
    return bool(soft.sum() <= SOFT and not reluctant.any())


def only_whole(problem: Problem, place: Ints) -> Ints:
    """Return `place` without moves off hosts that do not end empty, unless something needs them."""
    goal = problem.policy.goal
    key = measure(problem, place).key(goal)
    awake = problem.sleepers.carried(place) > 0
    moved = place != problem.home
    for host in np.unique(problem.home[moved]).tolist():
        if not awake[host]:
            continue
        leaving = np.flatnonzero(moved & (problem.home == host))
        everywhere = np.ones(len(problem.hosts), dtype=bool)
        items = [leaving, *_items(problem, leaving, everywhere)]
        for item in items if len(items) > 2 else items[:1]:  # noqa: PLR2004 -- all, or one by one
            trial = place.copy()
            trial[item] = host
            found = measure(problem, trial).key(goal)
            if better(found, key) and legal_end(problem, trial):
                place, key = trial, found
                if len(item) == len(leaving):
                    break
    return place
