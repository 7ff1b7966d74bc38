"""What a plan says of failures: what may fail, and what then finds no host."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from balancer.model.plan import Survival, Unresolved
from balancer.planner.drill import Loss
from balancer.planner.problem import GIB, Bools, Ints, Problem
from balancer.planner.score import NOTHING_LOST, lost, unsure
from balancer.planner.words import cite, counted, listed
from balancer.policy.policy import Reserve
from balancer.policy.said import what_is_said
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
    drill = problem.drill
    if not drill.every or not (len(drill.ranked) or drill.stuck):
        return None
    before, after = losses(problem, problem.home), losses(problem, place)
    if not (place != problem.home).any():
        during = before
    weigh = drill.weigh
    return Survival(
        what_may_fail(problem.policy.reserve),
        len(before),
        None if during is None else len(during),
        len(after),
        weigh(before),
        None if during is None else weigh(during),
        weigh(after),
        beyond_help(problem),
        drill.unknown + unsure(problem, place),
    )


def beyond_help(problem: Problem) -> tuple[Unresolved, ...]:
    """Return what no placement survives: a sentence for memory, one for VMs that are stuck."""
    drill, found = problem.drill, []
    by_rank: dict[int, list[tuple[int, ...]]] = {}
    for failed, short in drill.beyond.items():
        by_rank.setdefault(short.rank, []).append(failed)
    for rank, sets in sorted(by_rank.items()):
        if len(sets) == len(drill.every):
            who = what_may_fail(problem.policy.reserve)
        else:
            names = [" and ".join(problem.hosts[host].name for host in failed) for failed in sets]
            who = listed(names, " or ", " or any of {} more")
        of = f", for VMs of {_priorities(problem, rank)} priority," if rank else ""
        text = f"the failure of {who}{of} is not survived by any placement"
        found.append(Unresolved("survivability", text, _missing(problem, sets)))
    if crowded := _crowded(problem):
        when = f"once {what_may_fail(problem.policy.reserve)} has failed"
        text = f"{listed(crowded)} cannot be kept by any placement {when}"
        why = "there are more VMs than places left, which they share as evenly as can be"
        found.append(Unresolved("survivability", text, why))
    if told := [vm for vm in drill.stuck if not _is_told(problem, vm)]:
        who = listed([f"{problem.vms[vm].name} ({_gib(int(drill.size[vm]))})" for vm in told])
        verb = "finds no host if its" if len(told) == 1 else "find no host if their"
        why = "facts, rules or size leave no second one, whatever moves"
        found.append(Unresolved("survivability", f"{who} {verb} own fails", why))
    return tuple(found)


def _priorities(problem: Problem, rank: int) -> str:
    """Return the priorities from `rank` on that any VM has that restarts: `medium and low`."""
    there = set(problem.drill.rank.tolist())
    return " and ".join(name for at, name in enumerate(RANKS) if at >= rank and at in there)


def _crowded(problem: Problem) -> list[str]:
    """Return the rules that no placement keeps after some failure, in words."""
    drill, names = problem.drill, [host.name for host in problem.hosts]
    crowded = [band.crowd for band in drill.bands if band.crowd is not None]
    # Of what is not survived at all nothing more is said.
    sets = [frozenset(names[at] for at in one) for one in drill.every if drill.ranks(one)]
    broken = {one.cap for one in crowded if any(one.when(failed) != one.cap for failed in sets)}
    said = what_is_said(problem.cluster, problem.policy)
    return list(dict.fromkeys(cite(one.rule) for one in said if one.hard and one.form in broken))


def _missing(problem: Problem, sets: Sequence[tuple[int, ...]]) -> str:
    """Say how much is missing for failures, from the least to the most."""
    short = [problem.drill.beyond[failed] for failed in sets]
    memory = sorted(one.missing for one in short if one.place_bytes == 1)
    if memory:
        ends = dict.fromkeys((_gib(memory[0]), _gib(memory[-1])))
        return f"{' to '.join(ends)} of memory are missing"
    worst = max(short, key=lambda one: (one.missing * one.place_bytes, one.place_bytes))
    size = _gib(worst.place_bytes)
    verb = "is" if worst.missing == 1 else "are"
    return f"{worst.missing} of the VMs of {size} and more {verb} without a place"


def _is_told(problem: Problem, vm: int) -> bool:
    """Tell whether it is said of all failures of its host that nobody like it survives them."""
    drill, home = problem.drill, int(problem.home[vm])
    sets = [failed for failed in drill.every if home in failed]
    return all(drill.ranks(failed) <= drill.rank[vm] for failed in sets)


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
    if not by_failure:  # a drill takes a third of a second to set up for 8,000 VMs
        return []
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
    who = listed([f"{problem.vms[vm].name} ({_gib(int(size[vm]))})" for vm in vms])
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
