"""One migration from its turn to its end: everything that is done about it, in one place.

The journal is written before the act it announces, so whatever happens in between, the next
start knows that it may have happened. What is asked for once is never asked for again until a
look has shown the VM at rest on its source, and, where the reply was lost, the source has taken
note of a newer number of ours: from then on it turns the lost request away, however late it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from balancer.errors import UnreachableError
from balancer.execute.context import Context
from balancer.execute.decide import Sight, astray_text, conclusion, meaning
from balancer.execute.failures import (
    PATIENCE,
    Reaction,
    failure_of,
    retry_delay_s,
    sentence,
)
from balancer.execute.machine import QUEUED_LIMIT_S, TABLE, Event, next_state
from balancer.execute.progress import MoveProgress, NewsKind
from balancer.gateway.port import MoveRefusedError, MoveRequest, ReplyLostError, Sighting
from balancer.gateway.pulse import Heartbeat
from balancer.model.cluster import Transport
from balancer.model.outcome import Cause, MigrationOutcome, MigrationState, Why
from balancer.model.plan import Migration
from balancer.store.history import Measurement
from balancer.store.journal import Change
from balancer.store.records import MoveRecord

# What a look showed is acted on for so long: a host that is slow to take a request, or a process
# that was stopped in between, must not have the rest begun on what was true minutes ago.
LOOK_AGE_MAX_S = 10.0

# A cancellation may get lost: it is asked for again while the migration is still seen moving.
CANCEL_AGAIN_S = 15.0


@dataclass(slots=True)
class Move:
    """A migration of this run, or one that an earlier executor left.

    Attributes:
        record: Its id in the journal.
        since_s: Monotonic second at which it entered `state`.
        asked_s: The same for its last request; None before the first.
        cancelled_s: The same for the last time its cancellation was asked for.
        queued_s: The same for the last look that showed it queued.
        not_before_s: No start before this second: back-off, or held by the judge.
        held_since_s: Since when it would have had its turn and was not let start.
        sight: What looks have shown since `sight_since_s`.
        heartbeat: The guest's before it began; None when it has none.
        doubt: The number with which a request was sent of which we do not know whether it still
            lies at the source; None when there is no such request.
    """

    record: int
    run: int
    migration: Migration
    clustered: bool
    transport: Transport
    expected_s: float
    since_s: float
    state: MigrationState = MigrationState.PLANNED
    asked_s: float | None = None
    cancelled_s: float | None = None
    queued_s: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    not_before_s: float = 0.0
    held_since_s: float | None = None
    sight: Sight | None = None
    sight_since_s: float = 0.0
    doubt: int | None = None
    percent: int = 0
    queued: bool = False
    code: int | None = None
    why: Why | None = None
    reason: str = ""
    blackout_s: float | None = None
    heartbeat: Heartbeat | None = None

    @property
    def id(self) -> str:
        """Return the migration's id in its plan."""
        return self.migration.id

    @property
    def label(self) -> str:
        """Return the move in words."""
        return f"{self.migration.name} from {self.migration.source} to {self.migration.target}"

    @property
    def outcome(self) -> MigrationOutcome:
        """Return how it ended, or where it stands."""
        migration = self.migration
        return MigrationOutcome(
            migration=migration.id,
            vm=migration.vm,
            name=migration.name,
            source=migration.source,
            target=migration.target,
            state=self.state,
            started_at=self.started_at,
            ended_at=self.ended_at,
            percent=self.percent,
            code=self.code,
            why=self.why,
            reason=self.reason,
            blackout_s=self.blackout_s,
        )

    def elapsed_s(self, now_s: float) -> float:
        """Return the seconds since it was asked for."""
        return 0.0 if self.asked_s is None else now_s - self.asked_s

    def progress(self, now_s: float) -> MoveProgress:
        """Return where it stands, for whoever watches."""
        migration = self.migration
        return MoveProgress(
            migration=migration.id,
            vm=migration.vm,
            name=migration.name,
            source=migration.source,
            target=migration.target,
            transport=self.transport,
            state=self.state,
            percent=self.percent,
            queued=self.queued,
            elapsed_s=self.elapsed_s(now_s),
            expected_s=self.expected_s,
            reason=self.reason,
            why=self.why,
        )


