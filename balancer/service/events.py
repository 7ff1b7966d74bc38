"""Everything that happens is told once, as a value; log, audit, metrics and mail listen.

Whoever tells must never come to harm by it: a listener that raises is counted and left alone, and
one that may block (mail, a database) is served `aside`, by a thread of its own from a queue with an
end. What does not fit is dropped and counted; the journal in the store remains the record.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from balancer.errors import BalancerError

Value = str | int | float | bool | None

QUEUE_MAX = 10_000  # events that wait for one listener: some minutes of the busiest fleet
NOTHING: Mapping[str, Value] = MappingProxyType({})


class Weight(StrEnum):
    """How much an event matters to a person."""

    DETAIL = "detail"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """Everything that can be told; a closed list. In brackets the keys of `Event.data`.

    The daemon (no cluster):
    - `daemon_started`, `daemon_ready` [clusters], `daemon_stopping` [why], `daemon_stopped`
    - `configuration_reloaded` [added, removed, changed: numbers of clusters],
      `configuration_refused` (the old one stays in force; the text says why)
    - `loop_stuck` [since_s]: a cluster's loop makes no progress, so the watchdog will fire

    Who acts:
    - `lease_taken` [fence], `lease_lost`, `standing_by` [holder]
    - `visit_asked`, `visit_started` [fence]: what a fleet tells instead, each time
    - `job_retried`: a worker fell silent, and its cluster was given to the others
    - `frozen` [where: store|cluster, reason], `thawed`
    - `fell_back` [failed_runs], `acts_again`: whether too many runs in a row failed to go on
      unattended
    - `held_back` [why], `held_no_more`: whether cycles may carry plans out; told once a change

    Reading:
    - `sampled` [seconds, hosts, vms, unknown_hosts], `sample_failed`
    - `host_lost`, `host_back` (subject: the host; told once a change)
    - `stands` [silent, frozen, approval_pending, unresolved]: how a cluster was left by whoever
      visited it last; told by each worker when that changes, for what it shows itself. `silent`
      are names, with commas between

    A cycle:
    - `cycle_started` [trigger: schedule|request, late_s], `cycle_skipped` [why],
      `cycle_missed` [due_at]: nobody could begin it, and it is not made up for,
      `cycle_ended` [seconds, result], `cycle_failed` [seconds, exit_code]
    - `planned` [status, migrations, bytes, makespan_s, score_before, score_after, unresolved,
      may_sleep]
    - `approval_wanted` [migrations, expires_at], `plan_approved` [by], `plan_rejected` [by],
      `plan_expired`
    - `run_started` [migrations], `run_ended` [end, done, failed, cancelled, skipped, seconds]

    Migrations and settings (subject: the VM's name, or the host; migration: its id in the plan):
    - `migration_started` [vm, source, target, transport, expected_s]
    - `migration_done` [the same, and elapsed_s]
    - `migration_failed`, `migration_cancelled`, `migration_skipped` [vm, source, target, why]
    - `migration_retried`, `reply_lost`, `migration_adopted`
    - `set_aside` (subject: what failed and is left alone for a while; the text says until when)
    - `setting_written`, `setting_restored`, `setting_left`
    - `run_stopped` (nothing more is started; the text says why), `run_interrupted`, `noted`

    Requests and maintenance:
    - `request_taken` [request, verb, asked_by], `request_ended` [request, verb, state, exit_code]
    - `drain_started` [vms, eta_s], `drain_ended` [seconds, left], `drain_failed`, `host_resumed`
    - `hook_ran` [hook, seconds], `hook_failed` [hook, seconds, exit_code]
    - `store_failed`, `store_pruned` [samples: records of any kind]
    - `listener_failed` [listener, failures, dropped]
    """

    DAEMON_STARTED = "daemon_started"
    DAEMON_READY = "daemon_ready"
    DAEMON_STOPPING = "daemon_stopping"
    DAEMON_STOPPED = "daemon_stopped"
    CONFIGURATION_RELOADED = "configuration_reloaded"
    CONFIGURATION_REFUSED = "configuration_refused"
    LOOP_STUCK = "loop_stuck"
    LEASE_TAKEN = "lease_taken"
    LEASE_LOST = "lease_lost"
    STANDING_BY = "standing_by"
    VISIT_ASKED = "visit_asked"
    VISIT_STARTED = "visit_started"
    JOB_RETRIED = "job_retried"
    FROZEN = "frozen"
    THAWED = "thawed"
    FELL_BACK = "fell_back"
    ACTS_AGAIN = "acts_again"
    HELD_BACK = "held_back"
    HELD_NO_MORE = "held_no_more"
    SAMPLED = "sampled"
    SAMPLE_FAILED = "sample_failed"
    HOST_LOST = "host_lost"
    HOST_BACK = "host_back"
    STANDS = "stands"
    CYCLE_STARTED = "cycle_started"
    CYCLE_SKIPPED = "cycle_skipped"
    CYCLE_MISSED = "cycle_missed"
    CYCLE_ENDED = "cycle_ended"
    CYCLE_FAILED = "cycle_failed"
    PLANNED = "planned"
    APPROVAL_WANTED = "approval_wanted"
    PLAN_APPROVED = "plan_approved"
    PLAN_REJECTED = "plan_rejected"
    PLAN_EXPIRED = "plan_expired"
    RUN_STARTED = "run_started"
    RUN_ENDED = "run_ended"
    MIGRATION_STARTED = "migration_started"
    MIGRATION_DONE = "migration_done"
    MIGRATION_FAILED = "migration_failed"
    MIGRATION_CANCELLED = "migration_cancelled"
    MIGRATION_SKIPPED = "migration_skipped"
    MIGRATION_RETRIED = "migration_retried"
    REPLY_LOST = "reply_lost"
    MIGRATION_ADOPTED = "migration_adopted"
    SET_ASIDE = "set_aside"
    SETTING_WRITTEN = "setting_written"
    SETTING_RESTORED = "setting_restored"
    SETTING_LEFT = "setting_left"
    RUN_STOPPED = "run_stopped"
    RUN_INTERRUPTED = "run_interrupted"
    NOTED = "noted"
    REQUEST_TAKEN = "request_taken"
    REQUEST_ENDED = "request_ended"
    DRAIN_STARTED = "drain_started"
    DRAIN_ENDED = "drain_ended"
    DRAIN_FAILED = "drain_failed"
    HOST_RESUMED = "host_resumed"
    HOOK_RAN = "hook_ran"
    HOOK_FAILED = "hook_failed"
    STORE_FAILED = "store_failed"
    STORE_PRUNED = "store_pruned"
    LISTENER_FAILED = "listener_failed"


_ERRORS = frozenset(
    {
        EventKind.LOOP_STUCK,
        EventKind.FELL_BACK,
        EventKind.CYCLE_FAILED,
        EventKind.RUN_STOPPED,
        EventKind.DRAIN_FAILED,
        EventKind.STORE_FAILED,
    }
)
_WARNINGS = frozenset(
    {
        EventKind.CONFIGURATION_REFUSED,
        EventKind.LEASE_LOST,
        EventKind.HELD_BACK,
        EventKind.JOB_RETRIED,
        EventKind.SAMPLE_FAILED,
        EventKind.HOST_LOST,
        EventKind.CYCLE_MISSED,
        EventKind.PLAN_EXPIRED,
        EventKind.MIGRATION_FAILED,
        EventKind.SET_ASIDE,
        EventKind.REPLY_LOST,
        EventKind.SETTING_LEFT,
        EventKind.HOOK_FAILED,
        EventKind.LISTENER_FAILED,
    }
)
_DETAILS = frozenset(
    {
        EventKind.SAMPLED,
        EventKind.CYCLE_SKIPPED,
        EventKind.STORE_PRUNED,
        EventKind.VISIT_ASKED,
        EventKind.VISIT_STARTED,
        EventKind.STANDS,
    }
)


def weight_of(kind: EventKind) -> Weight:
    """Return how much events of this kind matter."""
    if kind in _ERRORS:
        return Weight.ERROR
    if kind in _WARNINGS:
        return Weight.WARNING
    return Weight.DETAIL if kind in _DETAILS else Weight.INFO


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: When, in UTC.
        cluster: Whose; empty for the daemon itself.
        cycle: Id of the cycle it belongs to, else empty.
        plan: Id of the plan, else empty.
        migration: Id of the migration in that plan, else empty.
        subject: What it is about: a VM's name, a host, a request, a file.
        text: One sentence for a person.
        data: Numbers and words for programs; the keys are listed with the kind.
    """

    at: datetime
    kind: EventKind
    cluster: str = ""
    cycle: str = ""
    plan: str = ""
    migration: str = ""
    subject: str = ""
    text: str = ""
    data: Mapping[str, Value] = field(default_factory=lambda: NOTHING)

    @property
    def weight(self) -> Weight:
        """Return how much it matters."""
        return weight_of(self.kind)


Listener = Callable[[Event], None]


@dataclass(slots=True)
class _Seat:
    """A listener, what went wrong with it, and its queue if it is served aside."""

    name: str
    listener: Listener
    waiting: queue.Queue[Event | None] | None = None
    thread: threading.Thread | None = None
    failures: int = 0
    dropped: int = 0
    told: int = 0  # failures and drops that the others know of
    last: str = ""

    @property
    def trouble(self) -> int:
        return self.failures + self.dropped

    def hear(self, event: Event) -> None:
        try:
            self.listener(event)
        except Exception as error:  # noqa: BLE001 -- a listener must not hurt whoever tells
            self.failures += 1
            self.last = str(error) if isinstance(error, BalancerError) else repr(error)

    def take(self, event: Event) -> None:
        if self.waiting is None:
            self.hear(event)
            return
        try:
            self.waiting.put_nowait(event)
        except queue.Full:
            self.dropped += 1
            self.last = f"{self.waiting.maxsize} events wait for it"

    def serve(self) -> None:
        """Hear events as they come, until told that there are no more."""
        if self.waiting is not None:
            while (event := self.waiting.get()) is not None:
                self.hear(event)


class Bus:
    """Passes each event to every listener, in order; safe for use by several threads."""

    def __init__(self) -> None:
        self._seats: tuple[_Seat, ...] = ()
        self._lock = threading.Lock()

    def subscribe(
        self, name: str, listener: Listener, *, aside: bool = False, queue_max: int = QUEUE_MAX
    ) -> None:
        """Have `listener` called with every event from now on.

        `aside` has a thread of its own call it: for what may block. Without, it is called by
        whoever tells, so it has to be quick.
        """
        seat = _Seat(name, listener)
        if aside:
            seat.waiting = queue.Queue(queue_max)
            seat.thread = threading.Thread(target=seat.serve, name=f"listener {name}", daemon=True)
            seat.thread.start()
        with self._lock:
            self._seats = (*self._seats, seat)

    def tell(self, event: Event) -> None:
        """Pass an event on; it never raises, and never waits for a listener that is aside."""
        for seat in self._seats:
            seat.take(event)
        for seat in self._seats:
            if seat.trouble > seat.told:
                self._tell_of(seat, event)

    def _tell_of(self, seat: _Seat, event: Event) -> None:
        """Tell the others about a listener in trouble: at its first failure and each doubling."""
        if seat.told and seat.trouble < 2 * seat.told:
            return
        seat.told = seat.trouble
        trouble = Event(
            at=event.at,
            kind=EventKind.LISTENER_FAILED,
            subject=seat.name,
            text=f"{seat.name} missed {seat.trouble} events: {seat.last}",
            data={"listener": seat.name, "failures": seat.failures, "dropped": seat.dropped},
        )
        for other in self._seats:
            if other is not seat:
                other.take(trouble)

    def close(self, timeout_s: float = 5.0) -> None:
        """Let listeners that are aside hear what they have not heard yet, each for so long."""
        with self._lock:
            seats, self._seats = self._seats, ()
        for seat in seats:
            if seat.waiting is not None and seat.thread is not None:
                try:
                    seat.waiting.put(None, timeout=timeout_s)
                except queue.Full:
                    continue  # it hangs, and its thread ends with the process
                seat.thread.join(timeout_s)
