"""Runs between their two hooks: whoever finds one that nobody carries out any more ends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, select

from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part, put


@dataclass(frozen=True, slots=True)
class Bracket:
    """A run whose hook before has begun; `variables` are what its hook after is to know of it."""

    cluster: str
    plan: str
    variables: Mapping[str, str]
    at: datetime


_ONE = select(tables.brackets).where(tables.brackets.c.cluster == bindparam("name"))


class Brackets(Part):
    """One a cluster, from before the first hook to after the second."""

    def open(self, lease: Lease, plan: str, variables: Mapping[str, str], at: datetime) -> None:
        """Say that the hook before a run is about to be started."""
        row = {
            "cluster": lease.cluster,
            "plan": plan,
            "variables": json.dumps(dict(variables), ensure_ascii=False),
            "at": at,
        }
        with self._writing() as connection:
            require_held(connection, lease)
            put(connection, tables.brackets, row)

    def close(self, lease: Lease) -> None:
        """Say that the hook after it has ended.

        Raises:
            LeaseLostError: A newer executor has the cluster, and the run with it.
        """
        table = tables.brackets
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(delete(table).where(table.c.cluster == lease.cluster))

    def of(self, cluster: str) -> Bracket | None:
        """Return the run that was begun, if it has not been ended."""
        rows = self._read(_ONE, name=cluster)
        if not rows:
            return None
        return Bracket(**{**rows[0], "variables": json.loads(rows[0]["variables"])})
