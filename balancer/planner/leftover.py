"""What a plan leaves: VMs that should move and stay, and all that stays wrong at its end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from balancer.model.plan import NotMoved, Unresolved
from balancer.planner.construct import best_target, suspects
from balancer.planner.groups import Group
from balancer.planner.idle import who_could
from balancer.planner.payback import why_unpaid
from balancer.planner.problem import Ints, Problem
from balancer.planner.score import better, means, measure, overloaded
from balancer.planner.state import State
from balancer.planner.stays import what_keeps
from balancer.planner.survival import not_survived
from balancer.planner.timing import Timing
from balancer.planner.words import REASONS_SHOWN, RESOURCES, beyond, cite, counted, hosts_of
from balancer.policy.policy import Goal

# To see whether it is a cap that keeps VMs at home: how many are looked at, and moves measured.
LOOKED_MAX, WEIGHED_MAX = 1000, 20


def not_moved(
    problem: Problem,
    place: Ints,
    dropped: Mapping[int, str],
    curbed: str = "",
    *,
    brief: bool = False,
) -> tuple[NotMoved, ...]:
    """Return the VMs that a goal wanted elsewhere and that stayed, each with its reason.

    If `brief`, without a look at each host for each of them: there may be thousands, and whoever
    set a time limit or pressed Ctrl-C waits.
    """
    state = State(problem, place)
    at_home = place == problem.home
    wanted = set(np.flatnonzero(problem.from_drain & at_home).tolist())
    wanted.update(np.flatnonzero((problem.astray > 0) & at_home).tolist())
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard:
            wanted.update(vm for vm in group.guilty(counts, place).tolist() if at_home[vm])
    if problem.policy.goal is not Goal.RULES_ONLY:
        hot = np.asarray(overloaded(problem, state.used()).any(axis=0))
        wanted.update(np.flatnonzero(hot[place] & at_home & problem.is_load).tolist())
    if problem.policy.goal.mends_soft_rules:
        wanted.update(vm for vm in suspects(state, hard=False) if at_home[vm])
    if problem.policy.goal is not Goal.CONSOLIDATE:  # there it is told by host, see `Plan.sleep`
        wanted.update(vm for vm in dropped if at_home[vm])
    if not wanted and at_home.all():
        wanted.update(_held_by_caps(state))
    return tuple(
        NotMoved(
            vm=problem.vms[vm].id,
            name=problem.vms[vm].name,
            host=problem.vms[vm].host,
            reason=dropped.get(vm) or what_keeps(state, vm, curbed, brief=brief),
        )
        for vm in sorted(wanted)
    )


def _held_by_caps(state: State) -> list[int]:
    """Return the first VMs whose move alone would better balance and that a cap keeps at home.

    A plan that moves nothing says by them that it is a cap that it ends at, and not the goal.
    """
    problem, found, weighed = state.problem, list[int](), 0
    if problem.policy.goal is not Goal.BALANCE:
        return found
    mean, timing = means(problem, state.place), Timing(problem)
    now = measure(problem, state.place).key(Goal.BALANCE)
    # Those first that have most reason to leave: on the hosts furthest above the mean.
    above = (problem.before - mean).max(axis=0)
    vms = problem.movable[~problem.reluctant[problem.movable]]
    if problem.cap > 0:
        size, most = problem.budgets.size[:, vms], problem.budgets.most[:, None]
        vms = vms[(size > most).any(axis=0)]
    vms = vms[np.lexsort([vms, -above[problem.home[vms]]])][:LOOKED_MAX]
    for vm in vms.tolist():
        if len(found) >= REASONS_SHOWN or weighed >= WEIGHED_MAX:
            break
        change = state.rule_change(vm)
        able = change.legal & state.fits(vm)
        able[problem.home[vm]] = False
        target = best_target(state, vm, mean, change, able)
        if target is None or target[1][-1] + problem.move_cost[vm] >= 0:
            continue
        weighed += 1
        trial = state.place.copy()
        trial[vm] = target[0]
        helps = better(measure(problem, trial).key(Goal.BALANCE), now)
        if helps and not why_unpaid(timing, trial, state.place, vm):
            found.append(vm)
    return found


def unresolved(problem: Problem, place: Ints, curbed: str = "") -> tuple[Unresolved, ...]:
    """Return what stays wrong at the end: drains, broken hard rules, overload."""
    state = State(problem, place)
    used = state.used()
    found: list[Unresolved] = []
    for host in np.flatnonzero(problem.draining).tolist():
        left = np.flatnonzero((place == host) & problem.is_load).tolist()
        if left:
            names = ", ".join(problem.vms[vm].name for vm in left[:REASONS_SHOWN])
            are = "is" if len(left) == 1 else "are"
            still = f"{counted(len(left), 'VM')} {are} still on it: {names}"
            why = what_keeps(state, left[0], curbed)
            found.append(Unresolved(problem.hosts[host].name, still, why))
    found.extend(_rules_left(state, curbed))
    found.extend(not_survived(problem, place, curbed))
    for resource, host in zip(*np.nonzero(overloaded(problem, used)), strict=True):
        share, limit = used[resource, host], problem.threshold[resource, 0]
        if problem.calm.restraint:
            why = problem.calm.restraint
        elif problem.policy.goal is Goal.RULES_ONLY:
            why = "the goal rules-only does not relieve overload"
        else:
            why = _why_overloaded(state, int(host), int(resource), curbed)
            why += who_could(problem, int(host))
        text = f"{RESOURCES[int(resource)]} {beyond(share, limit, ' is above ')}"
        found.append(Unresolved(problem.hosts[int(host)].name, text, why))
    return tuple(found)


def _why_overloaded(state: State, host: int, resource: int, curbed: str) -> str:
    """Return what keeps the load on `host`: of its VMs those that were there before answer."""
    problem = state.problem
    there = np.flatnonzero((state.place == host) & (problem.weight[resource] > 0))
    if not len(there):
        return "the load is the host's own"
    stayed = there[problem.home[there] == host]
    if len(stayed):
        return what_keeps(state, int(stayed[0]), curbed)
    if problem.from_drain[there].any():
        return "it had to take VMs that leave a draining host"
    return what_keeps(state, int(there[0]), curbed)


def _rules_left(state: State, curbed: str) -> list[Unresolved]:
    problem, found = state.problem, []
    for vm in np.flatnonzero(problem.astray).tolist():
        there = problem.hosts[state.place[vm]].name
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if one.hard and there not in hosts_of(one):
                text = f"{problem.vms[vm].name} is on {there}"
                found.append(Unresolved(cite(one.rule), text, what_keeps(state, vm, curbed)))
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard and (broken := group.broken(counts)):
            text = (
                f"{broken} too many in one place"
                if group.limit is not None
                else (f"spread over {broken + 1} places")
            )
            why = _why_broken(state, group, curbed)
            found.append(Unresolved(cite(group.said.rule), text, why))
    return found


def _why_broken(state: State, group: Group, curbed: str) -> str:
    """Return what keeps a group broken: too few places, or what holds one of its VMs."""
    members, places = group.members, len(group.before)
    if group.limit is not None and len(members) > group.limit * places:
        return f"{len(members)} VMs have {counted(group.limit * places, 'place')}"
    stayed = members[state.place[members] == state.problem.home[members]]
    if group.limit is not None and len(stayed):
        counts = group.counts(state.place)
        crowded = group.domain[state.place[stayed]]
        stayed = stayed[(crowded >= 0) & (counts[crowded] > group.limit)]
    return what_keeps(state, int((stayed if len(stayed) else members)[0]), curbed)
