"""Failures on the way: what a schedule loses after each start and each end of a migration."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.planner.drill import Loss
from balancer.planner.problem import Ints, Problem
from balancer.planner.schedule import Timed
from balancer.planner.watch import watch
from balancer.planner.work import Work


def worst_instant(
    problem: Problem, place: Ints, timed: Sequence[Timed], work: Work
) -> tuple[list[Loss] | None, list[int]]:
    """Return what is lost at worst on the way, and the migrations to blame where that is too much.

    These are the ones under way at the first instant at which more is lost than may be, or beyond
    which the work did not go, by number. None where nothing is asked of the way.
    """
    seen = watch(problem, place, [(one.leg.vm, one.leg.target) for one in timed], work)
    if seen is None:
        return None, []
    worst, flying, weigh = list[Loss](), set[int](), problem.drill.weigh
    for _, is_start, number in instants(timed):
        leg = timed[number].leg
        flying.add(number)
        (seen.start if is_start else seen.end)(leg.vm, leg.target)
        now = list(seen.losses())
        if seen.spent or weigh(now) > seen.most:
            return now, sorted(flying)
        worst = max(worst, now, key=weigh)
        if not is_start:
            flying.remove(number)
    return worst, []


def instants(timed: Sequence[Timed]) -> list[tuple[int, bool, int]]:
    """Return (milliseconds, whether it starts, number) of each start and end, ends first."""
    starts = [(round(1000 * one.start_s), True, at) for at, one in enumerate(timed)]
    ends = [(round(1000 * one.end_s), False, at) for at, one in enumerate(timed)]
    return sorted([*starts, *ends])
