"""What of the past is kept: every reading for a while, hourly means for longer, then nothing.

Work is done an hour of history and some hosts and VMs at a time, each in a short transaction of its
own: SQLite lets one write, and the others, of whom one may be about to move a VM, wait meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, insert, select

from balancer.store import tables
from balancer.store.part import Part
from balancer.store.postgresql import alone

HOUR = timedelta(hours=1)
AT_A_TIME = 250  # hosts and VMs: of readings every minute, 15,000


class Thinning(Part):
    """Thins out history."""

    def oldest(self, since: datetime | None) -> datetime | None:
        """Return when the oldest reading was taken, at or after `since`; None if there is none."""
        table = tables.samples
        query = select(func.min(table.c.at).label("at"))
        if since is not None:
            query = query.where(table.c.at >= since)
        found: datetime | None = self._read(query)[0]["at"]
        return found

    def parts(self) -> Iterator[tuple[int, ...]]:
        """Yield the ids of all hosts and VMs that there are readings of, some at a time."""
        table, last = tables.subjects, 0
        query = select(table.c.id).order_by(table.c.id).limit(AT_A_TIME)
        while ids := tuple(row["id"] for row in self._read(query.where(table.c.id > last))):
            yield ids
            last = ids[-1]

    def thin_hour(self, hour: datetime, subjects: Sequence[int]) -> int:
        """Replace the readings of one hour by their means, at its beginning; return how many went.

        Done twice it changes nothing: one that was read once keeps that reading's values. Of words
        (state, place) the last in the alphabet stands for the hour.
        """
        table = tables.samples
        inside = (table.c.subject.in_(subjects), table.c.at >= hour, table.c.at < hour + HOUR)
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


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour that `at` lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
