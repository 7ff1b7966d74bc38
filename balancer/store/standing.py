"""What stands until somebody changes it: freezes, verdicts on plans, and when things were done."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import bindparam, delete, func, insert, or_, select

from balancer.clock import Clock
from balancer.store import tables
from balancer.store.part import Part, put, put_new
from balancer.store.postgresql import alone

EVERY_CLUSTER = ""  # the name under which a freeze or a mark is everybody's


@dataclass(frozen=True, slots=True)
class Freeze:
    """Nothing is to move, says `by`; `cluster` is empty where all clusters are meant."""

    cluster: str
    by: str
    at: datetime
    reason: str


_FREEZE = (
    select(tables.freezes)
    .where(
        or_(
            tables.freezes.c.cluster == bindparam("name"),
            tables.freezes.c.cluster == EVERY_CLUSTER,
        )
    )
    .order_by(tables.freezes.c.cluster.desc())
)


class Freezes(Part):
    """Which clusters are frozen."""

    def freeze(self, freeze: Freeze) -> None:
        """Freeze a cluster, or replace who froze it and why."""
        with self._writing() as connection:
            put(connection, tables.freezes, asdict(freeze))

    def thaw(self, cluster: str) -> bool:
        """Lift the freeze of this very name; tell whether there was one."""
        with self._writing() as connection:
            table = tables.freezes
            return connection.execute(delete(table).where(table.c.cluster == cluster)).rowcount > 0

    def of(self, cluster: str) -> Freeze | None:
        """Return what freezes a cluster: its own freeze before everybody's."""
        rows = self._read(_FREEZE, name=cluster)
        return Freeze(**rows[0]) if rows else None


class Verdict(StrEnum):
    """What a person said to a plan."""

    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved or rejected a plan, when and why."""

    plan: str
    cluster: str
    verdict: Verdict
    by: str
    at: datetime
    reason: str


class Approvals(Part):
    """Verdicts on plans: one each, and the first one stands."""

    def give(self, approval: Approval) -> Approval:
        """Enter a verdict; return the one that stands, which is the first."""
        with self._writing() as connection:
            row = {**asdict(approval), "verdict": approval.verdict.value}
            put_new(connection, tables.approvals, [row])
        return self.of(approval.plan) or approval

    def of(self, plan: str) -> Approval | None:
        """Return the verdict on a plan, or None."""
        table = tables.approvals
        rows = self._read(select(table).where(table.c.plan == plan))
        if not rows:
            return None
        return Approval(**{**rows[0], "verdict": Verdict(rows[0]["verdict"])})


_IDENTITY = "store "
# The end of a cluster's last lease, where the next one came long after, or others came in between
# of whom this store knows nothing: it was restored, if they had its name.
SILENT = "silent"
COPIED = "copied"  # when this store was copied from another one, which is to say backed up


class Marks(Part):
    """When something was last done, by cluster and name; and what tells this store from others."""

    def identity(self, now: datetime) -> str:
        """Return a word that is this store's alone, drawn when it is first asked for."""
        table = tables.marks
        query = (
            select(table.c.name)
            .where(table.c.cluster == EVERY_CLUSTER, table.c.name.startswith(_IDENTITY))
            .order_by(table.c.name)
        )
        if not (rows := self._read(query)):
            with self._writing() as connection:
                alone(connection, "identity")
                if connection.execute(query).first() is None:
                    name = _IDENTITY + secrets.token_hex(4)
                    connection.execute(
                        insert(table).values(cluster=EVERY_CLUSTER, name=name, at=now)
                    )
            rows = self._read(query)
        return str(rows[0]["name"]).removeprefix(_IDENTITY)

    def set(self, cluster: str, name: str, at: datetime) -> None:
        """Note that it was done."""
        with self._writing() as connection:
            put(connection, tables.marks, {"cluster": cluster, "name": name, "at": at})

    def set_all(self, clusters: Iterable[str], name: str, at: datetime) -> None:
        """Note that it was done for each of these clusters."""
        with self._writing() as connection:
            for cluster in sorted(clusters):
                put(connection, tables.marks, {"cluster": cluster, "name": name, "at": at})

    def get(self, cluster: str, name: str) -> datetime | None:
        """Return when it was last done, or None."""
        table = tables.marks
        query = select(table.c.at).where(table.c.cluster == cluster, table.c.name == name)
        rows = self._read(query)
        found: datetime | None = rows[0]["at"] if rows else None
        return found

    def left_alone(self, cluster: str) -> datetime | None:
        """Return until when this store was kept before it was left alone, or None.

        What is open since before is out of date: the store was restored, or nobody was there.
        """
        marks = (self.get(cluster, SILENT), self.get(EVERY_CLUSTER, COPIED))
        return max((at for at in marks if at is not None), default=None)

    def ahead_s(self, clock: Clock) -> float:
        """Return by how many seconds a clock is ahead of a database server's."""
        before = clock.now()
        (row,) = self._read(select(func.extract("epoch", func.clock_timestamp()).label("at")))
        return before.timestamp() + (clock.now() - before).total_seconds() / 2 - float(row["at"])
