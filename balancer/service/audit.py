"""Writes the audit log: which events are acts, who is behind them, and what came of them.

An act is what changes something or decides something; reading and planning are not. Who acted is
the person an event names, else the person whose request is being carried out on that cluster, else
this executor. What the store cannot take now is kept and written with the next line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from balancer.service.events import Event, EventKind
from balancer.service.redact import Secrets
from balancer.store.audit import AuditEntry
from balancer.store.leases import holder_name
from balancer.store.store import Store

KEPT_MAX = 10_000  # lines that wait for a store that cannot be written: a full disk for a night

_BEGUN, _DONE, _FAILED, _LEFT = "begun", "done", "failed", "left"
_REFUSED, _CANCELLED, _SKIPPED = "refused", "cancelled", "skipped"

ACTS: Mapping[EventKind, str] = {
    EventKind.DAEMON_STARTED: _BEGUN,
    EventKind.DAEMON_STOPPED: _DONE,
    EventKind.CONFIGURATION_RELOADED: _DONE,
    EventKind.CONFIGURATION_REFUSED: _REFUSED,
    EventKind.LEASE_TAKEN: _DONE,
    EventKind.LEASE_LOST: _FAILED,
    EventKind.FROZEN: _DONE,
    EventKind.THAWED: _DONE,
    EventKind.FELL_BACK: _FAILED,
    EventKind.ACTS_AGAIN: _DONE,
    EventKind.SET_ASIDE: _DONE,
    EventKind.HELD_BACK: _REFUSED,
    EventKind.HELD_NO_MORE: _DONE,
    EventKind.PLAN_APPROVED: _DONE,
    EventKind.PLAN_REJECTED: _DONE,
    EventKind.PLAN_EXPIRED: _REFUSED,
    EventKind.RUN_STARTED: _BEGUN,
    EventKind.RUN_ENDED: _DONE,
    EventKind.RUN_STOPPED: _FAILED,
    EventKind.RUN_INTERRUPTED: _CANCELLED,
    EventKind.MIGRATION_STARTED: _BEGUN,
    EventKind.MIGRATION_DONE: _DONE,
    EventKind.MIGRATION_FAILED: _FAILED,
    EventKind.MIGRATION_CANCELLED: _CANCELLED,
    EventKind.MIGRATION_SKIPPED: _SKIPPED,
    EventKind.MIGRATION_RETRIED: _FAILED,
    EventKind.REPLY_LOST: _FAILED,
    EventKind.MIGRATION_ADOPTED: _BEGUN,
    EventKind.SETTING_WRITTEN: _DONE,
    EventKind.SETTING_RESTORED: _DONE,
    EventKind.SETTING_LEFT: _LEFT,
    EventKind.REQUEST_TAKEN: _BEGUN,
    EventKind.REQUEST_ENDED: _DONE,
    EventKind.DRAIN_STARTED: _BEGUN,
    EventKind.DRAIN_ENDED: _DONE,
    EventKind.DRAIN_FAILED: _FAILED,
    EventKind.HOST_RESUMED: _DONE,
    EventKind.HOOK_RAN: _DONE,
    EventKind.HOOK_FAILED: _FAILED,
}

# How a thing ended says more than that it ended, where the event tells.
_ENDS = ("end", "state")
_PEOPLE = ("by", "asked_by")
_WHY = ("why", "reason")


class AuditLog:
    """Turns events into lines of the audit log; `hear` is the listener, and may block."""

    def __init__(self, store: Store, secrets: Secrets | None = None) -> None:
        """Write to `store`, without these secrets: no line can be taken back."""
        self._store = store
        self._secrets = Secrets() if secrets is None else secrets
        self._executor = holder_name()
        self._lock = threading.Lock()
        self._asked_by: dict[str, str] = {}
        self._waiting: deque[AuditEntry] = deque(maxlen=KEPT_MAX)

    def hear(self, event: Event) -> None:
        """Write an event down if it is an act.

        Raises:
            StoreError: The store does not take it now; it is kept for the next time.
        """
        if event.kind not in ACTS:
            return
        with self._lock:
            self._waiting.append(self._entry(event))
            self._store.audit.append(tuple(self._waiting))
            self._waiting.clear()

    def _entry(self, event: Event) -> AuditEntry:
        named = _first(event, _PEOPLE)
        if event.kind is EventKind.REQUEST_TAKEN and named:
            self._asked_by[event.cluster] = named
        who = named or self._asked_by.get(event.cluster) or self._executor
        if event.kind is EventKind.REQUEST_ENDED:
            self._asked_by.pop(event.cluster, None)
        return AuditEntry(
            at=event.at,
            cluster=event.cluster,
            who=who,
            what=event.kind.value,
            subject=event.subject,
            why=self._secrets.hide(_first(event, _WHY)),
            outcome=_first(event, _ENDS) or ACTS[event.kind],
            text=self._secrets.hide(event.text),
            cycle=event.cycle,
            plan=event.plan,
            migration=event.migration,
        )


def _first(event: Event, keys: tuple[str, ...]) -> str:
    """Return the first of these that the event carries as text; empty where it carries none."""
    found = (event.data.get(key) for key in keys)
    return next((value for value in found if isinstance(value, str) and value), "")
