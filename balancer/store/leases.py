"""Who may act on a cluster: a lease for a time, and a number that only grows.

A lease keeps honest executors apart. The number (the fence) keeps a stale one out, say one whose
machine slept through its lease: it travels with every act, and a host that has seen a higher one
refuses. So safety never rests on clocks agreeing; expiry only decides how soon another may try.
The holder raises the number itself when it must shut out a request of its own that got lost.
A holder that certainly is dead is not waited for, and neither is a clock that was set back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from balancer.clock import Clock
from balancer.errors import HeldError
from balancer.store import tables
from balancer.store.faults import StoreError, working
from balancer.store.part import Part, put
from balancer.store.process import identity, is_gone
from balancer.store.standing import SILENT

# Renewed every third of it, also while hosts that hang are waited for (`execute/tenure.py`). If it
# lapses all the same it is kept only if nobody wanted it meanwhile, and whoever took it has the
# higher number. One whose process cannot be told to be dead, say in a container that is gone, keeps
# others waiting no longer than this.
LEASE_TTL_S = 60.0

# A cluster that nobody held for so long was left alone: what stands open there is out of date.
# Longer than any restart of a machine, shorter than it takes to find and restore a backup.
LEFT_ALONE = timedelta(hours=1)

# Fences start from the seconds since then, not from one: hosts remember the highest they saw, and
# a store that was lost and made anew, or a second store, must not begin below it. Seconds from
# here stay within 31 bits until 2093.
_FENCE_ORIGIN = datetime(2025, 1, 1, tzinfo=UTC)


class LeaseLostError(HeldError):
    """Our lease has passed to another executor: stop at once."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on one cluster until `expires_at`, unless renewed.

    `process` is the identity of the process that holds it, empty where that cannot be told.
    `tenure` is the fence it began with: the same through renewals and advances, never another's.
    `serves` tells others that the holder carries out requests.
    `written` is the highest fence that this store knows the cluster itself to have had.
    `after` is when the lease before it ended, by what this store knows; None for the first.
    """

    cluster: str
    holder: str
    fence: int
    ttl_s: float
    expires_at: datetime
    process: str = ""
    tenure: int = 0
    serves: bool = False
    written: int = 0
    after: datetime | None = field(default=None, compare=False)


def holder_name() -> str:
    """Return who we are, for the message that another executor shows."""
    return f"{socket.gethostname()} pid {os.getpid()}"


class Leases(Part):
    """The leases of a store: one a cluster."""

    def acquire(
        self,
        cluster: str,
        holder: str,
        ttl_s: float,
        now: datetime,
        *,
        serves: bool = False,
        above: int = 0,
    ) -> Lease:
        """Take the cluster for `ttl_s` seconds, with a fence above every earlier one.

        A lease whose holder was a process of this machine and boot that has ended is free.
        `serves` tells others that requests are carried out; the fence is also above `above`.

        Raises:
            HeldError: Somebody holds it; the message says who and until when.
        """
        self._ensure_row(cluster, now)
        mine = identity()
        with self._writing() as connection:
            row = connection.execute(_ROW.with_for_update(), {"name": cluster}).one()
            refusal = _refusal(row, now)
            if refusal is None:
                by_time = (now - _FENCE_ORIGIN) // timedelta(seconds=1)
                fence = max(row.fence + 1, by_time, above + 1)
                lease = Lease(
                    cluster=cluster,
                    holder=holder,
                    fence=fence,
                    ttl_s=ttl_s,
                    expires_at=now + timedelta(seconds=ttl_s),
                    process=mine,
                    tenure=fence,
                    serves=serves,
                    written=row.written,
                    after=row.expires_at if row.fence else None,
                )
                kept = asdict(lease)
                del kept["after"]  # that is what the row said so far
                _change(connection, cluster, kept)
                if row.fence and now - row.expires_at > LEFT_ALONE:
                    mark = {"cluster": cluster, "name": SILENT, "at": row.expires_at}
                    put(connection, tables.marks, mark)
            elif row.expires_at > (latest := now + timedelta(seconds=row.ttl_s)):
                # A clock was set back. Whoever lives renews it; a dead holder must not keep the
                # cluster for as many hours more.
                _change(connection, cluster, {"expires_at": latest})
        if refusal is not None:
            raise refusal
        return lease

    def _ensure_row(self, cluster: str, now: datetime) -> None:
        """Make the cluster's row in a transaction of its own, so that two first comers agree."""
        if self._read(_ROW, name=cluster):
            return
        row = insert(tables.leases).values(
            cluster=cluster, fence=0, holder="", ttl_s=0.0, expires_at=now
        )
        # An integrity error: the other one made it.
        with working(self._location), suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(row)

    def renew(self, lease: Lease, now: datetime) -> Lease:
        """Hold on for another `ttl_s`, even when expired, as long as nobody else took over.

        A copy from before an advance comes back with the fence of now.

        Raises:
            LeaseLostError: Somebody did.
        """
        expires_at = now + timedelta(seconds=lease.ttl_s)
        with self._writing() as connection:
            fence = require_held(connection, lease)
            _change(connection, lease.cluster, {"expires_at": expires_at})
        return replace(lease, fence=fence, expires_at=expires_at)

    def renew_all(self, leases: Sequence[Lease], now: datetime) -> frozenset[str]:
        """Renew many in one transaction; return the clusters whose lease is still ours.

        Those that passed to another are left alone: `renew` tells.
        """
        table = tables.leases
        ours = (table.c.cluster == bindparam("name"), table.c.tenure == bindparam("ours"))
        statement = update(table).where(*ours, table.c.holder != "")
        rows = [
            {
                "name": lease.cluster,
                "ours": lease.tenure,
                "expires_at": now + timedelta(seconds=lease.ttl_s),
            }
            for lease in sorted(leases, key=lambda one: one.cluster)
        ]
        query = select(table.c.cluster, table.c.tenure).where(
            table.c.cluster.in_([lease.cluster for lease in leases]), table.c.holder != ""
        )
        with self._writing() as connection:
            connection.execute(statement, rows)
            present = {row.cluster: row.tenure for row in connection.execute(query)}
        return frozenset(one.cluster for one in leases if present.get(one.cluster) == one.tenure)

    def advance(self, lease: Lease) -> Lease:
        """Return the same lease with a higher fence, by which what it sent before is turned away.

        By one, never up to the present second: who took the cluster by another store meanwhile
        must stay ahead.

        Raises:
            LeaseLostError: Somebody else took over.
        """
        with self._writing() as connection:
            fence = require_held(connection, lease) + 1
            _change(connection, lease.cluster, {"fence": fence})
        return replace(lease, fence=fence)

    def wrote(self, lease: Lease) -> None:
        """Take note that the cluster has this lease.

        Raises:
            LeaseLostError: Somebody else took over.
        """
        with self._writing() as connection:
            require_held(connection, lease)
            _change(connection, lease.cluster, {"written": lease.fence})

    def release(self, lease: Lease) -> None:
        """Let go; a lease that has passed to another is left alone."""
        with self._writing() as connection:
            connection.execute(
                update(tables.leases)
                .where(tables.leases.c.cluster == lease.cluster)
                .where(tables.leases.c.tenure == lease.tenure)
                .values(holder="")
            )

    def current(self, cluster: str, now: datetime) -> Lease | None:
        """Return who holds the cluster now, or None."""
        rows = self._read(_ROW, name=cluster)
        if not rows or not rows[0]["holder"] or rows[0]["expires_at"] <= now:
            return None
        return Lease(**rows[0])

    @contextmanager
    def hold(
        self, cluster: str, holder: str, clock: Clock, ttl_s: float = LEASE_TTL_S
    ) -> Iterator[Lease]:
        """Acquire on entry, release on exit whatever happens in between.

        Raises:
            HeldError: Somebody holds the cluster.
        """
        lease = self.acquire(cluster, holder, ttl_s, clock.now())
        try:
            yield lease
        except BaseException:
            with suppress(StoreError):  # a full disk must not hide why we are leaving
                self.release(lease)
            raise
        self.release(lease)


