"""The circuit breaker across runs: after some that failed in a row nothing is done unattended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select

from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part

# Three nights in a row that failed are no chance. After a day the next run is tried; if that fails
# as well it is open again.
RUNS_MAX = 3
COOL_OFF = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many runs of a cluster have failed in a row, and until when it only recommends."""

    cluster: str
    failed_runs: int
    since: datetime
    open_until: datetime | None
    reason: str

    def is_open(self, now: datetime) -> bool:
        """Tell whether the cluster only recommends."""
        return self.open_until is not None and now < self.open_until


class Breakers(Part):
    """One breaker a cluster; none for one whose last run went well."""

    def of(self, cluster: str) -> Breaker | None:
        """Return a cluster's breaker, if a run has failed since one went well."""
        rows = self._read(select(tables.breakers).where(tables.breakers.c.cluster == cluster))
        return Breaker(**rows[0]) if rows else None

    def failed(self, lease: Lease, reason: str, now: datetime) -> Breaker:
        """Take note of a run that failed; return the breaker, which that may have opened."""
        table = tables.breakers
        with self._writing() as connection:
            require_held(connection, lease)
            before = connection.execute(
                select(table.c.failed_runs).where(table.c.cluster == lease.cluster)
            ).scalar()
            failed_runs = (before or 0) + 1
            open_until = now + COOL_OFF if failed_runs >= RUNS_MAX else None
            found = Breaker(lease.cluster, failed_runs, now, open_until, reason)
            connection.execute(delete(table).where(table.c.cluster == lease.cluster))
            connection.execute(
                insert(table).values(
                    cluster=found.cluster,
                    failed_runs=found.failed_runs,
                    since=found.since,
                    open_until=found.open_until,
                    reason=found.reason,
                )
            )
        return found

    def close(self, cluster: str) -> bool:
        """Count anew: a run went well, or a person says so; tell whether any had failed."""
        with self._writing() as connection:
            table = tables.breakers
            return connection.execute(delete(table).where(table.c.cluster == cluster)).rowcount > 0
