"""The room for failures while a plan is carried out, migration by migration.

A VM in flight holds memory on both of its hosts. It restarts if its source fails, which breaks its
migration off, and stays where it is if its target does. No instant may lose more than the worse
of both ends of the plan does.

Only failures that may lose something at some instant are looked at, and of these only what an
instant has changed is rehearsed anew: one VM comes or goes, and what is free on one host with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from balancer.model.plan import Lost
from balancer.planner.drill import REHEARSAL_UNITS, Loss
from balancer.planner.problem import Ints, Problem
from balancer.planner.rehearsal import Rehearsal, State
from balancer.planner.score import lost
from balancer.planner.work import Work

RENEW_UNITS = 3.0  # of work, to see that a failure need not be rehearsed
LOOK_UNITS, LOOK_UNITS_VM, LOOK_UNITS_SET = 1000.0, 0.2, 7.0  # to find which are in doubt
SCREENED_FROM = 6  # failures that take longer to rehearse than to see at a glance how they end

Failed = tuple[int, ...]


@dataclass
class Watch:
    """What is lost at the present instant of a plan, and what may be.

    Attributes:
        most: What no instant may lose more than.
        moves: VMs and hosts that they go to, sooner or later.
        work: The budget. Once it is used up nothing more may start.
        known: What happens after each failure in doubt at this instant.
        spent: Whether the budget was used up, so that the rest was not seen.
    """

    problem: Problem
    most: Lost
    moves: list[tuple[int, int]]
    work: Work
    place: Ints = field(init=False)
    flying: list[tuple[int, int]] = field(default_factory=list)
    known: dict[Failed, Rehearsal] = field(default_factory=dict)
    spent: bool = False
    _refused: set[tuple[int, int]] = field(default_factory=set)  # since something last arrived
    _begun: tuple[tuple[int, int], dict[Failed, Rehearsal]] | None = None  # seen, not yet so
    _trial: bool = False  # whether it is only to be seen if something may start
    _culprit: Failed | None = None  # the failure that stood against a start last

    def __post_init__(self) -> None:
        self.place = self.problem.home.copy()
        self._look()

    def _look(self) -> None:
        """Find the failures that may lose something at some instant: no others have to be seen."""
        drill = self.problem.drill
        self._charge_look()
        in_doubt = drill.in_doubt(self.problem.home, self.moves)
        self._rehearse([failed for failed in in_doubt if failed not in self.known])

    def _charge_look(self) -> None:
        sets = sum(map(len, self.problem.drill.sets))
        self.work.charge(LOOK_UNITS + LOOK_UNITS_VM * len(self.place) + LOOK_UNITS_SET * sets)

    def losses(self) -> Iterator[Loss]:
        """Yield what is lost at this instant."""
        for failed, found in self.known.items():
            yield from (Loss(failed, vm) for vm in found.lost)

    def is_safe(self) -> bool:
        """Tell whether no more is lost at this instant than may be."""
        return not self.spent and self.problem.drill.weigh(self.losses()) <= self.most

    def start(self, vm: int, target: int) -> None:
        """Let a VM be under way: it holds memory on its target, but for failures of its source."""
        self.flying.append((vm, target))
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == (vm, target):
            self.known = begun[1]
            return
        source = int(self.place[vm])
        self._renew(target, (one for one in self.known if source not in one))

    def end(self, vm: int, target: int) -> None:
        """Let a VM arrive."""
        self._begun = None
        self._arrive(vm, target)
        self._refused.clear()

    def _arrive(self, vm: int, target: int) -> None:
        source, counted = int(self.place[vm]), self.problem.drill.counted_in(vm)
        self.flying.remove((vm, target))
        self.place[vm] = target
        ends = [failed for failed in self.known if source in failed or target in failed]
        ruled = (failed for failed, found in self.known.items() if found.heeds(counted))
        anew = dict.fromkeys((*ends, *(ruled if counted else ())))
        self._rehearse(anew)
        self._renew(source, (failed for failed in self.known if failed not in anew))

    def may_start(self, vm: int, target: int) -> bool:
        """Tell whether no more is lost than may be with a VM under way, and once it is there.

        Who has to wait waits until something arrives: what starts meanwhile only takes room.
        """
        if self.spent or (vm, target) in self._refused:
            return False
        if (vm, target) in self.moves:
            return self._may_start(vm, target)
        # A stop-over: most are seen to be none before it is looked for what else they bring about.
        if not self._may_start(vm, target):
            return False
        self.moves.append((vm, target))
        self._look()
        return self._may_start(vm, target)

    def _may_start(self, vm: int, target: int) -> bool:
        if not self.known:
            return True
        source, known = int(self.place[vm]), self.known
        self.known, self._trial = known.copy(), True
        self.start(vm, target)
        begun = self.known.copy()
        safe = self.is_safe()
        if safe:
            self._arrive(vm, target)
            safe = self.is_safe()
            self.place[vm] = source
        else:
            self.flying.remove((vm, target))
        self.known, self._trial = known, False
        if safe:
            self._begun = (vm, target), begun
        else:
            self._refused.add((vm, target))
        return safe

    def _renew(self, host: int, among: Iterable[Failed]) -> None:
        """Rehearse what the memory that is free on a host has changed."""
        if not self.known or not self.problem.drill.up[host]:
            return
        free = int(self._free()[host])
        back = [(int(self.place[vm]), vm) for vm, target in self.flying if target == host]
        memory = self.problem.drill.memory
        self.work.charge(RENEW_UNITS * len(self.known))
        self._rehearse(
            [
                failed
                for failed in among
                if host not in failed
                and self.known[failed].would_differ(
                    host, free + sum(int(memory[vm]) for at, vm in back if at in failed)
                )
            ]
        )

    def _rehearse(self, failures: Iterable[Failed]) -> None:
        """Rehearse failures anew, as far as the budget goes; in a trial, till too much is lost."""
        drill, some = self.problem.drill, list(failures)
        if not some:
            return
        free = self._free()
        state = State(drill, self.place, free, drill.up, self.flying)
        self.known |= dict.fromkeys(some, Rehearsal(is_known=False))
        if len(some) > SCREENED_FROM:
            self._charge_look()
            if not self.work.spend(0):
                self.spent = True
                return
            doubtful = set(drill.screen.doubtful(self.place, free, drill.up))
            some = [failed for failed in some if failed in doubtful]
        for failed in sorted(some, key=lambda one: one != self._culprit):
            if self.spent or not self.work.spend(REHEARSAL_UNITS * len(failed)):
                self.spent = True
                return
            self.known[failed] = found = state.rehearsed(failed)
            if self._trial and found.lost and not self.is_safe():
                self._culprit = failed
                return

    def _free(self) -> Ints:
        return self.problem.drill.free(self.place, self.flying)


def watch(
    problem: Problem, place: Ints, moves: Sequence[tuple[int, int]], work: Work
) -> Watch | None:
    """Return what watches over the way to `place`; None where nobody asks, and in a drain.

    Args:
        problem: The task.
        place: The end.
        moves: VMs and hosts that they go to, stop-overs included.
        work: The budget.
    """
    if not problem.policy.reserve.for_failures or not moves:
        return None
    if problem.from_drain[place != problem.home].any():
        return None
    most = max(lost(problem, problem.home), lost(problem, place))
    return Watch(problem, most, list(moves), work)
