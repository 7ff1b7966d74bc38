"""Drains: what was asked, what the hosts held, and every step, written down before it is done."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, select, update

from balancer.errors import InternalError
from balancer.model.drain import DrainState, Kind, OnFailure, Order, Thing
from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part

# States of steps whose subject is a host.
RETURNED = "returned"
RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class DrainRecord:
    """One drain. `paused` are hosts that we have paused, or perhaps have: never somebody else's."""

    id: int
    cluster: str
    order: Order
    state: DrainState
    since: datetime
    started_at: datetime
    expected_s: float
    paused: tuple[str, ...]
    returned_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a drain's journal."""

    at: datetime
    fence: int
    subject: str  # the drain's state, or the thing that is about to be moved
    state: str
    reason: str


class Drains(Part):
    """The drains of every cluster in the store."""

    def begin(
        self, lease: Lease, order: Order, things: Sequence[Thing], at: datetime, expected_s: float
    ) -> int:
        """Write down an order and what its hosts hold; return the drain's id."""
        with self._writing() as connection:
            require_held(connection, lease)
            done = connection.execute(
                insert(tables.drains).values(
                    cluster=lease.cluster,
                    hosts=json.dumps(order.hosts, ensure_ascii=False),
                    by=order.by,
                    keep_reserve=order.keep_reserve,
                    on_failure=order.on_failure.value,
                    asked_by=order.asked_by,
                    state=DrainState.PLANNED.value,
                    since=at,
                    started_at=at,
                    expected_s=expected_s,
                    paused="[]",
                    reason="",
                )
            )
            (key,) = done.inserted_primary_key or (0,)
            for thing in things:
                connection.execute(
                    insert(tables.drain_things).values(
                        drain=key,
                        host=thing.host,
                        kind=thing.kind.value,
                        key=thing.key,
                        name=thing.name,
                    )
                )
            self._note(connection, lease, int(key), "", DrainState.PLANNED.value, "", at)
        return int(key)

    def enter(
        self,
        lease: Lease,
        drain: int,
        state: DrainState,
        at: datetime,
        *,
        reason: str = "",
        pausing: Collection[str] = (),
    ) -> None:
        """Take a drain to its next state; `pausing` hosts count as paused by us from now on.

        Raises:
            LeaseLostError: A newer executor has the cluster.
            InternalError: The drain has ended.
        """
        with self._writing() as connection:
            require_held(connection, lease)
            row = connection.execute(
                select(tables.drains.c.paused, tables.drains.c.state).where(
                    tables.drains.c.id == drain
                )
            ).one()
            if DrainState(row.state).is_final:
                raise InternalError(f"drain {drain} is {row.state} and cannot be {state.value}")
            paused = list(dict.fromkeys([*json.loads(row.paused), *pausing]))
            connection.execute(
                update(tables.drains)
                .where(tables.drains.c.id == drain)
                .values(
                    state=state.value,
                    since=at,
                    reason=reason,
                    paused=json.dumps(paused, ensure_ascii=False),
                )
            )
            self._note(connection, lease, drain, row.state, state.value, reason, at)

    def moving(
        self, lease: Lease, drain: int, subject: str, target: str, reason: str, at: datetime
    ) -> None:
        """Announce the move of something that is no running VM."""
        with self._writing() as connection:
            require_held(connection, lease)
            self._note(connection, lease, drain, subject, target, reason, at)

    def returned(self, lease: Lease, drain: int, host: str, at: datetime) -> None:
        """Say that what was on one of its hosts was brought back as far as it could be."""
        table = tables.drains
        with self._writing() as connection:
            require_held(connection, lease)
            self._note(connection, lease, drain, host, RETURNED, "", at)
            hosts = connection.execute(
                select(table.c.hosts).where(table.c.id == drain)
            ).scalar_one()
            steps = tables.drain_steps
            back = connection.execute(
                select(steps.c.subject).where(steps.c.drain == drain, steps.c.state == RETURNED)
            ).scalars()
            if set(json.loads(hosts)) <= set(back):
                connection.execute(update(table).where(table.c.id == drain).values(returned_at=at))

    def resumed(self, lease: Lease, drain: int, host: str, at: datetime) -> None:
        """Say that VMs may land on one of its hosts again."""
        with self._writing() as connection:
            require_held(connection, lease)
            self._note(connection, lease, drain, host, RESUMED, "", at)

    def of_host(self, cluster: str, host: str) -> tuple[DrainRecord, ...]:
        """Return the drains since which a host is empty, or was, newest first.

        Several if it was drained again while it was paused; none if what they took is back.
        """
        found: list[DrainRecord] = []
        for record in self.latest(cluster):
            if host not in record.order.hosts:
                continue
            states = {one.state for one in self.steps(record.id) if one.subject == host}
            given_up = record.order.on_failure is OnFailure.RESUME and record.state.gave_up
            if record.returned_at is not None or RETURNED in states:
                break
            if found and (RESUMED in states or given_up):
                break  # what landed there since is another story
            found.append(record)
        return tuple(found)

    def get(self, drain: int) -> DrainRecord:
        """Return the drain with this id."""
        (record,) = self._records(select(tables.drains).where(tables.drains.c.id == drain))
        return record

    def open(self, cluster: str) -> tuple[DrainRecord, ...]:
        """Return the drains of a cluster that have not ended, oldest first."""
        table = tables.drains
        final = [state.value for state in DrainState if state.is_final]
        query = select(table).where(table.c.cluster == cluster, table.c.state.not_in(final))
        return self._records(query.order_by(table.c.id))

    def latest(self, cluster: str, limit: int = 50) -> tuple[DrainRecord, ...]:
        """Return the drains of a cluster, newest first."""
        table = tables.drains
        query = select(table).where(table.c.cluster == cluster).order_by(table.c.id.desc())
        return self._records(query.limit(limit))

    def things(self, drain: int) -> tuple[Thing, ...]:
        """Return what the hosts held when the drain began."""
        table = tables.drain_things
        query = select(table).where(table.c.drain == drain).order_by(table.c.id)
        return tuple(
            Thing(row["host"], Kind(row["kind"]), row["key"], row["name"])
            for row in self._read(query)
        )

    def steps(self, drain: int) -> tuple[Step, ...]:
        """Return everything that was done, in order."""
        table = tables.drain_steps
        query = select(table).where(table.c.drain == drain).order_by(table.c.id)
        return tuple(
            Step(row["at"], row["fence"], row["subject"], row["state"], row["reason"])
            for row in self._read(query)
        )

    def _records(self, query: Select[Any]) -> tuple[DrainRecord, ...]:
        return tuple(_record(row) for row in self._read(query))

    @staticmethod
    def _note(
        connection: Any,
        lease: Lease,
        drain: int,
        subject: str,
        state: str,
        reason: str,
        at: datetime,
    ) -> None:
        connection.execute(
            insert(tables.drain_steps).values(
                drain=drain, at=at, fence=lease.fence, subject=subject, state=state, reason=reason
            )
        )


def _record(row: dict[str, Any]) -> DrainRecord:
    return DrainRecord(
        id=row["id"],
        cluster=row["cluster"],
        order=Order(
            hosts=tuple(json.loads(row["hosts"])),
            by=row["by"],
            keep_reserve=row["keep_reserve"],
            on_failure=OnFailure(row["on_failure"]),
            asked_by=row["asked_by"],
        ),
        state=DrainState(row["state"]),
        since=row["since"],
        started_at=row["started_at"],
        expected_s=row["expected_s"],
        paused=tuple(json.loads(row["paused"])),
        returned_at=row["returned_at"],
        reason=row["reason"],
    )
