"""Hosts that choose for themselves, at prices: a bound that knows VMs are whole, and what to try.

The relaxation moves fractions. Where VMs are few and large that is most of its gap: a host needs
a third of a VM more, and gets it. Here each host chooses whole VMs: it pays a price for each that
leaves and each that comes, and its own share of J for the load it ends with.

What a migration costs, with the relaxation's prices of the cap and of load at both ends, is divided
between source and targets in any way one likes. Hosts that need not agree can only do better, so
the sum of their best is a bound, and moving the division towards where they disagree (a
subgradient method) makes it better at first; later `agree` says where to. The best set of a host
is found by enumeration: no price is negative once VMs at a negative one are in, so only sets
cheaper than the best so far matter. Where those are too many, the cheapest are looked at, and the
host is taken to do as well as any of the others could.

The best few choices of each host are also what good plans are made of: see `agree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.planner.pool import SAFETY, SAFETY_RELATIVE
from balancer.planner.problem import CPU, MEMORY, Floats, Ints, Problem
from balancer.planner.relax import Relaxed
from balancer.planner.score import BREAKS, OVERLOAD_WEIGHT, means, phi
from balancer.planner.work import Work

# Of one size that are looked at for one host, at first and at last; and of how many sizes.
SETS_FIRST, SETS_LAST, DEEPER, SIZES = 3000, 300_000, 3, 4
HALVINGS = 12  # to find the price up to which there are no more
SET_UNITS, HOST_UNITS, COLUMN_UNITS = 0.2, 600.0, 0.2
ROUNDED_OFF = 1e-12  # what the sum of a host's prices may be wrong by
LIMIT_SLACK = 1e-9  # of a limit, and of 1: loads are summed up in another order here


@dataclass(frozen=True, slots=True)
class Choice:
    """What a host would do: the sets of VMs that leave it and that come to it, sorted."""

    host: int
    leave: tuple[int, ...]
    come: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Best:
    """The best of a host: a value that no choice is below, the best flips seen, and the work."""

    floor: float
    flips: Sequence[Ints]
    looked_at: int


class Dual:
    """What each host pays for departures and arrivals, and what it chooses then.

    Attributes:
        bound: What J is proven not to get below, for plans for which the relaxation's holds.
        leave: (I,) what a set's host pays when it goes, at first half of what the cheapest
            migration costs; its target pays what is left of the cost of coming there.
        extra: (1 + B,) what is added to the prices of the cap on moves and of each budget.
    """

    def __init__(self, problem: Problem, relaxed: Relaxed) -> None:
        prices = relaxed.prices
        self.problem, self.sets = problem, relaxed.pool.sets
        self.price, self.cap_prices = prices.load, prices.caps
        self.caps = np.array([float(problem.cap), *problem.budgets.most])  # (1 + B,)
        self.taken = np.vstack([self.sets.count, self.sets.size])  # (1 + B, I) by each set
        self.mean = means(problem, problem.home)
        open_ = np.isfinite(prices.cost)
        # A set leaves once at most, which its host knows: that row's price is not needed.
        self.cost = prices.cost + prices.own[:, None]
        self.constant = prices.value - float(prices.own.sum())
        least = np.where(open_.any(axis=1), self.cost.min(axis=1, initial=np.inf), 0.0)
        self.leave = 0.5 * (least + prices.own)
        self.extra = np.zeros(len(self.caps))
        self.bound = relaxed.bound
        self.sets_max = SETS_FIRST
        self.best = (-np.inf, self.leave, self.extra)  # the value at the best prices so far
        self._value, self._slope, self._over = -np.inf, np.zeros(len(least)), -self.caps
        hosts = range(len(problem.hosts))
        able = open_.any(axis=1)
        self.natives = [np.flatnonzero((self.sets.home == host) & able) for host in hosts]
        self.guests = [np.flatnonzero(open_[:, host]) for host in hosts]
        self.least = [self._least(host) for host in hosts]

    def evaluate(self, work: Work, most: int = 1) -> list[Choice] | None:
        """Let every host choose; return up to `most` of the best choices of each, None if cut."""
        sets = self.sets
        total = self.constant - float((self.extra * self.caps).sum())
        slope, taken = np.zeros(len(self.leave)), np.zeros(len(self.caps))
        found: list[Choice] = []
        for host, (here, there) in enumerate(zip(self.natives, self.guests, strict=True)):
            more = (self.extra[:, None] * self.taken[:, there]).sum(axis=0)
            come = self.cost[there, host] - self.leave[there] + more
            price = np.append(self.leave[here], come)
            at = np.append(here, there)
            sign = np.repeat([-1.0, 1.0], [len(here), len(there)])
            begun = price < 0.0
            best = self._choose(host, price, sign * sets.weight.take(at, axis=1), most)
            if not work.spend(HOST_UNITS + SET_UNITS * best.looked_at + COLUMN_UNITS * len(at)):
                return None
            total += best.floor
            for rank, flips in enumerate(best.flips):
                chosen = begun.copy()
                chosen[flips] ^= True
                gone, came = here[chosen[: len(here)]], there[chosen[len(here) :]]
                found.append(Choice(host, tuple(gone.tolist()), tuple(came.tolist())))
                if rank == 0:
                    slope[gone] += 1.0
                    slope[came] -= 1.0
                    taken += self.taken[:, came].sum(axis=1)
        self._value, self._slope, self._over = total, slope, taken - self.caps
        if total > self.best[0]:
            self.best = total, self.leave, self.extra
        self.bound = max(self.bound, total - SAFETY - SAFETY_RELATIVE * abs(total))
        return found

    def climb(self, value: float) -> None:
        """Change prices so far along the slope that a linear dual would come up to `value`."""
        over = self._over / np.maximum(1.0, self.caps)
        over[(over < 0) & (self.cap_prices + self.extra <= 0)] = 0.0
        length = float(np.square(self._slope).sum()) + float((over * self._over).sum())
        if length > 0.0:
            far = max(0.0, value - self._value) / length
            self.leave = self.leave + far * self._slope
            self.extra = np.maximum(-self.cap_prices, self.extra + far * over)

    def lean(self, sets: Ints, flow: Floats, caps: Floats, share: float) -> None:
        """Take prices between the best so far and those of a model of choices.

        Args:
            sets: (k,) sets that the model knows.
            flow: (k,) what one of each more that leaves is worth there.
            caps: (1 + B,) what one move more, and one more of each budget, is worth there.
            share: Of the best so far.
        """
        _, leave, extra = self.best
        home = self.sets.home[sets]
        size = self.sets.weight[:, sets] * self.problem.scale[:, home]
        self.leave = leave.copy()
        self.leave[sets] = share * leave[sets] + (1 - share) * (
            flow + (self.price[:, home] * size).sum(axis=0)
        )
        self.extra = share * extra + (1 - share) * (np.maximum(0.0, caps) - self.cap_prices)

    def _choose(self, host: int, price: Floats, load: Floats, most: int) -> _Best:
        """Return the best choices of VMs at `price` (n,) that change the host's load (2, n)."""
        size = load * self.problem.scale[:, [host]]
        begun = price < 0.0
        start = self.problem.before[:, [host]] + size[:, begun].sum(axis=1, keepdims=True)
        # From the set of all at a negative price, every flip costs what it gives up or pays.
        flip, paid = np.where(begun, -size, size), np.abs(price)
        order = np.argsort(paid, kind="stable")
        best = self._cheapest(host, start, flip.take(order, axis=1), paid[order], most)
        floor = best.floor + float(price[begun].sum()) - self.least[host] - ROUNDED_OFF
        return _Best(floor, [order[flips] for flips in best.flips], best.looked_at)

    def _cheapest(self, host: int, start: Floats, flip: Floats, price: Floats, most: int) -> _Best:
        """Look for the best sets of flips, size by size; prices are sorted and none is negative."""
        least, looked_at = self.least[host], 0
        best = float(self._share(host, start)[0])
        none = np.zeros(0, dtype=np.int64)
        seen: list[tuple[float, Ints]] = [(best, none)]
        load, paid, chosen = start, np.zeros(1), none[None, :]
        top = np.inf  # sets that cost more are not looked at
        while len(paid):
            first = chosen[:, -1] + 1 if chosen.shape[1] else np.zeros(1, dtype=np.int64)
            left = max(0, min(self.sets_max, SIZES * self.sets_max - looked_at))
            top, count = _affordable(price, paid, first, min(top, best - least), left)
            total = int(count.sum())
            of = np.repeat(np.arange(len(paid)), count)
            item = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + first[of]
            load = load.take(of, axis=1) + flip.take(item, axis=1)
            paid = paid[of] + price[item]
            chosen = np.column_stack([chosen[of], item])
            looked_at += total
            value = self._share(host, load) + paid
            best = min(best, float(value.min(initial=np.inf)))
            few = least_few(value, most)
            seen += zip(value[few].tolist(), chosen[few], strict=True)
            keep = np.flatnonzero(paid <= min(top, best - least))
            load, paid, chosen = load.take(keep, axis=1), paid[keep], chosen[keep]
        seen.sort(key=lambda one: one[0])
        flips = [one for worth, one in seen[:most] if worth < np.inf] or [none]
        return _Best(min(best, top + least), flips, looked_at)

    def _share(self, host: int, used: Floats) -> Floats:
        """Return the host's share of J and the price of its load at (2, m) utilisations."""
        top = self.problem.limit[:, [host]] * (1 + LIMIT_SLACK) + LIMIT_SLACK
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


