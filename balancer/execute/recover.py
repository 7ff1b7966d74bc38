"""After a crash, or a run cut short: what the journal left open is looked at and closed.

No migration is asked for again. One that was under way is waited for; one that perhaps was
asked for is looked for until it shows, or its source turns away what was asked for earlier and it
has had the time to; one that had not had its turn is over. A guest that has arrived has the time to
answer as it did before, and its run counts as any other for what comes next. Then hosts get their
settings back, and nodes that a drain was to resume are. Every later start tries what could not be
done yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from balancer.errors import RefusedError, UnreachableError
from balancer.execute.aside import note_end
from balancer.execute.breaker import count_failed, went_wrong
from balancer.execute.charge import Charge
from balancer.execute.context import Context
from balancer.execute.move import Move, Mover, adopted
from balancer.execute.progress import NewsKind, Progress, only_news
from balancer.execute.pulse import GRACE_S, Pulse
from balancer.execute.set_down import set_down
from balancer.execute.settings import owed_text, pay_back
from balancer.execute.undoing import undo_left
from balancer.gateway.port import Sighting
from balancer.model.outcome import Cause, MigrationState, RunEnd, Why
from balancer.store.records import RunRecord


def recover(charge: Charge) -> tuple[str, ...]:
    """Bring to an end what earlier runs on a cluster left open; return what was done, in words.

    Call it before reading the cluster for a plan: what is in flight is waited for. When
    interrupted it leaves the rest to the next start, which is as safe as a crash.

    Raises:
        RefusedError: A VM went astray, or nobody can say what became of one. All else is closed,
            and a later call does not tell it again: whoever starts next has been warned.
        LeaseLostError, FencedError: A newer executor has the cluster.
    """
    context = charge.context()
    recover_into(context, charge)
    if news := context.take_news():
        charge.on_progress(only_news(context.now, news))
    if context.alarm:
        raise RefusedError(
            f"an earlier run left this behind: {context.alarm}; nothing is moved for now",
            remedy="look at that VM, then start again: `balancer status` tells the run",
        )
    return tuple(context.notes)


def recover_into(context: Context, charge: Charge) -> None:
    """Do what `recover` does, with a run's own context."""
    set_down(context)
    mover, pulse = Mover(context, may_retry=False), Pulse(context)
    started_s = context.now_s
    moves = [adopted(record, context) for record in context.store.journal.open_moves(_of(context))]
    for move in _just_arrived(context):
        pulse.doubt(move)
    for move in moves:
        _adopt(move, mover, context)
    while (in_flight := [move for move in moves if not move.state.is_final]) or pulse.missing:
        if charge.interrupted():
            return
        context.renew()
        sightings = look(context, [*in_flight, *pulse.missing])
        context.begin_step()
        pulse.feel(sightings)
        for move in patient(in_flight, context):
            sighting = sightings.get(move.migration.vm)
            mover.follow(move, sighting)
            if move.state is MigrationState.DONE:
                pulse.arrived(move, sighting)
            if move.state.is_final:
                note_end(move, context)
                _note_end(move, context)
        charge.on_progress(_progress(context, moves, started_s))
        if pulse.missing or any(not move.state.is_final for move in moves):
            context.clock.sleep(charge.poll_s)
    _restore_settings(context)
    undo_left(context)
    for run in context.store.journal.open_runs(_of(context)):
        _close(run, context)


def _just_arrived(context: Context) -> Iterator[Move]:
    """Yield the moves whose guests were perhaps still looked at when their executor ended."""
    journal = context.store.journal
    for run in journal.open_runs(_of(context)):
        asked = [one for one in journal.moves(run.id) if one.heartbeat is not None]
        last = max((one.since for one in asked), default=run.started_at)
        for record in asked:
            is_new = record.since >= last - timedelta(seconds=GRACE_S)
            if is_new and record.state is MigrationState.DONE:
                yield adopted(record, context)


def _close(run: RunRecord, context: Context) -> None:
    """End a run of which nothing is left; it counts as if its own executor had ended it."""
    moves = context.store.journal.moves(run.id)
    ends = Counter(move.state.value for move in moves)
    counts = ", ".join(f"{count} {state}" for state, count in ends.items())
    text = f"plan {run.plan} was cut short; a later start brought it to an end: {counts}"
    context.store.journal.end_run(context.lease, run.id, RunEnd.IN_PART, context.now, text)
    context.notes.append(text)
    if not run.by_hand and (context.alarm or went_wrong(moves)):
        count_failed(context, run.plan)


def look(context: Context, moves: Sequence[Move]) -> Mapping[str, Sighting]:
    """Look at the VMs of these moves; nothing is seen while the cluster cannot be reached."""
    try:
        return context.gateway.look(sorted({move.migration.vm for move in moves}))
    except UnreachableError:
        return {}


def patient(moves: Sequence[Move], context: Context) -> list[Move]:
    """Return moves in an order by which a source that hangs is asked after those that answer."""
    return sorted(moves, key=lambda move: context.failed_s(move.migration.source))


def _of(context: Context) -> str:
    return context.lease.cluster


def _adopt(move: Move, mover: Mover, context: Context) -> None:
    if move.state is MigrationState.PLANNED:
        mover.skip(move, Cause(Why.INTERRUPTED, "its run ended before its turn"))
        return
    text = f"adopted: {move.label}, {move.state.value} when its executor ended"
    context.tell(NewsKind.ADOPTED, move.id, text, note=True)


def _note_end(move: Move, context: Context) -> None:
    why = f": {move.reason}" if move.reason else ""
    context.notes.append(f"adopted: {move.label} ended {move.state.value}{why}")


def _restore_settings(context: Context) -> None:
    """Restore the newest change of a host first: what it had found is what an older one set."""
    owed: set[str] = set()
    for record in reversed(context.store.journal.open_settings(_of(context))):
        context.renew()
        if record.host in owed or pay_back(record, record.state, context) is None:
            owed.add(record.host)
            context.tell(NewsKind.NOTED, record.host, owed_text(record), note=True)


def _progress(context: Context, moves: Sequence[Move], started_s: float) -> Progress:
    done = sum(move.state is MigrationState.DONE for move in moves)
    ended = sum(move.state.is_final for move in moves)
    return Progress(
        at=context.now,
        elapsed_s=context.now_s - started_s,
        total=len(moves),
        done=done,
        failed=ended - done,
        running=len(moves) - ended,
        waiting=0,
        eta_s=None,
        moves=tuple(move.progress(context.now_s) for move in moves),
        settings=(),
        news=context.take_news(),
    )
