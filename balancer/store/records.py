"""What the journal holds, as values, and every way of reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, bindparam, exists, or_, select

from balancer.errors import InputError
from balancer.model.cluster import Transport
from balancer.model.outcome import (
    FINAL,
    MigrationOutcome,
    MigrationState,
    RunEnd,
    RunReport,
    Why,
)
from balancer.store import tables
from balancer.store.part import Part


class SettingState(StrEnum):
    """Where a host setting that we change for a run stands."""

    PENDING = "pending"  # announced; perhaps written, only reading it tells
    WRITTEN = "written"  # holds our value, and is owed its old one
    RESTORED = "restored"
    LEFT = "left"  # not ours to restore: never written, or changed by somebody else


OPEN_SETTINGS = (SettingState.PENDING, SettingState.WRITTEN)


class TransitionKind(StrEnum):
    """What a line of the journal is about."""

    RUN = "run"
    MOVE = "move"
    SETTING = "setting"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One execution of a plan; `end` is None while it goes on, or if its executor died.

    `by_hand` says that a person asked for these very migrations.
    """

    id: int
    cluster: str
    plan: str
    holder: str
    fence: int
    started_at: datetime
    ended_at: datetime | None
    end: RunEnd | None
    by_hand: bool


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """One migration of a run.

    `since` is when it entered `state`, `heartbeat` the guest's before it was last asked for.
    """

    id: int
    run: int
    cluster: str
    migration: str
    vm: str
    name: str
    source: str
    target: str
    transport: Transport
    clustered: bool
    bytes: int
    expected_s: float
    state: MigrationState
    since: datetime
    started_at: datetime | None
    percent: int
    blackout_s: float | None
    code: int | None
    why: Why | None
    reason: str
    heartbeat: str | None

    @property
    def outcome(self) -> MigrationOutcome:
        """Return the record as the model's outcome."""
        return MigrationOutcome(
            migration=self.migration,
            vm=self.vm,
            name=self.name,
            source=self.source,
            target=self.target,
            state=self.state,
            started_at=self.started_at,
            ended_at=self.since if self.state.is_final else None,
            percent=self.percent,
            code=self.code,
            why=self.why,
            reason=self.reason,
            blackout_s=self.blackout_s,
        )


