"""A placement being worked on: loads, counts and caps kept up to date move by move.

Every state the searches pass through is the legal end of a plan (decision record 1, clauses 5
to 7), so that whatever stops them, the best state so far can be planned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.problem import MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.score import ROUNDING, overload


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What moving one VM to each host would change: (H,) arrays."""

    hard: Ints
    resort: Ints
    soft: Floats
    legal: Bools


@dataclass(frozen=True, slots=True)
class Kept:
    """What a `State` was at some moment, to go back to."""

    place: Ints
    load: Floats
    tally: Ints
    received: Ints
    excused: Ints
    spent: Floats
    moves: int


class State:
    """A mutable placement over a `Problem`.

    Attributes:
        place: (N,) host of each VM.
        load: (2, H) work and bytes on each host.
        counts: For each group, (D,) members in each domain.
        moves: VMs that are not at home.
        spent: (B,) what those take of each of the task's budgets.
        packed: Whether VMs are only taken up to the ceiling of consolidation, where hosts are
            otherwise filled up to their thresholds.
        received: (H,) VMs on each host that were not there before.
        excused: (H,) of those, VMs from draining hosts.
    """

    def __init__(self, problem: Problem, place: Ints | None = None) -> None:
        self.problem = problem
        self.packed = False
        self.place = problem.home.copy() if place is None else place.copy()
        hosts = len(problem.hosts)
        self.load = problem.fixed + np.stack(
            [np.bincount(self.place, row, minlength=hosts) for row in problem.weight]
        )
        counts = [group.counts(self.place) for group in problem.groups]
        self._tally = np.concatenate([*counts, np.zeros(0, dtype=np.int64)])
        ends = np.cumsum([len(one) for one in counts])
        self.counts = np.split(self._tally, ends)[: len(counts)]  # views: one copy keeps them all
        moved = self.place != problem.home
        self.moves = int(moved.sum())
        self.budgets = problem.budgets
        self.spent = self.budgets.size[:, moved].sum(axis=1)
        self.received = np.bincount(self.place[moved], minlength=hosts)
        self.excused = np.bincount(self.place[moved & problem.from_drain], minlength=hosts)

    def move(self, vm: int, target: int) -> None:
        """Put `vm` on `target`; whether that is legal is the caller's business."""
        problem, source = self.problem, int(self.place[vm])
        for host, sign in ((source, -1), (target, 1)):
            self.load[:, host] += sign * problem.weight[:, vm]
            if host != problem.home[vm]:
                self.received[host] += sign
                self.excused[host] += sign * int(problem.from_drain[vm])
                self.moves += sign
                if self.budgets:
                    self.spent += sign * self.budgets.size[:, vm]
        for index in problem.groups_about(vm):
            group = problem.groups[index]
            domain, size = group.domain, group.count(vm) if group.is_fact else 1
            if domain[source] >= 0:
                self.counts[index][domain[source]] -= size
            if domain[target] >= 0:
                self.counts[index][domain[target]] += size
        self.place[vm] = target

    def kept(self) -> Kept:
        """Return what is needed to come back to this moment."""
        return Kept(
            self.place.copy(),
            self.load.copy(),
            self._tally.copy(),
            self.received.copy(),
            self.excused.copy(),
            self.spent.copy(),
            self.moves,
        )

    def restore(self, kept: Kept) -> None:
        """Go back to a moment."""
        self.place[...], self.load[...] = kept.place, kept.load
        self._tally[...] = kept.tally
        self.received[...], self.excused[...] = kept.received, kept.excused
        self.spent[...], self.moves = kept.spent, kept.moves

    def affords(self, vms: Ints) -> Bools:
        """Return which of the (n,) VMs budgets let move, each by itself; the cap on moves aside."""
        leaves = self.place[vms] == self.problem.home[vms]
        after = self.spent[:, None] + self.budgets.size[:, vms] * leaves
        return np.asarray((after <= self.budgets.most[:, None]).all(axis=0))

    def affords_all(self, vms: Ints | list[int]) -> bool:
        """Tell whether cap and budgets let all of these VMs, which are at home, move at once."""
        if self.moves + len(vms) > self.problem.cap:
            return False
        after = self.spent + self.budgets.size[:, vms].sum(axis=1)
        return bool((after <= self.budgets.most).all())

    def may_move(self, vm: int) -> bool:
        """Tell whether cap and budgets let one VM go where it is not at home."""
        return self.place[vm] != self.problem.home[vm] or self.affords_all([vm])

    def within(self) -> bool:
        """Tell whether cap and budgets are kept."""
        return self.moves <= self.problem.cap and bool((self.spent <= self.budgets.most).all())

    def used(self) -> Floats:
        """Return the (2, H) utilisations."""
        scaled: Floats = self.load * self.problem.scale
        return scaled

    def overload(self) -> float:
        """Return by how much hosts in play are above their thresholds, summed up."""
        return overload(self.problem, self.used())

    def rule_change(self, vm: int, *, crowds: bool = True) -> RuleChange:
        """Return what moving `vm` to each host would do to the counts of broken rules.

        Args:
            vm: The VM.
            crowds: With those that every VM is in; who looks at `vacancies` can do without.
        """
        problem, source = self.problem, int(self.place[vm])
        hosts = len(problem.hosts)
        hard = np.zeros(hosts, dtype=np.int64)
        legal = problem.allowed[vm].copy()
        home = int(problem.home[vm])
        if problem.astray[vm]:
            if source == home:
                hard -= problem.astray[vm]
                hard[home] = 0
            else:
                hard[home] = problem.astray[vm]
        resort = np.zeros(hosts, dtype=np.int64)
        if problem.reluctant[vm]:
            resort += int(source == home)
            resort[home] = -int(source != home)
        row = problem.soft[problem.soft_row[vm]]
        soft = row - row[source]
        for index in problem.groups_about(vm) if crowds else problem.groups_of_vm.get(vm, ()):
            group = problem.groups[index]
            change, stays = group.change(vm, self.counts[index], source)
            legal &= stays
            if group.hard:
                hard = hard + change
            else:
                soft = soft + change
        legal[source] = False
        return RuleChange(hard, resort, soft, legal)

    def vacancies(self, host: int) -> int:
        """Return how many more VMs `host` takes by the rules that count all VMs."""
        problem = self.problem
        rooms = (problem.groups[at].room(self.counts[at], host) for at in problem.crowds)
        return min(rooms, default=len(self.place))

    def ceiling(self) -> Floats:
        """Return the (2, H) utilisation up to which a host takes VMs without being overloaded."""
        share = self.problem.sleepers.ceiling if self.packed else self.problem.threshold
        top = np.broadcast_to(share, self.load.shape).copy()
        top[MEMORY] = np.minimum(top[MEMORY], 1.0)
        return top

    def fits(self, vm: int, *, even_overload: bool = False) -> Bools:
        """Return the (H,) hosts that hold `vm` on top of what is there.

        Args:
            vm: The VM.
            even_overload: Allow what only a VM off a draining host may do: fill a host past
                its threshold, up to its memory. Home always takes what the end may leave there.
        """
        problem = self.problem
        after = (self.load + problem.weight[:, [vm]]) * problem.scale
        top = self.ceiling() * (1 + ROUNDING)
        if even_overload and problem.from_drain[vm]:
            top = np.full_like(top, np.inf)
            top[MEMORY] = 1.0 + ROUNDING
        home = int(problem.home[vm])
        top[:, home] = self.home_ceilings(home)
        return np.asarray((after <= top).all(axis=0))

    def home_ceilings(self, hosts: int | Ints) -> Floats:
        """Return the (2,) utilisation up to which VMs may come back to a host; (2, k) of k."""
        top: Floats = self.problem.limit[:, hosts] * (1 + ROUNDING) + 1e-12
        full = np.where(self.received[hosts] > 0, 1.0 + ROUNDING, np.inf)
        top[MEMORY] = np.minimum(top[MEMORY], full)
        return top
