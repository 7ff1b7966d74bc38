"""The journal: what we are about to do, written down before it is done.

Every write is one transaction that checks, inside itself, that the writer still is the newest
executor of the cluster and that the thing stands where the writer believes. So a stale executor
cannot announce an act, and two can never tell two stories about one migration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, update

from balancer.errors import InternalError
from balancer.model.outcome import MigrationState, RunEnd, Why
from balancer.model.plan import Migration
from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.records import JournalReader, SettingState, TransitionKind


@dataclass(frozen=True, slots=True)
class Entry:
    """A migration to be entered: the plan's, and what only the snapshot knows of it."""

    migration: Migration
    clustered: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One transition of a migration, a setting or a run, and why: `why` in a word of migrations."""

    before: str
    state: str
    at: datetime
    reason: str = ""
    code: int | None = None
    why: Why | None = None


_STEP = {
    table: update(table).where(
        table.c.id == bindparam("record"), table.c.state == bindparam("before_it")
    )
    for table in (tables.moves, tables.settings)
}
_APPEND = insert(tables.transitions)


class Journal(JournalReader):
    """Reads and writes the journal of every cluster in the store."""

    def begin_run(
        self,
        lease: Lease,
        plan: str,
        entries: Sequence[Entry],
        at: datetime,
        *,
        by_hand: bool = False,
    ) -> tuple[int, tuple[int, ...]]:
        """Enter a run and its migrations as planned; return its id and theirs, in order."""
        with self._writing() as connection:
            require_held(connection, lease)
            run = _inserted(
                connection,
                tables.runs,
                cluster=lease.cluster,
                plan=plan,
                holder=lease.holder,
                fence=lease.fence,
                started_at=at,
                by_hand=by_hand,
            )
            ids = tuple(
                _inserted(connection, tables.moves, **_row(lease, run, entry, at))
                for entry in entries
            )
            started = Change(before="", state="started", at=at)
            _append(connection, lease.fence, run, TransitionKind.RUN, run, started)
        return run, ids

    def move(
        self,
        lease: Lease,
        run: int,
        move: int,
        change: Change,
        *,
        started_at: datetime | None = None,
        percent: int | None = None,
        blackout_s: float | None = None,
        heartbeat: str | None = None,
    ) -> None:
        """Take a migration from one state to the next; what is None stays as it was.

        Raises:
            LeaseLostError: A newer executor has the cluster.
            InternalError: The migration does not stand where `change` begins.
        """
        more: dict[str, Any] = {"code": change.code, "why": change.why}
        if started_at is not None:
            more["started_at"] = started_at
        if percent is not None:
            more["percent"] = percent
        if blackout_s is not None:
            more["blackout_s"] = blackout_s
        if heartbeat is not None:
            more["heartbeat"] = heartbeat
        with self._writing() as connection:
            require_held(connection, lease)
            _step(connection, tables.moves, move, change, more)
            _append(connection, lease.fence, run, TransitionKind.MOVE, move, change)

    def intend_setting(
        self, lease: Lease, run: int, host: str, setting: str, values: tuple[str, str], at: datetime
    ) -> int:
        """Announce that a host setting goes from the first of `values` to the second."""
        before, ours = values
        with self._writing() as connection:
            require_held(connection, lease)
            record = _inserted(
                connection,
                tables.settings,
                run=run,
                cluster=lease.cluster,
                host=host,
                setting=setting,
                before=before,
                ours=ours,
                state=SettingState.PENDING.value,
                since=at,
                reason="",
            )
            change = Change(before="", state=SettingState.PENDING.value, at=at)
            _append(connection, lease.fence, run, TransitionKind.SETTING, record, change)
        return record

    def setting(self, lease: Lease, run: int, setting: int, change: Change) -> None:
        """Take a setting from one state to the next.

        Raises:
            LeaseLostError: A newer executor has the cluster.
            InternalError: The setting does not stand where `change` begins.
        """
        with self._writing() as connection:
            require_held(connection, lease)
            _step(connection, tables.settings, setting, change, {})
            _append(connection, lease.fence, run, TransitionKind.SETTING, setting, change)

    def end_run(self, lease: Lease, run: int, end: RunEnd, at: datetime, reason: str = "") -> None:
        """Close a run.

        Raises:
            LeaseLostError: A newer executor has the cluster, and closes it itself.
        """
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(
                update(tables.runs).where(tables.runs.c.id == run).values(ended_at=at, end=end)
            )
            change = Change(before="started", state=end.value, at=at, reason=reason)
            _append(connection, lease.fence, run, TransitionKind.RUN, run, change)

    def note(self, fence: int, run: int, at: datetime, text: str) -> None:
        """Add a sentence to a run; no act follows from it, so even a stale executor may."""
        with self._writing() as connection:
            change = Change(before="", state="note", at=at, reason=text)
            _append(connection, fence, run, TransitionKind.RUN, run, change)


def _row(lease: Lease, run: int, entry: Entry, at: datetime) -> dict[str, Any]:
    migration = entry.migration
    return {
        "run": run,
        "cluster": lease.cluster,
        "migration": migration.id,
        "vm": migration.vm,
        "name": migration.name,
        "source": migration.source,
        "target": migration.target,
        "transport": migration.transport.value,
        "clustered": entry.clustered,
        "bytes": migration.bytes,
        "expected_s": migration.duration_s,
        "state": MigrationState.PLANNED.value,
        "since": at,
        "percent": 0,
        "reason": "",
    }


def _inserted(connection: Connection, table: Table, **values: Any) -> int:
    key = connection.execute(insert(table), values).inserted_primary_key
    if key is None:
        raise InternalError(f"the database gave no id for a new row of {table.name}")
    return int(key[0])


def _step(
    connection: Connection, table: Table, record: int, change: Change, more: dict[str, Any]
) -> None:
    which = {"record": record, "before_it": change.before}
    values = {"state": change.state, "since": change.at, "reason": change.reason}
    changed = connection.execute(_STEP[table], {**which, **values, **more})
    if changed.rowcount != 1:
        raise InternalError(
            f"the journal does not have {table.name} {record} as {change.before}, "
            f"so it cannot become {change.state}"
        )


def _append(
    connection: Connection,
    fence: int,
    run: int,
    kind: TransitionKind,
    subject: int,
    change: Change,
) -> None:
    connection.execute(
        _APPEND,
        {
            "run": run,
            "at": change.at,
            "fence": fence,
            "kind": kind.value,
            "subject": subject,
            "before": change.before,
            "state": change.state,
            "code": change.code,
            "why": change.why,
            "reason": change.reason,
        },
    )
