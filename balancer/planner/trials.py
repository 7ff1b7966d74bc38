"""Descents of many trials at once, each on a few hosts of its own, as one set of arrays.

A step of one trial is a few numbers and many calls; numpy takes little longer for two dozen
trials than for one. All begin from the same placement, with some moves undone. What other VMs
and rules say is as it was at the beginning: who takes a trial over looks at both again.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.descent import BALANCE_GAIN, Descent
from balancer.planner.problem import CPU, MEMORY, Bools, Floats, Ints
from balancer.planner.score import ROUNDING
from balancer.planner.work import Work

STEPS_MAX = 60
STEP_UNITS, ROW_UNITS = 300.0, 0.1  # of a step of all trials, and for each VM of one


class Trials:
    """T trials on m hosts each; w is the largest number of VMs that are on those of one.

    Attributes:
        hosts: (T, m) sorted.
        rows: (T, w) VMs, as rows of the engine; `there` tells which are any, the rest fills up.
        home: (T, w) where each is at home, as a column of `hosts`; -1 where it is another host.
        at: (T, w) where each is now, likewise.
        used: (2, T, m) utilisations.
        into: (T, m, w) change of J when a VM comes, infinite where it may not.
        out: (T, w) change of J when it leaves.
        moves: (T,) VMs that are not at home, of all there are.
        spent: (B, T) what they take of budgets.
        room: (T, m) how many more VMs a host takes by the rules that count all VMs; 0 if too full.
    """

    def __init__(self, engine: Descent, hosts: Ints) -> None:
        self.engine, self.hosts = engine, hosts
        state, problem = engine.state, engine.state.problem
        each = np.arange(len(hosts))[:, None]
        column = np.full((len(hosts), len(problem.hosts)), -1, dtype=np.int64)
        column[each, hosts] = np.arange(hosts.shape[1])
        there = column[:, engine.place] >= 0
        self.rows = np.argsort(~there, axis=1, kind="stable")[:, : int(there.sum(axis=1).max())]
        self.there = there[each, self.rows]
        self.size, self.cost = engine.size.take(self.rows, axis=1), engine.cost[self.rows]
        self.home = column[each, engine.home[self.rows]]
        self.at = column[each, engine.place[self.rows]]  # -1 where nothing is there
        self.begun = self.at.copy()
        self.taking = state.budgets.size[:, engine.rows[self.rows]]
        self.moves = np.full(len(hosts), state.moves)
        self.spent = np.repeat(state.spent[:, None], len(hosts), axis=1)
        self.used = state.load.take(hosts, axis=1) * problem.scale.take(hosts, axis=1)
        # Up to where VMs come home, whether or not others have come as well.
        self.home_ceiling = state.home_ceilings(np.arange(len(problem.hosts)))
        self.home_ceiling[MEMORY] = np.minimum(self.home_ceiling[MEMORY], 1.0 + ROUNDING)
        vacancies = [state.vacancies(host) for host in range(len(problem.hosts))]
        self.room = np.array(vacancies)[hosts]
        self.value = self._value()
        self.sound = np.ones(len(hosts), dtype=bool)
        self.blocked = engine.blocked.T[hosts[:, :, None], self.rows[:, None, :]]
        self.blocked |= ~self.there[:, None, :]
        self.into = np.full(self.blocked.shape, np.inf)
        self.out = np.full(self.rows.shape, np.inf)

    def undo(self, undone: Bools) -> None:
        """Send VMs (T, w) home, and get ready to descend; a trial whose homes are full is none."""
        each, row = np.nonzero(undone)
        source, home = self.at[each, row], self.home[each, row]
        scale = self.engine.state.problem.scale
        for column, sign in ((source, -1), (home, 1)):
            share = sign * self.size[:, each, row] * scale[:, self.hosts[each, column]]
            for resource in (CPU, MEMORY):
                np.add.at(self.used[resource], (each, column), share[resource])
            np.add.at(self.room, (each, column), -sign)
        self.at[each, row] = home
        self.moves -= undone.sum(axis=1)
        self.spent -= (self.taking * undone).sum(axis=2)
        top = self.home_ceiling[:, self.hosts]
        full = (self.used[CPU] > top[CPU]) | (self.used[MEMORY] > top[MEMORY]) | (self.room < 0)
        self.sound[each[full[each, home]]] = False
        every = np.arange(self.hosts.shape[1])
        self._refresh(np.arange(len(self.hosts)), np.broadcast_to(every, self.hosts.shape))

    def descend(self, work: Work) -> Floats:
        """Make the best move in each trial till none pays.

        Returns:
            (T,) change of J from the beginning, infinite for a trial that is none.
        """
        go = np.flatnonzero(self.sound)
        for _ in range(STEPS_MAX):
            work.charge(STEP_UNITS + ROW_UNITS * len(go) * self.rows.shape[1])
            if not len(go) or work.cut_short():
                break
            change = self.into[go] + self._leaving(go)[:, None, :]
            total = change.reshape(len(go), -1)
            best = total.argmin(axis=1)
            pays = total[np.arange(len(go)), best] < -BALANCE_GAIN
            go, best = go[pays], best[pays]
            target, row = np.divmod(best, self.rows.shape[1])
            self._move(go, row, target)
        moved = (self.at != self.begun).any(axis=1)
        return np.where(self.sound & moved, self._value() - self.value, np.inf)

    def moves_of(self, trial: int) -> tuple[Ints, Ints]:
        """Return the rows of the engine that a trial moved, and to which hosts."""
        moved = np.flatnonzero(self.at[trial] != self.begun[trial])
        return self.rows[trial, moved], self.hosts[trial, self.at[trial, moved]]

    def _value(self) -> Floats:
        """Return (T,) what hosts and moves contribute to J."""
        moved = self.there & (self.at != self.home)
        shares = self.engine.cost_of(self.used, self.hosts)
        value: Floats = shares.sum(axis=1) + (self.cost * moved).sum(axis=1)
        return value

    def _leaving(self, go: Ints) -> Floats:
        """Return `out` of trials (g,), infinite where cap and budgets let none leave home."""
        state, out = self.engine.state, self.out[go]
        over = (self.moves[go] >= state.problem.cap)[:, None]
        if state.budgets:
            after = self.spent[:, go, None] + self.taking[:, go]
            over = over | (after > state.budgets.most[:, None, None]).any(axis=0)
        out[over & (self.at[go] == self.home[go])] = np.inf
        return out

    def _move(self, go: Ints, row: Ints, target: Ints) -> None:
        """Move one VM in each of some trials (g,)."""
        source, home, size = self.at[go, row], self.home[go, row], self.size[:, go, row]
        scale = self.engine.state.problem.scale
        self.used[:, go, source] -= size * scale[:, self.hosts[go, source]]
        self.used[:, go, target] += size * scale[:, self.hosts[go, target]]
        self.room[go, source] += 1
        self.room[go, target] -= 1
        self.at[go, row] = target
        leaves = (source == home).astype(np.int64) - (target == home)
        self.moves[go] += leaves
        self.spent[:, go] += self.taking[:, go, row] * leaves
        self._refresh(go, np.stack([source, target], axis=1))

    def _refresh(self, go: Ints, columns: Ints) -> None:
        """Compute `into` and `out` anew for some hosts (g, k), none twice, of trials (g,)."""
        engine, each = self.engine, go[:, None]
        hosts, home, at = self.hosts[each, columns], self.home[go], self.at[go]
        flat = each * self.hosts.shape[1] + columns
        used = self.used.reshape(len(self.used), -1).take(flat, axis=1)
        scale = engine.state.problem.scale.take(hosts, axis=1)
        size, cost = self.size.take(go, axis=1), self.cost[go]
        base = engine.cost_of(used, hosts)
        after = size[:, :, None, :] * scale[:, :, :, None]
        after += used[:, :, :, None]
        change = engine.cost_of(after, hosts[:, :, None])
        change -= base[:, :, None]
        over = after > engine.ceiling.take(hosts, axis=1)[:, :, :, None]
        bad = over[CPU] | over[MEMORY] | self.blocked[each, columns]
        # For each VM, which of the k columns is its home, and which it is on; -1 for most.
        which = np.full((len(go), self.hosts.shape[1] + 1), -1)
        among = np.arange(len(go))[:, None]
        which[among, columns] = np.arange(columns.shape[1])
        native, here = which[among, home], which[among, at]
        one, row = np.nonzero(native >= 0)
        column = native[one, row]
        top = self.home_ceiling[:, hosts[one, column]]
        over = after[:, one, column, row] > top
        shut = engine.blocked[self.rows[go[one], row], hosts[one, column]]
        bad[one, column, row] = over[CPU] | over[MEMORY] | shut
        change[one, column, row] -= cost[one, row]
        bad |= (self.room[each, columns] <= 0)[:, :, None]
        one, row = np.nonzero(here >= 0)
        column = here[one, row]
        bad[one, column, row] = True
        change[bad] = np.inf
        self.into[each, columns] = change
        left = used[:, one, column] - size[:, one, row] * scale[:, one, column]
        change = engine.cost_of(left, hosts[one, column]) - base[one, column]
        self.out[go[one], row] = change + cost[one, row] * (native[one, row] == column)
