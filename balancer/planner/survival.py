"""What a plan says of failures: what may fail, and what then finds no host."""

from __future__ import annotations

import numpy as np

from balancer.model.plan import Survival, Unresolved
from balancer.planner.problem import GIB, Bools, Ints, Problem
from balancer.planner.score import losses
from balancer.planner.words import REASONS_SHOWN, counted
from balancer.policy.policy import Reserve

FAILURES_TOLD = 5  # failures that are named before the rest is counted


def survival_of(problem: Problem, place: Ints, during: int | None) -> Survival | None:
    """Return what of failures is survived now, on the way and at the end.

    None if nobody asks, or if there is nothing to ask: no such domain, or nothing that restarts.
    """
    if not problem.policy.reserve.for_failures:
        return None
    if not problem.drill.sets or not len(problem.drill.ranked):
        return None
    before, after = losses(problem, problem.home), losses(problem, place)
    if not (place != problem.home).any():
        during = before
    return Survival(what_may_fail(problem.policy.reserve), before, during, after)


def what_may_fail(reserve: Reserve) -> str:
    """Return the failures that a policy wants survived: `any 2 hosts, or any one site`."""
    parts = [f"any {counted(reserve.host_failures, 'host')}"] if reserve.host_failures else []
    parts += [f"any one {reserve.domain_failure}"] if reserve.domain_failure else []
    return ", or ".join(parts)


def not_survived(
    problem: Problem, place: Ints, curbed: str = "", *, since: Ints | None = None
) -> list[Unresolved]:
    """Return the failures at which restarts find no host, those with most of them first.

    Args:
        problem: The task.
        place: A placement.
        curbed: What kept a plan from mending it, to be said with each.
        since: Leave out what is not survived at this placement either.
    """
    if not losses(problem, place):
        return []
    had = set() if since is None else {(o.failed, o.vm) for o in problem.drill.losses(since)}
    takers = problem.sleepers.awake(place) if problem.packs else problem.up
    by_failure: dict[tuple[int, ...], list[int]] = {}
    for loss in problem.drill.losses(place, takers=takers):
        if (loss.failed, loss.vm) not in had:
            by_failure.setdefault(loss.failed, []).append(loss.vm)
    size = problem.drill.size
    worst = sorted(
        by_failure.items(), key=lambda pair: (-int(size[pair[1]].sum()), -len(pair[1]), pair[0])
    )
    told = [
        _told(problem, place, failed, vms, takers, curbed) for failed, vms in worst[:FAILURES_TOLD]
    ]
    if more := worst[FAILURES_TOLD:]:
        restarts = counted(sum(len(vms) for _, vms in more), "restart")
        text = f"{restarts} would find no host at {counted(len(more), 'other failure')}"
        told.append(Unresolved("survivability", text, told[0].reason))
    return told


def _told(
    problem: Problem,
    place: Ints,
    failed: tuple[int, ...],
    vms: list[int],
    takers: Bools,
    curbed: str,
) -> Unresolved:
    """Say who finds no host at one failure, and how large the largest hole is."""
    size = problem.drill.size
    vms = sorted(vms, key=lambda vm: (-size[vm], vm))
    named = ", ".join(
        f"{problem.vms[vm].name} ({_gib(int(size[vm]))})" for vm in vms[:REASONS_SHOWN]
    )
    more = len(vms) - REASONS_SHOWN
    who = f"{named} and {more} more" if more > 0 else named
    names = ", ".join(problem.hosts[host].name for host in failed)
    verb = "finds" if len(vms) == 1 else "find"
    text = f"if {'it fails' if len(failed) == 1 else 'they fail'}, {who} {verb} no host"
    reason = _why(problem, place, failed, vms[0], takers)
    return Unresolved(names, text, f"{reason}; {curbed}" if curbed else reason)


def _why(problem: Problem, place: Ints, failed: tuple[int, ...], vm: int, takers: Bools) -> str:
    """Return what the hosts that may take the largest of them lack, before anything restarts."""
    drill = problem.drill
    able = drill.permits[drill.kind[vm]] & problem.up & takers
    able[list(failed)] = False
    hosts = np.flatnonzero(able)
    if not len(hosts):
        return f"no other host may take {problem.vms[vm].name}"
    free = drill.room - np.bincount(place, drill.memory, minlength=len(drill.room))
    roomiest = int(hosts[np.argmax(free[hosts])])
    hole = (
        f"the largest hole is {_gib(max(0, int(free[roomiest])))} on {problem.hosts[roomiest].name}"
    )
    if free[roomiest] >= drill.size[vm]:
        return f"{hole}, and others that restart or rules come first"
    return hole


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def needed_for_failures(problem: Problem, place: Ints, vm: int) -> int:
    """Return how many more restarts would find no host were `vm` left; of plans that mend some."""
    if losses(problem, problem.home) <= losses(problem, place):
        return 0
    without = place.copy()
    without[vm] = problem.home[vm]
    return max(0, losses(problem, without) - losses(problem, place))
