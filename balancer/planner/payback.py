"""Whether a move that only evens out the load earns back what it costs, and soon enough.

Gain is what the balance score J falls by the move, move costs left out, for as long as the load
stays like this. Cost is what the move does to the two hosts while it copies, in the same unit times
seconds: the share of their cores that copying takes, and the standstill of the VM at the end. Both
over the chance of arriving, learned from what became of earlier migrations between the two hosts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.migration.rates import common_network, cpu_cores
from balancer.planner import transport
from balancer.planner.explain import repairs
from balancer.planner.problem import Ints, Problem
from balancer.planner.score import legal_end, measure, overloaded
from balancer.planner.timing import Leg, Timing
from balancer.policy.policy import Goal
from balancer.policy.quantities import format_duration

# One second of a VM's standstill weighs like one second of a host a tenth over its threshold.
STANDSTILL_WEIGHT = 1.0
ROUNDS_MAX = 3  # taking one move back changes what the others gain


@dataclass(frozen=True, slots=True)
class Cost:
    """What a move is expected to cost, in J times seconds, and what that is made of."""

    total: float
    copy_s: float
    standstill_s: float
    failure_rate: float


def cost_of(timing: Timing, vm: int, target: int) -> Cost:
    """Return what moving `vm` from home to `target` costs, with the hosts' present settings."""
    problem = timing.problem
    source = int(problem.home[vm])
    how = timing.effective(transport.as_set(problem), source, target)
    leg = Leg(vm, source, target, how)
    found, rate = timing.alone(leg), timing.rate_alone(source, target, how)
    hosts = problem.hosts[source], problem.hosts[target]
    ends = common_network(*hosts)
    cores = cpu_cores(how, rate, rdma=ends is not None and ends[0].rdma and ends[1].rdma)
    taken = sum(cores / host.cpu_cores for host in hosts)
    past = problem.calm.past
    risk = 0.0 if past is None else past.failure_rate(hosts[0].name, hosts[1].name)
    effort = taken * found.duration_s + STANDSTILL_WEIGHT * found.blackout_s
    return Cost(effort / max(1e-3, 1.0 - risk), found.duration_s, found.blackout_s, risk)


def without_unpaid(problem: Problem, place: Ints) -> tuple[Ints, dict[int, str]]:
    """Return `place` without the moves that do not pay, and why each was given up.

    Only moves that nothing but balance asks for, and that others do not rest on, are weighed.
    """
    payback_s = problem.policy.costs.payback_s
    told: dict[int, str] = {}
    if payback_s is None or problem.policy.goal is not Goal.BALANCE:
        return place, told
    timing = Timing(problem)
    place = place.copy()
    for _ in range(ROUNDS_MAX):
        before = len(told)
        for vm in _optional(problem, place):
            trial = place.copy()
            trial[vm] = problem.home[vm]
            text = why_unpaid(timing, place, trial, vm)
            if text and _as_good(problem, trial, place):
                place, told[vm] = trial, text
        if len(told) == before:
            break
    return place, told


def why_unpaid(timing: Timing, place: Ints, without: Ints, vm: int) -> str:
    """Return why the move of `vm` in `place` does not pay, against `without` it; empty if it does.

    A policy that wants no payback has every move pay.
    """
    problem = timing.problem
    payback_s = problem.policy.costs.payback_s
    if payback_s is None:
        return ""
    gain, cost = _gain(problem, place, without), cost_of(timing, vm, int(place[vm]))
    return _text(gain, cost, payback_s) if gain * payback_s < cost.total else ""


def _optional(problem: Problem, place: Ints) -> list[int]:
    """Return the moved VMs that nothing but balance moves."""
    moved = np.flatnonzero(place != problem.home)
    hot = np.asarray(overloaded(problem, problem.before).any(axis=0))
    return [
        vm
        for vm in moved.tolist()
        if not (problem.from_drain[vm] or hot[problem.home[vm]])
        and not repairs(problem, place, vm)
        and not repairs(problem, place, vm, hard=False)
    ]


def _gain(problem: Problem, place: Ints, without: Ints) -> float:
    """Return by how much J is lower with the move than without, its cost left out."""
    with_it, left = measure(problem, place), measure(problem, without)
    return (left.balance - left.cost) - (with_it.balance - with_it.cost)


def _as_good(problem: Problem, trial: Ints, place: Ints) -> bool:
    """Tell whether `trial` is legal and no worse in any tier above balance."""
    goal = problem.policy.goal
    above, was = (measure(problem, one).key(goal)[:-1] for one in (trial, place))
    no_worse = all(a <= b + 1e-9 for a, b in zip(above, was, strict=True))
    return no_worse and legal_end(problem, trial)


def _text(gain: float, cost: Cost, payback_s: float) -> str:
    after = format_duration(round(cost.total / gain / 60) * 60) if gain > 0 else "never"
    return (
        f"it would earn back its cost {after if gain <= 0 else 'only after ' + after}, the policy "
        f"wants {format_duration(payback_s)} (gain {gain:.2g}; {cost.copy_s:.0f} s of copying, "
        f"{cost.standstill_s:.1f} s standing still, {100 * cost.failure_rate:.0f} % risk)"
    )
