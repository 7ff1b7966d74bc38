"""Whether claims can all hold, by trying every placement: slow, and written from their meaning."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from itertools import product

import numpy as np

from balancer.model.rule import AllowedHosts
from balancer.planner.problem import MEMORY, Ints, Problem, utilisation
from balancer.planner.quarrel import Subject
from balancer.policy.capacity import why_immovable, why_no_target, why_unfit


def can_hold(problem: Problem, end: Ints, subject: Subject, keys: Collection[Hashable]) -> bool:
    """Tell whether some placement keeps all claims of `keys`; what is well at `end` stays well."""
    every = range(len(problem.hosts))
    return any(
        all(_holds(problem, end, subject, key, np.array(place)) for key in keys)
        for place in product(every, repeat=len(problem.vms))
    )


def _holds(problem: Problem, end: Ints, subject: Subject, key: Hashable, place: Ints) -> bool:
    moved = np.flatnonzero(place != problem.home).tolist()
    match key:
        case ("host", int(host)):
            return _host(problem, end, subject, host, place)
        case ("room", int(resource), int(host)):
            return _room(problem, resource, host, place)
        case ("rule", int(rule)):
            return _lists(problem, end, subject, rule, place) and _groups(
                problem, end, subject, rule, place
            )
    return all(_may(problem, key, vm, int(place[vm]), len(moved)) for vm in moved)


def _may(problem: Problem, key: Hashable, vm: int, there: int, moves: int) -> bool:
    """Tell whether a claim that is about single migrations lets one of them be."""
    home, one = int(problem.home[vm]), problem.vms[vm]
    allowed: dict[Hashable, bool] = {
        "cap": moves <= problem.cap,
        "stay": bool(problem.from_drain[vm]),
        ("vm", vm): False,
        ("slots", home): False,
        ("slots", there): False,
        ("fit", vm, why_unfit(one, problem.hosts[there])): False,
        ("network", home, there): False,
    }
    return allowed.get(key, True)


def _room(problem: Problem, resource: int, host: int, place: Ints) -> bool:
    used, limit = utilisation(problem, place)[resource, host], problem.limit[resource, host]
    if problem.from_drain.any():
        assert resource == MEMORY
        limit = max(1.0, problem.before[resource, host])
    return bool(used <= limit + 1e-9)


def _host(problem: Problem, end: Ints, subject: Subject, host: int, place: Ints) -> bool:
    for vm, (home, there) in enumerate(zip(problem.home.tolist(), place.tolist(), strict=True)):
        one = problem.vms[vm]
        if there == host != home and why_no_target(problem.hosts[host]):
            return False
        of_itself = not one.is_load or one.blocked_by or one.migrating_to
        held = why_immovable(problem.cluster, one) and not of_itself
        if home == host != there and held:
            return False
        asked = subject.drained == host and vm in subject.vms
        leaves = problem.from_drain[vm] and (asked or end[vm] != home)
        if home == host == there and leaves:
            return False
    return True


def _lists(problem: Problem, end: Ints, subject: Subject, rule: int, place: Ints) -> bool:
    index = {vm.id: at for at, vm in enumerate(problem.vms)}
    for one in problem.said:
        if id(one.rule) != rule or not one.hard or not isinstance(one.form, AllowedHosts):
            continue
        for name in one.form.vms:
            vm = index[name]
            if problem.hosts[place[vm]].name in one.form.hosts:
                continue
            was_well = problem.hosts[end[vm]].name in one.form.hosts
            if place[vm] != problem.home[vm] or was_well or one.rule is subject.rule:
                return False
    return True


def _groups(problem: Problem, end: Ints, subject: Subject, rule: int, place: Ints) -> bool:
    for index, group in enumerate(problem.groups):
        if id(group.said.rule) != rule or not group.hard:
            continue
        counts, were, full = group.counts(place), group.counts(end), index == subject.group
        if group.limit is None:
            occupied = int((counts > 0).sum())
            if occupied > (1 if full else max(1, int((were > 0).sum()))):
                return False
            for vm in group.members.tolist():
                there = int(group.domain[place[vm]])
                new = there < 0 or not group.before[there]
                if place[vm] != problem.home[vm] and (group.fixed or (group.said.during and new)):
                    return False
        elif (counts > (group.limit if full else np.maximum(group.limit, were))).any():
            return False
    return True
