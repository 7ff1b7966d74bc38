"""How several hosts are called: one after another, or side by side under a watchdog.

A call never takes the program with it. Side by side, each call has a deadline measured from
outside: a host that keeps its connection alive forever, byte by byte, defeats every timeout of
the layers below, so its call is abandoned together with the thread it runs in. Until that
thread comes back the host is not called again: it costs one thread, not one for each sweep.

Whoever waits for hosts may wait for minutes while several of them hang, and has something to keep
meanwhile: a lease, a watchdog. `while_waiting` names what that thread does every few seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from balancer.clock import Clock, SystemClock
from balancer.errors import UnreachableError
from balancer.gateway.port import ReplyLostError

T = TypeVar("T")

Failure = UnreachableError | ReplyLostError
Calls = Mapping[str, Callable[[], T]]
Outcomes = Mapping[str, T | Failure]

_AGAIN = "\0"  # in no host's name

BEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a thread does while it waits, and how often."""

    act: Callable[[], object]
    every_s: float


_beat: ContextVar[Beat | None] = ContextVar("beat", default=None)


@contextmanager
def while_waiting(act: Callable[[], object], every_s: float = BEAT_S) -> Iterator[None]:
    """Have `act` called every so often by this very thread while it waits for hosts, in the block.

    By this thread, so that it ends with it: one that is stuck elsewhere beats no more, and waiting
    itself is bounded by the deadlines of calls. `act` must be quick and call no host.
    """
    token = _beat.set(Beat(act, every_s))
    try:
        yield
    finally:
        _beat.reset(token)


def present_beat() -> Beat | None:
    """Return what this thread does while it waits, for whoever lets it wait."""
    return _beat.get()


def again(host: str) -> str:
    """Return the key for a second call to a host in one round; it begins after the first."""
    return host + _AGAIN


class Gather(Protocol):
    """Calls hosts, each by one thread at a time. Any other exception than a failure is raised.

    The key of a call is its host's name, or `again` of it.
    """

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        """Return what each call returned, or how it failed, by its key."""
        ...


def in_turn(calls: Calls[T]) -> Outcomes[T]:
    """Call one host after another in this thread: for hosts that answer in process."""
    outcomes: dict[str, T | Failure] = {}
    for host, call in calls.items():
        try:
            outcomes[host] = call()
        except (UnreachableError, ReplyLostError) as failure:
            outcomes[host] = failure
    return outcomes


@dataclass(eq=False, slots=True)
class _Ticket(Generic[T]):
    """One call on its way. Guarded by the lock of its `InParallel`."""

    host: str
    call: Callable[[], T]
    started_s: float | None = None
    abandoned: bool = False
    result: list[T] | None = None
    failure: BaseException | None = None

    def outcome(self) -> T | Failure:
        if self.result is not None:
            return self.result[0]
        if isinstance(self.failure, UnreachableError | ReplyLostError):
            return self.failure
        assert self.failure is not None  # noqa: S101 -- a call ends in one or the other
        raise self.failure


@dataclass(eq=False, slots=True)
class _Sweep(Generic[T]):
    """The calls of one caller that are not over. Guarded by the lock of its `InParallel`."""

    waiting: deque[_Ticket[T]]
    pending: set[_Ticket[T]]  # those waiting as well

    def running(self) -> int:
        return sum(ticket.started_s is not None for ticket in self.pending)


