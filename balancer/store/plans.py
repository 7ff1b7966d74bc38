"""Plans kept for later: shown, applied, and approved or rejected within their life."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select

from balancer.errors import InputError
from balancer.model.plan import Plan
from balancer.store import tables
from balancer.store.part import Part, put


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan document with what finds it and what it is bound to."""

    id: str
    cluster: str
    status: str
    created_at: datetime
    expires_at: datetime
    snapshot_sha256: str
    policy_sha256: str
    document: str


class Plans(Part):
    """The plan documents of every cluster in the store."""

    def save(self, plan: Plan, document: str) -> None:
        """Keep a plan as the document it is written as; the same id again replaces it."""
        with self._writing() as connection:
            stored = StoredPlan(
                id=plan.id,
                cluster=plan.cluster,
                status=plan.status.value,
                created_at=plan.created_at,
                expires_at=plan.expires_at,
                snapshot_sha256=plan.snapshot_sha256,
                policy_sha256=plan.policy_sha256,
                document=document,
            )
            put(connection, tables.plans, asdict(stored))

    def get(self, plan: str) -> StoredPlan:
        """Return the plan with this id.

        Raises:
            InputError: There is none.
        """
        query = select(tables.plans).where(tables.plans.c.id == plan)
        rows = self._read(query)
        if not rows:
            raise InputError(
                f"there is no plan {plan!r} in the store", remedy="`balancer status` lists them"
            )
        return StoredPlan(**rows[0])

    def latest(self, cluster: str, limit: int = 10) -> tuple[StoredPlan, ...]:
        """Return the plans of a cluster, newest first."""
        query = (
            select(tables.plans)
            .where(tables.plans.c.cluster == cluster)
            .order_by(tables.plans.c.created_at.desc(), tables.plans.c.id)
            .limit(limit)
        )
        return tuple(StoredPlan(**row) for row in self._read(query))