def least_few(value: Floats, most: int) -> Ints:
    """Return where the `most` least of (m,) values are; of equal ones the first, anywhere."""
    if len(value) <= most:
        return np.arange(len(value))
    few = np.flatnonzero(value <= np.partition(value, most - 1)[most - 1])
    return few[np.argsort(value[few], kind="stable")[:most]]


def _affordable(
    price: Floats, paid: Floats, first: Ints, top: float, sets_max: int
) -> tuple[float, Ints]:
    """Return a price, at most `top`, up to which few enough sets are left, and their numbers.

    Args:
        price: (n,) of flips, sorted.
        paid: (m,) of the sets that are to grow by one flip.
        first: (m,) the first flip that each may take.
        top: The price beyond which none is of interest.
        sets_max: How many are few enough.
    """

    def count(top: float) -> Ints:
        found: Ints = np.maximum(0, np.searchsorted(price, top - paid, side="right") - first)
        return found

    counted = count(top)
    if counted.sum() <= sets_max:
        return top, counted
    open_ = counted > 0
    low = float((paid[open_] + price[first[open_]]).min())  # no set costs less
    for _ in range(HALVINGS if sets_max else 0):
        middle = 0.5 * (low + top)
        if count(middle).sum() <= sets_max:
            low = middle
        else:
            top = middle
    counted = count(low)
    return low, counted if counted.sum() <= sets_max else np.zeros_like(counted)
