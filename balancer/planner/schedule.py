"""The order of the migrations: list scheduling on a simulated cluster.

Whatever may start is started, relief first, then longest first, as slots and tokens allow. The
clock is that of the shared formulas: set-up, copying at a max-min fair share, switch. Where
nothing runs and nothing can start, one VM steps over a third host; where that is impossible
too, the rest is reported as stuck and the caller plans with less.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from balancer.migration.forecast import SETUP_S, SWITCH_S
from balancer.migration.rates import share
from balancer.model.cluster import Transport
from balancer.model.rule import Turn
from balancer.planner.convoys import Convoys
from balancer.planner.problem import MEMORY, Problem
from balancer.planner.timing import Leg, Timing
from balancer.planner.tokens import Bank
from balancer.planner.watch import Watch, watch
from balancer.planner.work import Work

WATCHED_WAYS = 100  # stop-overs that are tried at a time where failures are to be rehearsed


@dataclass(frozen=True, slots=True)
class Timed:
    """A scheduled migration; `after` are indices into the schedule, which is in start order."""

    leg: Leg
    stopover: bool
    after: tuple[int, ...]
    start_s: float
    end_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The migrations in order of their start, and the VMs for which there was no way."""

    timed: tuple[Timed, ...]
    stuck: tuple[int, ...]
    unsafe: bool = False  # whether those are stuck because hosts may fail
    unseen: bool = False  # whether that could not be seen within the work

    @property
    def makespan_s(self) -> float:
        """Return when the last migration ends."""
        return max((one.end_s for one in self.timed), default=0.0)

    @property
    def bytes(self) -> int:
        """Return the memory copied in all."""
        return sum(one.bytes for one in self.timed)