@dataclass(frozen=True, slots=True)
class SettingRecord:
    """A host setting changed for a run: what it was, and what we set."""

    id: int
    run: int
    cluster: str
    host: str
    setting: str
    before: str
    ours: str
    state: SettingState
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the journal: something went from one state to another, and why."""

    at: datetime
    run: int
    kind: TransitionKind
    subject: int
    before: str
    state: str
    fence: int
    code: int | None
    why: Why | None
    reason: str


def _run(row: Mapping[str, Any]) -> RunRecord:
    return RunRecord(**{**row, "end": None if row["end"] is None else RunEnd(row["end"])})


def _move(row: Mapping[str, Any]) -> MoveRecord:
    typed = {"state": MigrationState(row["state"]), "transport": Transport(row["transport"])}
    return MoveRecord(**{**row, **typed, "why": _word(row)})


def _word(row: Mapping[str, Any]) -> Why | None:
    return None if row["why"] is None else Why(row["why"])


def _setting(row: Mapping[str, Any]) -> SettingRecord:
    return SettingRecord(**{**row, "state": SettingState(row["state"])})


def _transition(row: Mapping[str, Any]) -> Transition:
    return Transition(**{**row, "kind": TransitionKind(row["kind"]), "why": _word(row)})


_OPEN_RUNS = (
    select(tables.runs)
    .where(tables.runs.c.cluster == bindparam("name"), tables.runs.c.end.is_(None))
    .order_by(tables.runs.c.id)
)
_OPEN_MOVES = (
    select(tables.moves)
    .where(tables.moves.c.cluster == bindparam("name"))
    .where(tables.moves.c.state.not_in([state.value for state in FINAL]))
    .order_by(tables.moves.c.id)
)
_OPEN_SETTINGS = (
    select(tables.settings)
    .where(tables.settings.c.cluster == bindparam("name"))
    .where(tables.settings.c.state.in_([state.value for state in OPEN_SETTINGS]))
    .order_by(tables.settings.c.id)
)


class JournalReader(Part):
    """Reads the journal; never blocks whoever writes it."""

    def runs(self, cluster: str | None = None, limit: int = 20) -> tuple[RunRecord, ...]:
        """Return the latest runs, newest first; of all clusters when none is named."""
        query = select(tables.runs).order_by(tables.runs.c.id.desc()).limit(limit)
        if cluster is not None:
            query = query.where(tables.runs.c.cluster == cluster)
        return tuple(_run(row) for row in self._read(query))

    def telling_runs(self, cluster: str, limit: int) -> tuple[RunRecord, ...]:
        """Return the latest runs that went well and moved something, or went wrong; newest first.

        Wrong is a migration that failed or got lost; runs that tell neither are left out.
        """
        runs, move = tables.runs.c, tables.moves.c
        went_wrong = move.state.in_([MigrationState.FAILED.value, MigrationState.UNKNOWN.value])
        went_well = and_(move.state == MigrationState.DONE.value, runs.end == RunEnd.DONE.value)
        tells = exists().where(move.run == runs.id, or_(went_wrong, went_well))
        query = select(tables.runs).where(runs.cluster == cluster, tells)
        return tuple(_run(row) for row in self._read(query.order_by(runs.id.desc()).limit(limit)))

    def open_runs(self, cluster: str) -> tuple[RunRecord, ...]:
        """Return the runs that have not ended, oldest first."""
        return tuple(_run(row) for row in self._read(_OPEN_RUNS, name=cluster))

    def adrift(self, now: datetime) -> frozenset[str]:
        """Return the clusters with a run that has not ended while nobody holds the cluster."""
        leases = tables.leases
        held = select(leases.c.cluster).where(leases.c.holder != "", leases.c.expires_at > now)
        query = (
            select(tables.runs.c.cluster)
            .distinct()
            .where(tables.runs.c.end.is_(None), tables.runs.c.cluster.not_in(held))
        )
        return frozenset(row["cluster"] for row in self._read(query))

    def moves(self, run: int) -> tuple[MoveRecord, ...]:
        """Return the migrations of a run, in the plan's order."""
        query = select(tables.moves).where(tables.moves.c.run == run).order_by(tables.moves.c.id)
        return tuple(_move(row) for row in self._read(query))

    def open_moves(self, cluster: str) -> tuple[MoveRecord, ...]:
        """Return the migrations of a cluster that have not ended, oldest first."""
        return tuple(_move(row) for row in self._read(_OPEN_MOVES, name=cluster))

    def settings(self, run: int) -> tuple[SettingRecord, ...]:
        """Return the host settings that a run changed or meant to change."""
        table = tables.settings
        query = select(table).where(table.c.run == run).order_by(table.c.id)
        return tuple(_setting(row) for row in self._read(query))

    def open_settings(self, cluster: str) -> tuple[SettingRecord, ...]:
        """Return the settings of a cluster that may still hold our value, oldest first."""
        return tuple(_setting(row) for row in self._read(_OPEN_SETTINGS, name=cluster))

    def transitions(self, run: int) -> tuple[Transition, ...]:
        """Return everything that happened in a run, in order."""
        columns = [column for column in tables.transitions.c if column.name != "id"]
        query = (
            select(*columns)
            .where(tables.transitions.c.run == run)
            .order_by(tables.transitions.c.id)
        )
        return tuple(_transition(row) for row in self._read(query))

    def report(self, run: int) -> RunReport:
        """Return what a run that has ended amounted to.

        Raises:
            InputError: There is no such run, or it goes on.
        """
        found = self._read(select(tables.runs).where(tables.runs.c.id == run))
        if not found:
            raise InputError(f"there is no run {run}", remedy="`balancer status` lists the runs")
        record = _run(found[0])
        if record.end is None or record.ended_at is None:
            raise InputError(f"run {run} has not ended")
        notes = tuple(
            line.reason
            for line in self.transitions(run)
            if line.kind is not TransitionKind.MOVE and line.reason
        )
        return RunReport(
            cluster=record.cluster,
            plan=record.plan,
            end=record.end,
            started_at=record.started_at,
            ended_at=record.ended_at,
            migrations=tuple(move.outcome for move in self.moves(run)),
            notes=notes,
        )
