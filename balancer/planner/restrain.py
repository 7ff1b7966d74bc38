"""Cool-downs, budgets and the hold time, written into a task before it is solved.

Whoever is left alone has nowhere to go, so no search and no solver needs to know why. VMs that
have to move (off a draining host, or to mend a hard rule) are exempt. Whether a rule can be mended
is known once a plan is made: one that mends none is no reason to move anybody, and the plan is made
again without it (`exempt_less`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from balancer.model.past import Past, PastMove, Trouble
from balancer.planner.calm import Calm
from balancer.planner.carry import Carried, over_budget
from balancer.planner.problem import GIB, Bools, Ints, Problem
from balancer.planner.score import measure, overloaded
from balancer.policy.policy import Goal
from balancer.policy.quantities import format_duration
from balancer.policy.stability import DAY_S

HOUR_MINUTES = 60


def restrain(problem: Problem, past: Past | None, among: Bools | None = None) -> Problem:
    """Return the task as the recent past leaves it.

    Args:
        problem: The task.
        past: What led to this moment; None for nothing.
        among: (N,) VMs of which alone any may be exempt; None for all.
    """
    if past is None:
        return problem
    exempt = exempted(problem) if among is None else exempted(problem) & among
    calm = _calm(problem, past, exempt)
    problem = _with_goal(problem, past, calm)
    calm = problem.calm
    allowed = problem.allowed.copy()
    bound = ~calm.exempt
    for host in calm.cooled:
        allowed[bound, host] = False
        allowed[bound & (problem.home == host)] = False
    for vm, host in calm.never_back:
        allowed[vm, host] &= calm.exempt[vm]
    allowed[[vm for vm in calm.kept if bound[vm]]] = False
    allowed[np.arange(len(problem.vms)), problem.home] = True
    caps = problem.caps
    if calm.day_moves is not None:
        most = calm.day_moves + 2 * int(calm.exempt.sum())  # these may need a stop-over
        most = most if caps.migrations is None else min(most, caps.migrations)
        caps = replace(caps, migrations=most)
    return replace(problem, allowed=allowed, caps=caps)


def _calm(problem: Problem, past: Past, exempt: Bools) -> Calm:
    policy, now = problem.policy, past.now
    cool = policy.cooldown
    vms = {vm.id: at for at, vm in enumerate(problem.vms)}
    hosts = {host.name: at for at, host in enumerate(problem.hosts)}
    done = [move for move in past.moves if move.done]
    kept = {
        vms[move.vm]: f"it was migrated {_ago(move, now)} ago and is left alone for "
        f"{format_duration(cool.vm_s)} (cool-down)"
        for move in done
        if cool.vm_s is not None and move.vm in vms and _within(move, now, cool.vm_s)
    }
    cooled = {
        hosts[name]: f"{name} took part in a migration {_ago(move, now)} ago and is left alone for "
        f"{format_duration(cool.host_s)} (cool-down)"
        for move in done
        if cool.host_s is not None and _within(move, now, cool.host_s)
        for name in (move.source, move.target)
        if name in hosts
    }
    never_back = {
        (vms[move.vm], hosts[move.source]): f"it was migrated off {move.source} {_ago(move, now)} "
        f"ago and does not go back within {format_duration(cool.undo_s)}"
        for move in done
        if cool.undo_s is not None and _within(move, now, cool.undo_s)
        if move.vm in vms and move.source in hosts
    }
    calm = Calm(past=past, exempt=exempt, kept=kept, never_back=never_back, cooled=cooled)
    return _budgeted(problem, calm, past)


def exempted(problem: Problem, end: Ints | None = None) -> Bools:
    """Return the (N,) VMs that have to move, and those that hard rules take along.

    Args:
        problem: The task.
        end: (N,) where a plan ends: only whom it takes to another domain of a rule that is less
            broken there counts, and whom they take along. None before there is a plan.
    """
    exempt: Bools = problem.from_drain | (problem.astray > 0)
    moves = np.ones(len(exempt), dtype=bool) if end is None else end != problem.home
    hard = [group for group in problem.groups if group.hard]
    for group in hard:
        was, members = group.broken(group.before), group.members
        if was and end is None:
            exempt[members] = True
        elif was and end is not None and group.broken(group.counts(end)) < was:
            domains = group.domain[problem.home[members]] != group.domain[end[members]]
            exempt[members[domains]] = True
    units = [group.members for group in hard if group.limit is None]
    taken = True
    while taken:  # whom one takes along may take others along
        taken = False
        for members in units:
            if (exempt & moves)[members].any() and not exempt[members].all():
                exempt[members] = taken = True
    return exempt


def may_be_less(problem: Problem) -> bool:
    """Tell whether a plan may have to be made again with fewer exempt: a restrained task."""
    calm = problem.calm
    if calm.past is None or not (calm.exempt & ~exempted(problem, problem.home)).any():
        return False
    caps = (calm.day_moves, calm.day_bytes)
    return bool(calm.kept or calm.never_back or calm.cooled) or caps != (None, None)


def exempt_less(problem: Problem, carried: Carried) -> Bools | None:
    """Return of whom alone any may be exempt in a plan in the place of this one; None to keep it.

    VMs under a rule that cannot be mended would otherwise be moved to and fro for whatever reason,
    for as long as the rule is there.

    Args:
        problem: The task, restrained.
        carried: The plan.
    """
    calm = problem.calm
    if calm.past is None:
        return None
    among = calm.exempt & exempted(problem, carried.place)
    if (among == calm.exempt).all():
        return None
    held = replace(calm, exempt=among)
    legs = (one.leg for one in carried.schedule.timed)
    against = any(
        held.against(leg.vm, leg.source, leg.target) for leg in legs if calm.exempt[leg.vm]
    )
    if against or over_budget(replace(problem, calm=held), carried.schedule):
        return among
    return None


def _budgeted(problem: Problem, calm: Calm, past: Past) -> Calm:
    """Return what the day's budget leaves; with nothing left everybody stays."""
    limits = problem.policy.limits
    today = [move for move in past.moves if _within(move, past.now, DAY_S)]
    moves = bytes_ = None
    told = ""
    if limits.migrations_per_day is not None:
        moves = max(0, limits.migrations_per_day - len(today))
        if not moves:
            told = f"the budget of {limits.migrations_per_day} migrations a day is used up"
    if limits.bytes_per_day is not None:
        bytes_ = max(0, limits.bytes_per_day - sum(move.bytes for move in today))
        if not bytes_:
            told = f"the budget of {limits.bytes_per_day / GIB:.1f} GiB a day is used up"
    kept = {**dict.fromkeys(range(len(problem.vms)), told), **calm.kept} if told else calm.kept
    return replace(calm, kept=kept, day_moves=moves, day_bytes=bytes_)


