"""From what a run tells while it goes on to events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from balancer.clock import Clock
from balancer.execute.progress import MoveProgress, News, NewsKind, Progress
from balancer.model.outcome import MigrationState, RunReport
from balancer.model.plan import Plan
from balancer.service.events import Bus, Event, EventKind, Value
from balancer.store.known import Known

_KINDS = {
    NewsKind.STARTED: EventKind.MIGRATION_STARTED,
    NewsKind.MOVED: EventKind.MIGRATION_DONE,
    NewsKind.FAILED: EventKind.MIGRATION_FAILED,
    NewsKind.CANCELLED: EventKind.MIGRATION_CANCELLED,
    NewsKind.SKIPPED: EventKind.MIGRATION_SKIPPED,
    NewsKind.RETRY: EventKind.MIGRATION_RETRIED,
    NewsKind.LOST: EventKind.REPLY_LOST,
    NewsKind.ADOPTED: EventKind.MIGRATION_ADOPTED,
    NewsKind.SET_ASIDE: EventKind.SET_ASIDE,
    NewsKind.SET_DOWN: EventKind.DRAIN_FAILED,
    NewsKind.SETTING_WRITTEN: EventKind.SETTING_WRITTEN,
    NewsKind.SETTING_RESTORED: EventKind.SETTING_RESTORED,
    NewsKind.SETTING_LEFT: EventKind.SETTING_LEFT,
    NewsKind.STOPPED: EventKind.RUN_STOPPED,
    NewsKind.INTERRUPTED: EventKind.RUN_INTERRUPTED,
}


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells events of one cluster; `of` narrows it to a cycle or a plan."""

    bus: Bus
    clock: Clock
    cluster: str = ""
    cycle: str = ""
    plan: str = ""

    def of(self, *, cycle: str | None = None, plan: str | None = None) -> Teller:
        """Return a teller for a cycle, or for a plan in it."""
        return replace(
            self,
            cycle=self.cycle if cycle is None else cycle,
            plan=self.plan if plan is None else plan,
        )

    def __call__(
        self,
        kind: EventKind,
        text: str = "",
        *,
        subject: str = "",
        migration: str = "",
        data: Mapping[str, Value] | None = None,
    ) -> None:
        """Tell one event, now."""
        self.bus.tell(
            Event(
                at=self.clock.now(),
                kind=kind,
                cluster=self.cluster,
                cycle=self.cycle,
                plan=self.plan,
                migration=migration,
                subject=subject,
                text=text,
                data=data or {},
            )
        )

    def planned(self, plan: Plan) -> None:
        """Tell what a plan amounts to."""
        text = f"{plan.status.value}: {len(plan.migrations)} migrations"
        data: dict[str, Value] = {
            "status": plan.status.value,
            "migrations": len(plan.migrations),
            "bytes": sum(each.bytes for each in plan.migrations),
            "makespan_s": plan.makespan_s,
            "score_before": plan.score.before,
            "score_after": plan.score.after,
            "unresolved": len(plan.unresolved),
            "may_sleep": sum(host.may_sleep for host in plan.sleep),
        }
        self(EventKind.PLANNED, text, data=data)

    def progress(self, progress: Progress) -> None:
        """Tell the news of a run."""
        moves = {move.migration: move for move in progress.moves}
        for news in progress.news:
            self._news(news, moves.get(news.subject))

    def _news(self, news: News, move: MoveProgress | None) -> None:
        kind = _KINDS.get(news.kind, EventKind.NOTED)
        if move is None:
            self(kind, news.text, subject=news.subject)
            return
        data: dict[str, Value] = {
            "vm": move.vm,
            "source": move.source,
            "target": move.target,
            "transport": move.transport.value,
            "expected_s": move.expected_s,
            "elapsed_s": move.elapsed_s,
        }
        if move.why is not None:
            data["why"] = move.why.value
        self(kind, news.text, subject=move.name, migration=move.migration, data=data)

    def stands(self, known: Known) -> None:
        """Tell how a cluster stands, whoever has found that."""
        data: dict[str, Value] = {
            "silent": ",".join(known.silent),
            "frozen": bool(known.frozen),
            "approval_pending": bool(known.pending),
            "unresolved": known.unresolved,
        }
        self(EventKind.STANDS, "as the last visit has left it", data=data)

    def ended(self, report: RunReport) -> None:
        """Tell how a run ended."""
        counts = {
            state.value: sum(one.state is state for one in report.migrations)
            for state in (
                MigrationState.DONE,
                MigrationState.FAILED,
                MigrationState.CANCELLED,
                MigrationState.SKIPPED,
            )
        }
        seconds = (report.ended_at - report.started_at).total_seconds()
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        text = f"{report.end.value}: {told or 'nothing was moved'}"
        self(
            EventKind.RUN_ENDED, text, data={"end": report.end.value, "seconds": seconds, **counts}
        )
