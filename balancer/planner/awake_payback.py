"""Whether emptying a host earns back what its migrations cost, and soon enough.

A host that sleeps saves a host-second each second; what copying takes of the cores of two hosts,
and the standstill of VMs, is counted in the same unit (`payback.cost_of`).
"""

from __future__ import annotations

import numpy as np

from balancer.planner.empty import only_whole
from balancer.planner.payback import cost_of
from balancer.planner.problem import Ints, Problem
from balancer.planner.score import BEFORE_SLEEP, TIER_TOLERANCE, legal_end, measure
from balancer.planner.timing import Timing
from balancer.policy.policy import Goal
from balancer.policy.quantities import format_duration


def without_unpaid_hosts(problem: Problem, place: Ints) -> tuple[Ints, dict[int, str]]:
    """Return `place` without emptying hosts that it does not pay to empty, and why, by VM."""
    payback_s = problem.policy.costs.payback_s
    told: dict[int, str] = {}
    if payback_s is None or problem.policy.goal is not Goal.CONSOLIDATE:
        return place, told
    timing, sleepers, goal = Timing(problem), problem.sleepers, problem.policy.goal
    start = place
    emptied = sleepers.awake(problem.home) & ~sleepers.awake(place)
    for host in np.flatnonzero(emptied).tolist():
        left = np.flatnonzero((problem.home == host) & (place != problem.home))
        costs = [cost_of(timing, vm, int(place[vm])) for vm in left.tolist()]
        cost = sum(one.total for one in costs)
        if cost <= payback_s:
            continue
        trial = place.copy()
        trial[left] = host
        above, was = (measure(problem, one).key(goal)[:BEFORE_SLEEP] for one in (trial, place))
        no_worse = all(a <= b + TIER_TOLERANCE for a, b in zip(above, was, strict=True))
        if no_worse and legal_end(problem, trial):
            place = trial
            text = (
                f"it would earn back its migrations only after {_hours(cost)} of sleep, the "
                f"policy wants {format_duration(payback_s)} "
                f"({sum(one.copy_s for one in costs):.0f} s of copying, "
                f"{sum(one.standstill_s for one in costs):.1f} s standing still)"
            )
            told |= dict.fromkeys(left.tolist(), text)
    if told:
        place = only_whole(problem, place)
        back = np.flatnonzero((place != start) & (place == problem.home)).tolist()
        told |= {vm: "nothing needs it any more" for vm in back if vm not in told}
    return place, told


def _hours(seconds: float) -> str:
    return format_duration(max(60.0, round(seconds / 60) * 60.0))
