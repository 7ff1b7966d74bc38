"""Records that are older than they are to be kept, deleted some at a time.

Each call is one short transaction, and says how many it found: whoever calls goes on until there
are none. What is not over, or is owed to a host, stays however old it is.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, ColumnElement, Table, delete, exists, or_, select

from balancer.model.drain import DrainState
from balancer.store import tables
from balancer.store.campaigns import CampaignState
from balancer.store.part import Part
from balancer.store.records import OPEN_SETTINGS
from balancer.store.requests import RequestState

RUNS = 20  # at a time: hundreds of lines hang on each
LINES = 1000


class Expiry(Part):
    """Deletes what is old."""

    def runs(self, before: datetime) -> int:
        """Delete runs that ended before, with their migrations, settings and lines."""
        runs, settings = tables.runs, tables.settings
        owed = exists().where(
            settings.c.run == runs.c.id,
            settings.c.state.in_([state.value for state in OPEN_SETTINGS]),
        )
        children = (tables.transitions.c.run, settings.c.run, tables.moves.c.run)
        return self._drop(runs, (runs.c.ended_at < before) & ~owed, RUNS, *children)

    def plans(self, before: datetime) -> int:
        """Delete plans that expired before and belong to no run, with the verdicts on them."""
        plans, carried_out = tables.plans, select(tables.runs.c.plan)
        old = (plans.c.expires_at < before) & plans.c.id.not_in(carried_out)
        return self._drop(plans, old, RUNS, tables.approvals.c.plan)

    def drains(self, before: datetime) -> int:
        """Delete drains that ended before."""
        table = tables.drains
        over = table.c.state.in_([state.value for state in DrainState if state.is_final])
        children = (tables.drain_steps.c.drain, tables.drain_things.c.drain)
        return self._drop(table, (table.c.since < before) & over, RUNS, *children)

    def campaigns(self, before: datetime) -> int:
        """Delete campaigns that ended before."""
        table = tables.campaigns
        over = table.c.state.in_([state.value for state in CampaignState if state.is_final])
        child = tables.campaign_hosts.c.campaign
        return self._drop(table, (table.c.since < before) & over, RUNS, child)

    def requests(self, before: datetime) -> int:
        """Delete requests that were answered before."""
        table = tables.requests
        over = or_(*(table.c.state == state.value for state in RequestState if state.is_over))
        return self._drop(table, (table.c.since < before) & over, LINES)

    def measurements(self, before: datetime) -> int:
        """Delete measurements of migrations that ended before."""
        return self._drop(tables.measurements, tables.measurements.c.at < before, LINES)

    def audit(self, before: datetime) -> int:
        """Delete lines of the audit log, oldest first.

        Raises:
            StoreError: They are younger than the database lets go of.
        """
        return self._drop(tables.audit, tables.audit.c.at < before, LINES)

    def _drop(
        self, table: Table, old: ColumnElement[bool], most: int, *children: Column[object]
    ) -> int:
        query = select(table.c.id).where(old).order_by(table.c.id).limit(most)
        ids = [row["id"] for row in self._read(query)]
        if ids:
            with self._writing() as connection:
                for child in children:
                    connection.execute(delete(child.table).where(child.in_(ids)))
                connection.execute(delete(table).where(table.c.id.in_(ids)))
        return len(ids)
