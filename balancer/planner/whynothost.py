"""Why nothing, or no more, is moved to a host and off it: the reasons, with the VMs they keep."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from balancer.planner import construct
from balancer.planner.effects import shifted
from balancer.planner.problem import Ints
from balancer.planner.score import means
from balancer.planner.stays import obstacles, ruled_out, what_binds
from balancer.planner.whynot import Inquiry
from balancer.planner.words import RESOURCES, counted, percent
from balancer.policy.capacity import why_no_target
from balancer.policy.policy import Goal

REASONS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Because:
    """A reason, and how many VMs it keeps."""

    vms: int
    reason: str


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """What a plan does with a host, and why no more.

    Attributes:
        load: How full it is now and at the end of the plan, in words.
        comes, leaves: Names of the VMs that the plan moves.
        not_to, not_off: What keeps the others from coming, and its own from leaving; what keeps
            the most VMs first.
    """

    host: str
    state: str
    load: str
    comes: tuple[str, ...]
    leaves: tuple[str, ...]
    not_to: tuple[Because, ...]
    not_off: tuple[Because, ...]


def about_host(inquiry: Inquiry, name: str) -> HostAnswer:
    """Say what a plan does with a host, and why no more.

    Raises:
        InputError: No such host.
    """
    host, problem, place = inquiry.index(name), inquiry.problem, inquiry.place
    used, here, was = inquiry.end.used(), place == host, problem.home == host
    loads = (
        f"{label} {percent(problem.before[at, host])} -> {percent(used[at, host])}"
        for at, label in RESOURCES.items()
    )
    return HostAnswer(
        host=name,
        state=problem.hosts[host].state.value,
        load=", ".join(loads),
        comes=tuple(problem.vms[vm].name for vm in np.flatnonzero(here & ~was).tolist()),
        leaves=tuple(problem.vms[vm].name for vm in np.flatnonzero(was & ~here).tolist()),
        not_to=_not_to(inquiry, host),
        not_off=_not_off(inquiry, host),
    )


def _not_to(inquiry: Inquiry, host: int) -> tuple[Because, ...]:
    """Return what keeps VMs that are elsewhere from coming."""
    problem, end = inquiry.problem, inquiry.end
    others = np.flatnonzero((inquiry.place != host) & problem.is_load).tolist()
    if (fact := why_no_target(problem.hosts[host])) is not None:
        return (Because(len(others), fact),)
    reasons: Counter[str] = Counter()
    able: list[int] = []
    for vm in others:
        if told := ruled_out(end, vm, host):
            reasons[told[0]] += 1
        elif obstacles(end, vm, host):
            reasons[f"{problem.hosts[host].name} has no room for more of their size"] += 1
        else:
            able.append(vm)
    vms = np.array(able, dtype=np.int64)
    return _told(reasons, len(able), _best_comer(inquiry, host, vms) if able else "")


def _best_comer(inquiry: Inquiry, host: int, vms: Ints) -> str:
    """Return what the VM would change that has most reason to come."""
    if asks := _nothing_asks(inquiry):
        return asks
    problem = inquiry.problem
    over, cost = shifted(problem, inquiry.place, vms, np.full(len(vms), host))
    at_home, goes_home = inquiry.place[vms] == problem.home[vms], problem.home[vms] == host
    cost = cost + problem.move_cost[vms] * (at_home.astype(float) - goes_home)
    best = int(np.lexsort([vms, cost, np.round(over, 9)])[0])
    return _verdict(inquiry, int(vms[best]), host)


def _not_off(inquiry: Inquiry, host: int) -> tuple[Because, ...]:
    """Return what keeps the VMs there that are on the host now and at the end."""
    problem = inquiry.problem
    stay = (inquiry.place == host) & (problem.home == host) & problem.is_load
    reasons: Counter[str] = Counter()
    able: list[int] = []
    for vm in np.flatnonzero(stay).tolist():
        bound, _ = what_binds(inquiry.end, vm)
        if bound:
            reasons[bound] += 1
        else:
            able.append(vm)
    return _told(reasons, len(able), _best_leaver(inquiry, able) if able else "")


def _best_leaver(inquiry: Inquiry, able: list[int]) -> str:
    """Return what the VM would change that has most reason to leave, and where to."""
    problem, end = inquiry.problem, inquiry.end
    name = problem.hosts[inquiry.place[able[0]]].name
    for one in inquiry.plan.sleep:
        if one.host == name:  # a host is emptied whole or not at all
            return f"all of them together or none: {one.reason}"
    if asks := _nothing_asks(inquiry):
        return asks
    mean = means(problem, inquiry.place)
    ranked: list[tuple[float, float, int, int]] = []
    for vm in able:
        legal = end.rule_change(vm).legal & end.fits(vm, even_overload=True)
        over, cost = construct.effects(end, vm, mean)
        ranked.extend(
            (round(float(over[host]), 9), float(cost[host] + problem.move_cost[vm]), vm, host)
            for host in np.flatnonzero(legal).tolist()
        )
    _, _, vm, host = min(ranked)
    return _verdict(inquiry, vm, host)


def _nothing_asks(inquiry: Inquiry) -> str:
    """Return why loads are not evened out at all, where they are not."""
    goal = inquiry.problem.policy.goal
    if goal is Goal.BALANCE:
        return ""
    return inquiry.restraint() or f"the goal {goal.value} asks for no more"


def _verdict(inquiry: Inquiry, vm: int, host: int) -> str:
    """Return what comes of the move that promises most."""
    name = inquiry.problem.hosts[host].name
    answer = inquiry.vm(inquiry.problem.vms[vm].id, name)
    return f"{answer.name} to {name} promises most, and {answer.instead[0].says}"


def _told(reasons: Counter[str], able: int, of_those: str) -> tuple[Because, ...]:
    """Return the reasons that keep most VMs, the number of the others, and what of the rest."""
    ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [Because(count, reason) for reason, count in ranked[:REASONS_SHOWN]]
    if rest := ranked[REASONS_SHOWN:]:
        vms = sum(count for _, count in rest)
        shown.append(Because(vms, counted(len(rest), "other reason")))
    if able:
        shown.append(Because(able, f"could: {of_those}"))
    return tuple(shown)
