"""The Prometheus metrics that there are: names, help, labels. `metrics` moves them.

Names follow Prometheus' rules: one prefix, base units, `_total` (which the library adds) for what
only grows. Labels are a cluster of the configuration, a host, or a word of a closed list; never a
VM, so that the number of series is known beforehand.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from balancer import __version__

SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
MIGRATION_SECONDS = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 3600)
# Measured over forecast: 1 is perfect; around it are the 15 and 30 % within which a forecast is
# good, and beyond what makes it a bad one.
FORECAST_RATIOS = (0.25, 0.5, 0.7, 0.85, 1, 1.15, 1.3, 2, 4)

# A `_created` beside every counter would be a quarter of all series, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

Kind = TypeVar("Kind", Counter, Gauge, Histogram)


class Series:
    """One registry and everything in it. `of_clusters` are those with a label `cluster`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.of_clusters: list[Counter | Gauge | Histogram] = []
        ProcessCollector(registry=self.registry)
        self._about_the_service()
        self._about_reading()
        self._about_cycles()
        self._about_migrations()
        self._about_maintenance()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._kept(Counter(f"balancer_{name}", text, labels, registry=self.registry), labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._kept(Gauge(f"balancer_{name}", text, labels, registry=self.registry), labels)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        made = Histogram(f"balancer_{name}", text, labels, buckets=buckets, registry=self.registry)
        return self._kept(made, labels)

    def _kept(self, made: Kind, labels: Sequence[str]) -> Kind:
        if "cluster" in labels:
            self.of_clusters.append(made)
        return made

    def _about_the_service(self) -> None:
        self.build = self._gauge("build_info", "What runs; always 1.", "version", "python")
        self.build.labels(__version__, platform.python_version()).set(1)
        self.ready = self._gauge("ready", "1 while the service serves.")
        self.clusters = self._gauge("clusters", "Configured clusters.")
        self.events = self._counter("events", "Things that happened, by kind.", "kind")
        self.reloads = self._counter("configuration_reloads", "Reloads.", "result")
        self.configuration_good = self._gauge(
            "configuration_good",
            "0 while a changed configuration was refused and the one before is in force.",
        )
        self.configuration_good.set(1)
        self.store_failures = self._counter("store_failures", "Reads and writes that failed.")
        self.stalls = self._counter("loop_stalls", "Loops without progress.", "cluster")
        self.missed = self._counter(
            "listener_missed_events",
            "Events that a listener failed at or had no room for.",
            "listener",
        )
        self.notifications = self._counter("notifications", "Messages, by outcome.", "result")
        for result in ("sent", "failed"):
            self.notifications.labels(result)  # a rate needs a zero to rise from

    def _about_reading(self) -> None:
        self.last_sample = self._gauge(
            "last_sample_timestamp_seconds",
            "When the cluster was last read; at first, since when it is watched.",
            "cluster",
        )
        self.samples = self._counter("samples", "Readings, by result.", "cluster", "result")
        self.sample_seconds = self._histogram(
            "sample_duration_seconds", "Time to read the whole cluster.", SECONDS, "cluster"
        )
        self.hosts = self._gauge("hosts", "Hosts.", "cluster")
        self.vms = self._gauge("vms", "VMs.", "cluster")
        self.unknown = self._gauge("unknown_hosts", "Hosts that did not answer.", "cluster")
        self.host_answers = self._gauge(
            "host_answers",
            "1 if the host answers; only of hosts that once did not.",
            "cluster",
            "host",
        )

    def _about_cycles(self) -> None:
        self.last_cycle = self._gauge(
            "last_cycle_timestamp_seconds",
            "When the last cycle was completed; at first, since when the cluster is watched.",
            "cluster",
        )
        self.last_turn = self._gauge(
            "last_turn_timestamp_seconds",
            "When a cycle was last completed, or put off on purpose (window, freeze).",
            "cluster",
        )
        self.pause = self._gauge(
            "cycle_pause_max_seconds",
            "Longest pause that the schedule leaves between two cycles; 0: not known.",
            "cluster",
        )
        self.cycles = self._counter("cycles", "Cycles, by result.", "cluster", "result")
        self.cycle_seconds = self._histogram(
            "cycle_duration_seconds", "Time from a cycle's start to its end.", SECONDS, "cluster"
        )
        self.leading = self._gauge("lease_held", "1 while we may act.", "cluster")
        self.frozen = self._gauge("frozen", "1 while nothing may be moved.", "cluster")
        self.plans = self._counter("plans", "Plans, by status.", "cluster", "status")
        self.planned = self._gauge("planned_migrations", "Migrations in the last plan.", "cluster")
        self.unresolved = self._gauge(
            "unresolved_problems", "What the last plan leaves wrong.", "cluster"
        )
        self.may_sleep = self._gauge(
            "hosts_may_sleep", "Hosts that the last plan leaves with nothing to do.", "cluster"
        )
        self.score = self._gauge(
            "plan_score",
            "Balance score of the cluster before and after the last plan; lower is better.",
            "cluster",
            "moment",
        )
        self.approval_pending = self._gauge(
            "approval_pending", "1 while a plan waits for approval.", "cluster"
        )

    def _about_migrations(self) -> None:
        self.migrations = self._counter(
            "migrations", "Migrations ended, by result.", "cluster", "result"
        )
        self.in_flight = self._gauge(
            "migrations_in_flight", "Migrations of ours under way.", "cluster"
        )
        self.migration_seconds = self._histogram(
            "migration_duration_seconds",
            "Time from the request to the arrival.",
            MIGRATION_SECONDS,
            "cluster",
            "transport",
        )
        self.expected = self._counter(
            "migration_expected_seconds", "Forecast for migrations that arrived.", "cluster"
        )
        self.forecast = self._histogram(
            "migration_forecast_ratio",
            "Error of the forecast: measured over forecast seconds; 1 is perfect.",
            FORECAST_RATIOS,
            "cluster",
        )
        self.retries = self._counter("migration_retries", "Further attempts.", "cluster")
        self.lost = self._counter("lost_replies", "Requests whose reply was lost.", "cluster")
        self.suppressed = self._counter(
            "suppressed_moves",
            "Moves or whole cycles that were due and did not begin, by reason.",
            "cluster",
            "reason",
        )
        self.runs = self._counter("runs", "Runs, by how they ended.", "cluster", "end")
        self.stops = self._counter("run_stops", "Runs stopped by an alarm.", "cluster")
        self.settings = self._counter(
            "host_settings", "Host settings written, restored or left.", "cluster", "result"
        )

    def _about_maintenance(self) -> None:
        self.requests = self._counter(
            "requests", "Commands that were asked for, by how they ended.", "verb", "state"
        )
        self.drains = self._counter("drains", "Drains, by result.", "cluster", "result")
        self.drain_seconds = self._histogram(
            "drain_duration_seconds", "Time to empty a host.", MIGRATION_SECONDS, "cluster"
        )
        self.hooks = self._counter("hooks", "Hooks run, by result.", "result")