def adopted(record: MoveRecord, context: Context) -> Move:
    """Return a move that an earlier executor began, as the journal knows it.

    Its time limits run anew: while nobody looked nothing could be concluded, and how long that was
    only the wall clock knows, which may have been set meanwhile.
    """
    ago_s = max(0.0, (context.now - record.since).total_seconds())
    migration = Migration(
        id=record.migration,
        vm=record.vm,
        name=record.name,
        source=record.source,
        target=record.target,
        transport=record.transport,
        bytes=record.bytes,
        start_s=0.0,
        duration_s=record.expected_s,
        reason="left by an earlier run",
    )
    return Move(
        record=record.id,
        run=record.run,
        migration=migration,
        clustered=record.clustered,
        transport=record.transport,
        expected_s=record.expected_s,
        since_s=context.now_s,
        state=record.state,
        asked_s=context.now_s - ago_s,
        started_at=record.started_at,
        percent=record.percent,
        why=record.why,
        reason=record.reason,
        heartbeat=None if record.heartbeat is None else Heartbeat(record.heartbeat),
        doubt=context.lease.fence - 1,  # any earlier number
    )


class Mover:
    """Takes moves from state to state. `may_retry` is off for moves that only are adopted."""

    def __init__(self, context: Context, *, may_retry: bool = True) -> None:
        self._context = context
        self._may_retry = may_retry

    def begin(self, move: Move) -> None:
        """Announce the migration, then ask for it, once."""
        context, migration = self._context, move.migration
        move.attempts += 1
        move.asked_s, move.queued_s, move.started_at = context.now_s, None, context.now
        move.code, move.held_since_s, move.percent = None, None, 0
        move.doubt = context.lease.fence
        self._enter(move, Event.INTEND)
        if context.now_s - move.asked_s > LOOK_AGE_MAX_S:
            move.doubt = None
            text = "this process stood still just before it was asked for"
            self._not_sent(move, Cause(Why.INTERRUPTED, text))
            return
        request = MoveRequest(migration.vm, migration.source, migration.target, move.clustered)
        try:
            context.act(migration.source, lambda fence: context.gateway.start(request, fence))
        except MoveRefusedError as error:
            move.doubt = None
            self._ended_badly(move, Event.REFUSED, error.code, error.message)
        except UnreachableError as error:
            move.doubt = None
            self._not_sent(move, Cause(Why.HOST_UNREACHABLE, error.message))
        except ReplyLostError:
            self._enter(move, Event.LOST, Cause(Why.LOST, "the reply to the request was lost"))
            context.tell(NewsKind.LOST, move.id, f"{move.label}: {move.reason}; looking")
        else:
            move.doubt = None
            self._enter(move, Event.ACCEPTED)
            context.tell(NewsKind.STARTED, move.id, f"{move.label} by {move.transport.value}")

    def follow(self, move: Move, sighting: Sighting | None) -> None:
        """Take note of a look at a migration in flight, and conclude what can be concluded."""
        if self._context.is_late:
            return  # this process stood still meanwhile, or a host hung: the next look tells
        now_s = self._context.now_s
        if move.state is MigrationState.INTENDED:  # left so by a crash: perhaps it was asked for
            cause = Cause(Why.INTERRUPTED, "asked for or not when the executor ended")
            self._enter(move, Event.TIMEOUT, cause)
        sight = meaning(sighting, move.migration.source, move.migration.target)
        if sight is not move.sight:
            move.sight, move.sight_since_s = sight, now_s
        move.queued = sight is Sight.QUEUED
        if move.queued:
            move.queued_s = now_s
        if sight is Sight.MOVING and sighting is not None:
            move.percent = sighting.percent
        event = conclusion(move.state, sight, self._lasted_s(move, sight))
        if event is not None:
            self._conclude(move, event, sighting)
        elif self._is_overdue(move, now_s):
            self._overdue(move)
        elif move.state is MigrationState.CANCELLING and sight is Sight.MOVING:
            asked_s = move.cancelled_s
            if asked_s is None or now_s - asked_s >= CANCEL_AGAIN_S:
                self._ask_to_cancel(move)

    def _lasted_s(self, move: Move, sight: Sight) -> float:
        """Return how long a look's showing can be counted on.

        A VM at rest on its source is none while a lost request may still lie there.
        """
        context, since_s = self._context, move.sight_since_s
        if sight is Sight.STAYED and move.doubt is not None:
            away_s = context.turned_away_since_s(move.migration.source, move.doubt)
            if away_s is None:
                return 0.0
            since_s = max(since_s, away_s)
        return context.now_s - since_s

    def cancel(self, move: Move, why: Cause, event: Event = Event.CANCEL) -> None:
        """Announce the cancellation, then ask for it; only looking tells what came of it."""
        self._enter(move, event, why)
        self._ask_to_cancel(move)

    def _ask_to_cancel(self, move: Move) -> None:
        context, migration = self._context, move.migration
        if context.is_late:
            return  # it is announced: the next step asks
        move.cancelled_s = context.now_s
        try:
            context.act(
                migration.source,
                lambda fence: context.gateway.cancel(migration.vm, migration.source, fence),
            )
        except (MoveRefusedError, ReplyLostError, UnreachableError) as error:
            context.tell(NewsKind.NOTED, move.id, f"cancelling {move.label}: {error.message}")

    def skip(self, move: Move, why: Cause, event: Event = Event.SKIP) -> None:
        """End a migration that waits for its turn and will not have it."""
        self._enter(move, event, why)
        self._context.tell(NewsKind.SKIPPED, move.id, f"{move.label} was not started: {why}")

    def found_there(self, move: Move) -> None:
        """End a migration that waits for its turn and needs none any more."""
        text = "it is there already, moved by others"
        self._enter(move, Event.ARRIVED, note=text)
        self._context.tell(NewsKind.MOVED, move.id, f"{move.label}: {text}")

    def _conclude(self, move: Move, event: Event, sighting: Sighting | None) -> None:
        context = self._context
        match event:
            case Event.ACCEPTED:
                self._enter(move, event, note="it is seen moving")
            case Event.ARRIVED:
                move.percent = 100
                move.blackout_s = sighting.blackout_s if sighting else None
                self._enter(move, event)
                self._measure(move)
                context.tell(NewsKind.MOVED, move.id, f"{move.label}: done")
            case Event.STAYED if move.state is MigrationState.CANCELLING:
                self._enter(move, event, Cause(move.why or Why.INTERRUPTED, move.reason))
                context.tell(NewsKind.CANCELLED, move.id, f"{move.label}: {move.reason}")
            case Event.STAYED if move.state is MigrationState.UNKNOWN:
                self._came_to_nothing(move)
            case Event.STAYED:
                code = sighting.failure_code if sighting else None
                text = sighting.failure_text if sighting else ""
                self._ended_badly(move, event, code, text)
            case _:
                why = astray_text(sighting, move.migration.target)
                self._enter(move, event, Cause(Why.ASTRAY, why))
                context.tell(NewsKind.FAILED, move.id, f"{move.label}: {why}")
                context.stop(f"{move.migration.name} went astray: {why}")

    def _ended_badly(self, move: Move, event: Event, code: int | None, text: str) -> None:
        """A migration was refused, or failed with its VM at rest on the source."""
        why = sentence(code, text)
        delay_s = retry_delay_s(code, move.attempts)
        cause = Cause(Why.PLATFORM, why)
        if delay_s is not None and self._may_retry:
            self._try_later(move, delay_s, cause, code)
            return
        self._enter(move, event, cause, code)
        self._context.tell(NewsKind.FAILED, move.id, f"{move.label} failed: {why}")
        if failure_of(code).reaction is Reaction.STOP:
            self._context.stop(why)

    def _not_sent(self, move: Move, cause: Cause) -> None:
        """The request never left: nothing has happened, and nothing will."""
        patience = PATIENCE[Reaction.RETRY]
        if move.attempts <= patience.attempts:
            self._try_later(move, patience.delay_before(move.attempts), cause)
            return
        self._enter(move, Event.REFUSED, cause)
        self._context.tell(NewsKind.FAILED, move.id, f"{move.label} failed: {cause.text}")

    def _came_to_nothing(self, move: Move) -> None:
        """A lost request shows no trace for long enough: it can be asked for again."""
        why = Cause(Why.LOST, "the request was lost and nothing came of it")
        patience = PATIENCE[Reaction.RETRY]
        if self._may_retry and move.attempts <= patience.attempts:
            self._try_later(move, patience.delay_before(move.attempts), why)
            return
        self._enter(move, Event.STAYED, why)
        self._context.tell(NewsKind.FAILED, move.id, f"{move.label} failed: {why}")

    def _try_later(self, move: Move, delay_s: float, why: Cause, code: int | None = None) -> None:
        self._enter(move, Event.RETRY, why, code)
        move.not_before_s = self._context.now_s + delay_s
        text = f"{move.label} again in {delay_s:.0f} s: {why}"
        self._context.tell(NewsKind.RETRY, move.id, text)

    @staticmethod
    def _is_overdue(move: Move, now_s: float) -> bool:
        if move.queued:
            return now_s - move.since_s > QUEUED_LIMIT_S
        since_s = move.since_s
        if move.state is MigrationState.RUNNING and move.queued_s is not None:
            since_s = move.queued_s  # what it waited in the queue is not held against it
        return now_s - since_s > TABLE[move.state].limit_s(move.expected_s)

    def _overdue(self, move: Move) -> None:
        took_s = self._context.now_s - move.since_s
        if move.state is MigrationState.RUNNING:
            why = f"cancelled: not over after {took_s:.0f} s, {move.expected_s:.0f} s were expected"
            self.cancel(move, Cause(Why.LATE, why), Event.TIMEOUT)
            return
        why = f"still {move.state.value} after {took_s:.0f} s: look at both hosts"
        self._enter(move, Event.TIMEOUT, Cause(Why.LOST, why))
        self._context.tell(NewsKind.FAILED, move.id, f"{move.label}: {why}")
        self._context.stop(f"nobody can say what became of {move.migration.name}")

    def _enter(
        self,
        move: Move,
        event: Event,
        cause: Cause | None = None,
        code: int | None = None,
        *,
        note: str = "",
    ) -> None:
        """Write the transition to the journal; only then is it so."""
        word, text = (cause.why, cause.text) if cause is not None else (None, note)
        context = self._context
        after = next_state(move.state, event)
        context.store.journal.move(
            context.lease,
            move.run,
            move.record,
            Change(move.state.value, after.value, context.now, text, code, word),
            started_at=move.started_at,
            percent=move.percent,
            blackout_s=move.blackout_s,
            heartbeat=move.heartbeat,
        )
        move.state, move.since_s, move.code = after, context.now_s, code
        move.why, move.reason = word, text
        move.sight, move.queued = None, False
        move.ended_at = context.now if after.is_final else None

    def _measure(self, move: Move) -> None:
        """Remember how long it took; what was adopted was not watched from its start."""
        if move.asked_s is None or not self._may_retry:
            return
        context, migration = self._context, move.migration
        context.store.history.record_measurement(
            Measurement(
                cluster=context.lease.cluster,
                vm=migration.vm,
                source=migration.source,
                target=migration.target,
                transport=move.transport,
                at=context.now,
                duration_s=move.elapsed_s(context.now_s),
                expected_s=move.expected_s,
                bytes=migration.bytes,
                blackout_s=move.blackout_s,
            )
        )
