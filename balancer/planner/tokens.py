"""Tokens: what must be free before a migration may start, and who freed it.

A reachable state is any in which no migration has started before everything in its `after` was
completed. So a target's memory is safe in all of them exactly if each arrival holds tokens that
were free from the start, or that a departure named in its `after` gave back. Places under a
rule that holds during the moves, and turns of VMs that move one at a time, are handed out in the
same way.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from balancer.model.rule import Turn
from balancer.planner.problem import MEMORY, Problem
from balancer.policy.capacity import arriving_bytes, usable


@dataclass
class Purse:
    """What is left of one resource: free from the start, and given back by whom."""

    free: int
    given: list[list[int]] = field(default_factory=list)  # [migration, amount left]

    def total(self) -> int:
        """Return what can be taken now."""
        return self.free + sum(amount for _, amount in self.given)

    def take(self, amount: int) -> set[int]:
        """Take `amount`, free tokens first; return the migrations it now comes after.

        What one departure alone covers is taken from it, so that few orders are fixed.
        """
        own = min(self.free, amount)
        self.free -= own
        amount -= own
        owed: set[int] = set()
        for entry in sorted(self.given, key=lambda entry: entry[1] < amount):
            if not amount:
                break
            own = min(entry[1], amount)
            if own:
                entry[1] -= own
                amount -= own
                owed.add(entry[0])
        self.given = [entry for entry in self.given if entry[1]]
        return owed


class Bank:
    """All purses of a plan: memory of each host, places of each cap that holds during moves."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.purses: dict[Hashable, Purse] = {}
        held = [arriving_bytes(problem.cluster, host.name) for host in problem.hosts]
        for vm, home in zip(problem.vms, problem.home.tolist(), strict=True):
            if vm.is_load:
                held[home] += vm.memory_needed_bytes
        for at, host in enumerate(problem.hosts):
            room = int(usable(host, problem.policy).memory_bytes)
            self.purses[MEMORY, at] = Purse(max(room, held[at]) - held[at])
        self.capped = [
            index
            for index, group in enumerate(problem.groups)
            if group.hard and group.said.during and group.limit is not None
        ]
        self.rows_of: dict[int, list[int]] = {}
        for row, members in enumerate(problem.turns[Turn.ONE_AT_A_TIME]):
            self.purses["turn", row] = Purse(1)
            for member in members:
                self.rows_of.setdefault(member, []).append(row)
        for index in self.capped:
            group = problem.groups[index]
            for domain, count in enumerate(group.before.tolist()):
                self.purses["cap", index, domain] = Purse(max(0, (group.limit or 0) - count))

    def needs(self, vm: int, source: int, target: int) -> dict[Hashable, int]:
        """Return what `vm` must hold to start from `source` to `target`."""
        memory = self.problem.vms[vm].memory_needed_bytes
        return {(MEMORY, target): memory} | self._places(vm, target, source) | self._turns(vm)

    def gives(self, vm: int, source: int, target: int) -> dict[Hashable, int]:
        """Return what is given back when `vm` has left `source` for `target`."""
        memory = self.problem.vms[vm].memory_needed_bytes
        return {(MEMORY, source): memory} | self._places(vm, source, target) | self._turns(vm)

    def _turns(self, vm: int) -> dict[Hashable, int]:
        """Return the turns a VM takes to start and gives back at its end."""
        return {("turn", row): 1 for row in self.rows_of.get(vm, ())}

    def _places(self, vm: int, at: int, other: int) -> dict[Hashable, int]:
        found: dict[Hashable, int] = {}
        for index in self.problem.groups_about(vm):
            if index in self.capped:
                group = self.problem.groups[index]
                domain = group.domain
                if domain[at] >= 0 and domain[at] != domain[other]:
                    found["cap", index, int(domain[at])] = group.count(vm) if group.is_fact else 1
        return found

    def affords(self, needs: dict[Hashable, int]) -> bool:
        """Tell whether all of `needs` can be taken now."""
        return all(self.purses[key].total() >= amount for key, amount in needs.items())

    def take(self, needs: dict[Hashable, int]) -> set[int]:
        """Take all of `needs`; return the migrations to come after."""
        return set().union(*(self.purses[key].take(amount) for key, amount in needs.items()))

    def give(self, migration: int, gives: dict[Hashable, int]) -> None:
        """Give back what a completed migration has freed."""
        for key, amount in gives.items():
            if amount:
                self.purses[key].given.append([migration, amount])
