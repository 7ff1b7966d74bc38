"""What the parts of the store share: how to read and how to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Select

from balancer.store.faults import working


class Part:
    """One part of the store. Reading and writing raise `StoreError` when the database fails."""

    def __init__(self, engine: Engine, reading: Engine, location: str) -> None:
        self._engine = engine
        self._reading_engine = reading
        self._location = location

    def _read(self, query: Select[Any]) -> list[dict[str, Any]]:
        """Return the rows of a query by column; never waits for a writer, nor makes one wait."""
        with working(self._location), self._reading_engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is durable once the block has ended."""
        with working(self._location), self._engine.begin() as connection:
            yield connection
