"""From a placement to a schedule that keeps every cap, giving up moves where it must.

The searches know loads and rules; order, bytes and seconds are known only once scheduled. What
then does not fit is given up again, the move that gains least first, and with it whatever
would be illegal without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from balancer.model.cluster import Transport
from balancer.model.plan import SettingChange, StoppedBy
from balancer.model.rule import Turn
from balancer.planner import transport
from balancer.planner.drill import Loss
from balancer.planner.empty import only_whole
from balancer.planner.explain import repairs
from balancer.planner.ilp import Solver
from balancer.planner.instants import worst_instant
from balancer.planner.problem import GIB, Ints, Problem
from balancer.planner.schedule import Schedule, schedule
from balancer.planner.score import better, legal_end, measure, over_limit, overloaded
from balancer.planner.secure import secured
from balancer.planner.stays import STUCK, UNSAFE, UNSEEN
from balancer.planner.timing import Timing
from balancer.planner.work import INF, Work
from balancer.policy.policy import Goal, Prefer

# Of the moves that stand in each other's way this many are weighed before one is given up.
WEIGHED = 40
# Of seeing that hosts may fail on the way: work in all, how much of it for the first attempt, of
# what is left for another with less, and for the last look at a schedule, which takes less than to
# make it; of the migrations that were begun within an attempt, how many surely fit into the next.
WATCH_UNITS, FIRST_SHARE, AGAIN_SHARE, LOOK_SHARE, SEEN_SHARE = 8e6, 0.5, 0.65, 0.7, 0.4
# Of the seconds that a time limit leaves, how many are for that: the judge, who sees it all again,
# takes about as many. Seconds once the user waits, and the share of the work without a clock.
WATCH_TIME, HURRIED_S, HURRIED_SHARE = 0.5, 2.0, 0.25
PARTED_MAX = 40  # pairs of migrations that are told to wait for each other before any is given up


@dataclass(frozen=True)
class Carried:
    """A placement that can be reached, how, and what was given up for it."""

    place: Ints
    schedule: Schedule
    settings: tuple[SettingChange, ...]
    timing: Timing
    dropped: dict[int, str] = field(default_factory=dict)
    lost: list[Loss] | None = None  # at the worst instant on the way; None: not asked about
    overran: Schedule | None = None  # the first that copied more than the caps on bytes allow
    # Of those dropped, whom no order of moves that was tried brings to a target, safely and within
    # the cap: there.
    stuck: dict[int, int] = field(default_factory=dict)


def carry(
    problem: Problem, place: Ints, work: Work, solver: Solver, *, asked_for: bool = False
) -> Carried:
    """Schedule the moves to `place`, a legal end, giving up what the caps do not allow.

    What remains must better the placement, unless it was `asked_for`.
    """
    timing = Timing(problem)
    goal = problem.policy.goal
    nothing = measure(problem, problem.home).key(goal)
    dropped: dict[int, str] = {}
    stuck: dict[int, int] = {}
    overran: Schedule | None = None
    place = place.copy()
    watching = _watching(work)
    parted: list[frozenset[int]] = []
    share = FIRST_SHARE
    while True:
        had, part = _left(watching), _part(watching, share)
        found, settings = _fastest(timing, place, work, part, solver, parted)
        text, victims, count = _too_much(problem, found)
        lost, unseen = None, found.unseen
        if not victims and not unseen:
            part = _part(watching, LOOK_SHARE)
            lost, blamed = worst_instant(problem, place, found.timed, part)
            if not blamed:
                return Carried(place, found, settings, timing, dropped, lost, overran, stuck)
            unseen = part.stopped_by is not None
            waits = [pair for pair in _waits(found, blamed) if pair not in parted]
            # What is not left for as much again is seen with fewer moves.
            unseen = unseen or 2 * _left(watching) < had
            if waits and not unseen and len(parted) < PARTED_MAX:
                parted += waits
                continue
            text, count = UNSAFE, 1
            victims = sorted({found.timed[at].leg.vm for at in blamed})
        if overran is None and _copies_too_much(problem, found):
            overran = found
        before = place
        if unseen:
            text, share, fewer = UNSEEN, AGAIN_SHARE, _begun_first(problem, place, found, watching)
        else:
            fewer = _without(problem, place, victims, count)
        place = legalise(problem, fewer)
        if text in (STUCK, UNSAFE):
            gone = np.flatnonzero(place != before).tolist()
            stuck |= {vm: int(before[vm]) for vm in gone}
        place = secured(problem, place, problem.home, with_less=True)
        if goal is Goal.CONSOLIDATE:
            place = only_whole(problem, place)
        if not asked_for and not better(measure(problem, place).key(goal), nothing):
            place = problem.home.copy()
        dropped |= dict.fromkeys(np.flatnonzero(place != before).tolist(), text)


def moves_of(problem: Problem, place: Ints) -> list[tuple[int, int, int]]:
    """Return (VM, source, target) of every VM that is not at home."""
    moved = np.flatnonzero(place != problem.home).tolist()
    return [(vm, int(problem.home[vm]), int(place[vm])) for vm in moved]


def _watching(work: Work) -> Work:
    """Return what may be spent on seeing that hosts may fail on the way.

    Not cut short by the user: what the search has found is seen through, but in less time.
    """
    work.cut_short()
    watching = replace(work.apart(WATCH_UNITS), interrupted=None, stopped_by=None)
    hurried = work.stopped_by is StoppedBy.INTERRUPT
    if work.elapsed_s is None:
        return replace(watching, units=WATCH_UNITS * (HURRIED_SHARE if hurried else 1.0))
    now_s, until_s = work.elapsed_s(), work.time_limit_s
    if until_s is not None:
        until_s = now_s + WATCH_TIME * (until_s - now_s)
    if hurried:
        until_s = min(until_s or INF, now_s + HURRIED_S)
    return replace(watching, time_limit_s=until_s, reserve_s=0.0)


def _left(work: Work) -> float:
    """Return what is left to spend; a unit is about a microsecond."""
    left = work.seconds_left()
    return work.units if left is None else min(work.units, 1e6 * left)


def _part(work: Work, share: float) -> Work:
    """Return a share of what is left to spend, of work and of seconds."""
    part, left = work.part(share * work.units), work.seconds_left()
    if left is not None:
        part.reserve_s += (1 - share) * left
    return part


def _waits(found: Schedule, blamed: list[int]) -> list[frozenset[int]]:
    """Return pairs of VMs that were under way at once, which may be why an instant is unsafe.

    Each by itself is safe from its start to its end, or it would not have begun.
    """
    last = found.timed[blamed[-1]]
    beside = (
        one
        for one in found.timed
        if one is not last and one.end_s > last.start_s and one.start_s < last.end_s
    )
    return [frozenset((one.leg.vm, last.leg.vm)) for one in beside]


def _begun_first(problem: Problem, place: Ints, found: Schedule, watching: Work) -> Ints:
    """Return `place` with as many of the moves that begin first as can be seen through.

    As long as anything is left to see it with one is, at least. Where none was begun half are
    left, urgent ones first.
    """
    moved, urgent = np.flatnonzero(place != problem.home).tolist(), _urgent(problem, place)
    begun = list(dict.fromkeys(one.leg.vm for one in found.timed))
    many = max(1, int(SEEN_SHARE * len(begun))) if begun else len(moved) // 2
    kept = begun or sorted(moved, key=lambda vm: (vm not in urgent, vm))
    fewer = problem.home.copy()
    if watching.spend(0):
        kept = kept[: min(many, len(moved) - 1)]
        fewer[kept] = place[kept]
    return fewer


def _fastest(
    timing: Timing,
    place: Ints,
    work: Work,
    watching: Work,
    solver: Solver,
    parted: list[frozenset[int]],
) -> tuple[Schedule, tuple[SettingChange, ...]]:
    """Schedule with the present settings and with those worth trying; take what pays."""
    problem = timing.problem
    moves = moves_of(problem, place)
    urgent = _urgent(problem, place)
    candidates = transport.candidates(timing, moves, work, solver)
    chosen: dict[int, Transport] = transport.as_set(problem)
    if problem.policy.transport.prefer is not Prefer.AUTO and candidates:
        chosen = candidates.pop()
    before = watching.units
    best = schedule(timing, moves, chosen, urgent, watching, parted)
    usual_s, took = best.makespan_s, before - watching.units
    for settings in candidates:
        if watching.units < took:  # it could not be seen through
            break
        tried = schedule(timing, moves, settings, urgent, watching, parted)
        if tried.unseen:
            break
        fewer_stuck = len(tried.stuck) < len(best.stuck)
        worth = transport.pays(usual_s, tried.makespan_s)
        faster = worth and tried.makespan_s < best.makespan_s - 1e-9
        if fewer_stuck or (faster and len(tried.stuck) <= len(best.stuck)):
            best, chosen = tried, settings
    chosen = transport.needed(problem, dict(chosen), (one.leg for one in best.timed))
    return best, transport.changes(problem, chosen)


def _urgent(problem: Problem, place: Ints) -> set[int]:
    """Return the VMs whose migration evacuates, relieves or repairs."""
    hot = np.asarray(overloaded(problem, problem.before).any(axis=0))
    moved = np.flatnonzero(place != problem.home)
    urgent = moved[problem.from_drain[moved] | hot[problem.home[moved]]]
    return set(urgent.tolist()) | {vm for vm in moved.tolist() if repairs(problem, place, vm)}


def _too_much(problem: Problem, found: Schedule) -> tuple[str, list[int], int]:
    """Return the first cap that `found` does not keep, VMs to choose from, and how many to give up.

    About half of what is too much goes at a time: what is left is scheduled anew and may fit.
    """
    caps = problem.caps
    timed = [one.leg.vm for one in found.timed]
    if found.stuck:
        victims = list(found.stuck[:WEIGHED])
        return (UNSAFE, victims, max(1, len(victims) // 2)) if found.unsafe else (STUCK, victims, 1)
    if len(timed) > problem.cap:
        text = f"the cap of {problem.cap} migrations leaves no stop-over"
        return text, sorted(set(timed)), 1
    if caps.bytes is not None and found.bytes > caps.bytes:
        text = f"the cap of {caps.bytes / GIB:.1f} GiB a run is used up"
        excess = (found.bytes - caps.bytes) / found.bytes
        return text, sorted(set(timed)), max(1, int(excess * len(timed) / 2))
    return over_budget(problem, found) or _too_late(problem, found)


def _copies_too_much(problem: Problem, found: Schedule) -> bool:
    """Tell whether a cap on bytes, of the run or the day, is not kept."""
    calm = problem.calm
    if problem.caps.bytes is not None and found.bytes > problem.caps.bytes:
        return True
    if calm.past is None or calm.day_bytes is None:
        return False
    return sum(one.bytes for one in found.timed if calm.binds(one.leg.vm)) > calm.day_bytes


def _too_late(problem: Problem, found: Schedule) -> tuple[str, list[int], int]:
    """Return what would not be over in time: within a run, or within a VM's own hours."""
    caps = problem.caps
    if caps.duration_s is not None and found.makespan_s > caps.duration_s:
        text = f"it would not end within {caps.duration_s:.0f} s"
        late = {one.leg.vm for one in found.timed if one.end_s > caps.duration_s}
        return text, sorted(late), max(1, len(late) // 2)
    timed = {one.leg.vm for one in found.timed}
    if outside := sorted(vm for vm in timed if _outside(problem, found, vm)):
        return "its window closes before it would be there", outside, len(outside)
    return "", [], 0


def _outside(problem: Problem, found: Schedule, vm: int) -> bool:
    """Tell whether a migration of `vm` is not forecast to be over within the VM's own hours."""
    now, hours = problem.now, problem.hours_of_vm.get(vm, ())
    return now is not None and not all(
        one.may_start(now + timedelta(seconds=leg.start_s), leg.end_s - leg.start_s)
        for _, one in hours
        for leg in found.timed
        if leg.leg.vm == vm
    )


def over_budget(problem: Problem, found: Schedule) -> tuple[str, list[int], int] | None:
    """Return what of the day's budget `found` does not keep; moves that must be are not in it."""
    calm, limits = problem.calm, problem.policy.limits
    if calm.past is None:
        return None
    bound = [one for one in found.timed if calm.binds(one.leg.vm)]
    vms = sorted({one.leg.vm for one in bound})
    if calm.day_moves is not None and len(bound) > calm.day_moves:
        text = f"the budget of {limits.migrations_per_day} migrations a day is used up"
        return text, vms, max(1, (len(bound) - calm.day_moves) // 2)
    total = sum(one.bytes for one in bound)
    if calm.day_bytes is not None and total > calm.day_bytes:
        text = f"the budget of {(limits.bytes_per_day or 0) / GIB:.1f} GiB a day is used up"
        return text, vms, max(1, int((total - calm.day_bytes) / total * len(bound) / 2))
    return None


def _without(problem: Problem, place: Ints, victims: list[int], count: int) -> Ints:
    """Return `place` without those `count` of `victims` whose loss costs the tiers least."""
    goal = problem.policy.goal
    if goal is Goal.CONSOLIDATE and (host := _dearest(problem, place, victims)) is not None:
        return np.where(problem.home == host, problem.home, place)
    keys: list[tuple[bool, tuple[float, ...], int]] = []
    favoured = frozenset[int]().union(*problem.turns[Turn.FIRST])
    trial = place.copy()
    for vm in victims:
        if place[vm] == problem.home[vm]:
            continue
        trial[vm] = problem.home[vm]
        keys.append((vm in favoured, measure(problem, trial).key(goal), vm))
        trial[vm] = place[vm]
    for _, _, vm in sorted(keys)[:count]:
        trial[vm] = problem.home[vm]
    return trial


def _dearest(problem: Problem, place: Ints, victims: list[int]) -> int | None:
    """Return the emptied host that moves most among those of `victims`: one is given up whole.

    A few VMs of each would keep all of them awake. None where no victim empties anything.
    """
    sleepers = problem.sleepers
    emptied = sleepers.awake(problem.home) & ~sleepers.awake(place)
    hosts = np.unique(problem.home[victims])
    hosts = hosts[emptied[hosts]]
    if not len(hosts):
        return None
    moved = place != problem.home
    cost = np.bincount(problem.home[moved], problem.move_cost[moved], minlength=len(emptied))
    return int(hosts[np.argmax(cost[hosts])])


def legalise(problem: Problem, place: Ints) -> Ints:
    """Take moves back until the rest is a legal end; at worst none are left."""
    place = place.copy()
    while not legal_end(problem, place):
        moved = np.flatnonzero(place != problem.home)
        full = over_limit(problem, place)
        guilty = moved[full[place[moved]]]
        if len(guilty):
            size = (problem.weight * problem.scale[:, [0]]).max(axis=0)
            back = guilty[[int(np.argmin(size[guilty]))]]
        else:
            back = _in_broken_groups(problem, place, moved)
        if not len(back):
            back = moved
        place[back] = problem.home[back]
    return place


def _in_broken_groups(problem: Problem, place: Ints, moved: Ints) -> Ints:
    """Return the moved members of the first group that ends worse than it may."""
    for group in problem.groups:
        if not group.legal(group.counts(place)):
            return np.intersect1d(group.members, moved)
    return moved[:0]
