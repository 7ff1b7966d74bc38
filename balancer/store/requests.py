"""What people ask of the executor, whoever that is: written down, taken in order, answered.

A command cannot act on a cluster that a daemon holds, so it asks. A request is taken by exactly
one executor, within a transaction that checks its fence; it ends in one of three states, with the
exit code that the command then has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update

from balancer.errors import InputError, InternalError
from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part


class RequestState(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    TAKEN = "taken"
    DONE = "done"  # carried out; the exit code says how it went
    REFUSED = "refused"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self not in (RequestState.WAITING, RequestState.TAKEN)


class HowToStop(StrEnum):
    """What is to become of migrations in flight when a request is cancelled."""

    GO_ON = ""
    FINISH = "finish"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `plan` is the plan it came to; its run is found by it."""

    id: int
    cluster: str
    verb: str
    arguments: Mapping[str, Any]
    asked_by: str
    asked_at: datetime
    state: RequestState
    since: datetime
    cancel_asked: HowToStop
    plan: str
    exit_code: int | None
    text: str


def _request(row: Mapping[str, Any]) -> Request:
    typed = {
        "arguments": json.loads(row["arguments"]),
        "state": RequestState(row["state"]),
        "cancel_asked": HowToStop(row["cancel_asked"]),
    }
    return Request(**{**row, **typed})


_ONE = select(tables.requests).where(tables.requests.c.id == bindparam("request"))
_OPEN = (
    select(tables.requests)
    .where(
        tables.requests.c.cluster == bindparam("name"),
        or_(
            tables.requests.c.state == RequestState.WAITING.value,
            tables.requests.c.state == RequestState.TAKEN.value,
        ),
    )
    .order_by(tables.requests.c.id)
)


class Requests(Part):
    """The requests to every cluster in the store."""

    def submit(
        self, cluster: str, verb: str, arguments: Mapping[str, Any], asked_by: str, at: datetime
    ) -> int:
        """Write a request down and return its id."""
        with self._writing() as connection:
            key = connection.execute(
                insert(tables.requests).values(
                    cluster=cluster,
                    verb=verb,
                    arguments=json.dumps(dict(arguments), ensure_ascii=False),
                    asked_by=asked_by,
                    asked_at=at,
                    state=RequestState.WAITING.value,
                    since=at,
                    cancel_asked=HowToStop.GO_ON.value,
                    plan="",
                    text="",
                )
            ).inserted_primary_key
        if key is None:
            raise InternalError("the database gave no id for a new request")
        return int(key[0])

    def get(self, request: int) -> Request:
        """Return the request with this id.

        Raises:
            InputError: There is none.
        """
        rows = self._read(_ONE, request=request)
        if not rows:
            raise InputError(
                f"there is no request {request}", remedy="`balancer status` lists the requests"
            )
        return _request(rows[0])

    def open(self, cluster: str) -> tuple[Request, ...]:
        """Return what waits or is being carried out, oldest first."""
        return tuple(_request(row) for row in self._read(_OPEN, name=cluster))

    def asked(self) -> frozenset[str]:
        """Return the clusters that requests wait for."""
        table = tables.requests
        waiting = table.c.state == RequestState.WAITING.value
        return frozenset(
            row["cluster"] for row in self._read(select(table.c.cluster).where(waiting))
        )

    def latest(self, cluster: str, limit: int = 10) -> tuple[Request, ...]:
        """Return the latest requests, newest first."""
        table = tables.requests
        query = select(table).where(table.c.cluster == cluster).order_by(table.c.id.desc())
        return tuple(_request(row) for row in self._read(query.limit(limit)))

    def take(self, lease: Lease, request: int, at: datetime) -> bool:
        """Begin with a waiting request; False if it does not wait any more."""
        return self._change(lease, request, RequestState.WAITING, RequestState.TAKEN, at)

    def planned(self, lease: Lease, request: int, plan: str) -> None:
        """Say which plan a request has come to, so that whoever asked can follow its run."""
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(
                update(tables.requests).where(tables.requests.c.id == request).values(plan=plan)
            )

    def finish(
        self,
        lease: Lease,
        request: int,
        state: RequestState,
        at: datetime,
        *,
        exit_code: int,
        text: str,
    ) -> None:
        """End a request that was taken."""
        more = {"exit_code": exit_code, "text": text}
        self._change(lease, request, RequestState.TAKEN, state, at, more)

    def _change(
        self,
        lease: Lease,
        request: int,
        before: RequestState,
        after: RequestState,
        at: datetime,
        more: Mapping[str, Any] | None = None,
    ) -> bool:
        table = tables.requests
        with self._writing() as connection:
            require_held(connection, lease)
            done = connection.execute(
                update(table)
                .where(table.c.id == request, table.c.state == before.value)
                .values(state=after.value, since=at, **(more or {}))
            )
        return done.rowcount == 1

    def cancel(self, request: int, how: HowToStop, at: datetime, exit_code: int) -> Request:
        """Withdraw a request that waits, or ask whoever carries it out to stop; return it after."""
        table = tables.requests
        with self._writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == request, table.c.state == RequestState.WAITING.value)
                .values(
                    state=RequestState.CANCELLED.value,
                    since=at,
                    exit_code=exit_code,
                    text="withdrawn before anybody took it",
                )
            )
            connection.execute(
                update(table)
                .where(table.c.id == request, table.c.state == RequestState.TAKEN.value)
                .values(cancel_asked=how.value)
            )
        return self.get(request)
