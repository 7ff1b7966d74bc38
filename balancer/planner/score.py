"""How good a placement is: the tiers of decision record 1, computed from scratch.

Search and solver keep running differences of their own; whatever they arrive at is measured
here before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from balancer.model.plan import Lost
from balancer.planner.drill import REHEARSAL_UNITS
from balancer.planner.problem import CPU, GIB, MEMORY, Bools, Floats, Ints, Problem, utilisation
from balancer.planner.work import Work
from balancer.policy.policy import Goal
from balancer.policy.survival import RANKS

NOTHING_LOST = Lost(0, 0, 0)
TANGENTS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64)  # of phi; the one at 0 is phi >= 0
# As slopes: phi is flat up to the first break and then has slope SLOPES[i] beyond BREAKS[i],
# which is where two tangents meet, half-way between the points they touch.
SLOPES = tuple(2.0 * tangent for tangent in TANGENTS)
BREAKS = tuple((a + b) / 2 for a, b in zip((0.0, *TANGENTS[:-1]), TANGENTS, strict=True))
# The highest tangent within each hundredth: every break is a whole number of them.
PARTS = 100
HIGHEST = np.array([0.0, *TANGENTS])[
    np.searchsorted(BREAKS, (np.arange(PARTS * BREAKS[-1] + 1) + 0.5) / PARTS)
]
OVERLOAD_WEIGHT = 10.0  # of overload within J
# Below these differences two placements are equal in a tier: sums of thousands of floats differ
# by 1e-13, and a solver's rows hold to 1e-7.
TIER_TOLERANCE = 1e-7
# A plan must better J by more than a proof leaves open (1e-6), or a second plan would find the
# rest of the first one.
GAIN_MIN_RELATIVE = 2e-6
GAIN_MIN = 1e-9
# Two roundings of a utilisation; far below one byte of the largest host.
ROUNDING = 4e-15


@dataclass(frozen=True, slots=True)
class Measure:
    """A placement, measured. `moves` counts VMs that are not at home, `resort` reluctant ones.

    `crowding` and `awake` are measured for the goal of consolidation only, `lost` (restarts that
    find no host when hosts fail) where the policy asks for it.
    """

    drain: int
    rules: int
    overload: float
    resort: int
    soft: float
    balance: float
    cost: float
    moves: int
    crowding: float = 0.0
    awake: int = 0
    lost: Lost = NOTHING_LOST

    def strictest(self, other: Measure) -> Measure:
        """Return the lower of each tier that bounds of J go by: who keeps it is as good as both."""
        tiers = ("drain", "rules", "overload", "resort", "soft")
        lower = {tier: min(getattr(self, tier), getattr(other, tier)) for tier in tiers}
        return replace(self, **lower)

    def key(self, goal: Goal) -> tuple[float, ...]:
        """Return the tiers in order, most important first.

        Goals short of balance end with the cost of moving, so that nothing moves without
        need; soft rules and J then only choose among equally cheap targets.
        """
        must: tuple[float, ...] = (float(self.drain), float(self.rules))
        if goal is not Goal.RULES_ONLY:
            must = (*must, self.overload)
        must = (*must, *map(float, self.lost), float(self.resort))
        if goal in (Goal.RULES_ONLY, Goal.RELIEVE):
            return (*must, self.cost, self.soft, self.balance)
        if goal is Goal.CONSOLIDATE:
            asleep = (self.soft, self.crowding, float(self.awake))
            return (*must, *asleep, self.cost, self.balance)
        return (*must, self.soft, self.balance)


# Failures not survived, in bytes, by priority: tiers that no model knows. People see GiB of it.
LOST = ("lost_high", "lost_medium", "lost_low")
LOST_LABELS = tuple(f"GiB lost ({name} priority)" for name in RANKS)


def tier_names(goal: Goal) -> tuple[str, ...]:
    """Return the names of the tiers that `Measure.key` gives for `goal`."""
    must = ("drain", "rules", *(() if goal is Goal.RULES_ONLY else ("overload",)), *LOST, "resort")
    if goal in (Goal.RULES_ONLY, Goal.RELIEVE):
        return (*must, "cost", "soft", "balance")
    if goal is Goal.CONSOLIDATE:
        return (*must, "soft", "crowding", "awake", "cost", "balance")
    return (*must, "soft", "balance")


def told(name: str, value: float) -> float:
    """Return what a tier is as people see it: GiB where it is bytes."""
    return value / GIB if name in LOST else value


def before_lost(goal: Goal) -> int:
    """Return how many tiers come before failures that are not survived."""
    return tier_names(goal).index(LOST[0])


# Tiers that come before the hosts awake: what consolidation may not make worse.
BEFORE_SLEEP = tier_names(Goal.CONSOLIDATE).index("awake")


def better(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Tell whether `one` beats `other` by a minimal gain, tier by tier."""
    last = len(one) - 1
    for tier, (a, b) in enumerate(zip(one, other, strict=True)):
        least = GAIN_MIN + GAIN_MIN_RELATIVE * abs(b) if tier == last else TIER_TOLERANCE
        if a < b - least:
            return True
        if a > b + (0.0 if tier == last else TIER_TOLERANCE):
            return False
    return False


