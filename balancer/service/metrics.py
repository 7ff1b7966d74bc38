"""Moves the metrics of `series`, by events alone.

Two caps stand behind the promise that the number of series is known: hosts beyond `HOSTS_MAX` a
cluster share the name `other`, and so do words that are in no list.

The dead man's switch is `balancer_last_cycle_timestamp_seconds`: it stands still when cycles do,
whatever else claims to be well. For a cluster that has not had a cycle yet it holds the second at
which we began to watch it, so that an alert also sees a first cycle that never comes. Alerts look
at its twin `balancer_last_turn_…`, which a cycle put off on purpose moves as well: a cluster that
may only be balanced at night is no alarm by day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import generate_latest

from balancer.model.cluster import Transport
from balancer.model.outcome import RunEnd, Why
from balancer.model.plan import Status
from balancer.service.events import Event, EventKind, Value
from balancer.service.series import Series

HOSTS_MAX = 256  # a failover cluster ends at 64 nodes; sets of stand-alone hosts may be larger
OTHER = "other"

TRANSPORTS = frozenset(each.value for each in Transport)
STATUSES = frozenset(each.value for each in Status)
ENDS = frozenset(each.value for each in RunEnd)
VERBS = frozenset(
    {"apply", "approve", "cancel", "drain", "freeze", "move", "reject", "resume", "rolling", "thaw"}
)
REQUEST_ENDS = frozenset({"done", "refused", "cancelled", "failed"})
REASONS = frozenset(each.value for each in Why) | frozenset(
    {
        "blackout",
        "budget",
        "cancelled",
        "cooldown",
        "expired",
        "frozen",
        "lease",
        "missed",
        "mode",
        "rejected",
        "start_delay",
        "unknown_hosts",
    }
)

ON_PURPOSE = frozenset({"blackout", "frozen", "window"})


class Metrics:
    """All metrics of one process; `hear` is the listener. Safe for use by several threads."""

    def __init__(self) -> None:
        self.series = Series()
        self._lock = threading.Lock()
        self._clusters: frozenset[str] = frozenset()
        self._hosts: dict[str, set[str]] = {}
        self._in_flight: dict[str, set[str]] = {}
        self._missed: dict[str, float] = {}
        self._handlers = self._table()

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.series.registry)

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        self.series.events.labels(event.kind.value).inc()
        handler = self._handlers.get(event.kind)
        # What a cluster still tells that is no longer configured would stand there for ever.
        if handler is not None and (not event.cluster or event.cluster in self._clusters):
            handler(event)

    def watch(self, pauses_s: Mapping[str, float], now_s: float) -> None:
        """Say which clusters there are; the series of others end.

        Args:
            pauses_s: For each cluster the longest pause that its schedule leaves between two
                cycles; zero where that is not known.
            now_s: Seconds since 1970.
        """
        series = self.series
        with self._lock:
            before, self._clusters = self._clusters, frozenset(pauses_s)
            for name in before - self._clusters:
                self._hosts.pop(name, None)
                self._in_flight.pop(name, None)
                for each in series.of_clusters:
                    each.remove_by_labels({"cluster": name})
        for name in sorted(self._clusters - before):
            series.last_cycle.labels(name).set(now_s)
            series.last_turn.labels(name).set(now_s)
            series.last_sample.labels(name).set(now_s)
            for gauge in (series.frozen, series.leading, series.approval_pending, series.in_flight):
                gauge.labels(name).set(0)
            self._begin_at_zero(name)
        for name, pause_s in pauses_s.items():
            series.pause.labels(name).set(pause_s)
        series.clusters.set(len(pauses_s))

    def listen_for(self, listeners: Iterable[str]) -> None:
        """Say who listens, so that what they miss is counted from zero."""
        for name in listeners:
            self.series.missed.labels(name)

    def _begin_at_zero(self, cluster: str) -> None:
        """Make the counters that alerts look at: a series that is born at one never rose to it."""
        series = self.series
        for metric, results in (
            (series.cycles, ("done", "failed")),
            (series.samples, ("done", "failed")),
            (series.migrations, ("done", "failed", "cancelled", "skipped")),
            (series.settings, ("written", "restored", "left")),
            (series.drains, ("done", "in_part", "failed")),
        ):
            for result in results:
                metric.labels(cluster, result)
        for plain in (series.stops, series.stalls, series.lost, series.retries, series.expected):
            plain.labels(cluster)

    def notified(self, sent: bool) -> None:  # noqa: FBT001 -- called back by position
        """Count a notification."""
        self.series.notifications.labels("sent" if sent else "failed").inc()

    def _table(self) -> Mapping[EventKind, Callable[[Event], None]]:
        kind, series = EventKind, self.series
        return {
            kind.DAEMON_READY: lambda _: series.ready.set(1),
            kind.DAEMON_STOPPING: lambda _: series.ready.set(0),
            kind.CONFIGURATION_RELOADED: lambda _: self._reloaded("done"),
            kind.CONFIGURATION_REFUSED: lambda _: self._reloaded("refused"),
            kind.LOOP_STUCK: lambda event: series.stalls.labels(event.cluster).inc(),
            kind.LISTENER_FAILED: self._listener_failed,
            kind.STORE_FAILED: lambda _: series.store_failures.inc(),
            kind.LEASE_TAKEN: lambda event: series.leading.labels(event.cluster).set(1),
            kind.LEASE_LOST: lambda event: series.leading.labels(event.cluster).set(0),
            kind.STANDING_BY: lambda event: series.leading.labels(event.cluster).set(0),
            kind.FROZEN: lambda event: series.frozen.labels(event.cluster).set(1),
            kind.THAWED: lambda event: series.frozen.labels(event.cluster).set(0),
            kind.SAMPLED: self._sampled,
            kind.SAMPLE_FAILED: lambda event: series.samples.labels(event.cluster, "failed").inc(),
            kind.HOST_LOST: lambda event: self._host(event, event.subject, answers=False),
            kind.HOST_BACK: lambda event: self._host(event, event.subject, answers=True),
            kind.STANDS: self._stands,
            kind.CYCLE_SKIPPED: self._cycle_skipped,
            kind.CYCLE_MISSED: lambda event: self._suppress(event, "missed"),
            kind.CYCLE_ENDED: lambda event: self._cycle_ended(event, "done"),
            kind.CYCLE_FAILED: lambda event: self._cycle_ended(event, "failed"),
            kind.PLANNED: self._planned,
            kind.APPROVAL_WANTED: lambda event: self._approval(event, pending=True),
            kind.PLAN_APPROVED: lambda event: self._approval(event, pending=False),
            kind.PLAN_REJECTED: lambda event: self._not_approved(event, "rejected"),
            kind.PLAN_EXPIRED: lambda event: self._not_approved(event, "expired"),
            kind.RUN_ENDED: self._run_ended,
            kind.RUN_STOPPED: lambda event: series.stops.labels(event.cluster).inc(),
            kind.MIGRATION_STARTED: lambda event: self._flies(event, flies=True),
            kind.MIGRATION_ADOPTED: lambda event: self._flies(event, flies=True),
            kind.MIGRATION_DONE: self._migration_done,
            kind.MIGRATION_FAILED: lambda event: self._migration_ended(event, "failed"),
            kind.MIGRATION_CANCELLED: lambda event: self._migration_ended(event, "cancelled"),
            kind.MIGRATION_SKIPPED: self._migration_skipped,
            kind.MIGRATION_RETRIED: self._migration_retried,
            kind.REPLY_LOST: lambda event: series.lost.labels(event.cluster).inc(),
            kind.SETTING_WRITTEN: lambda event: self._setting(event, "written"),
            kind.SETTING_RESTORED: lambda event: self._setting(event, "restored"),
            kind.SETTING_LEFT: lambda event: self._setting(event, "left"),
            kind.REQUEST_ENDED: self._request_ended,
            kind.DRAIN_ENDED: self._drain_ended,
            kind.DRAIN_FAILED: lambda event: series.drains.labels(event.cluster, "failed").inc(),
            kind.HOOK_RAN: lambda _: series.hooks.labels("done").inc(),
            kind.HOOK_FAILED: lambda _: series.hooks.labels("failed").inc(),
        }

    def _reloaded(self, result: str) -> None:
        self.series.reloads.labels(result).inc()
        self.series.configuration_good.set(result == "done")

    def _listener_failed(self, event: Event) -> None:
        missed = number(event, "failures") + number(event, "dropped")  # since the start
        with self._lock:
            before = self._missed.get(event.subject, 0.0)
            self._missed[event.subject] = max(before, missed)
        self.series.missed.labels(event.subject).inc(max(0.0, missed - before))

    def _sampled(self, event: Event) -> None:
        series, cluster = self.series, event.cluster
        series.samples.labels(cluster, "done").inc()
        series.last_sample.labels(cluster).set(event.at.timestamp())
        if (seconds := number(event, "seconds")) > 0:  # a cycle's own reading is not timed
            series.sample_seconds.labels(cluster).observe(seconds)
        series.hosts.labels(cluster).set(number(event, "hosts"))
        series.vms.labels(cluster).set(number(event, "vms"))
        series.unknown.labels(cluster).set(number(event, "unknown_hosts"))

    def _stands(self, event: Event) -> None:
        """Follow what others have found: our own last visit may be long ago."""
        series, cluster = self.series, event.cluster
        silent = set(filter(None, str(event.data.get("silent", "")).split(",")))
        series.unknown.labels(cluster).set(len(silent))
        series.frozen.labels(cluster).set(number(event, "frozen"))
        series.approval_pending.labels(cluster).set(number(event, "approval_pending"))
        series.unresolved.labels(cluster).set(number(event, "unresolved"))
        with self._lock:
            back = self._hosts.get(cluster, set()) - silent - {OTHER}
        for name in sorted(silent):
            self._host(event, name, answers=False)
        for name in sorted(back):
            self._host(event, name, answers=True)

    def _host(self, event: Event, host: str, *, answers: bool) -> None:
        with self._lock:
            known = self._hosts.setdefault(event.cluster, set())
            is_new = host not in known
            name = OTHER if is_new and len(known) >= HOSTS_MAX else host
            known.add(name)
        self.series.host_answers.labels(event.cluster, name).set(answers)

    def _cycle_ended(self, event: Event, result: str) -> None:
        series, cluster = self.series, event.cluster
        series.cycles.labels(cluster, result).inc()
        series.cycle_seconds.labels(cluster).observe(number(event, "seconds"))
        if result == "done":
            series.last_cycle.labels(cluster).set(event.at.timestamp())
            series.last_turn.labels(cluster).set(event.at.timestamp())

    def _cycle_skipped(self, event: Event) -> None:
        why = event.data.get("why")
        self._suppress(event, why)
        if why in ON_PURPOSE:
            self.series.last_turn.labels(event.cluster).set(event.at.timestamp())

    def _planned(self, event: Event) -> None:
        series, cluster = self.series, event.cluster
        series.plans.labels(cluster, bounded(event.data.get("status"), STATUSES)).inc()
        series.planned.labels(cluster).set(number(event, "migrations"))
        series.unresolved.labels(cluster).set(number(event, "unresolved"))
        series.may_sleep.labels(cluster).set(number(event, "may_sleep"))
        for moment in ("before", "after"):
            series.score.labels(cluster, moment).set(number(event, f"score_{moment}"))

    def _approval(self, event: Event, *, pending: bool) -> None:
        self.series.approval_pending.labels(event.cluster).set(pending)

    def _not_approved(self, event: Event, reason: str) -> None:
        self._approval(event, pending=False)
        self._suppress(event, reason)

    def _run_ended(self, event: Event) -> None:
        end = bounded(event.data.get("end"), ENDS)
        self.series.runs.labels(event.cluster, end).inc()

    def _flies(self, event: Event, *, flies: bool) -> None:
        with self._lock:
            ids = self._in_flight.setdefault(event.cluster, set())
            key = f"{event.plan}/{event.migration}"
            if flies:
                ids.add(key)
            else:
                ids.discard(key)
            self.series.in_flight.labels(event.cluster).set(len(ids))

    def _migration_done(self, event: Event) -> None:
        series, elapsed_s = self.series, number(event, "elapsed_s")
        transport = bounded(event.data.get("transport"), TRANSPORTS)
        series.migration_seconds.labels(event.cluster, transport).observe(elapsed_s)
        if (expected_s := number(event, "expected_s")) > 0:
            series.expected.labels(event.cluster).inc(expected_s)
            series.forecast.labels(event.cluster).observe(elapsed_s / expected_s)
        self._migration_ended(event, "done")

    def _migration_ended(self, event: Event, result: str) -> None:
        self.series.migrations.labels(event.cluster, result).inc()
        self._flies(event, flies=False)

    def _migration_skipped(self, event: Event) -> None:
        self._migration_ended(event, "skipped")
        self._suppress(event, event.data.get("why"))

    def _migration_retried(self, event: Event) -> None:
        self.series.retries.labels(event.cluster).inc()
        self._flies(event, flies=False)  # it waits, and is told again when it starts

    def _setting(self, event: Event, result: str) -> None:
        self.series.settings.labels(event.cluster, result).inc()

    def _request_ended(self, event: Event) -> None:
        verb = bounded(event.data.get("verb"), VERBS)
        state = bounded(event.data.get("state"), REQUEST_ENDS)
        self.series.requests.labels(verb, state).inc()

    def _drain_ended(self, event: Event) -> None:
        result = "in_part" if number(event, "left") else "done"
        self.series.drains.labels(event.cluster, result).inc()
        self.series.drain_seconds.labels(event.cluster).observe(number(event, "seconds"))

    def _suppress(self, event: Event, reason: Value) -> None:
        self.series.suppressed.labels(event.cluster, bounded(reason, REASONS)).inc()


def number(event: Event, key: str) -> float:
    """Return a number that an event carries; zero where it carries none."""
    value = event.data.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def bounded(value: Value, words: frozenset[str]) -> str:
    """Return a label's value: one of `words`, or `other`."""
    return value if isinstance(value, str) and value in words else OTHER
