"""What has been told of each cluster: the memory that the workers of a fleet share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import bindparam, select

from balancer.store import tables
from balancer.store.part import Part, put


@dataclass(frozen=True, slots=True)
class Known:
    """How a cluster stood when it was last looked at.

    Attributes:
        silent: Names of the hosts that do not answer.
        frozen: Why nothing may move; empty while it may.
        in_cluster: What somebody has written into the cluster itself to freeze it.
        pending: Id of the plan that waits for an answer.
        unresolved: Problems that the last plan leaves.
    """

    cluster: str
    silent: tuple[str, ...] = ()
    frozen: str = ""
    in_cluster: str = ""
    pending: str = ""
    unresolved: int = 0


_ONE = select(tables.known).where(tables.known.c.cluster == bindparam("name"))


class Knowledge(Part):
    """What is known of every cluster in the store."""

    def of(self, cluster: str) -> Known:
        """Return what is known of a cluster: nothing, where nobody has looked yet."""
        rows = self._read(_ONE, name=cluster)
        return _known(rows[0]) if rows else Known(cluster)

    def all(self) -> tuple[Known, ...]:
        """Return what is known, by cluster."""
        query = select(tables.known).order_by(tables.known.c.cluster)
        return tuple(_known(row) for row in self._read(query))

    def put(self, known: Known) -> None:
        """Write down how a cluster stands now."""
        row = {**asdict(known), "silent": json.dumps(known.silent, ensure_ascii=False)}
        with self._writing() as connection:
            put(connection, tables.known, row)


def _known(row: Mapping[str, Any]) -> Known:
    return Known(**{**row, "silent": tuple(json.loads(row["silent"]))})
