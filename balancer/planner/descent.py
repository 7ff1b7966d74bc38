"""Steepest descent over all VMs and hosts at once.

A move changes two hosts only, so of the N x H matrix of gains two columns and the rows whose
best target they were are computed anew: a step costs about as much as looking at each VM twice.
Both hosts are computed in one go: at these sizes calls count, not numbers.
Means are held for one pass; who calls measures the outcome and repeats where means moved.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.problem import CPU, MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.score import OVERLOAD_WEIGHT, ROUNDING, means, phi
from balancer.planner.state import State
from balancer.planner.work import Work

# In the tier of overload J only breaks ties: it stays far below this weight times the least
# overload worth a move.
RELIEF_WEIGHT = 1e7
RELIEF_GAIN = 2.0  # an overload of 2e-7, which is the tolerance of the tier
BALANCE_GAIN = 1e-9
# Units of making an engine, for each row and host; of a step, and for each row.
PAIR_UNITS, STEP_UNITS, ROW_UNITS = 0.1, 100.0, 0.15


class Descent:
    """Gains of all single moves from a `State`, kept up to date as it moves.

    Attributes:
        into: (n, H) change of J at the target (and the refunded cost of a move home), infinite
            where illegal; n counts movable VMs.
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
        # [:, rows] would put the two resources of a VM side by side in memory, and all arithmetic
        # on the result would take three times as long.
        self.size = problem.weight.take(self.rows, axis=1)
        self.ruled = problem.ruled[self.rows]
        self.blocked = ~problem.allowed[self.rows]
        drained = np.flatnonzero(problem.from_drain[self.rows])
        self.blocked[drained, self.home[drained]] = True
        self.into = np.full(self.blocked.shape, np.inf)
        self.out = np.zeros(len(self.rows))
        for row in np.flatnonzero(self.ruled).tolist():
            self.blocked[row] = self.forbidden(row)
        for host in range(len(problem.hosts)):  # one by one: what is computed stays in the cache
            self._columns(np.array([host]))
        self.best_host = self.into.argmin(axis=1)
        self.best = self.into[np.arange(len(self.rows)), self.best_host]

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

    def value(self) -> float:
        """Return J of the present state, with the mean held."""
        state, problem = self.state, self.state.problem
        moved = state.place != problem.home
        hosts = np.arange(len(problem.hosts))
        return float(self.cost_of(state.used(), hosts).sum() + problem.move_cost[moved].sum())

    def _refresh(self, vm: int, source: int, target: int) -> None:
        """Compute two hosts anew, the rows that rules tie to the move, and all best targets."""
        problem = self.state.problem
        mates = {vm} if problem.ruled[vm] else set()
        for index in problem.groups_of_vm.get(vm, ()):
            group = problem.groups[index]
            if group.is_news(self.state.counts[index], source, target):
                mates.update(group.members.tolist())
        touched = sorted(self.row_of[mate] for mate in mates if mate in self.row_of)
        for row in touched:
            self.blocked[row] = self.forbidden(row)
        hosts = np.array(sorted((source, target)), dtype=np.int64)
        self._columns(hosts)
        for row in touched:
            self._row(row)
        changed = np.zeros(len(self.state.problem.hosts), dtype=bool)
        changed[hosts] = True
        stale = changed[self.best_host]
        stale[[*touched, self.row_of[vm]]] = True
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

    def block_mates(self, vms: Ints) -> None:
        """Look again where those may go that rules tie to VMs that have moved."""
        problem = self.state.problem
        tied = {vm for vm in vms.tolist() if problem.ruled[vm]}
        for vm in vms.tolist():
            for index in problem.groups_of_vm.get(vm, ()):
                tied.update(problem.groups[index].members.tolist())
        for row in sorted(self.row_of[vm] for vm in tied if vm in self.row_of):
            self.blocked[row] = self.forbidden(row)

    def forbidden(self, row: int) -> Bools:
        """Return the (H,) hosts where a VM under rules may not go for the tiers above this one."""
        vm = int(self.rows[row])
        change = self.state.rule_change(vm, crowds=False)
        bad = ~change.legal | (change.hard > 0)
        if not self.last_resort:
            bad |= change.resort > 0
        if not self.relief:
            bad |= change.soft > BALANCE_GAIN
        if self.state.problem.from_drain[vm]:
            bad[self.home[row]] = True
        return bad

    def cost_of(self, used: Floats, hosts: Ints) -> Floats:
        """Return what hosts contribute to J at utilisations `used` (2, ...).

        `hosts` has the shape of what follows the first axis, or one that is broadcast to it.
        """
        problem, flat = self.state.problem, (2, *(1,) * (used.ndim - 1))
        each = phi(used - self.mean.reshape(flat))
        cost: Floats = each[CPU]
        cost += each[MEMORY]
        if not problem.up.all():
            cost *= problem.up[hosts]
        threshold = problem.threshold.reshape(flat)
        if any(used[at].max(initial=-np.inf) > threshold[at].item() for at in (CPU, MEMORY)):
            over = np.maximum(used - threshold, 0.0)
            cost += (over[CPU] + over[MEMORY]) * (self.weight * problem.play[hosts])
        return cost

    def _columns(self, hosts: Ints) -> None:
        """Recompute the gains of moving to and from each of `hosts` (sorted)."""
        state, problem = self.state, self.state.problem
        scale, load = problem.scale.take(hosts, axis=1), state.load.take(hosts, axis=1)
        base = self.cost_of(load * scale, hosts)
        after = (load[:, :, None] + self.size[:, None, :]) * scale[:, :, None]
        change = self.cost_of(after, hosts[:, None]) - base[:, None]
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
        left = load.take(at, axis=1) - self.size.take(here, axis=1)
        left = self.cost_of(left * scale.take(at, axis=1), hosts[at])
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
