"""Local search over chains of two moves: what no single move betters, two together may.

A first move from one host to another changes only those two, so a second move can only gain
from it where it touches one of them: it leaves the source too, leaves the target, comes to the
source, or comes to the target. That covers exchanges of VMs, better replacements of a move
already made, and shifts over a third host. For each ordered pair of hosts the most promising
first moves are priced against all such second moves at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from balancer.planner.descent import BALANCE_GAIN, Descent
from balancer.planner.problem import Bools, Floats, Ints
from balancer.planner.score import host_costs, phi
from balancer.planner.work import Work

FIRST_MOVES = 12  # of a pair of hosts, those that cost least
COMERS = 40  # VMs of other hosts that might come to one: those that cost least to bring
COMERS_AGE = 16  # chains made until they are looked up anew
SWEEPS_MAX = 30
TRADED = 32  # moves to undo, and to make instead, that are weighed when the cap is used up
FIRST_SHARE = 0.5  # what a costly first move counts against a pair when pairs are ordered
# Units of pricing one pair of hosts, and each of its chains.
PAIR_UNITS, CHAIN_UNITS = 500.0, 0.12


@dataclass(frozen=True, slots=True)
class _Chain:
    """Two moves, (row, host) each, and what they change J by."""

    gain: float
    first: tuple[int, int]
    second: tuple[int, int]


def improve_by_chains(engine: Descent, work: Work) -> bool:
    """Make chains of two moves until none pays; tell whether any did."""
    chains = _Chains(engine)
    gained = False
    for _ in range(SWEEPS_MAX):
        swept = chains.trade(work)
        gained |= swept
        for source, target in chains.pairs():
            if not chains.is_news(source, target):
                continue
            if not work.spend(PAIR_UNITS + CHAIN_UNITS * chains.size(source, target)):
                return gained
            chain = chains.best(source, target)
            if chain is not None:
                chains.make(chain)
                gained = swept = True
        if not swept:
            break
    return gained


class _Chains:
    """Prices chains on the gains that a `Descent` keeps up to date.

    Attributes:
        place: (n,) host of each row now.
        changed: (H,) when each host last changed, by the count of chains made.
        seen: (H, H) when each ordered pair was last priced.
    """

    def __init__(self, engine: Descent) -> None:
        self.engine = engine
        self.problem = engine.state.problem
        self.hosts = len(self.problem.hosts)
        self.clock = 1
        self.changed = np.ones(self.hosts, dtype=np.int64)
        self.seen = np.zeros((self.hosts, self.hosts), dtype=np.int64)
        self.place = engine.state.place[engine.rows]
        self.on = [np.flatnonzero(self.place == host) for host in range(self.hosts)]
        self.bringable: dict[int, tuple[int, Ints]] = {}

    def pairs(self) -> list[tuple[int, int]]:
        """Return ordered pairs of hosts, the most promising first.

        A chain gains from what its two hosts cost now, and has to make up for its first move.
        """
        engine, state = self.engine, self.engine.state
        total = engine.into + engine.out[:, None]
        cheapest = np.full((self.hosts, self.hosts), np.inf)
        order = np.argsort(self.place, kind="stable")
        starts = np.searchsorted(self.place[order], np.arange(self.hosts))
        there = np.flatnonzero(np.diff(np.append(starts, len(order))) > 0)
        if len(there):
            cheapest[there] = np.minimum.reduceat(total[order], starts[there], axis=0)
        if self.problem.crowds:  # no single VM comes to a full host, but one for another does
            full = [host for host in range(self.hosts) if not state.vacancies(host)]
            cheapest[:, full] = np.where(np.isinf(cheapest[:, full]), 0.0, cheapest[:, full])
        now = host_costs(self.problem, state.used(), engine.mean, engine.weight).sum(axis=0)
        hope = FIRST_SHARE * cheapest - (now[:, None] + now[None, :])
        flat = np.argsort(hope, axis=None, kind="stable")
        flat = flat[np.isfinite(hope.ravel()[flat])]
        return [divmod(at, self.hosts) for at in flat.tolist()]

    def is_news(self, source: int, target: int) -> bool:
        """Tell whether either host has changed since this pair was last priced."""
        return bool(max(self.changed[source], self.changed[target]) > self.seen[source, target])

    def size(self, source: int, target: int) -> int:
        """Return about how many chains a pair has."""
        here, there = len(self.on[source]), len(self.on[target])
        return min(FIRST_MOVES, here) * (3 * here + 3 * there + 2 * COMERS)

    def make(self, chain: _Chain) -> None:
        """Carry out a chain."""
        self.clock += 1
        for row, host in (chain.first, chain.second):
            source = int(self.place[row])
            self.engine.apply(int(self.engine.rows[row]), host)
            self.place[row] = host
            for one in (source, host):
                self.changed[one] = self.clock
                self.on[one] = np.flatnonzero(self.place == one)
                self.bringable.pop(one, None)

    def trade(self, work: Work) -> bool:
        """With the cap or a budget used up: undo moves where others, far away, gain more."""
        engine, traded = self.engine, False
        state = engine.state
        while len(engine.rows) and (state.moves >= self.problem.cap or state.budgets):
            if not work.spend(PAIR_UNITS):
                break
            undo = engine.undo_gains()
            total = engine.best + engine.out
            total[self.place != engine.home] = np.inf
            back, away = (np.argsort(one, kind="stable")[:TRADED] for one in (undo, total))
            gain = undo[back][:, None] + total[away][None, :]
            hosts = np.stack([self.place[back], engine.home[back]])
            others = np.stack([self.place[away], engine.best_host[away]])
            # Moves that share a host are not the sum of two; those are chains.
            near = (hosts[:, None, :, None] == others[None, :, None, :]).any(axis=(0, 1))
            gain[near] = np.inf
            for size, spent, most in self.budgets():
                gain[spent + size[away][None, :] - size[back][:, None] > most] = np.inf
            first, second = divmod(int(gain.argmin()), len(away))
            if not gain[first, second] < -BALANCE_GAIN:
                break
            one, two = int(back[first]), int(away[second])
            moves = (one, int(engine.home[one])), (two, int(engine.best_host[two]))
            self.make(_Chain(float(gain[first, second]), *moves))
            traded = True
        return traded

    def budgets(self) -> Iterator[tuple[Floats, float, float]]:
        """Yield of each budget what the move of each row takes, what is spent, what there is."""
        state, rows = self.engine.state, self.engine.rows
        for size, spent, most in zip(
            state.budgets.size, state.spent.tolist(), state.budgets.most.tolist(), strict=True
        ):
            yield size[rows], spent, most

    def best(self, source: int, target: int) -> _Chain | None:
        """Return the best chain that begins from `source` to `target`, or None if none pays."""
        self.seen[source, target] = self.clock
        pair = _Pair(self, source, target)
        return pair.best() if len(pair.first) else None

    def comers(self, host: int) -> Ints:
        """Return rows elsewhere that cost least to bring to `host`; a little stale at times."""
        since, rows = self.bringable.get(host, (-COMERS_AGE, np.zeros(0, dtype=np.int64)))
        if self.clock - since >= COMERS_AGE:
            total = self.engine.into[:, host] + self.engine.out
            rows = np.arange(len(total), dtype=np.int64)
            if len(rows) > COMERS:
                rows = np.sort(rows[np.argpartition(total, COMERS)[:COMERS]])
            self.bringable[host] = self.clock, rows
        return rows


class _Pair:
    """All chains whose first move goes from one host to another.

    Arrays of costs have the axes (host: source, target), (first move), (second move).
    """

    def __init__(self, chains: _Chains, source: int, target: int) -> None:
        self.chains, self.engine = chains, chains.engine
        problem, engine = chains.problem, chains.engine
        self.ends = ends = np.array([source, target])
        self.scale = problem.scale[:, ends].T[:, :, None, None]
        self.load = engine.state.load[:, ends].T[:, :, None, None]
        self.play = problem.play[ends].astype(float)[:, None, None] * engine.weight
        self.up = problem.up[ends].astype(float)[:, None, None]
        self.now = self._cost(self.load)
        rows = chains.on[source]
        rows = rows[~engine.blocked[rows, target] & ~engine.ruled[rows]]
        self._first(rows, np.array([-1.0, 1.0]))

    def _cost(self, load: Floats) -> Floats:
        """Return the (2, v, m) costs of the two hosts at loads (2, resource, v, m)."""
        engine = self.engine
        used = load * self.scale
        over = np.maximum(used - self.chains.problem.threshold[None, :, :, None], 0.0)
        cost = phi(used - engine.mean[None, :, :, None]).sum(axis=1) * self.up
        if over.any():
            cost += over.sum(axis=1) * self.play
        found: Floats = cost
        return found

    def _price(self, rows: Ints, host: int | Ints) -> tuple[Floats, Ints]:
        """Return what moves themselves cost, and by how many they change the number of moves."""
        engine = self.engine
        leaves = self.chains.place[rows] == engine.home[rows]
        count = leaves.astype(np.int64) - (engine.home[rows] == host)
        return count * engine.cost[rows], count

    def _first(self, rows: Ints, sign: Floats) -> None:
        """Keep the first moves that cost least, and what they leave behind."""
        size = self.engine.size.take(rows, axis=1)
        after = self.load + sign[:, None, None, None] * size[None, :, :, None]
        cost = self._cost(after)
        price, count = self._price(rows, int(self.ends[1]))
        change = (cost - self.now).sum(axis=0)[:, 0] + price
        keep = np.argsort(change, kind="stable")[:FIRST_MOVES]
        self.first, self.change, self.count = rows[keep], change[keep], count[keep]
        self.after, self.cost = after.take(keep, axis=2), cost.take(keep, axis=1)
        top = self._top(self.first, 1)
        self.fits_first = (self.after[1, :, :, 0] * self.scale[1, :, :, 0] <= top).all(axis=0)

    def _top(self, rows: Ints, end: int) -> Floats:
        """Return the (2, n) utilisation up to which an end may take each of `rows`."""
        engine, host = self.engine, int(self.ends[end])
        native = engine.home[rows] == host
        top = engine.ceiling[:, [host]]
        if not native.any():
            return np.broadcast_to(top, (2, len(rows)))
        return np.where(native, engine.state.home_ceilings(host)[:, None], top)

    def best(self) -> _Chain | None:
        """Return the best chain, or None if none pays."""
        chains = self.chains
        source, target = self.ends.tolist()
        a, b = chains.on[source], chains.on[target]
        to_source, to_target = chains.comers(source), chains.comers(target)
        rows = np.concatenate([a, b, to_source, to_target])
        parts = np.cumsum([0, len(a), len(b), len(to_source), len(to_target)])
        at_a, at_b, at_s, at_t = (slice(*parts[at : at + 2]) for at in range(4))
        # How the second move changes the source and the target: (2, m).
        sign = np.zeros((2, len(rows)))
        sign[0, at_a], sign[1, at_b] = -1.0, -1.0
        sign[0, at_s], sign[1, at_t] = 1.0, 1.0
        leave = self._after(rows, sign)
        both = np.concatenate([a, b])
        exchanged = np.repeat([[-1.0, 1.0], [1.0, -1.0]], [len(a), len(b)], axis=1)
        cross = self._after(both, exchanged)
        fits_leave, fits_cross = self._fits(leave, sign, rows), self._fits(cross, exchanged, both)
        base = self.change[:, None] - self.cost.sum(axis=0)
        leaving = base + self._cost(leave).sum(axis=0)
        crossing = base + self._cost(cross).sum(axis=0)
        offers = [
            *self._onward(both, leaving[:, : parts[2]], fits_leave[:, : parts[2]]),
            self._across(both, len(a), crossing, fits_cross),
            self._coming(to_source, source, leaving[:, at_s], fits_leave[:, at_s]),
            self._coming(to_target, target, leaving[:, at_t], fits_leave[:, at_t]),
        ]
        gain = np.concatenate([one[0] for one in offers], axis=1)
        at = int(gain.argmin())
        first, second = divmod(at, gain.shape[1])
        if not gain[first, second] < -BALANCE_GAIN:
            return None
        row = np.concatenate([one[1] for one in offers])[second]
        host = np.concatenate([one[2] for one in offers])[second]
        moved = (int(self.first[first]), target), (int(row), int(host))
        return _Chain(float(gain[first, second]), *moved)

    def _after(self, rows: Ints, sign: Floats) -> Floats:
        """Return the (2, resource, v, m) loads after both moves."""
        size = self.engine.size.take(rows, axis=1)
        return self.after + (sign[:, None, :] * size[None, :, :])[:, :, None, :]

    def _fits(self, load: Floats, sign: Floats, rows: Ints) -> Bools:
        """Tell whether both moves leave no host above what it may take: (v, m).

        The target takes the first VM; an end takes the second where `sign` is above zero.
        """
        used = load * self.scale
        fits = (used[1] <= self._top(self.first, 1)[:, :, None]).all(axis=0)
        for end in (0, 1):
            takes = np.flatnonzero(sign[end] > 0)
            if len(takes):
                top = self._top(rows[takes], end)[:, None, :]
                fits[:, takes] &= (used[end][:, :, takes] <= top).all(axis=0)
        # The target takes one VM already; where it has no room for it, one has to leave.
        fits &= (sign[1] < max(0, self.engine.state.vacancies(int(self.ends[1]))))[None, :]
        legal: Bools = fits & (self.first[:, None] != rows[None, :])
        return legal

    def _priced(
        self, rows: Ints, host: int | Ints, gain: Floats, legal: Bools
    ) -> tuple[Floats, Ints, Ints]:
        """Add what the second moves cost, and rule out what cap and budgets do not allow."""
        price, count = self._price(rows, host)
        state = self.engine.state
        legal = legal & (self.count[:, None] + count[None, :] <= state.problem.cap - state.moves)
        for size, spent, most in self.chains.budgets():
            first, second = self.count * size[self.first], count * size[rows]
            legal &= spent + (first[:, None] + second[None, :]) <= most
        hosts = np.broadcast_to(np.asarray(host, dtype=np.int64), rows.shape)
        return np.where(legal, gain + price[None, :], np.inf), rows, hosts

    def _onward(self, rows: Ints, gain: Floats, fits: Bools) -> list[tuple[Floats, Ints, Ints]]:
        """Leave one of the two for the best third host, or for home."""
        engine = self.engine
        at = np.arange(len(rows))
        home = engine.home[rows]
        into = engine.into[rows]
        into[:, self.ends] = np.inf
        back = into[at, home] + engine.cost[rows]  # the refund is in `into`, and in the price
        into[at, home] = np.inf
        host = into.argmin(axis=1)
        away = into[at, host]
        return [
            self._priced(rows, host, gain + away[None, :], fits),
            self._priced(rows, home, gain + back[None, :], fits),
        ]

    def _across(
        self, rows: Ints, count: int, gain: Floats, fits: Bools
    ) -> tuple[Floats, Ints, Ints]:
        """Go along to the target, or from the target to the source."""
        source, target = self.ends.tolist()
        host = np.repeat([target, source], [count, len(rows) - count])
        return self._priced(rows, host, gain, fits & ~self.engine.blocked[rows, host][None, :])

    def _coming(
        self, rows: Ints, host: int, gain: Floats, fits: Bools
    ) -> tuple[Floats, Ints, Ints]:
        """Come from a third host, whose own share of the gain is known."""
        engine, place = self.engine, self.chains.place
        there = (place[rows] != self.ends[0]) & (place[rows] != self.ends[1])
        legal = fits & (there & ~engine.blocked[rows, host])[None, :]
        own = engine.out[rows] - np.where(place[rows] == engine.home[rows], engine.cost[rows], 0.0)
        return self._priced(rows, host, gain + own[None, :], legal)
