"""Carrying out a plan: what must hold before, the run itself, and what is said afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from balancer.errors import ExitCode
from balancer.execute.breaker import count_failed
from balancer.execute.charge import Charge
from balancer.execute.context import Context
from balancer.execute.decide import within_cap
from balancer.execute.eta import eta_s
from balancer.execute.gate import check_legal, check_plan, restricted
from balancer.execute.held import check_alone, check_health
from balancer.execute.machine import IN_FLIGHT
from balancer.execute.move import Move
from balancer.execute.progress import NewsKind, Progress
from balancer.execute.readings import Readings
from balancer.execute.recover import recover_into
from balancer.execute.run import Run
from balancer.execute.window import MayStart, in_window
from balancer.gateway.port import FencedError
from balancer.model.cluster import Cluster
from balancer.model.outcome import (
    Cause,
    MigrationOutcome,
    MigrationState,
    RunEnd,
    RunReport,
    Why,
)
from balancer.model.past import Past
from balancer.model.plan import Plan
from balancer.policy.capacity import caps_in_force
from balancer.policy.policy import Policy
from balancer.policy.stability import DAY_S
from balancer.store.journal import Entry
from balancer.store.leases import LeaseLostError

_ASKED = Cause(Why.INTERRUPTED, "asked to stop")

_EXIT_CODES = {
    RunEnd.DONE: ExitCode.DONE,
    RunEnd.REFUSED: ExitCode.ANSWER_IS_NO,
    RunEnd.IN_PART: ExitCode.EXECUTED_IN_PART,
    RunEnd.CANCELLED: ExitCode.INTERRUPTED,
}


def exit_code(end: RunEnd) -> ExitCode:
    """Return the process exit code that tells a script how a run ended."""
    return _EXIT_CODES[end]


def execute(
    plan: Plan,
    charge: Charge,
    *,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    by_hand: bool = False,
) -> RunReport:
    """Carry out `plan` on the cluster in our charge, after closing what was left open.

    Asked to stop, it begins nothing more, sees migrations in flight to their end (or cancels
    them), and restores host settings. The lease is renewed while it works, and not released.

    `max_migrations` is the command line's cap, of which the lowest wins; `may_start` replaces the
    policy's windows; `by_hand` says that a person asked for these very migrations, which others
    who act do not hold up then.

    Raises:
        InputError: The plan is for another cluster, has expired, or is out of date.
        RefusedError: It is not safe now: the judge says no, the cluster is not well, or somebody
            else acts on it whom the policy does not let us act beside.
        UnreachableError: The cluster cannot be read.
        HeldError: Another executor took the cluster before anything was begun.
        StoreError: The journal cannot be written. What is in flight is adopted at the next start.
    """
    policy, cluster, started_at = charge.policy, charge.lease.cluster, charge.clock.now()
    check_plan(plan, cluster, started_at)
    if may_start is None:
        may_start = in_window(policy.calendar, charge.store.history, cluster, started_at)
    context = charge.context(may_start)
    recover_into(context, charge)
    end, outcomes = RunEnd.CANCELLED, tuple(_left_out(plan, frozenset(), _ASKED))
    if not charge.interrupted():
        readings = Readings(charge.gateway, charge.clock)
        seen = readings.latest()
        check_health(seen)
        if not by_hand:
            check_alone(seen, policy)
        past = None if by_hand else _past(context, policy)
        kept = _allowed(plan, policy, context, seen.cluster, max_migrations, past)
        allowed = restricted(plan, kept)
        records = _entered(context, allowed, seen.cluster, by_hand=by_hand)
        stream = Run(context, allowed, policy, readings, *records, by_hand=by_hand)
        end = _carry_out(stream, context, charge, by_hand=by_hand)
        why = Cause(Why.CAP, f"{len(kept)} migrations are allowed in one run")
        outcomes = (*(move.outcome for move in stream.moves), *_left_out(plan, kept, why))
        if end is RunEnd.DONE and len(kept) < len(plan.migrations):
            end = RunEnd.IN_PART if kept else RunEnd.REFUSED
    return RunReport(
        cluster=plan.cluster,
        plan=plan.id,
        end=end,
        started_at=started_at,
        ended_at=context.now,
        migrations=outcomes,
        notes=tuple(context.notes),
    )


def _past(context: Context, policy: Policy) -> Past:
    """Return what has been moved lately, as far as cool-downs and the day's budget look back."""
    back = timedelta(seconds=max(DAY_S, policy.cooldown.longest_s))
    moves = context.store.lately.moves(context.lease.cluster, context.now - back)
    return Past(context.now, moves)