class InParallel:
    """Calls hosts side by side in daemon threads; safe to use from several threads.

    A thread that has ended one call begins the next by itself. The caller is not woken for
    that: to wake it takes the interpreter's lock away from all that parse an answer.
    """

    def __init__(self, threads: int, deadline_s: float, clock: Clock | None = None) -> None:
        """Describe how.

        Args:
            threads: The most calls at a time for one caller.
            deadline_s: For each call, from the moment its thread begins with it.
            clock: Measures the deadline; must be in step with real time.
        """
        self._threads = threads
        self._deadline_s = deadline_s
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._callers = 0
        self._at_work: dict[str, _Ticket[object]] = {}

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        """Return what each call returned, or how it failed, by its key."""
        tickets = [_Ticket(key.removesuffix(_AGAIN), call) for key, call in calls.items()]
        sweep = _Sweep(deque(tickets), set(tickets))
        with self._changed:
            self._callers += 1
            try:
                self._see_through(sweep)
            finally:
                self._callers -= 1
                sweep.waiting.clear()  # if we are interrupted, nothing more begins
        outcomes: dict[str, T | Failure] = {}
        for key, ticket in zip(calls, tickets, strict=True):
            outcomes[key] = ticket.outcome()
        return outcomes

    def _see_through(self, sweep: _Sweep[T]) -> None:
        beat = present_beat()
        while True:
            self._abandon_overdue(sweep)
            while (ticket := self._next(sweep)) is not None:
                threading.Thread(target=self._work, args=(sweep, ticket), daemon=True).start()
            if not sweep.pending:
                return
            self._wait(self._patience_s(sweep), beat)

    def _wait(self, patience_s: float, beat: Beat | None) -> None:
        """Wait until somebody notifies or patience is over, but for a beat at the longest."""
        if beat is None:
            self._changed.wait(patience_s)
        elif not self._changed.wait(min(patience_s, beat.every_s)):
            self._changed.release()  # whatever a beat does, calls go on ending
            try:
                beat.act()
            finally:
                self._changed.acquire()

    def _next(self, sweep: _Sweep[T]) -> _Ticket[T] | None:
        """Take a call that can begin; to a host whose last call still hangs, none ever does."""
        if sweep.running() >= self._threads:
            return None
        for ticket in list(sweep.waiting):
            other = self._at_work.get(ticket.host)
            if other is not None and not other.abandoned:
                continue
            sweep.waiting.remove(ticket)
            if other is None:
                ticket.started_s = self._clock.monotonic_s()
                self._at_work[ticket.host] = ticket  # type: ignore[assignment]
                return ticket
            ticket.failure = _still_hangs(ticket.host)
            sweep.pending.discard(ticket)
        return None

    def _abandon_overdue(self, sweep: _Sweep[T]) -> None:
        now = self._clock.monotonic_s()
        for ticket in list(sweep.pending):
            if ticket.started_s is None or now - ticket.started_s < self._deadline_s:
                continue
            ticket.abandoned = True
            ticket.failure = _took_too_long(ticket.host, self._deadline_s)
            sweep.pending.discard(ticket)
            self._changed.notify_all()  # another caller may be waiting for this host

    def _patience_s(self, sweep: _Sweep[T]) -> float:
        """Return how long nothing needs to be looked at unless somebody notifies."""
        now = self._clock.monotonic_s()
        left = [
            ticket.started_s + self._deadline_s - now
            for ticket in sweep.pending
            if ticket.started_s is not None
        ]
        return max(0.001, min(left, default=self._deadline_s))

    def _work(self, sweep: _Sweep[T], first: _Ticket[T]) -> None:
        ticket: _Ticket[T] | None = first
        while ticket is not None:
            threading.current_thread().name = f"host {ticket.host}"
            result: list[T] | None = None
            failure: BaseException | None = None
            try:
                result = [ticket.call()]
            except BaseException as error:  # noqa: BLE001 -- handed to the thread that asked
                failure = error
            with self._changed:
                if not ticket.abandoned:
                    ticket.result, ticket.failure = result, failure
                    sweep.pending.discard(ticket)
                del self._at_work[ticket.host]
                ticket = self._next(sweep)
                if not sweep.pending or self._callers > 1:  # others may wait for this host
                    self._changed.notify_all()


def _took_too_long(host: str, deadline_s: float) -> ReplyLostError:
    return ReplyLostError(
        f"{host} did not finish its answer within {deadline_s:g} s and was abandoned",
        remedy="look at the load of the host and at the network between; it is asked again "
        "once the present connection has ended",
    )


def _still_hangs(host: str) -> UnreachableError:
    return UnreachableError(
        f"{host} was not called: an earlier call to it still hangs",
        remedy="look at the load of the host and at the network between",
    )
