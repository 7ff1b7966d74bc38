"""What each migration of a plan mends, gains and costs.

The gain of a migration is the difference between the plan without it and the plan with it, all
others left as they are. Rules are counted VM by VM from the counts of the end; loads of all those
ends at once, since each differs from the plan's own at two hosts only.
"""

from __future__ import annotations

import numpy as np

from balancer.migration.forecast import SETUP_S, SWITCH_S
from balancer.model.effect import Effect, End, Gain, Repair
from balancer.planner.carry import Carried
from balancer.planner.explain import eased, repairs
from balancer.planner.problem import GIB, Bools, Floats, Ints, Problem, utilisation
from balancer.planner.schedule import Timed
from balancer.planner.score import LOST_LABELS, OVERLOAD_WEIGHT, lost, means, phi
from balancer.planner.state import State
from balancer.planner.words import RESOURCES
from balancer.policy.policy import Goal

CHUNK = 256  # migrations weighed at once: 256 x 2 x 64 numbers are 256 KiB
NOTHING = 1e-9  # a gain below is rounding


def effects(problem: Problem, carried: Carried) -> tuple[Effect, ...]:
    """Return the effect of each migration of a schedule, in its order."""
    moved = np.flatnonzero(carried.place != problem.home)
    gains = dict(zip(moved.tolist(), marginal(problem, carried.place, moved), strict=True))
    whole = _Ends(problem, carried.place)
    found: list[Effect] = []
    for one in carried.schedule.timed:
        vm = one.leg.vm
        copy_s, blackout_s = _seconds(carried, one)
        past = problem.calm.past
        names = problem.hosts[one.leg.source].name, problem.hosts[one.leg.target].name
        found.append(
            Effect(
                repairs=() if one.stopover else _repairs(problem, carried.place, whole.after, vm),
                gains=() if one.stopover else gains[vm],
                ends=() if one.stopover else whole.of(vm),
                score_cost=0.0 if one.stopover else round(float(problem.move_cost[vm]), 9),
                copy_s=copy_s,
                blackout_s=blackout_s,
                failure_rate=0.0 if past is None else round(past.failure_rate(*names), 4),
            )
        )
    return tuple(found)


def marginal(problem: Problem, place: Ints, moved: Ints) -> list[tuple[Gain, ...]]:
    """Return what each tier would be worse by without each of the `moved` VMs' moves."""
    state = State(problem, place)
    over, balance = shifted(problem, place, moved, problem.home[moved])
    woken = _woken(problem, place)
    found: list[tuple[Gain, ...]] = []
    for vm, hot, uneven in zip(moved.tolist(), over.tolist(), balance.tolist(), strict=True):
        change, home = state.rule_change(vm), int(problem.home[vm])
        tiers = (
            ("drain", float(problem.from_drain[vm])),
            ("rules", float(change.hard[home])),
            ("overload", hot),
            *zip(LOST_LABELS, _lost_without(problem, place, vm), strict=True),
            ("last resort", float(change.resort[home])),
            ("soft rules", float(change.soft[home])),
            ("hosts awake", float(woken[home])),
            ("balance", uneven),
        )
        gains = (Gain(tier, round(by, 9)) for tier, by in tiers if abs(by) > NOTHING)
        found.append(tuple(gains))
    return found


def _lost_without(problem: Problem, place: Ints, vm: int) -> list[float]:
    """Return how many GiB more would find no host without the move of `vm`, by priority."""
    without = place.copy()
    without[vm] = problem.home[vm]
    pairs = zip(lost(problem, without), lost(problem, place), strict=True)
    return [(a - b) / GIB for a, b in pairs]


def _woken(problem: Problem, place: Ints) -> Bools:
    """Return the (H,) hosts that would count as awake, but for the goal of consolidation only."""
    sleepers = problem.sleepers
    if problem.policy.goal is not Goal.CONSOLIDATE:
        return np.zeros(len(problem.hosts), dtype=bool)
    counts = int(sleepers.awake(place).sum()) >= sleepers.floor
    woken: Bools = problem.up & ~sleepers.awake(place) & counts
    return woken


