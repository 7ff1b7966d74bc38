"""A bound that knows VMs are whole: the Lagrangian dual, host by host.

The relaxation moves fractions. Where VMs are few and large that is most of its gap: a host needs
a third of a VM more, and gets it. Here each host chooses for itself, and whole VMs: it pays a
price for each that leaves and each that comes, and its own share of J for the load it ends with.

What a migration costs, with the relaxation's prices of the cap and of load at both ends, is divided
between source and target in any way one likes. Hosts that need not agree can only do better, so
the sum of their best is a bound, and moving the division towards where they disagree (a
subgradient method) makes it better. The best set of a host is found by enumeration: no price is
negative once VMs at a negative one are in, so only sets cheaper than the best so far matter. Where
those are too many, a host is taken to do as well as the cheapest that was not looked at could.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.pool import SAFETY, SAFETY_RELATIVE
from balancer.planner.problem import CPU, MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.relax import Relaxed
from balancer.planner.score import BREAKS, OVERLOAD_WEIGHT, means, phi
from balancer.planner.work import Work

SETS_MAX = 60_000  # of one size that are looked at for one host
# Of the subgradient method: the step as a share of what is left to prove, when it is halved, and
# when it ends.
STEP_FIRST, STALE_MAX, STEP_LEAST = 1.0, 4, 0.01
PROGRESS = 1e-3  # of what is left to prove, below which a step was none
SET_UNITS, HOST_UNITS, COLUMN_UNITS = 0.15, 200.0, 0.2
ROUNDED_OFF = 1e-12  # what the sum of a host's prices may be wrong by
LIMIT_SLACK = 1e-9


def lagrangian_bound(problem: Problem, relaxed: Relaxed, value: float, work: Work) -> float:
    """Return a lower bound of J, at least that of the relaxation and at most `value`.

    It holds for the plans that the relaxation's holds for.

    Args:
        problem: A task with constant means.
        relaxed: Its relaxation.
        value: J of a plan.
        work: The budget.
    """
    dual = _Dual(problem, relaxed)
    best, step, stale = relaxed.bound, STEP_FIRST, 0
    while step > STEP_LEAST and value - best > SAFETY + SAFETY_RELATIVE * value:
        gained = dual.evaluate(work)
        if gained is None:
            break
        bound = relaxed.prices.bound + gained
        stale = 0 if bound > best + PROGRESS * (value - best) else stale + 1
        best = max(best, bound)
        if stale > STALE_MAX:
            step, stale = 0.5 * step, 0
        if not dual.improve(step * (value - bound)):
            break
    return min(best, value)


@dataclass(frozen=True, slots=True)
class _Best:
    """What a host does best: its value or less, which VMs it lets go or takes, and the work."""

    floor: float
    chosen: Bools
    looked_at: int


class _Dual:
    """What each host pays for departures and arrivals, and what it chooses then.

    Attributes:
        half: (I, H) half of the reduced cost of each column, which source and target pay.
        shift: (I, H) what the source pays more, and the target less.
        extra: What is added to the price of the cap.
        disagreed: (I, H) +1 where only the source wants a column, -1 where only the target does.
        over_cap: By how much the hosts' choice is over the cap, on average of both ends.
    """

    def __init__(self, problem: Problem, relaxed: Relaxed) -> None:
        self.problem, self.sets = problem, relaxed.pool.sets
        self.price, self.cap_price = relaxed.prices.load, relaxed.prices.cap
        self.mean = means(problem, problem.home)
        cost = relaxed.prices.cost
        self.half = 0.5 * np.maximum(cost, 0.0)
        self.shift = np.zeros(cost.shape)
        self.extra = 0.0
        self.disagreed, self.over_cap = np.zeros(cost.shape), 0.0
        self.open = np.isfinite(cost)
        hosts = range(len(problem.hosts))
        able = self.open.any(axis=1)
        self.natives = [np.flatnonzero((self.sets.home == host) & able) for host in hosts]
        self.guests = [np.flatnonzero(self.open[:, host]) for host in hosts]
        self.least = [self._least(host) for host in hosts]

    def evaluate(self, work: Work) -> float | None:
        """Let every host choose; return by how much that is above the relaxation, None if cut."""
        sets, problem = self.sets, self.problem
        cap = 0.5 * self.extra * sets.count[:, None]
        leave, come = self.half + self.shift + cap, self.half - self.shift + cap
        leave[~self.open] = np.inf
        total = -self.extra * problem.cap
        self.disagreed[...] = 0.0
        moved = 0
        for host, (here, there) in enumerate(zip(self.natives, self.guests, strict=True)):
            target = leave[here].argmin(axis=1)
            at = np.append(here, there)
            price = np.append(leave[here, target], come[there, host])
            sign = np.repeat([-1.0, 1.0], [len(here), len(there)])
            best = self._choose(host, price, sign * sets.weight[:, at])
            spent = HOST_UNITS + SET_UNITS * best.looked_at + COLUMN_UNITS * len(leave)
            if not work.spend(spent):
                return None
            total += best.floor
            gone, came = best.chosen[: len(here)], there[best.chosen[len(here) :]]
            self.disagreed[here[gone], target[gone]] += 1.0
            self.disagreed[came, host] -= 1.0
            moved += int(sets.count[at[best.chosen]].sum())
        self.over_cap = 0.5 * moved - problem.cap
        return total

    def improve(self, gain: float) -> bool:
        """Move prices so far along the slope that a linear dual would gain `gain`."""
        slope = self.over_cap
        if slope < 0 and self.cap_price + self.extra <= 0:
            slope = 0.0
        length = float(np.square(self.disagreed).sum()) + slope * slope
        if length == 0.0 or gain <= 0:
            return False
        self.shift += gain / length * self.disagreed
        self.extra = max(-self.cap_price, self.extra + gain / length * slope)
        return True

    def _choose(self, host: int, price: Floats, load: Floats) -> _Best:
        """Return the best set for a host, of VMs at `price` (n,) that change its load (2, n)."""
        size = load * self.problem.scale[:, [host]]
        begun = price < 0.0
        start = self.problem.before[:, [host]] + size[:, begun].sum(axis=1, keepdims=True)
        # From the set of all at a negative price, every flip costs what it gives up or pays.
        flip, paid = np.where(begun, -size, size), np.abs(price)
        order = np.argsort(paid, kind="stable")
        value, flips, looked_at = self._cheapest(host, start, flip[:, order], paid[order])
        chosen = begun.copy()
        chosen[order[flips]] ^= True
        floor = value + float(price[begun].sum()) - self.least[host] - ROUNDED_OFF
        return _Best(floor, chosen, looked_at)

    def _cheapest(
        self, host: int, start: Floats, flip: Floats, price: Floats
    ) -> tuple[float, Ints, int]:
        """Look for the best set of flips, size by size; prices are sorted and none is negative.

        Returns a value that no set is below, the best set seen, and how many were looked at.
        """
        least, looked_at = self.least[host], 0
        best, winner = float(self._share(host, start)[0]), np.zeros(0, dtype=np.int64)
        load, paid, chosen = start, np.zeros(1), winner[None, :]
        while len(paid):
            first = chosen[:, -1] + 1 if chosen.shape[1] else np.zeros(1, dtype=np.int64)
            count = np.maximum(0, np.searchsorted(price, best - least - paid) - first)
            total = int(count.sum())
            if total > SETS_MAX:
                open_ = count > 0
                missed = float((paid[open_] + price[first[open_]]).min()) + least
                return min(best, missed), winner, looked_at
            of = np.repeat(np.arange(len(paid)), count)
            item = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + first[of]
            load, paid = load[:, of] + flip[:, item], paid[of] + price[item]
            chosen = np.column_stack([chosen[of], item])
            looked_at += total
            value = self._share(host, load) + paid
            if total and value.min() < best:
                at = int(value.argmin())
                best, winner = float(value[at]), chosen[at]
            keep = np.flatnonzero(paid + least < best)
            load, paid, chosen = load[:, keep], paid[keep], chosen[keep]
        return best, winner, looked_at

    def _share(self, host: int, used: Floats) -> Floats:
        """Return the host's share of J and the price of its load at (2, m) utilisations."""
        top = self.problem.limit[:, [host]] + LIMIT_SLACK
        share = self._part(host, CPU, used[CPU]) + self._part(host, MEMORY, used[MEMORY])
        share[(used > top).any(axis=0)] = np.inf
        return share

    def _part(self, host: int, resource: int, used: Floats) -> Floats:
        problem = self.problem
        part: Floats = self.price[resource, host] * used
        if problem.up[host]:
            part += phi(used - self.mean[resource, 0])
        if problem.play[host]:
            part += OVERLOAD_WEIGHT * np.maximum(0.0, used - problem.threshold[resource, 0])
        return part

    def _least(self, host: int) -> float:
        """Return the least that `_share` can be: it is convex, so at one of its corners."""
        least = 0.0
        for resource in (CPU, MEMORY):
            top = float(self.problem.limit[resource, host])
            corners = [
                float(self.mean[resource, 0]) + sign * at for at in BREAKS for sign in (-1, 1)
            ]
            corners += [0.0, top, float(self.problem.threshold[resource, 0])]
            within = np.array([corner for corner in corners if 0.0 <= corner <= top])
            least += float(self._part(host, resource, within).min())
        return least
