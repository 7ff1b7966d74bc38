"""The audit log: who did what, why, and what came of it. Lines are added and never changed.

The database itself refuses to change a line, and for 60 days to delete it (triggers of revisions
0006 and 0012), so that not even a fault of ours can tidy up the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import insert, select

from balancer.store import tables
from balancer.store.part import Part


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line.

    Attributes:
        who: The person or executor that acted.
        what: The act, a word of a closed list.
        subject: What it was done to: a VM, a host, a plan, a request.
        why: The reason in a sentence; empty where none was given.
        outcome: begun, done, failed, refused, cancelled, skipped or left.
        text: A sentence for a person.
    """

    at: datetime
    cluster: str
    who: str
    what: str
    subject: str
    why: str
    outcome: str
    text: str
    cycle: str = ""
    plan: str = ""
    migration: str = ""


class Audit(Part):
    """The audit log of every cluster in the store."""

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Add lines: all of them, durably, or none."""
        with self._writing() as connection:
            connection.execute(insert(tables.audit), [asdict(entry) for entry in entries])

    def entries(
        self,
        *,
        cluster: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[AuditEntry, ...]:
        """Return the latest `limit` lines from `since` on, the oldest first."""
        table = tables.audit
        query = select(*(column for column in table.c if column.name != "id"))
        if cluster is not None:
            query = query.where(table.c.cluster == cluster)
        if since is not None:
            query = query.where(table.c.at >= since)
        rows = self._read(query.order_by(table.c.id.desc()).limit(limit))
        return tuple(AuditEntry(**row) for row in reversed(rows))