_THIS = tables.leases.c.cluster == bindparam("name")
_ROW = select(tables.leases).where(_THIS)
_CHANGE = update(tables.leases).where(_THIS)
_HELD = (
    select(tables.leases.c.fence, tables.leases.c.tenure, tables.leases.c.holder)
    .where(_THIS)
    .with_for_update()
)


def _refusal(row: Row[Any], now: datetime) -> HeldError | None:
    """Return why a lease cannot be taken, or None when it can."""
    if not row.holder or row.expires_at <= now or is_gone(row.process):
        return None
    seconds = min(row.ttl_s, (row.expires_at - now).total_seconds())
    return HeldError(
        f"cluster {row.cluster} is held by {row.holder}",
        remedy=f"wait for it to end; if it died, its hold ends in {seconds:.0f} s",
    )


def _change(connection: Connection, cluster: str, values: dict[str, Any]) -> None:
    connection.execute(_CHANGE, {"name": cluster, **values})


def require_held(connection: Connection, lease: Lease) -> int:
    """Refuse, within the transaction at hand, a write by an executor that is not the newest.

    Returns the fence of now.

    Raises:
        LeaseLostError: Somebody took the cluster since, or nobody holds it.
    """
    row = connection.execute(_HELD, {"name": lease.cluster}).one_or_none()
    if row is None or row.tenure != lease.tenure or not row.holder:
        holder = row.holder if row is not None and row.holder else "nobody"
        raise LeaseLostError(
            f"cluster {lease.cluster} is no longer ours: {holder} holds it now",
            remedy="nothing is lost: the newer executor finishes what was begun",
        )
    return int(row.fence)