def phi(deviation: Floats) -> Floats:
    """Return the convex piecewise-linear cost of deviations from the mean, of one axis or more.

    It is the highest of the tangents 2 t |d| - t t to the square of d. Which of them is highest
    changes only at whole hundredths, so it is looked up: all searches spend much of their time
    here.
    """
    cost: Floats = np.abs(deviation)
    part = np.minimum(cost, BREAKS[-1])
    part *= PARTS
    tangent = HIGHEST.take(part.astype(np.intp), mode="clip")
    cost *= tangent
    cost *= 2.0
    tangent *= tangent
    cost -= tangent
    return cost


def means(problem: Problem, place: Ints) -> Floats:
    """Return the (2, 1) mean utilisations of the up hosts when VMs are at `place`."""
    load = utilisation(problem, place) / problem.scale
    # Work over work capacity: cores of a host twice as fast count twice on both sides. The
    # record counts cores, so each host's work is turned back into its own cores.
    speed = np.stack([[h.cpu_speed for h in problem.hosts], np.ones(len(problem.hosts))])
    total = (load / speed)[:, problem.up].sum(axis=1, keepdims=True)
    capacity = (1.0 / (problem.scale * speed))[:, problem.up].sum(axis=1, keepdims=True)
    mean: Floats = np.divide(total, capacity, out=np.zeros_like(total), where=capacity > 0)
    return mean


def content(problem: Problem) -> Problem:
    """Return the task without the goal of balance where the load is even enough as it is.

    Within the policy's dead band only rules and overload are worth a migration: chasing the
    drift of an even load would move VMs for ever. A broken soft rule still counts; and what has to
    leave a draining host makes a load of its own, which a second plan would have to even out.
    """
    if problem.policy.goal is not Goal.BALANCE or not problem.up.any():
        return problem
    if problem.from_drain.any():
        return problem
    off_mean = np.abs(problem.before - means(problem, problem.home))[:, problem.up]
    uneven = bool((off_mean > problem.policy.thresholds.imbalance).any())
    if uneven or measure(problem, problem.home).soft > 0:
        return problem
    return replace(problem, policy=replace(problem.policy, goal=Goal.RELIEVE))


def host_costs(problem: Problem, used: Floats, mean: Floats, overload_weight: float) -> Floats:
    """Return the (2, H) share of J that each host and resource has at utilisation `used`."""
    over = np.maximum(0.0, used - problem.threshold) * problem.play
    cost: Floats = phi(used - mean) * problem.up + overload_weight * over
    return cost


def measure(problem: Problem, place: Ints, *, drilled: bool = True) -> Measure:
    """Measure a placement from scratch; not `drilled`, as if it survived all failures."""
    used = utilisation(problem, place)
    moved = place != problem.home
    over = overload(problem, used)
    rules = int(problem.astray[~moved].sum())
    soft = float(problem.soft[problem.soft_row, place].sum())
    for group in problem.groups:
        broken = group.broken(group.counts(place))
        if group.hard:
            rules += broken
        else:
            soft += broken
    cost = float(problem.move_cost[moved].sum())
    consolidates = problem.policy.goal is Goal.CONSOLIDATE
    phis = float(phi((used - means(problem, place))[:, problem.up]).sum())
    return Measure(
        drain=int((problem.draining[place] & problem.is_load).sum()),
        rules=rules,
        overload=over,
        resort=int(problem.reluctant[moved].sum()),
        soft=soft,
        balance=phis + OVERLOAD_WEIGHT * over + cost,
        cost=cost,
        moves=int(moved.sum()),
        crowding=problem.sleepers.crowding(used) if consolidates else 0.0,
        awake=problem.sleepers.count(place) if consolidates else 0,
        lost=lost(problem, place) if drilled else NOTHING_LOST,
    )


def gained(
    problem: Problem, place: Ints, than: tuple[float, ...], work: Work
) -> tuple[float, ...] | None:
    """Return the tiers of a placement if it is a legal end and better `than` others, else None.

    Failures, by far the dearest to know, are rehearsed only where the rest does not decide; what
    that takes is taken from the work.
    """
    goal = problem.policy.goal
    found = measure(problem, place, drilled=False)
    if not better(found.key(goal), than) or not legal_end(problem, place):
        return None
    with charging(problem, work):
        key = replace(found, lost=lost(problem, place)).key(goal)
    return key if better(key, than) else None


