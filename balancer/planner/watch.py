"""The room for failures while a plan is carried out, migration by migration.

A VM in flight holds memory on both of its hosts. It restarts if its source fails, which breaks its
migration off, and stays where it is if its target does. No instant may lose more than the worse
of both ends of the plan does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from balancer.model.plan import Lost
from balancer.planner.drill import Loss
from balancer.planner.problem import Ints, Problem
from balancer.planner.score import lost


@dataclass
class Watch:
    """What is lost at the present instant of a plan, and what may be.

    Attributes:
        most: What no instant may lose more than.
        moves: VMs and hosts that they go to, sooner or later.
    """

    problem: Problem
    most: Lost
    moves: list[tuple[int, int]]
    place: Ints = field(init=False)
    flying: list[tuple[int, int]] = field(default_factory=list)
    _refused: set[tuple[int, int]] = field(default_factory=set)  # since something last arrived

    def __post_init__(self) -> None:
        self.place = self.problem.home.copy()
        self._look()

    def _look(self) -> None:
        """Find the failures that may lose something at some instant: no others have to be seen."""
        self.in_doubt = self.problem.drill.in_doubt(self.problem.home, self.moves)

    def losses(self) -> list[Loss]:
        """Return what is lost at this instant."""
        drill = self.problem.drill
        return list(drill.losses(self.place, flying=self.flying, among=self.in_doubt))

    def is_safe(self) -> bool:
        """Tell whether no more is lost at this instant than may be."""
        return self.problem.drill.weigh(self.losses()) <= self.most

    def start(self, vm: int, target: int) -> None:
        """Let a VM be under way."""
        self.flying.append((vm, target))

    def end(self, vm: int, target: int) -> None:
        """Let a VM arrive."""
        self._arrive(vm, target)
        self._refused.clear()

    def _arrive(self, vm: int, target: int) -> None:
        self.flying.remove((vm, target))
        self.place[vm] = target

    def may_start(self, vm: int, target: int) -> bool:
        """Tell whether no more is lost than may be with a VM under way, and once it is there.

        Who has to wait waits until something arrives: what starts meanwhile only takes room.
        """
        if (vm, target) in self._refused:
            return False
        if (vm, target) not in self.moves:
            self.moves.append((vm, target))
            self._look()
        if not self.in_doubt:
            return True
        source = int(self.place[vm])
        self.start(vm, target)
        safe = self.is_safe()
        self._arrive(vm, target)
        safe = safe and self.is_safe()
        self.place[vm] = source
        if not safe:
            self._refused.add((vm, target))
        return safe


def watch(problem: Problem, place: Ints, moves: Sequence[tuple[int, int]]) -> Watch | None:
    """Return what watches over the way to `place`; None where nobody asks, and in a drain.

    Args:
        problem: The task.
        place: The end.
        moves: VMs and hosts that they go to, stop-overs included.
    """
    if not problem.policy.reserve.for_failures or not moves:
        return None
    if problem.from_drain[place != problem.home].any():
        return None
    most = max(lost(problem, problem.home), lost(problem, place))
    return Watch(problem, most, list(moves))
