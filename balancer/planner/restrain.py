"""Cool-downs, budgets and the hold time, written into a task before it is solved.

Whoever is left alone has nowhere to go, so no search and no solver needs to know why. VMs that
have to move (off a draining host, or to mend a hard rule) are exempt.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from balancer.model.past import Past, PastMove, Trouble
from balancer.planner.calm import Calm
from balancer.planner.problem import GIB, Bools, Problem
from balancer.planner.score import measure, overloaded
from balancer.policy.policy import Goal
from balancer.policy.quantities import format_duration
from balancer.policy.stability import DAY_S

HOUR_MINUTES = 60


def restrain(problem: Problem, past: Past | None) -> Problem:
    """Return the task as the recent past leaves it."""
    if past is None:
        return problem
    calm = _calm(problem, past)
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


def _calm(problem: Problem, past: Past) -> Calm:
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
    calm = Calm(past=past, exempt=_exempt(problem), kept=kept, never_back=never_back, cooled=cooled)
    return _budgeted(problem, calm, past)


def _exempt(problem: Problem) -> Bools:
    """Return the (N,) VMs that have to move, and those that hard rules take along."""
    exempt: Bools = problem.from_drain | (problem.astray > 0)
    hard = [group for group in problem.groups if group.hard]
    for group in hard:
        if group.broken(group.before):
            exempt[group.members] = True
    for group in hard:
        if group.limit is None and exempt[group.members].any():
            exempt[group.members] = True
    return exempt


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