@contextmanager
def charging(problem: Problem, work: Work) -> Iterator[None]:
    """Take from the work what is rehearsed meanwhile."""
    drill = problem.drill if problem.policy.reserve.for_failures else None
    before = 0 if drill is None else drill.rehearsals
    yield
    if drill is not None:
        work.charge(REHEARSAL_UNITS * (drill.rehearsals - before))


def lost(problem: Problem, place: Ints) -> Lost:
    """Return what finds no host, over all failures that the policy wants survived.

    Where hosts are to sleep, those that carry nothing take no restarts.
    """
    if not problem.policy.reserve.for_failures:
        return NOTHING_LOST
    takers = problem.sleepers.awake(place) if problem.packs else None
    return problem.drill.lost(place, takers=takers)


def unsure(problem: Problem, place: Ints) -> int:
    """Return how many failures are neither rehearsed nor seen at a glance to be survived."""
    if not problem.policy.reserve.for_failures:
        return 0
    takers = problem.sleepers.awake(place) if problem.packs else None
    return problem.drill.unsure(place, takers=takers)


def comes_first(problem: Problem, place: Ints, start: Ints) -> bool:
    """Tell whether `place` serves better than `start` what comes before failures.

    These are drains, hard rules, and overload where the goal is about it; drains under a policy
    that is firm are no reason.
    """
    goal = problem.policy.goal
    was, now = measure(problem, start), measure(problem, place)
    if problem.policy.firm:
        return now.rules < was.rules
    before, after = ((*one.key(goal)[: before_lost(goal)], 0.0) for one in (was, now))
    return better(after, before)


def over_limit(problem: Problem, place: Ints) -> Bools:
    """Return the (H,) hosts that a plan ending at `place` may not leave like this.

    Clauses 5 and 6 of the decision record: a receiver's memory is usable memory, and nobody
    passes its threshold or what it was, except hosts that receive from a draining one.
    """
    moved = place != problem.home
    hosts = len(problem.hosts)
    used = utilisation(problem, place)
    received = np.bincount(place[moved], minlength=hosts) > 0
    excused = np.bincount(place[moved & problem.from_drain], minlength=hosts) > 0
    worse = (used > problem.limit * (1 + ROUNDING) + 1e-12).any(axis=0) & ~excused
    # Untouched hosts keep what they have, whatever rounding says.
    touched = received | (np.bincount(problem.home[moved], minlength=hosts) > 0)
    full = received & (used[MEMORY] > 1.0 + ROUNDING)
    over: Bools = (worse & touched) | full
    return over


def legal_end(problem: Problem, place: Ints) -> bool:
    """Tell whether a plan may end at `place`: hosts, rules, the number of moves and budgets."""
    moved = np.flatnonzero(place != problem.home)
    if len(moved) > problem.cap or not problem.allowed[moved, place[moved]].all():
        return False
    if not problem.budgets.allow(place != problem.home):
        return False
    if over_limit(problem, place).any():
        return False
    return all(group.legal(group.counts(place)) for group in problem.groups)


def caps_bind(problem: Problem, place: Ints) -> bool:
    """Tell whether VMs stay at home that another plan could move, and this one may not any more."""
    moved, budgets = place != problem.home, problem.budgets
    if int(moved.sum()) >= problem.cap:
        return True
    left = budgets.most - budgets.size[:, moved].sum(axis=1)
    stay = problem.movable[~moved[problem.movable]]
    return bool((budgets.size[:, stay] > left[:, None]).any())


def overload(problem: Problem, used: Floats) -> float:
    """Return by how much hosts in play are above their thresholds, summed up."""
    return float((np.maximum(0.0, used - problem.threshold) * problem.play).sum())


def overloaded(problem: Problem, used: Floats) -> Bools:
    """Return the (2, H) hosts in play above their thresholds."""
    over: Bools = (used > problem.threshold + 1e-12) & problem.play
    return over


__all__ = [
    "BEFORE_SLEEP",
    "CPU",
    "LOST",
    "LOST_LABELS",
    "MEMORY",
    "NOTHING_LOST",
    "Measure",
    "before_lost",
    "better",
    "caps_bind",
    "charging",
    "comes_first",
    "gained",
    "host_costs",
    "legal_end",
    "lost",
    "means",
    "measure",
    "over_limit",
    "overload",
    "overloaded",
    "phi",
    "tier_names",
    "told",
    "unsure",
]
