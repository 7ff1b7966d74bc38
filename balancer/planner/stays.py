"""Why a VM stays: what keeps it from a host, and what keeps it where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import numpy as np

from balancer.model.rule import Hours, Rule, StayPut
from balancer.planner.problem import GIB, MEMORY, Problem
from balancer.planner.state import State
from balancer.planner.words import (
    DIGITS_MAX,
    REASONS_SHOWN,
    RESOURCES,
    beyond,
    cite,
    counted,
    hosts_of,
)
from balancer.policy.capacity import usable, why_immovable, why_no_target, why_unfit
from balancer.policy.rules import HostReserve

STUCK = "its target has no room before others have left, and there is no way around"
UNSAFE = "on the way more would be lost if hosts failed than before or after"
UNSEEN = "what would be lost on the way if hosts failed could not be seen in time"


def what_keeps(state: State, vm: int, curbed: str = "", *, brief: bool = False) -> str:
    """Return the binding reason why `vm` stays.

    Args:
        state: Where all VMs are.
        vm: The VM.
        curbed: What kept the plan from doing more.
        brief: Say `curbed` also where no host could take it: to find out what is against each of
            64 hosts takes some milliseconds.
    """
    bound, open_hosts = what_binds(state, vm, brief=brief and bool(curbed))
    could = f"no move of it betters the plan ({counted(open_hosts, 'host')} could take it)"
    return bound or curbed or could


def what_binds(state: State, vm: int, *, brief: bool = False) -> tuple[str, int]:
    """Return the fact, rule or limit by which `vm` stays, or none and how many hosts are open.

    If `brief` none also where each host has something else against it.
    """
    problem = state.problem
    one = problem.vms[vm]
    if (fact := why_immovable(problem.cluster, one)) is not None:
        return fact, 0
    if vm in problem.calm.kept and problem.calm.binds(vm):
        return problem.calm.kept[vm], 0
    # In one sweep first: on a large cluster most VMs have somewhere to go, and words are slow.
    able = state.rule_change(vm).legal & state.fits(vm, even_overload=True)
    able[problem.home[vm]] = False
    open_hosts = int(able.sum())
    if open_hosts and state.moves >= problem.cap:
        return used_up(problem), open_hosts
    if open_hosts and (short := short_of(state, vm)):
        return short, open_hosts
    if open_hosts and (held := last_resort(problem, vm)) and not problem.from_drain[vm]:
        return f"{cite(held)} moves it as a last resort only", open_hosts
    return ("" if open_hosts or brief else _what_keeps_from_all(state, vm)), open_hosts


def last_resort(problem: Problem, vm: int) -> Rule | None:
    """Return the rule by which `vm` moves as a last resort only, if there is one."""
    if not problem.reluctant[vm]:
        return None
    name = problem.vms[vm].id
    held = (one for one in problem.said if isinstance(one.form, StayPut) and name in one.form.vms)
    return next(held).rule


def used_up(problem: Problem) -> str:
    """Return what is used up where a plan may have no more migrations: a run's cap or the day's."""
    limits, day = problem.policy.limits, problem.calm.day_moves
    if day is not None and (limits.migrations_per_run or problem.cap + 1) > problem.cap:
        return f"the budget of {limits.migrations_per_day} migrations a day is used up"
    return f"the cap of {counted(problem.cap, 'migration')} is used up"


def short_of(state: State, vm: int) -> str:
    """Return which budget does not let a VM that is at home leave; empty if none keeps it."""
    problem, budgets = state.problem, state.budgets
    if state.place[vm] != problem.home[vm]:
        return ""
    stay = problem.movable[state.place[problem.movable] == problem.home[problem.movable]]
    rows = (budgets.size, state.spent, budgets.most, budgets.names, budgets.in_gib)
    for size, spent, most, name, in_gib in zip(*rows, strict=True):
        if spent + size[vm] > most:
            least = size[stay].min(initial=np.inf)
            # Of what nothing was taken from, nothing is used up: the VM is too large for it.
            if not in_gib or most <= 0 or (spent > 0 and spent + least > most):
                return f"{name} is used up"
            needs, left = _apart(float(size[vm]), max(0.0, most - spent))
            return f"moving it copies {needs} GiB, {name} leaves {left}"
    return ""


def _apart(more: float, less: float) -> tuple[str, str]:
    """Return two sizes with digits enough to see which is more."""
    shown = ((f"{more:.{digits}f}", f"{less:.{digits}f}") for digits in range(1, DIGITS_MAX))
    return next((pair for pair in shown if pair[0] != pair[1]), (f"{more:g}", f"{less:g}"))


def curb(dropped: Mapping[int, str], *, cut_short: bool) -> str:
    """Return what kept a plan from doing more, other than rules and capacity; empty if nothing."""
    capped = [text for text in dropped.values() if text not in (STUCK, UNSAFE)]
    if capped:
        return capped[0]
    return "the search was stopped before it got to it" if cut_short else ""


def _what_keeps_from_all(state: State, vm: int) -> str:
    """Return why no host can take `vm`."""
    problem = state.problem
    others = [at for at in range(len(problem.hosts)) if at != state.place[vm]]
    known = _Known(state, vm)
    kept = {at: obstacles(state, vm, at, known) for at in others}
    if not others:
        return "there is no other host"
    # A rule that rules out every host is the reason, whatever else stands in the way.
    for said in problem.lists_of_vm.get(problem.vms[vm].id, ()):
        if said.hard and not any(problem.hosts[at].name in hosts_of(said) for at in others):
            return f"{cite(said.rule)} allows it no other host"
    shared = [text for text in kept[others[0]] if all(text in kept[at] for at in others)]
    if shared:
        return shared[0]
    counts = Counter((*kept[at], "no legal way there")[0] for at in others)
    shown = [text for text, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    more = len(shown) - REASONS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return "no host can take it: " + "; ".join(shown[:REASONS_SHOWN]) + tail


class _Known:
    """What is found out for all hosts at once: asking it for each of 64 takes 64 times as long."""

    def __init__(self, state: State, vm: int) -> None:
        problem, source = state.problem, int(state.place[vm])
        self.immovable = why_immovable(problem.cluster, problem.vms[vm])
        self.fits = state.fits(vm, even_overload=True)
        self.stays = {
            index: problem.groups[index].change(vm, state.counts[index], source)[1]
            for index in problem.groups_about(vm)
        }


def obstacles(state: State, vm: int, host: int, known: _Known | None = None) -> tuple[str, ...]:
    """Return every fact and rule that keeps `vm` from `host` in this state; empty if none."""
    if state.place[vm] == host:
        return (f"it is on {state.problem.hosts[host].name} already",)
    known = known or _Known(state, vm)
    room = () if known.fits[host] else _capacity_obstacles(state, vm, host)
    return (*ruled_out(state, vm, host, known), *room)


def ruled_out(state: State, vm: int, host: int, known: _Known | None = None) -> tuple[str, ...]:
    """Return what keeps `vm` from `host` in this state, besides room."""
    problem, known = state.problem, known or _Known(state, vm)
    one, target = problem.vms[vm], problem.hosts[host]
    source = problem.hosts[state.place[vm]]
    found = [text for text in (known.immovable, why_no_target(target)) if text]
    found.extend(problem.calm.against(vm, int(state.place[vm]), host))
    slots = problem.caps.concurrent_per_host
    found.extend(
        f"the policy or the cluster allows no migration on {end.name}"
        for end in (source, target)
        if slots[end.name] < 1 and end.migration.concurrent >= 1
    )
    if (unfit := why_unfit(one, target)) is not None:
        found.append(unfit)
    if not problem.connected[state.place[vm], host]:
        found.append(f"{source.name} and {target.name} share no migration network")
    found.extend(
        f"{cite(said.rule)} does not allow {target.name}"
        for said in problem.lists_of_vm.get(one.id, ())
        if said.hard and target.name not in hosts_of(said)
    )
    found.extend(
        f"{cite(rule)} is closed now" + _opens(hours, problem.now)
        for rule, hours in problem.hours_of_vm.get(vm, ())
        if problem.now is not None and not hours.may_start(problem.now, 0.0)
    )
    for index, stays in known.stays.items():
        group = problem.groups[index]
        if not stays[host]:
            broken = f"{cite(group.said.rule)} would be broken"
            no_room = f"{target.name} {group.lacks}"
            found.append(no_room if group.is_fact else broken)
        elif group.limit is None and group.hard and not problem.allowed[vm, host] and not found:
            found.append(f"{cite(group.said.rule)} holds during the moves")
    return tuple(found)


def _opens(hours: Hours, now: datetime) -> str:
    opens = hours.next_opening(now)
    return "" if opens is None else f", until {opens:%Y-%m-%d %H:%M} UTC"


def _capacity_obstacles(state: State, vm: int, host: int) -> tuple[str, ...]:
    """Return what of room `host` lacks for `vm`, which does not fit there."""
    problem = state.problem
    target = problem.hosts[host].name
    after = (state.load[:, host] + problem.weight[:, vm]) * problem.scale[:, host]
    if after[MEMORY] > 1.0:
        free = (1.0 / problem.scale[MEMORY, host] - state.load[MEMORY, host]) / GIB
        needed = problem.weight[MEMORY, vm] / GIB
        text = f"{target} has {max(0.0, free):.1f} GiB of memory free, {needed:.1f} are needed"
        return (text + reserved(problem, host, needed - free),)
    return tuple(
        f"{target} would be overloaded: {label} "
        + beyond(after[resource], problem.threshold[resource, 0], ", above ")
        for resource, label in RESOURCES.items()
        if after[resource] > problem.threshold[resource, 0]
    )


def reserved(problem: Problem, host: int, missing_gib: float = 0.0) -> str:
    """Return a clause on what is kept free of a host's memory, where it is what is missing."""
    one = problem.hosts[host]
    kept = (one.memory_bytes - usable(one, problem.policy).memory_bytes) / GIB
    if kept <= 0 or kept < missing_gib:
        return ""
    rules = (rule for rule in problem.policy.rules if isinstance(rule, HostReserve))
    own = [rule for rule in rules if rule.memory_bytes(one) / GIB >= kept - 1e-9]
    who = cite(own[0]) if own else "the policy's reserve"
    return f"; {who} keeps {kept:.1f} GiB free"
