"""What a plan says of failures: what may fail, and what then finds no host."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from balancer.model.plan import Survival, Unresolved
from balancer.planner.drill import Loss
from balancer.planner.problem import GIB, Bools, Ints, Problem
from balancer.planner.score import NOTHING_LOST, lost
from balancer.planner.words import REASONS_SHOWN, counted
from balancer.policy.policy import Reserve
from balancer.policy.survival import RANKS

FAILURES_TOLD = 5  # failures that are named before the rest is counted


def survival_of(problem: Problem, place: Ints, during: Sequence[Loss] | None) -> Survival | None:
    """Return what of failures is survived now, on the way and at the end.

    None if nobody asks, or if there is nothing to ask: no such domain, or nothing that restarts.

    Args:
        problem: The task.
        place: The end.
        during: What is lost at the worst instant on the way; None where nothing is asked of it.
    """
    if not problem.policy.reserve.for_failures:
        return None
    if not problem.drill.sets or not len(problem.drill.ranked):
        return None
    before, after = losses(problem, problem.home), losses(problem, place)
    if not (place != problem.home).any():
        during = before
    weigh = problem.drill.weigh
    return Survival(
        what_may_fail(problem.policy.reserve),
        len(before),
        None if during is None else len(during),
        len(after),
        weigh(before),
        None if during is None else weigh(during),
        weigh(after),
    )


def losses(problem: Problem, place: Ints) -> list[Loss]:
    """Return all that finds no host; `lost` measures it."""
    if lost(problem, place) == NOTHING_LOST:
        return []
    takers = problem.sleepers.awake(place) if problem.packs else None
    return list(problem.drill.losses(place, takers=takers))


def what_may_fail(reserve: Reserve) -> str:
    """Return the failures that a policy wants survived: `any 2 hosts, or any one site`."""
    parts = [f"any {counted(reserve.host_failures, 'host')}"] if reserve.host_failures else []
    parts += [f"any one {reserve.domain_failure}"] if reserve.domain_failure else []
    return ", or ".join(parts)


def not_survived(
    problem: Problem, place: Ints, curbed: str = "", *, had: Collection[Loss] = ()
) -> list[Unresolved]:
    """Return the failures at which restarts find no host, the worst first.

    Args:
        problem: The task.
        place: A placement.
        curbed: What kept a plan from mending it, to be said with each.
        had: What was lost before, and is left out.
    """
    by_failure: dict[tuple[int, ...], list[Loss]] = {}
    known = frozenset(had)
    for loss in losses(problem, place):
        if loss not in known:
            by_failure.setdefault(loss.failed, []).append(loss)
    worst = sorted(by_failure.values(), key=lambda found: found[0].failed)
    worst.sort(key=problem.drill.weigh, reverse=True)
    takers = problem.sleepers.awake(place) if problem.packs else problem.up
    told = [_told(problem, place, found, takers, curbed) for found in worst[:FAILURES_TOLD]]
    if more := worst[FAILURES_TOLD:]:
        restarts = counted(sum(map(len, more)), "restart")
        text = f"{restarts} would find no host at {counted(len(more), 'other failure')}"
        told.append(Unresolved("survivability", text, told[0].reason))
    return told


def _told(
    problem: Problem, place: Ints, found: Sequence[Loss], takers: Bools, curbed: str
) -> Unresolved:
    """Say who finds no host at one failure, and how large the largest hole is."""
    size, rank, failed = problem.drill.size, problem.drill.rank, found[0].failed
    vms = sorted((loss.vm for loss in found), key=lambda vm: (rank[vm], -size[vm], vm))
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
    """Return what the hosts that may take the first of them lack, before anything restarts."""
    drill = problem.drill
    left = problem.up & takers
    left[list(failed)] = False
    hosts = np.flatnonzero(drill.permits[drill.kind[vm]] & left)
    if not len(hosts):
        name = problem.vms[vm].name
        return f"no other host may take {name}" if left.any() else "no host is left to take it"
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


def needed_for_failures(problem: Problem, place: Ints, vm: int) -> str:
    """Return what more would find no host were `vm` left, in words; of plans that mend some."""
    with_it = lost(problem, place)
    if lost(problem, problem.home) <= with_it:
        return ""
    without = place.copy()
    without[vm] = problem.home[vm]
    for name, more, less in zip(RANKS, lost(problem, without), with_it, strict=True):
        if more != less:
            return f"{_gib(more - less)} more of {name} priority" if more > less else ""
    return ""
