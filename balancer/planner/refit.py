"""Searching again where a schedule shows what the search could not reckon with.

Sizes begin as the least that each VM copies, which proofs need. Where a schedule then does not fit
the caps on bytes, or no order of moves brings a VM to its target, or none that leaves room for
failures on the way, `carry` gives moves up; here the search is made anew: with sizes as that
schedule had them, with a migration left for a stop-over, or without those targets of those VMs; and
where moves still have to be given up, for a migration more than there are. The better end is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from balancer.migration.forecast import dirty_rate
from balancer.model.plan import StoppedBy
from balancer.planner.awake_payback import without_unpaid_hosts
from balancer.planner.carry import Carried, carry
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found, once
from balancer.planner.payback import without_unpaid
from balancer.planner.problem import GIB, Bools, Floats, Ints, Problem
from balancer.planner.schedule import Schedule
from balancer.planner.score import better, legal_end, measure
from balancer.planner.search import settle_ties
from balancer.planner.work import Work

FINISH_UNITS = 2e6  # of what follows a search: transport, schedule
ROUNDS = 3  # of searching again
ONE_MORE = 4  # times that a migration more is looked for after that
SHARE = 0.25  # of the work of the first search, for each


def finish(problem: Problem, place: Ints, work: Work, solver: Solver) -> Carried:
    """Return what of a placement pays and can be carried out, and how."""
    place, unpaid = without_unpaid(problem, place)
    place, awake = without_unpaid_hosts(problem, place)
    carried = carry(problem, place, work.apart(FINISH_UNITS), solver)
    return replace(carried, dropped=unpaid | awake | carried.dropped)


def may_be_needed(problem: Problem) -> bool:
    """Tell whether schedules copy more than the least: whether what moves is written to.

    That a stop-over copies a VM twice is rare, and not reckoned with here.
    """
    if not any(problem.budgets.in_gib):
        return False
    vms = (problem.vms[vm] for vm in problem.movable.tolist())
    return any(dirty_rate(vm.memory_assigned_bytes, vm.dirty_bytes_per_s) > 0 for vm in vms)


def fitted(
    problem: Problem, found: Found, work: Work, effort: float, seed: int, solver: Solver
) -> tuple[Found, Carried]:
    """Return what was found and how it is carried out, searched again where that calls for it.

    Args:
        problem: The task.
        found: Of a first search; its bounds stay.
        work: The clock.
        effort: What the first search could spend.
        seed: Of the choices of the first search.
        solver: Which solver.
    """
    place = found.place
    best = finish(problem, place, work, solver)
    tight, carried, spared = problem, best, False
    for number in range(1, ROUNDS + 1):
        part = work.apart(SHARE * effort)
        if part.stopped_by is StoppedBy.TIME and carried.overran is not None:
            part.stopped_by = None  # some of it was kept for this
        if part.cut_short():
            break
        if carried.overran is not None:
            task = tight = replace(tight, copied_gib=_as_scheduled(tight, carried.overran))
        elif carried.stuck and not spared and 1 < problem.cap <= (place != problem.home).sum():
            spared = True  # a stop-over takes a migration, too
            task = replace(tight, caps=replace(tight.caps, migrations=problem.cap - 1))
        elif carried.stuck:
            task = tight = replace(tight, allowed=_without_targets(tight, carried.stuck))
        else:
            break
        place = _searched(task, best.place, part, seed + number, solver)
        work.note(part)
        carried = finish(problem, place, work, solver)
        if _is_better(problem, carried, best):
            best = _replaced(problem, best, carried)
            found = replace(found, place=place, proven=False)
    if not best.stuck:
        return found, best
    return _one_more(problem, found, best, work, effort, seed + ROUNDS, solver)


def _one_more(
    problem: Problem,
    found: Found,
    best: Carried,
    work: Work,
    effort: float,
    seed: int,
    solver: Solver,
) -> tuple[Found, Carried]:
    """Return what a migration more at a time betters, where whole ends cannot be reached.

    With no more than that there is hardly an order to look for.
    """
    for number in range(1, ONE_MORE + 1):
        part = work.apart(SHARE * effort)
        most = int((best.place != problem.home).sum()) + 1
        if part.cut_short() or most > problem.cap:
            break
        task = replace(problem, caps=replace(problem.caps, migrations=most))
        place = _searched(task, best.place, part, seed + number, solver)
        work.note(part)
        carried = finish(problem, place, work, solver)
        if not _is_better(problem, carried, best):
            break
        best = _replaced(problem, best, carried)
        found = replace(found, place=place, proven=False)
    return found, best


def _searched(task: Problem, start: Ints, part: Work, seed: int, solver: Solver) -> Ints:
    """Return where another search ends, from `start` where the task allows it."""
    begun = start if legal_end(task, start) else None
    return settle_ties(task, once(task, part, seed, solver, begun, proof=False).place)


def _is_better(problem: Problem, one: Carried, other: Carried) -> bool:
    """Tell whether the one leads to a better end than the other."""
    goal = problem.policy.goal
    return better(*(measure(problem, each.place).key(goal) for each in (one, other)))


def _as_scheduled(problem: Problem, over: Schedule) -> Floats:
    """Return the (N,) GiB of each VM as in a schedule, those not in it in proportion."""
    copied, seen = problem.copied.copy(), np.zeros(len(problem.vms))
    for one in over.timed:
        seen[one.leg.vm] += one.bytes / GIB
    moved = seen > 0
    least = problem.copied[moved].sum()
    if least > 0:
        copied *= max(1.0, float(seen.sum() / least))
    copied[moved] = seen[moved]
    return copied


def _without_targets(problem: Problem, stuck: Mapping[int, int]) -> Bools:
    """Return the (N, H) allowed moves without those that no order of moves could make."""
    allowed = problem.allowed.copy()
    for vm, host in stuck.items():
        if host != problem.home[vm]:
            allowed[vm, host] = False
    return allowed


def _replaced(problem: Problem, before: Carried, after: Carried) -> Carried:
    """Return `after`, with why VMs stay that `before` had given up."""
    stay = {vm: why for vm, why in before.dropped.items() if after.place[vm] == problem.home[vm]}
    return replace(after, dropped=stay | after.dropped)