def shifted(problem: Problem, place: Ints, vms: Ints, to: Ints) -> tuple[Floats, Floats]:
    """Return what overload, and J less the cost of moving, change by where one VM is elsewhere.

    Args:
        problem: The task.
        place: Where all VMs are.
        vms: (M,) of which each by itself is put on another host.
        to: (M,) these hosts.

    Returns:
        Two arrays (M,): changes of overload and of J.
    """
    used, mean = utilisation(problem, place), means(problem, place)
    over_now, cost_now = _cost(problem, used[None], mean[None, :, 0])
    share = _share_of_mean(problem)
    over, cost = np.zeros(len(vms)), np.zeros(len(vms))
    for first in range(0, len(vms), CHUNK):
        some, there = vms[first : first + CHUNK], to[first : first + CHUNK]
        here, rows = place[some], np.arange(len(some))
        weight = problem.weight.take(some, axis=1)
        after = np.repeat(used[None], len(some), axis=0)
        after[rows, :, there] += (weight * problem.scale[:, there]).T
        after[rows, :, here] -= (weight * problem.scale[:, here]).T
        means_after = mean + weight * (share[:, there] - share[:, here])
        part = slice(first, first + len(some))
        over[part], cost[part] = _cost(problem, after, means_after.T)
    return over - over_now, cost - cost_now


def _cost(problem: Problem, used: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """Return overload, and J less the cost of moving, of (M, 2, H) utilisations; (M,) each."""
    over = (np.maximum(0.0, used - problem.threshold) * problem.play).sum(axis=(1, 2))
    uneven = phi((used - mean[:, :, None])[:, :, problem.up]).sum(axis=(1, 2))
    return over, uneven + OVERLOAD_WEIGHT * over


def _share_of_mean(problem: Problem) -> Floats:
    """Return what a unit of weight on each host adds to the means, (2, H)."""
    speed = np.stack([[h.cpu_speed for h in problem.hosts], np.ones(len(problem.hosts))])
    capacity = ((1.0 / (problem.scale * speed)) * problem.up).sum(axis=1, keepdims=True)
    share: Floats = np.divide(
        problem.up / speed, capacity, out=np.zeros_like(speed), where=capacity > 0
    )
    return share


def _repairs(problem: Problem, place: Ints, after: Floats, vm: int) -> tuple[Repair, ...]:
    """Return what is wrong now, mended at least in part at the end, and caused by `vm` too."""
    source = int(problem.home[vm])
    name = problem.hosts[source].name
    found = [Repair("drain", name)] if problem.from_drain[vm] else []
    found += [Repair("rules", rule) for rule in repairs(problem, place, vm)]
    less = eased(problem, after)
    found += [
        Repair("overload", f"{name} {label}")
        for resource, label in RESOURCES.items()
        if less[resource, source] and problem.weight[resource, vm] > 0
    ]
    found += [Repair("soft rules", rule) for rule in repairs(problem, place, vm, hard=False)]
    return tuple(found)


class _Ends:
    """The utilisations at both ends of a plan, and without one of its moves."""

    def __init__(self, problem: Problem, place: Ints) -> None:
        self.problem, self.place = problem, place
        self.after = utilisation(problem, place)

    def of(self, vm: int) -> tuple[End, ...]:
        """Return both resources of the two hosts of a VM that moves."""
        problem = self.problem
        found: list[End] = []
        for host, sign in ((int(problem.home[vm]), 1.0), (int(self.place[vm]), -1.0)):
            for resource, label in RESOURCES.items():
                after = float(self.after[resource, host])
                size = float(problem.weight[resource, vm] * problem.scale[resource, host])
                shares = (float(problem.before[resource, host]), after + sign * size, after)
                before, without, after = (round(max(0.0, share), 6) for share in shares)
                found.append(End(problem.hosts[host].name, label, before, without, after))
        return tuple(found)


def _seconds(carried: Carried, one: Timed) -> tuple[float, float]:
    """Return seconds of copying as scheduled, and of standing still at the rate they mean."""
    copy_s = max(1e-3, one.end_s - one.start_s - SETUP_S - SWITCH_S)
    forecast = carried.timing.forecast(one.leg.vm, max(1.0, one.bytes / copy_s))
    return round(copy_s, 3), round(forecast.blackout_s, 3)
