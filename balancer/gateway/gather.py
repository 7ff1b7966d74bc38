"""How several hosts are called: one after another, or side by side under a watchdog.

A call never takes the program with it. Side by side, each call has a deadline measured from
outside: a host that keeps its connection alive forever, byte by byte, defeats every timeout of
the layers below, so its call is abandoned together with the thread it runs in. Until that
thread comes back the host is not called again: it costs one thread, not one for each sweep.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from balancer.clock import Clock, SystemClock
from balancer.errors import UnreachableError
from balancer.gateway.port import ReplyLostError

T = TypeVar("T")

Failure = UnreachableError | ReplyLostError
Calls = Mapping[str, Callable[[], T]]
Outcomes = Mapping[str, T | Failure]


class Gather(Protocol):
    """Calls hosts, each by one thread at a time. Any other exception than a failure is raised."""

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        """Return what each call returned, or how it failed, by host."""
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
    ended: bool = False
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


class InParallel:
    """Calls hosts side by side in daemon threads; safe to use from several threads."""

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
        self._at_work: dict[str, _Ticket[object]] = {}

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        """Return what each call returned, or how it failed, by host."""
        tickets = [_Ticket(host, call) for host, call in calls.items()]
        waiting = deque(tickets)
        pending = set(tickets)
        with self._changed:
            while pending:
                self._begin(waiting, pending)
                for ticket in [one for one in pending if one.ended or self._overdue(one)]:
                    pending.discard(ticket)
                if pending and not self._can_begin(waiting, pending):
                    self._changed.wait(self._patience_s(pending))
        outcomes: dict[str, T | Failure] = {}
        for ticket in tickets:
            outcomes[ticket.host] = ticket.outcome()
        return outcomes

    def _begin(self, waiting: deque[_Ticket[T]], pending: set[_Ticket[T]]) -> None:
        """Start what can be started; a host whose last call still hangs is not called."""
        for _ in range(len(waiting)):
            ticket = waiting.popleft()
            other = self._at_work.get(ticket.host)
            if other is not None and other.abandoned:
                ticket.failure = _still_hangs(ticket.host)
                ticket.ended = True
            elif other is not None or self._running(pending) >= self._threads:
                waiting.append(ticket)
            else:
                ticket.started_s = self._clock.monotonic_s()
                self._at_work[ticket.host] = ticket  # type: ignore[assignment]
                name = f"host {ticket.host}"
                threading.Thread(target=self._work, args=(ticket,), name=name, daemon=True).start()

    def _can_begin(self, waiting: deque[_Ticket[T]], pending: set[_Ticket[T]]) -> bool:
        free = self._running(pending) < self._threads
        return free and any(
            ticket.host not in self._at_work or self._at_work[ticket.host].abandoned
            for ticket in waiting
        )

    @staticmethod
    def _running(pending: set[_Ticket[T]]) -> int:
        return sum(ticket.started_s is not None for ticket in pending)

    def _overdue(self, ticket: _Ticket[T]) -> bool:
        if ticket.started_s is None:
            return False
        if self._clock.monotonic_s() - ticket.started_s < self._deadline_s:
            return False
        ticket.abandoned = True
        ticket.failure = _took_too_long(ticket.host, self._deadline_s)
        self._changed.notify_all()  # another caller may be waiting for this host
        return True

    def _patience_s(self, pending: set[_Ticket[T]]) -> float:
        """Return how long nothing needs to be looked at unless somebody notifies."""
        now = self._clock.monotonic_s()
        left = [
            ticket.started_s + self._deadline_s - now
            for ticket in pending
            if ticket.started_s is not None
        ]
        return max(0.001, min(left, default=self._deadline_s))

    def _work(self, ticket: _Ticket[T]) -> None:
        result: list[T] | None = None
        failure: BaseException | None = None
        try:
            result = [ticket.call()]
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that asked
            failure = error
        with self._changed:
            if not ticket.abandoned:
                ticket.result, ticket.failure, ticket.ended = result, failure, True
            del self._at_work[ticket.host]
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
