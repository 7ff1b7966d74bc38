"""Steepest descent over all VMs and hosts at once.

A move changes two hosts only, so of the N x H matrix of gains two columns and the rows whose
best target they were are computed anew: a step costs about as much as looking at each VM twice.
Means are held for one pass; who calls measures the outcome and repeats where means moved.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.problem import Floats, Ints, Problem
from balancer.planner.score import OVERLOAD_WEIGHT, ROUNDING, means, phi
from balancer.planner.state import State
from balancer.planner.work import Work

# In the tier of overload J only breaks ties: it stays far below this weight times the least
# overload worth a move.
RELIEF_WEIGHT = 1e7
RELIEF_GAIN = 2.0  # an overload of 2e-7, which is the tolerance of the tier
BALANCE_GAIN = 1e-9


class Descent:
    """Gains of all single moves from a `State`, kept up to date as it moves.

    Attributes:
        into: (n, H) change of J at the target (and the refunded cost of a move home), infinite
            where illegal; n counts movable VMs.
        last: The VM moved last and where it was, to take a trial back.
        out: (n,) change of J at the source, and the cost of a first move.
        rows: (n,) the VMs looked at; all that are movable unless some are given.
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
        for host in range(len(problem.hosts)):
            self._column(host)
        self.best_host = self.into.argmin(axis=1)
        self.best = self.into[np.arange(len(self.rows)), self.best_host]
        self.last: tuple[int, int] | None = None

    def step(self) -> float | None:
        """Make the best move there is; return its gain (negative), or None if none pays."""
        if not len(self.rows):
            return None
        total = self.best + self.out
        if self.state.moves >= self.state.problem.cap:
            total[self.state.place[self.rows] == self.home] = np.inf
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
        self._refresh(vm, source, target)
        return gain

    def undo_gains(self) -> Floats:
        """Return for each row the change of J if the VM went home; infinite if it cannot."""
        gains = self.into[np.arange(len(self.rows)), self.home] + self.out
        gains[self.state.place[self.rows] == self.home] = np.inf
        return gains

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
        self._column(source)
        self._column(target)
        for row in touched:
            self._row(row)
        stale = (self.best_host == source) | (self.best_host == target)
        stale[touched] = True
        stale[self.row_of[vm]] = True
        rows = np.flatnonzero(stale)
        self.best_host[rows] = self.into[rows].argmin(axis=1)
        self.best[rows] = self.into[rows, self.best_host[rows]]
        for host in sorted((source, target)):
            closer = np.flatnonzero(self.into[:, host] < self.best)
            self.best_host[closer] = host
            self.best[closer] = self.into[closer, host]

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

    def cost_of(self, used: Floats, host: int) -> Floats:
        """Return what `host` would contribute to J at utilisations `used` (2, ...)."""
        problem = self.state.problem
        cost = np.zeros(used.shape[1:])
        for resource in (0, 1):
            row = used[resource]
            if problem.play[host]:
                threshold = float(problem.threshold[resource, 0])
                if row.size and row.max() > threshold:
                    cost += self.weight * np.maximum(0.0, row - threshold)
            if problem.up[host]:
                cost += phi(row - self.mean[resource, 0])
        return cost

    def _column(self, host: int) -> None:
        """Recompute the gains of moving to and from `host`."""
        state, problem = self.state, self.state.problem
        scale, load = problem.scale[:, [host]], state.load[:, [host]]
        base = self.cost_of(load * scale, host)[0]
        after = (load + self.size) * scale
        change = self.cost_of(after, host) - base
        fits = np.asarray((after <= self.ceiling[:, [host]]).all(axis=0))
        native = self.home == host
        top = state.home_ceiling(host)[:, None]
        fits[native] = (after[:, native] <= top).all(axis=0)
        here = state.place[self.rows] == host
        if not state.vacancies(host):
            fits[:] = False
        change[native] -= self.cost[native]
        change[~fits | self.blocked[:, host] | here] = np.inf
        self.into[:, host] = change
        rows = np.flatnonzero(here)
        left = self.cost_of((load - self.size[:, rows]) * scale, host) - base
        self.out[rows] = left + np.where(native[rows], self.cost[rows], 0.0)

    def _row(self, row: int) -> None:
        """Recompute the gains of one VM to all hosts, once its rules let it go elsewhere."""
        state, problem = self.state, self.state.problem
        after = (state.load + self.size[:, [row]]) * problem.scale
        used = state.used()
        top = self.ceiling.copy()
        home = int(self.home[row])
        top[:, home] = state.home_ceiling(home)
        bad = self.blocked[row] | (after > top).any(axis=0)
        bad[state.place[self.rows[row]]] = True
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
        stepped = False
        while work.spend(50 + 0.1 * len(engine.rows)) and engine.step() is not None:
            stepped = moved = True
        if not stepped:
            break
    return moved
