"""Health for machines: `/healthz`, `/readyz` and `/metrics`.

`/healthz` fails when the process should be restarted: a loop makes no progress. `/readyz` fails
while it does not serve: it starts, stops, or the store cannot be written. A cluster that cannot be
reached fails neither, since no restart mends it: that is for the alerts on metrics. So is standing
by, the usual state of a second machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping

from balancer import __version__
from balancer.clock import Clock
from balancer.service.events import Event, EventKind
from balancer.service.metrics import Metrics
from balancer.service.web import Answer, WebServer

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

# What shows that a cluster's loop turns again.
_PROGRESS = frozenset(
    {
        EventKind.SAMPLED,
        EventKind.SAMPLE_FAILED,
        EventKind.CYCLE_STARTED,
        EventKind.CYCLE_SKIPPED,
        EventKind.CYCLE_ENDED,
        EventKind.CYCLE_FAILED,
        EventKind.STANDING_BY,
        EventKind.VISIT_ASKED,
        EventKind.VISIT_STARTED,
    }
)
# What cannot have happened without the store.
_WRITTEN = frozenset(
    {
        EventKind.SAMPLED,
        EventKind.LEASE_TAKEN,
        EventKind.CYCLE_ENDED,
        EventKind.VISIT_ASKED,
        EventKind.VISIT_STARTED,
    }
)


class Health:
    """Whether the service lives and serves, as its events tell; `hear` is the listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = "starting"
        self._stuck: set[str] = set()
        self._clusters: frozenset[str] = frozenset()
        self._store = ""

    def watch(self, clusters: Iterable[str]) -> None:
        """Say which clusters there are: whatever the loop of another does, it is on its way out."""
        with self._lock:
            self._clusters = frozenset(clusters)

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        with self._lock:
            match event.kind:
                case EventKind.DAEMON_READY:
                    self._state = "ready"
                case EventKind.DAEMON_STOPPING | EventKind.DAEMON_STOPPED:
                    self._state = "stopping"
                case EventKind.LOOP_STUCK:
                    self._stuck.add(event.cluster)
                case EventKind.STORE_FAILED:
                    self._store = event.text or "the store failed"
                case kind if kind in _PROGRESS:
                    self._stuck.discard(event.cluster)
            if event.kind in _WRITTEN:
                self._store = ""

    def alive(self) -> Answer:
        """Answer whether a restart is needed."""
        with self._lock:
            stuck = sorted(self._stuck & self._clusters)
        return _answer(not stuck, {"status": "stuck" if stuck else "alive", "stuck": stuck})

    def ready(self) -> Answer:
        """Answer whether the service does its work."""
        with self._lock:
            state, store = self._state, self._store
        good = state == "ready" and not store
        return _answer(good, {"status": "store failed" if store else state, "store": store})


def serve(host: str, port: int, health: Health, metrics: Metrics, clock: Clock) -> WebServer:
    """Serve health and metrics until the server is closed.

    Raises:
        InputError: The address cannot be listened on.
    """
    pages = {
        "/healthz": health.alive,
        "/readyz": health.ready,
        "/metrics": lambda: Answer(metrics.text(), content_type=PROMETHEUS),
    }
    return WebServer(host, port, pages, clock)


def _answer(good: bool, document: Mapping[str, object]) -> Answer:  # noqa: FBT001 -- reads well
    body = json.dumps({**document, "version": __version__}).encode() + b"\n"
    return Answer(body, 200 if good else 503, "application/json")
