"""What of the past is kept: every reading for a while, hourly means for longer, then nothing.

The journal, the audit log and measurements of migrations are few and stay. Work is done an hour of
history at a time, each in a short transaction of its own, so that nobody waits long for it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, insert, select

from balancer.store import tables
from balancer.store.part import Part
from balancer.store.postgresql import alone

HOUR = timedelta(hours=1)


class Thinning(Part):
    """Thins out history and old plans."""

    def oldest(self, since: datetime | None) -> datetime | None:
        """Return when the oldest reading was taken, at or after `since`; None if there is none."""
        table = tables.samples
        query = select(func.min(table.c.at).label("at"))
        if since is not None:
            query = query.where(table.c.at >= since)
        found: datetime | None = self._read(query)[0]["at"]
        return found

    def thin_hour(self, hour: datetime) -> int:
        """Replace the readings of one hour by their means, at its beginning; return how many went.

        A host or VM that was read once in it keeps that reading's values. Of words (state, place)
        the last in the alphabet stands for the hour.
        """
        table = tables.samples
        inside = (table.c.at >= hour, table.c.at < hour + HOUR)
        means = (
            select(
                table.c.subject,
                func.max(table.c.host).label("host"),
                func.max(table.c.state).label("state"),
                func.avg(table.c.cpu_used_cores).label("cpu_used_cores"),
                func.avg(table.c.memory_assigned_bytes).label("memory_assigned_bytes"),
                func.avg(table.c.memory_demand_bytes).label("memory_demand_bytes"),
            )
            .where(*inside)
            .group_by(table.c.subject)
        )
        with self._writing() as connection:
            alone(connection, "thinning")
            rows = [dict(row) for row in connection.execute(means).mappings()]
            if not rows:
                return 0
            gone = connection.execute(delete(table).where(*inside)).rowcount
            for row in rows:
                row["at"] = hour
                for name in ("memory_assigned_bytes", "memory_demand_bytes"):
                    row[name] = None if row[name] is None else int(row[name])
            connection.execute(insert(table), rows)
        return gone - len(rows)

    def drop_plans(self, before: datetime) -> int:
        """Delete plans that expired before and were never carried out; return how many."""
        plans = tables.plans
        carried_out = select(tables.runs.c.plan)
        with self._writing() as connection:
            return connection.execute(
                delete(plans).where(plans.c.expires_at < before, plans.c.id.not_in(carried_out))
            ).rowcount


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour that `at` lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