@dataclass
class _Run:
    """A migration in flight."""

    number: int
    leg: Leg
    stopover: bool
    after: tuple[int, ...]
    start_s: float
    before_s: float = SETUP_S  # left of the set-up
    bytes_left: float = -1.0  # below zero until the copy has begun
    after_s: float = SWITCH_S  # left of the switch
    rate: float = 0.0
    bytes: int = 0

    def copying(self) -> bool:
        return self.before_s <= 0 and self.bytes_left > 0

    def next_s(self) -> float:
        """Return the seconds until its phase ends."""
        if self.before_s > 0:
            return self.before_s
        if self.bytes_left > 0:
            return self.bytes_left / self.rate
        return self.after_s


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A migration that has not started, in the order in which they are tried."""

    rank: int
    longest_first: float
    vm: int
    source: int
    target: int
    first: int = -1  # the stop-over before it


def schedule(
    timing: Timing,
    moves: Sequence[tuple[int, int, int]],
    settings: Mapping[int, Transport],
    urgent: Collection[int],
    work: Work,
    apart: Collection[frozenset[int]] = (),
) -> Schedule:
    """Order `moves`, (VM, source, target) each.

    Args:
        timing: Rates between the hosts.
        moves: One move a VM.
        settings: The transport setting of each host, by index.
        urgent: VMs whose move relieves, repairs or evacuates: they go first.
        work: What may be spent on seeing that hosts may fail meanwhile.
        apart: Pairs of VMs that may not be under way at once.
    """
    seen = _watch(timing.problem, moves, work)
    run = _Simulation(timing, settings, seen, apart)
    favoured = frozenset[int]().union(*timing.problem.turns[Turn.FIRST])
    for vm, source, target in moves:
        run.wait(vm, source, target, rank=2 * (vm not in urgent) + (vm not in favoured))
    while run.waiting or run.running:
        run.start_all()
        if run.running:
            run.advance()
        elif not run.step_over():
            break
    stuck = tuple(sorted(one.vm for one in run.waiting))
    unsafe = not run.refused.keys().isdisjoint(stuck)
    return Schedule(run.result(), stuck, unsafe, seen is not None and seen.spent)


def _watch(problem: Problem, moves: Sequence[tuple[int, int, int]], work: Work) -> Watch | None:
    place = problem.home.copy()
    for vm, _, target in moves:
        place[vm] = target
    return watch(problem, place, [(vm, target) for vm, _, target in moves], work)


@dataclass
class _Simulation:
    timing: Timing
    settings: Mapping[int, Transport]
    watch: Watch | None
    apart: Collection[frozenset[int]]
    now_s: float = 0.0
    started: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    running: list[_Run] = field(default_factory=list)
    done: list[Timed] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem: Problem = self.timing.problem
        self.bank = Bank(problem)
        caps = problem.caps
        self.slots = [caps.concurrent_per_host[host.name] for host in problem.hosts]
        self.cluster_slots = caps.concurrent_per_cluster or len(problem.vms)
        self.stepped: set[int] = set()
        self.completed: set[int] = set()
        self.refused: dict[int, set[int]] = {}  # VMs, and what was under way when they had to wait
        self.convoys = Convoys(problem, self.bank)
        self.last = frozenset[int]().union(*problem.turns[Turn.LAST])
        self.total = 0
        self.dirty = True  # whether something may start that could not before

    def wait(self, vm: int, source: int, target: int, *, rank: int, first: int = -1) -> None:
        """Add a migration to those that wait."""
        leg = Leg(vm, source, target, self.timing.effective(self.settings, source, target))
        longest = -self.timing.alone(leg).duration_s
        insort(self.waiting, _Waiting(rank, longest, vm, source, target, first))
        self.total += 1

    def start_all(self) -> None:
        """Start whatever may start, in order."""
        if not self.dirty:
            return
        self.dirty = False
        self.convoys.release(self.waiting)
        left: list[_Waiting] = []
        for one in self.waiting:
            if len(self.running) >= self.cluster_slots or not self._may_start(one):
                left.append(one)
            else:
                self._start(one, stopover=False)
        self.waiting = left

    def _may_start(self, one: _Waiting) -> bool:
        if self.slots[one.source] < 1 or self.slots[one.target] < 1:
            return False
        if one.first >= 0 and one.first not in self.completed:
            return False
        if one.vm in self.last and not self._is_last():
            return False
        if self.convoys.holds(one.vm):
            return one.vm in self.convoys.after
        needs = self.bank.needs(one.vm, one.source, one.target)
        return self.bank.affords(needs) and self._is_safe(one)

    def _is_safe(self, one: _Waiting) -> bool:
        """Tell whether hosts may fail while it is under way; else it waits for what is now."""
        beside = [run for run in self.running if frozenset((run.leg.vm, one.vm)) in self.apart]
        if not beside and (self.watch is None or self.watch.may_start(one.vm, one.target)):
            return True
        waits_for = {run.number for run in beside or self.running}
        self.refused.setdefault(one.vm, set()).update(waits_for)
        return False

    def _is_last(self) -> bool:
        """Tell whether all is done that does not have to be last."""
        under_way = (run.leg.vm for run in self.running)
        waiting = (one.vm for one in self.waiting)
        return self.last.issuperset([*under_way, *waiting])

    def _start(self, one: _Waiting, *, stopover: bool) -> int:
        if one.vm in self.convoys.after:
            after = set(self.convoys.after[one.vm])
        else:
            after = self.bank.take(self.bank.needs(one.vm, one.source, one.target))
        if one.first >= 0:
            after.add(one.first)
        after |= self.refused.get(one.vm, set()) & self.completed
        if one.vm in self.last:
            after |= {at for at, run in zip(self.numbers, self.done, strict=True)
                      if run.leg.vm not in self.last}  # fmt: skip
        transport = self.timing.effective(self.settings, one.source, one.target)
        leg = Leg(one.vm, one.source, one.target, transport)
        number = self.started
        self.started += 1
        self.running.append(_Run(number, leg, stopover, tuple(sorted(after)), self.now_s))
        self.slots[one.source] -= 1
        self.slots[one.target] -= 1
        if self.watch is not None:
            self.watch.start(one.vm, one.target)
        return number

    def advance(self) -> None:
        """Go to the next moment at which a phase of some migration ends."""
        step = min(run.next_s() for run in self.running)
        self.now_s += step
        changed: list[_Run] = []
        ended: list[_Run] = []
        for run in self.running:
            exact = run.next_s() <= step + 1e-9
            if run.before_s > 0:
                run.before_s = 0.0 if exact else run.before_s - step
                if exact:
                    run.bytes_left = 1.0
                    changed.append(run)
            elif run.bytes_left > 0:
                run.bytes_left = 0.0 if exact else run.bytes_left - run.rate * step
                if exact:
                    changed.append(run)
            else:
                run.after_s = 0.0 if exact else run.after_s - step
                if exact:
                    ended.append(run)
        for run in ended:
            self._end(run)
        if changed:
            self._share(changed)

    def _share(self, changed: Sequence[_Run]) -> None:
        """Share links and CPU anew among all that a change can reach through a shared resource."""
        flows = {
            run.number: self.timing.flow(run.leg.source, run.leg.target, run.leg.transport)
            for run in self.running
        }
        copying = {run.number: run for run in self.running if run.copying()}
        users: dict[Hashable, list[int]] = {}
        for number in copying:
            for key in flows[number].uses:
                users.setdefault(key, []).append(number)
        reached: set[int] = set()
        fringe = [run.number for run in changed]
        while fringe:
            number = fringe.pop()
            for key in flows[number].uses:
                for other in users.pop(key, ()):
                    if other not in reached:
                        reached.add(other)
                        fringe.append(other)
        order = sorted(reached)
        rates = share([flows[number] for number in order], self.timing.capacity)
        fresh = {run.number for run in changed}
        for number, rate in zip(order, rates, strict=True):
            run = copying[number]
            run.rate = max(rate, 1.0)
            if number in fresh:
                run.bytes = self.timing.forecast(run.leg.vm, run.rate).bytes
                run.bytes_left = float(max(1, run.bytes))

    def _end(self, run: _Run) -> None:
        leg = run.leg
        self.running.remove(run)
        self.completed.add(run.number)
        self.slots[leg.source] += 1
        self.slots[leg.target] += 1
        if self.watch is not None:
            self.watch.end(leg.vm, leg.target)
        self.bank.give(run.number, self.bank.gives(leg.vm, leg.source, leg.target))
        start, end = round(run.start_s, 3), round(self.now_s, 3)
        self.done.append(Timed(leg, run.stopover, run.after, start, end, max(1, run.bytes)))
        self.numbers.append(run.number)
        self.dirty = True

    def step_over(self) -> bool:
        """Send one waiting VM to a third host, so that another can move; tell whether it went."""
        problem = self.timing.problem
        if self.total >= problem.cap:
            return False
        memory = {one.vm: problem.vms[one.vm].memory_needed_bytes for one in self.waiting}
        choices = [
            one
            for one in self.waiting
            if one.first < 0
            and one.vm not in self.stepped | self.last
            and not self.convoys.holds(one.vm)
        ]
        choices.sort(key=lambda one: (not self._unblocks(one), memory[one.vm], one.vm))
        ways = ((one, host) for one in choices for host in self._third_hosts(one))
        in_doubt = self.watch is not None and self.watch.known
        for one, host in islice(ways, WATCHED_WAYS if in_doubt else None):
            trial = _Waiting(one.rank, 0.0, one.vm, one.source, host)
            if self._may_start(trial):
                self.waiting.remove(one)
                self.stepped.add(one.vm)
                number = self._start(trial, stopover=True)
                self.wait(one.vm, host, one.target, rank=one.rank, first=number)
                return True
        return False

    def _unblocks(self, one: _Waiting) -> bool:
        """Tell whether another VM could move once this one has left its host."""
        room = self.timing.problem.vms[one.vm].memory_needed_bytes
        room += self.bank.purses[MEMORY, one.source].total()
        return any(
            other.target == one.source
            and self.timing.problem.vms[other.vm].memory_needed_bytes <= room
            for other in self.waiting
        )

    def _third_hosts(self, one: _Waiting) -> list[int]:
        """Return hosts that the VM may step over, most room first."""
        problem = self.timing.problem
        able = problem.allowed[one.vm] & ~problem.draining & problem.connected[:, one.target]
        able[[one.source, one.target]] = False
        room = {
            host: self.bank.purses[MEMORY, host].total() for host in np.flatnonzero(able).tolist()
        }
        return sorted(room, key=lambda host: (-room[host], host))

    def result(self) -> tuple[Timed, ...]:
        """Return the migrations in the order they started."""
        by_number = sorted(zip(self.numbers, self.done, strict=True), key=lambda pair: pair[0])
        return tuple(timed for _, timed in by_number)
