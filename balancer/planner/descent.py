"""Steepest descent over all VMs and hosts at once.

A move changes two hosts only, so of the N x H matrix of gains two columns and the rows whose
best target they were are computed anew: a step costs about as much as looking at each VM twice.
Several hosts are computed in one go, and a trial that fails is taken back by putting back what
was kept: at these sizes the number of calls counts, not that of the numbers.
Means are held for one pass; who calls measures the outcome and repeats where means moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.planner.problem import CPU, MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.score import OVERLOAD_WEIGHT, ROUNDING, means, phi
from balancer.planner.state import Kept, State
from balancer.planner.work import Work

# In the tier of overload J only breaks ties: it stays far below this weight times the least
# overload worth a move.
RELIEF_WEIGHT = 1e7
RELIEF_GAIN = 2.0  # an overload of 2e-7, which is the tolerance of the tier
BALANCE_GAIN = 1e-9
# Units of making an engine, for each row and host; of a step, and for each row.
PAIR_UNITS, STEP_UNITS, ROW_UNITS = 0.1, 100.0, 0.15


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a `Descent` was at some moment, to go back to."""

    state: Kept
    into: Floats
    out: Floats
    blocked: Bools
    place: Ints
    best_host: Ints
    best: Floats


class Descent:
    """Gains of all single moves from a `State`, kept up to date as it moves.

    Attributes:
        into: (n, H) change of J at the target (and the refunded cost of a move home), infinite
            where illegal; n counts movable VMs.
        last: The VM moved last and where it was, to take a trial back.
        out: (n,) change of J at the source, and the cost of a first move.
        rows: (n,) the VMs looked at; all that are movable unless some are given.
        place: (n,) host of each of them now.
    """

    def __init__(
        self,
        state: State,
        *,
        relief: bool = False,
        last_resort: bool = False,
        rows: Ints | None = None,
    ) -> None:
        self.state = state
        self.relief = relief
        self.last_resort = last_resort
        self.weight = RELIEF_WEIGHT if relief else OVERLOAD_WEIGHT
        self.least = RELIEF_GAIN if relief else BALANCE_GAIN
        problem = state.problem
        self.rows = problem.movable if rows is None else rows
        self.row_of = {vm: row for row, vm in enumerate(self.rows.tolist())}
        self.mean = means(problem, state.place)
        self.ceiling = state.ceiling() * (1 + ROUNDING)
        self.home = problem.home[self.rows]
        self.place = state.place[self.rows]
        self.natives = [np.flatnonzero(self.home == at) for at in range(len(problem.hosts))]
        self.cost = problem.move_cost[self.rows]
        self.size = problem.weight[:, self.rows]
        self.ruled = problem.ruled[self.rows]
        self.blocked = ~problem.allowed[self.rows]
        drained = np.flatnonzero(problem.from_drain[self.rows])
        self.blocked[drained, self.home[drained]] = True
        self.into = np.full(self.blocked.shape, np.inf)
        self.out = np.zeros(len(self.rows))
        for row in np.flatnonzero(self.ruled).tolist():
            self._block(row)
        for host in range(len(problem.hosts)):  # one by one: what is computed stays in the cache
            self._columns(np.array([host]))
        self.best_host = self.into.argmin(axis=1)
        self.best = self.into[np.arange(len(self.rows)), self.best_host]
        self.last: tuple[int, int] | None = None

    def step(self) -> float | None:
        """Make the best move there is; return its gain (negative), or None if none pays."""
        if not len(self.rows):
            return None
        total = self.best + self.out
        if self.state.moves >= self.state.problem.cap:
            total[self.place == self.home] = np.inf
        elif self.state.budgets:
            total[~self.state.affords(self.rows)] = np.inf
        row = int(total.argmin())
        gain = float(total[row])
        if not gain < -self.least:
            return None
        self.apply(int(self.rows[row]), int(self.best_host[row]))
        return gain

    def apply(self, vm: int, target: int) -> float:
        """Move `vm` to `target` and refresh what that changes; return the change of J."""
        source = int(self.state.place[vm])
        row = self.row_of[vm]
        self.last = (vm, source)
        gain = float(self.into[row, target] + self.out[row])
        self.state.move(vm, target)
        self.place[row] = target
        self._refresh(vm, source, target)
        return gain

    def undo_gains(self) -> Floats:
        """Return for each row the change of J if the VM went home; infinite if it cannot."""
        gains = self.into[np.arange(len(self.rows)), self.home] + self.out
        gains[self.place == self.home] = np.inf
        return gains

    def send_home(self, vms: Ints) -> list[tuple[int, int]]:
        """Take back the moves of VMs that no rule counts, as far as homes have room, all at once.

        Returns each VM that went, with where it was.
        """
        state, problem = self.state, self.state.problem
        log: list[tuple[int, int]] = []
        touched: set[int] = set()
        for vm in vms.tolist():
            home, at = int(problem.home[vm]), int(state.place[vm])
            after = (state.load[:, home] + problem.weight[:, vm]) * problem.scale[:, home]
            if home == at or (after > state.home_ceilings(home)).any() or not state.vacancies(home):
                continue
            state.move(vm, home)
            self.place[self.row_of[vm]] = home
            log.append((vm, at))
            touched.update((home, at))
        if log:
            rows = np.array([self.row_of[vm] for vm, _ in log], dtype=np.int64)
            self._update(np.array(sorted(touched), dtype=np.int64), rows)
        return log

    def value(self) -> float:
        """Return J of the present state, with the mean held."""
        state, problem = self.state, self.state.problem
        moved = state.place != problem.home
        hosts = np.arange(len(problem.hosts))
        return float(self.cost_of(state.used(), hosts).sum() + problem.move_cost[moved].sum())

    def snapshot(self) -> Snapshot:
        """Return what is needed to come back to this moment."""
        return Snapshot(
            self.state.kept(),
            self.into.copy(),
            self.out.copy(),
            self.blocked.copy(),
            self.place.copy(),
            self.best_host.copy(),
            self.best.copy(),
        )

    def restore(self, kept: Snapshot) -> None:
        """Go back to a moment; its snapshot stays good."""
        self.state.restore(kept.state)
        for name in ("into", "out", "blocked", "place", "best_host", "best"):
            getattr(self, name)[...] = getattr(kept, name)

    def _refresh(self, vm: int, source: int, target: int) -> None:
        problem = self.state.problem
        mates = {vm} if problem.ruled[vm] else set()
        for index in problem.groups_of_vm.get(vm, ()):
            group = problem.groups[index]
            if group.is_news(self.state.counts[index], source, target):
                mates.update(group.members.tolist())
        touched = sorted(self.row_of[mate] for mate in mates if mate in self.row_of)
        for row in touched:
            self._block(row)
        hosts = np.array(sorted((source, target)), dtype=np.int64)
        self._update(hosts, np.array([*touched, self.row_of[vm]], dtype=np.int64), touched)

    def _update(self, hosts: Ints, stale_rows: Ints, anew: Sequence[int] = ()) -> None:
        """Compute `hosts` anew, whole rows `anew`, and the best target of all that this changes."""
        self._columns(hosts)
        for row in anew:
            self._row(row)
        changed = np.zeros(len(self.state.problem.hosts), dtype=bool)
        changed[hosts] = True
        stale = changed[self.best_host]
        stale[stale_rows] = True
        rows = np.flatnonzero(stale)
        into = self.into[rows]
        best = into.argmin(axis=1)
        self.best_host[rows] = best
        self.best[rows] = into[np.arange(len(rows)), best]
        for host in hosts.tolist():
            column = self.into[:, host]
            closer = np.flatnonzero(column < self.best)
            if len(closer):
                self.best_host[closer] = host
                self.best[closer] = column[closer]

    def _block(self, row: int) -> None:
        """Recompute where a VM under rules may go without harm to the tiers above this one."""
        vm = int(self.rows[row])
        change = self.state.rule_change(vm, crowds=False)
        bad = ~change.legal | (change.hard > 0)
        if not self.last_resort:
            bad |= change.resort > 0
        if not self.relief:
            bad |= change.soft > BALANCE_GAIN
        if self.state.problem.from_drain[vm]:
            bad[self.home[row]] = True
        self.blocked[row] = bad

    def cost_of(self, used: Floats, hosts: Ints) -> Floats:
        """Return what `hosts` (k,) contribute to J at utilisations `used` (2, k, ...)."""
        problem = self.state.problem
        flat = (2, *(1,) * (used.ndim - 1))
        each = (-1, *(1,) * (used.ndim - 2))
        each_resource = phi(used - self.mean.reshape(flat))
        cost: Floats = each_resource[CPU] + each_resource[MEMORY]
        if not problem.up.all():
            cost *= problem.up[hosts].reshape(each)
        over = used - problem.threshold.reshape(flat)
        if over.max(initial=0.0) > 0.0:
            np.maximum(over, 0.0, out=over)
            cost += (over[CPU] + over[MEMORY]) * (self.weight * problem.play[hosts]).reshape(each)
        return cost

    def _columns(self, hosts: Ints) -> None:
        """Recompute the gains of moving to and from each of `hosts` (sorted)."""
        state, problem = self.state, self.state.problem
        scale, load = problem.scale[:, hosts], state.load[:, hosts]
        base = self.cost_of(load * scale, hosts)
        after = (load[:, :, None] + self.size[:, None, :]) * scale[:, :, None]
        change = self.cost_of(after, hosts) - base[:, None]
        full = after > self.ceiling[:, hosts, None]
        bad = full[CPU] | full[MEMORY]
        native = [self.natives[host] for host in hosts.tolist()]
        at = np.repeat(np.arange(len(hosts)), [len(rows) for rows in native])
        rows = np.concatenate(native)
        top = state.home_ceilings(hosts)[:, at]
        bad[at, rows] = (after[:, at, rows] > top).any(axis=0)
        change[at, rows] -= self.cost[rows]
        if problem.crowds:
            bad[[not state.vacancies(host) for host in hosts.tolist()]] = True
        bad |= self.blocked[:, hosts].T
        position = np.full(len(problem.hosts), -1, dtype=np.int64)
        position[hosts] = np.arange(len(hosts))
        at = position[self.place]
        here = np.flatnonzero(at >= 0)
        at = at[here]
        bad[at, here] = True
        change[bad] = np.inf
        self.into[:, hosts] = change.T
        left = self.cost_of((load[:, at] - self.size[:, here]) * scale[:, at], hosts[at])
        self.out[here] = left - base[at] + self.cost[here] * (self.home[here] == hosts[at])

    def _row(self, row: int) -> None:
        """Recompute the gains of one VM to all hosts, once its rules let it go elsewhere."""
        state, problem = self.state, self.state.problem
        after = (state.load + self.size[:, [row]]) * problem.scale
        used = state.used()
        top = self.ceiling.copy()
        home = int(self.home[row])
        top[:, home] = state.home_ceilings(home)
        bad = self.blocked[row] | (after > top).any(axis=0)
        bad[self.place[row]] = True
        if problem.crowds:
            bad |= [not state.vacancies(host) for host in range(len(problem.hosts))]
        over = (np.maximum(0.0, after - problem.threshold)
                - np.maximum(0.0, used - problem.threshold)) * problem.play  # fmt: skip
        even = (phi(after - self.mean) - phi(used - self.mean)) * problem.up
        change = (even + self.weight * over).sum(axis=0)
        change[home] -= self.cost[row]
        self.into[row] = np.where(bad, np.inf, change)


def descend(state: State, work: Work, *, relief: bool = False, last_resort: bool = False) -> bool:
    """Descend until nothing pays, in passes where means move; return whether anything moved.

    Args:
        state: Where from; it is moved.
        work: The budget.
        relief: Only what ends overload counts, the even load breaks ties.
        last_resort: Let also those VMs move that do so as a last resort.
    """
    moved = False
    problem: Problem = state.problem
    for _ in range(1 if problem.mean_is_constant else 4):
        engine = Descent(state, relief=relief, last_resort=last_resort)
        work.charge(PAIR_UNITS * engine.into.size)
        stepped = False
        while work.spend(STEP_UNITS + ROW_UNITS * len(engine.rows)) and engine.step() is not None:
            stepped = moved = True
        if not stepped:
            break
    return moved
