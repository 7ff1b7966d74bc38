"""Moves of whole units: VMs that have to be together leave a host together or not at all."""

from __future__ import annotations

import numpy as np

from balancer.planner.construct import bound_together
from balancer.planner.descent import BALANCE_GAIN
from balancer.planner.problem import Bools, Floats, Ints
from balancer.planner.score import OVERLOAD_WEIGHT, better, host_costs, legal_end, means, measure
from balancer.planner.state import State
from balancer.planner.work import Work

TRIED = 40  # of the most promising (unit, host) in a row without success
UNIT_UNITS, TRIAL_UNITS = 150.0, 1500.0


def move_units(state: State, work: Work) -> None:
    """Move units that are on one host to another while that betters the tiers, steepest first."""
    problem = state.problem
    goal = problem.policy.goal
    units = [members for members, _ in bound_together(problem.groups)]
    key = measure(problem, state.place).key(goal)
    while work.spend(UNIT_UNITS * len(units)):
        for members, host in _promising(state, units):
            if not work.spend(TRIAL_UNITS):
                return
            before = state.place[members].tolist()
            for vm in members.tolist():
                state.move(vm, host)
            after = measure(problem, state.place).key(goal)
            if better(after, key) and legal_end(problem, state.place):
                key = after
                break
            for vm, source in zip(members.tolist(), before, strict=True):
                state.move(vm, source)
        else:
            return


def _promising(state: State, units: list[Ints]) -> list[tuple[Ints, int]]:
    """Return units and hosts by what J would gain; where one fits as a whole."""
    problem = state.problem
    used, mean = state.used(), means(problem, state.place)
    now = host_costs(problem, used, mean, OVERLOAD_WEIGHT).sum(axis=0)
    found: list[tuple[float, int, int]] = []
    for number, members in enumerate(units):
        hosts = np.unique(state.place[members])
        if len(hosts) > 1:
            continue
        source = int(hosts[0])
        gain, fits = _gains(state, members, source, (used, now, mean))
        fits[source] = False
        able = np.flatnonzero(fits & (gain < -BALANCE_GAIN)).tolist()
        found.extend((float(gain[host]), number, host) for host in able)
    return [(units[number], host) for _, number, host in sorted(found)[:TRIED]]


def _gains(
    state: State, members: Ints, source: int, at: tuple[Floats, Floats, Floats]
) -> tuple[Floats, Bools]:
    """Return for each host what J changes by if all `members` went there, and if they fit."""
    problem = state.problem
    used, now, mean = at
    step = problem.weight[:, members].sum(axis=1, keepdims=True) * problem.scale
    there = host_costs(problem, used + step, mean, OVERLOAD_WEIGHT).sum(axis=0) - now
    left = host_costs(problem, used - step, mean, OVERLOAD_WEIGHT).sum(axis=0)[source]
    native = problem.home[members][:, None] == np.arange(len(now))[None, :]
    price = (problem.move_cost[members][:, None] * ~native).sum(axis=0)
    paid = problem.move_cost[members][problem.home[members] != source].sum()
    fits = (used + step <= state.ceiling()).all(axis=0) & problem.allowed[members].all(axis=0)
    away = (~native).sum(axis=0) - int((problem.home[members] != source).sum())
    fits &= state.moves + away <= problem.cap
    for size, spent, most in zip(state.budgets.size, state.spent, state.budgets.most, strict=True):
        taken = (size[members][:, None] * ~native).sum(axis=0)
        fits &= spent + taken - size[members][problem.home[members] != source].sum() <= most
    return there + left - now[source] + price - paid, fits
