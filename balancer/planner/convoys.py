"""Sets of VMs that move as one: what all of them need is set aside before any of them starts.

Then the first of them may start as soon as the last one may, and they come after the same
migrations of others: whatever the order, the set is never held up half-way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Protocol

from balancer.model.rule import Turn
from balancer.planner.problem import Problem
from balancer.planner.tokens import Bank


class Waits(Protocol):
    """A migration that has not started."""

    @property
    def vm(self) -> int:
        """Index of its VM."""

    @property
    def source(self) -> int:
        """Index of the host it leaves."""

    @property
    def target(self) -> int:
        """Index of the host it goes to."""


class Convoys:
    """The sets of one plan.

    Attributes:
        after: For each VM whose set may go, the migrations it comes after.
    """

    def __init__(self, problem: Problem, bank: Bank) -> None:
        self.bank = bank
        self.after: dict[int, frozenset[int]] = {}
        self.set_of = {vm: members for members in problem.turns[Turn.AS_ONE] for vm in members}

    def holds(self, vm: int) -> bool:
        """Tell whether `vm` moves with others or not at all."""
        return vm in self.set_of

    def release(self, waiting: Iterable[Waits]) -> None:
        """Set aside what sets need that can have all of it now."""
        sets: dict[frozenset[int], list[Waits]] = {}
        for one in waiting if self.set_of else ():
            if one.vm in self.set_of and one.vm not in self.after:
                sets.setdefault(self.set_of[one.vm], []).append(one)
        for legs in sets.values():
            needs: Counter[Hashable] = Counter()
            for leg in legs:
                needs.update(self.bank.needs(leg.vm, leg.source, leg.target))
            if self.bank.affords(needs):
                after = frozenset(self.bank.take(needs))
                self.after |= {leg.vm: after for leg in legs}
