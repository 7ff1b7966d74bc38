"""The upper tiers, greedily: empty draining hosts, then mend broken rules.

Both work VM by VM over all hosts at once, and take for each VM the target that is best tier by
tier. What single moves cannot do is tried with a whole unit, or after one other VM made room.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from balancer.model.rule import Turn
from balancer.planner.groups import Group
from balancer.planner.problem import MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.score import (
    OVERLOAD_WEIGHT,
    better,
    gained,
    host_costs,
    legal_end,
    means,
    measure,
)
from balancer.planner.state import RuleChange, State
from balancer.planner.work import Work

# Hosts and VMs looked at to make room for one VM: deeper chains are the ILP's business.
ROOM_HOSTS, ROOM_VMS = 16, 24


def effects(state: State, vm: int, mean: Floats) -> tuple[Floats, Floats]:
    """Return for each host the change in overload and in J's host costs if `vm` moved there."""
    problem, source = state.problem, int(state.place[vm])
    used = state.used()
    step = problem.weight[:, [vm]] * problem.scale
    over, cost = (
        _change(problem, used, step, source, mean, weight) for weight in (1.0, OVERLOAD_WEIGHT)
    )
    balance = _change(problem, used, step, source, mean, 0.0)
    return over - balance, cost


def _change(
    problem: Problem, used: Floats, step: Floats, source: int, mean: Floats, weight: float
) -> Floats:
    before = host_costs(problem, used, mean, weight).sum(axis=0)
    after = host_costs(problem, used + step, mean, weight).sum(axis=0)
    left = host_costs(problem, used - step, mean, weight).sum(axis=0)
    change: Floats = after - before + (left[source] - before[source])
    return change


def best_target(
    state: State, vm: int, mean: Floats, change: RuleChange, legal: Bools
) -> tuple[int, tuple[float, ...]] | None:
    """Return the best of the `legal` hosts for `vm` and its change of each tier.

    The tiers are hard rules, overload, last resorts, soft rules, J.
    """
    hosts = np.flatnonzero(legal)
    if not len(hosts):
        return None
    over, cost = effects(state, vm, mean)
    rounded = (np.round(tier, 12) for tier in (change.soft, cost))
    tiers = [change.hard, np.round(over, 12), change.resort, *rounded]
    order = np.lexsort([hosts, *(tier[hosts] for tier in reversed(tiers))])
    at = int(hosts[order[0]])
    return at, tuple(float(tier[at]) for tier in tiers)


def evacuate(state: State, work: Work) -> None:
    """Move load off draining hosts, as far as it fits and the cap allows.

    VMs with priority go first, then the largest; where budgets do not let all leave, the smallest.
    """
    problem = state.problem
    stuck = problem.from_drain & problem.draining[state.place]
    vms = np.flatnonzero(stuck & (problem.allowed.sum(axis=1) > 1))
    size = (problem.weight * problem.scale.mean(axis=1, keepdims=True)).max(axis=0)
    mean = means(problem, _emptied(problem, state.place))
    favoured = np.isin(vms, sorted(frozenset[int]().union(*problem.turns[Turn.FIRST])))
    if state.budgets and not state.affords_all(vms):
        size = -size
    for vm in vms[np.lexsort([vms, -size[vms], ~favoured])].tolist():
        if state.moves >= problem.cap or not work.spend(200):
            return
        if not state.may_move(vm):
            continue
        change = state.rule_change(vm)
        legal = change.legal & state.fits(vm, even_overload=True) & ~problem.draining
        found = best_target(state, vm, mean, change, legal)
        if found is not None:
            state.move(vm, found[0])
        else:
            make_room(state, vm, change.legal & ~problem.draining, work)
    _evacuate_units(state, work)