def _with_goal(problem: Problem, past: Past, calm: Calm) -> Problem:
    """Return the task with the goal that what has lasted long enough is worth."""
    goal, lasting = problem.policy.goal, past.lasting
    restraint = past.short_of
    if restraint:
        goal = Goal.RULES_ONLY
    elif lasting is not None and goal is Goal.CONSOLIDATE:
        # What demand leaves free has been free for most of the window: only overload has to last.
        hot = overloaded(problem, problem.before).any()
        if hot and not lasting[Trouble.OVERLOAD]:
            goal = Goal.RULES_ONLY
            restraint = f"it has not lasted for {format_duration(past.hold_s)} yet"
    elif lasting is not None and goal in (Goal.RELIEVE, Goal.BALANCE):
        uneven = goal is Goal.BALANCE and (
            lasting[Trouble.UNEVEN] or measure(problem, problem.home).soft > 0
        )
        if not uneven:
            goal = Goal.RELIEVE if lasting[Trouble.OVERLOAD] else Goal.RULES_ONLY
        restraint = f"it has not lasted for {format_duration(past.hold_s)} yet"
    changed = goal is not problem.policy.goal
    return replace(
        problem,
        policy=replace(problem.policy, goal=goal),
        calm=replace(calm, restraint=restraint if changed else ""),
    )


def _within(move: PastMove, now: datetime, seconds: float) -> bool:
    return move.at > now - timedelta(seconds=seconds)


def _ago(move: PastMove, now: datetime) -> str:
    minutes = max(0, round((now - move.at).total_seconds() / 60))
    hours = minutes // HOUR_MINUTES
    return f"{hours} h {minutes % HOUR_MINUTES:02d} min" if hours else f"{minutes} min"