def _allowed(
    plan: Plan,
    policy: Policy,
    context: Context,
    cluster: Cluster,
    max_migrations: int | None,
    past: Past | None,
) -> frozenset[str]:
    """Return the migrations that may be carried out, once the plan has passed every gate."""
    check_plan(plan, cluster.name, context.now)
    kept = within_cap(plan, caps_in_force(cluster, policy, max_migrations).migrations)
    context.notes.extend(check_legal(cluster, policy, restricted(plan, kept), past))
    if left := len(plan.migrations) - len(kept):
        text = f"{left} migrations are left out: {len(kept)} are allowed in one run"
        context.tell(NewsKind.NOTED, plan.cluster, text, note=True)
    return kept


def _carry_out(run: Run, context: Context, charge: Charge, *, by_hand: bool) -> RunEnd:
    """Go on until every migration has ended and every setting is restored, or we are put out."""
    started_s = context.now_s
    try:
        while not run.is_over:
            run.step(charge.interrupted, charge.on_interrupt())
            charge.on_progress(_progress(context, run, started_s))
            if not run.is_over:
                context.clock.sleep(charge.poll_s)
        run.restore_settings(charge.interrupted, charge.poll_s)
        end = _end(run, context)
        why = context.alarm or ("asked to stop" if run.interrupted else "")
        context.store.journal.end_run(context.lease, run.id, end, context.now, why)
        if not by_hand:
            _count(run, context, end)
    except (FencedError, LeaseLostError) as error:
        context.let_go()
        end = RunEnd.IN_PART
        text = f"stopped at once, leaving migrations and settings to a newer executor: {error}"
        context.tell(NewsKind.STOPPED, run.plan.cluster, text, note=True)
        context.store.journal.note(context.lease.fence, run.id, context.now, text)
    charge.on_progress(_progress(context, run, started_s))
    return end


def _count(run: Run, context: Context, end: RunEnd) -> None:
    """Take note of a run for the circuit breaker across runs; a stop or a refusal says nothing."""
    if run.has_failed:
        count_failed(context, run.plan.id)
    elif end is RunEnd.DONE:
        context.store.breakers.close(context.lease.cluster)


def _entered(
    context: Context, plan: Plan, cluster: Cluster, *, by_hand: bool
) -> tuple[int, tuple[Move, ...]]:
    """Enter the run and its migrations in the journal; return its id, and them as moves."""
    vms = cluster.vm_by_id
    entries = [Entry(each, clustered=vms[each.vm].clustered) for each in plan.migrations]
    run, records = context.store.journal.begin_run(
        context.lease, plan.id, entries, context.now, by_hand=by_hand
    )
    moves = tuple(
        Move(
            record=record,
            run=run,
            migration=entry.migration,
            clustered=entry.clustered,
            transport=entry.migration.transport,
            expected_s=entry.migration.duration_s,
            since_s=context.now_s,
        )
        for entry, record in zip(entries, records, strict=True)
    )
    return run, moves


def _left_out(plan: Plan, kept: frozenset[str], why: Cause) -> Iterator[MigrationOutcome]:
    """Return the outcomes of the migrations that were never entered."""
    for migration in plan.migrations:
        if migration.id not in kept:
            yield MigrationOutcome(
                migration=migration.id,
                vm=migration.vm,
                name=migration.name,
                source=migration.source,
                target=migration.target,
                state=MigrationState.SKIPPED,
                why=why.why,
                reason=why.text,
            )


def _end(run: Run, context: Context) -> RunEnd:
    # All may have moved and one guest be worse for it: that is an alarm, no success to build on.
    if not context.alarm and all(move.state is MigrationState.DONE for move in run.moves):
        return RunEnd.DONE
    if run.interrupted:
        return RunEnd.CANCELLED
    if context.alarm or any(move.asked_s is not None for move in run.moves):
        return RunEnd.IN_PART
    return RunEnd.REFUSED


def _progress(context: Context, run: Run, started_s: float) -> Progress:
    now_s = context.now_s
    done = sum(move.state is MigrationState.DONE for move in run.moves)
    ended = sum(move.state.is_final for move in run.moves)
    running = sum(move.state in IN_FLIGHT for move in run.moves)
    return Progress(
        at=context.now,
        elapsed_s=now_s - started_s,
        total=len(run.moves),
        done=done,
        failed=ended - done,
        running=running,
        waiting=len(run.moves) - ended - running,
        eta_s=eta_s(run.moves, now_s - started_s, now_s),
        moves=tuple(move.progress(now_s) for move in run.moves),
        settings=tuple(setting.progress() for setting in run.settings),
        news=context.take_news(),
    )