def _evacuate_units(state: State, work: Work) -> None:
    """Take units off draining hosts as a whole: member by member they would be torn apart."""
    problem = state.problem
    goal = problem.policy.goal
    for members, domains in bound_together(problem.groups):
        stuck = problem.from_drain[members] & problem.draining[state.place[members]]
        if not stuck.any():
            continue
        best, best_place = measure(problem, state.place).key(goal), None
        for domain in np.unique(domains[domains >= 0]).tolist():
            if not work.spend(500):
                return
            wanted = (domains == domain) & ~problem.draining
            place = _gathered(state, members, wanted)
            key = None if place is None else gained(problem, place, best, work)
            if key is not None:
                best, best_place = key, place
        if best_place is not None:
            for vm in np.flatnonzero(state.place != best_place).tolist():
                state.move(vm, int(best_place[vm]))


def bound_together(groups: Iterable[Group]) -> list[tuple[Ints, Ints]]:
    """Return the sets of VMs that hard units hold together, each with a domain of each host.

    Units that share a VM are one set; it gathers in the domains of the first of them.
    """
    sets: list[tuple[set[int], Ints]] = []
    for group in groups:
        if group.limit is not None or not group.hard:
            continue
        members, domains = set(group.members.tolist()), group.domain
        apart: list[tuple[set[int], Ints]] = []
        for other, its_domains in sets:
            if other & members:
                members, domains = members | other, its_domains
            else:
                apart.append((other, its_domains))
        sets = [*apart, (members, domains)]
    return [(np.array(sorted(members), dtype=np.int64), domains) for members, domains in sets]


def _emptied(problem: Problem, place: Ints) -> Ints:
    """Return `place` with draining hosts' load spread over up hosts, to know the mean to come."""
    up = np.flatnonzero(problem.up)
    if not len(up):
        return place
    after = place.copy()
    leaving = np.flatnonzero(problem.from_drain & problem.draining[place])
    after[leaving] = up[np.arange(len(leaving)) % len(up)]
    return after


def make_room(state: State, vm: int, wanted: Bools, work: Work) -> bool:
    """Move one VM off a host of `wanted` so that `vm` fits there; return whether it did."""
    problem = state.problem
    if state.moves + 2 > problem.cap:
        return False
    free = (1.0 / problem.scale - state.load)[MEMORY]
    hosts = sorted(np.flatnonzero(wanted).tolist(), key=lambda host: (-free[host], host))
    mean = means(problem, state.place)
    for host in hosts[:ROOM_HOSTS]:
        lack = problem.weight[MEMORY, vm] - free[host]
        there = [
            other
            for other in np.flatnonzero(state.place == host).tolist()
            if problem.home[other] == host and problem.weight[MEMORY, other] >= lack
        ]
        there.sort(
            key=lambda other: (problem.reluctant[other], problem.weight[MEMORY, other], other)
        )
        for other in there[:ROOM_VMS]:
            if not work.spend(200):
                return False
            change = state.rule_change(other)
            legal = change.legal & state.fits(other) & (change.hard <= 0) & ~problem.draining
            found = best_target(state, other, mean, change, legal)
            if found is None or not state.affords_all([other, vm]):
                continue
            state.move(other, found[0])
            if state.rule_change(vm).legal[host] and state.fits(vm, even_overload=True)[host]:
                state.move(vm, host)
                return True
            state.move(other, host)
    return False


def mend(state: State, work: Work, *, hard: bool) -> None:
    """Repair broken rules, the most for each move first, without harm to higher tiers."""
    while state.moves < state.problem.cap and work.spend(100):
        if not (_mend_one(state, work, hard=hard) or _gather_unit(state, work, hard=hard)):
            return


def suspects(state: State, *, hard: bool) -> list[int]:
    """Return the VMs that take part in a broken rule and could move, in order."""
    problem = state.problem
    at_home = state.place == problem.home
    if hard:
        found = set(np.flatnonzero((problem.astray > 0) & at_home).tolist())
    else:
        soft = problem.soft[problem.soft_row, state.place]
        found = set(np.flatnonzero(soft > 0).tolist())
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard == hard:
            found.update(group.guilty(counts, state.place).tolist())
    movable = problem.allowed.sum(axis=1) > 1
    return sorted(vm for vm in found if movable[vm])


