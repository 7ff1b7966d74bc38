"""Who may act on a cluster: a lease for a time, and a number that only grows.

A lease keeps honest executors apart. The number (the fence) keeps a stale one out, say one whose
machine slept through its lease: it travels with every act, and a host that has seen a higher one
refuses. So safety never rests on clocks agreeing; expiry only decides how soon another may try.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from balancer.clock import Clock
from balancer.errors import HeldError
from balancer.store import tables
from balancer.store.faults import StoreError, working
from balancer.store.part import Part

# Renewed every third of it at the latest, by an executor whose longest blocking call (reading a
# cluster with silent hosts) is well below; a crashed one keeps others waiting no longer than this.
LEASE_TTL_S = 60.0

# Fences start from the seconds since then, not from one: hosts remember the highest they saw, and
# a store that was lost and made anew, or a second store, must not begin below it. Seconds from
# here stay within 31 bits until 2093.
_FENCE_ORIGIN = datetime(2025, 1, 1, tzinfo=UTC)


class LeaseLostError(HeldError):
    """Our lease has passed to another executor: stop at once."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on one cluster until `expires_at`, unless renewed.

    `serves` tells others that the holder carries out requests.
    """

    cluster: str
    holder: str
    fence: int
    ttl_s: float
    expires_at: datetime
    serves: bool = False


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

        `serves` tells others that requests are carried out; the fence is also above `above`.

        Raises:
            HeldError: Somebody holds it; the message says who and until when.
        """
        self._ensure_row(cluster, now)
        with self._writing() as connection:
            row = connection.execute(_row_of(cluster).with_for_update()).one()
            if row.holder and row.expires_at > now:
                seconds = (row.expires_at - now).total_seconds()
                raise HeldError(
                    f"cluster {cluster} is held by {row.holder}",
                    remedy=f"wait for it to end; if it died, its hold ends in {seconds:.0f} s",
                )
            by_time = (now - _FENCE_ORIGIN) // timedelta(seconds=1)
            lease = Lease(
                cluster=cluster,
                holder=holder,
                fence=max(row.fence + 1, by_time, above + 1),
                ttl_s=ttl_s,
                expires_at=now + timedelta(seconds=ttl_s),
                serves=serves,
            )
            connection.execute(
                update(tables.leases)
                .where(tables.leases.c.cluster == cluster)
                .values(
                    fence=lease.fence,
                    holder=holder,
                    ttl_s=ttl_s,
                    expires_at=lease.expires_at,
                    serves=serves,
                )
            )
        return lease

    def _ensure_row(self, cluster: str, now: datetime) -> None:
        """Make the cluster's row in a transaction of its own, so that two first comers agree."""
        if self._read(_row_of(cluster)):
            return
        row = insert(tables.leases).values(
            cluster=cluster, fence=0, holder="", ttl_s=0.0, expires_at=now
        )
        # An integrity error: the other one made it.
        with working(self._location), suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(row)

    def renew(self, lease: Lease, now: datetime) -> Lease:
        """Hold on for another `ttl_s`, even when expired, as long as nobody else took over.

        Raises:
            LeaseLostError: Somebody did.
        """
        renewed = replace(lease, expires_at=now + timedelta(seconds=lease.ttl_s))
        with self._writing() as connection:
            require_fence(connection, lease.cluster, lease.fence)
            connection.execute(
                update(tables.leases)
                .where(tables.leases.c.cluster == lease.cluster)
                .values(expires_at=renewed.expires_at)
            )
        return renewed

    def release(self, lease: Lease) -> None:
        """Let go; a lease that has passed to another is left alone."""
        with self._writing() as connection:
            connection.execute(
                update(tables.leases)
                .where(tables.leases.c.cluster == lease.cluster)
                .where(tables.leases.c.fence == lease.fence)
                .values(holder="")
            )

    def current(self, cluster: str, now: datetime) -> Lease | None:
        """Return who holds the cluster now, or None."""
        rows = self._read(_row_of(cluster))
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


def _row_of(cluster: str) -> Select[Any]:
    return select(tables.leases).where(tables.leases.c.cluster == cluster)


def require_fence(connection: Connection, cluster: str, fence: int) -> None:
    """Refuse, within the transaction at hand, a write by an executor that is not the newest.

    Raises:
        LeaseLostError: The cluster's fence is not `fence`, or nobody holds it with that number.
    """
    row = connection.execute(
        select(tables.leases.c.fence, tables.leases.c.holder)
        .where(tables.leases.c.cluster == cluster)
        .with_for_update()
    ).one_or_none()
    if row is None or row.fence != fence or not row.holder:
        holder = row.holder if row is not None and row.holder else "nobody"
        raise LeaseLostError(
            f"cluster {cluster} is no longer ours: {holder} holds it now",
            remedy="nothing is lost: the newer executor finishes what was begun",
        )