def _mend_one(state: State, work: Work, *, hard: bool) -> bool:
    """Mend with single moves: rank all of them once, then make those that still hold."""
    ranked: list[tuple[tuple[float, ...], int]] = []
    room_for: list[int] = []
    mean = means(state.problem, state.place)
    for vm in suspects(state, hard=hard):
        if not work.spend(200):
            return False
        if not state.may_move(vm):
            continue
        target, wanted = _cure(state, vm, mean, hard=hard)
        if target is not None:
            ranked.append((target[1], vm))
        elif wanted and hard:
            room_for.append(vm)
    mended = False
    for _, vm in sorted(ranked):
        if state.moves >= state.problem.cap or not work.spend(200):
            return mended
        if not state.may_move(vm):
            continue
        target, _ = _cure(state, vm, mean, hard=hard)
        if target is not None:
            state.move(vm, target[0])
            mended = True
    return mended or any(_mend_with_room(state, vm, work) for vm in room_for)


def _cure(
    state: State, vm: int, mean: Floats, *, hard: bool
) -> tuple[tuple[int, tuple[float, ...]] | None, bool]:
    """Return the best mending target of `vm` and its key, and whether room alone is lacking."""
    problem = state.problem
    change = state.rule_change(vm)
    gain = change.hard < 0 if hard else (change.soft < 0) & (change.hard <= 0)
    wanted = change.legal & gain & ~(problem.draining & problem.from_drain[vm])
    if not wanted.any():
        return None, False
    found = best_target(state, vm, mean, change, wanted & state.fits(vm))
    # No soft rule is worth an overload, or a last resort.
    if found is None or (not hard and max(found[1][1:3]) > 0):
        return None, bool(wanted.any())
    host, tiers = found
    extra = 0.0 if state.place[vm] != problem.home[vm] else float(problem.move_cost[vm])
    return (host, (*tiers[:-1], tiers[-1] + extra)), True


def _mend_with_room(state: State, vm: int, work: Work) -> bool:
    before = state.place.copy()
    key = measure(state.problem, before).key(state.problem.policy.goal)
    change = state.rule_change(vm)
    if make_room(state, vm, change.legal & (change.hard < 0) & ~state.problem.draining, work):
        after = measure(state.problem, state.place).key(state.problem.policy.goal)
        if better(after, key) and legal_end(state.problem, state.place):
            return True
        for moved in np.flatnonzero(state.place != before).tolist():
            state.move(moved, int(before[moved]))
    return False


def _gather_unit(state: State, work: Work, *, hard: bool) -> bool:
    """Bring one broken unit into one domain as a whole, if that betters the placement."""
    problem = state.problem
    goal = problem.policy.goal
    start = measure(problem, state.place).key(goal)
    best, best_place = start, None
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.limit is not None or group.hard != hard or not group.broken(counts):
            continue
        for domain in range(len(group.before)):
            if not work.spend(500):
                return False
            place = _gathered(state, group.members, group.domain == domain)
            key = None if place is None else gained(problem, place, best, work)
            if key is not None:
                best, best_place = key, place
    if best_place is None:
        return False
    for vm in np.flatnonzero(state.place != best_place).tolist():
        state.move(vm, int(best_place[vm]))
    return True


def _gathered(state: State, members: Ints, wanted: Bools) -> Ints | None:
    """Return the placement with all `members` on `wanted` hosts, or None if one does not fit."""
    problem = state.problem
    kept, packed, place = state.kept(), state.packed, None
    state.packed = False  # a unit goes where it fits
    mean = means(problem, state.place)
    for vm in members.tolist():
        if wanted[state.place[vm]]:
            continue
        legal = problem.allowed[vm] & wanted & state.fits(vm, even_overload=True)
        found = best_target(state, vm, mean, state.rule_change(vm), legal)
        if found is None:
            break
        state.move(vm, found[0])
    else:
        place = state.place.copy()
    state.restore(kept)
    state.packed = packed
    return place
