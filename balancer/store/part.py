"""What the parts of the store share: how to read and how to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Select, Table
from sqlalchemy.dialects import sqlite

from balancer.store.faults import working
from balancer.store.postgresql import again, connected

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


class Part:
    """One part of the store. Reading and writing raise `StoreError` when the database fails."""

    def __init__(self, engine: Engine, reading: Engine, location: str) -> None:
        self._engine = engine
        self._reading_engine = reading
        self._location = location

    def _read(self, query: Select[Any], **values: object) -> list[dict[str, Any]]:
        """Return the rows of a query by column; never waits for a writer, nor makes one wait.

        `values` are those of its parameters. A query that is asked often is built once, with
        parameters: to build it takes longer than SQLite takes to answer.
        """

        def rows() -> list[dict[str, Any]]:
            with connected(self._reading_engine) as connection:
                return [dict(row) for row in connection.execute(query, values).mappings()]

        with working(self._location):
            return again(self._reading_engine, rows)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is durable once the block has ended.

        An error may come after all from a server that was lost while it committed: then the
        transaction is there or is not, whole. Whoever goes on reads before it acts.
        """
        with (
            working(self._location),
            connected(self._engine) as connection,
            connection.begin(),
        ):
            yield connection


def inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that can say what becomes of a row that is there already."""
    if connection.dialect.name == "postgresql":
        # A file needs none of that dialect, which takes five times as long to import as SQLite's.
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 -- start-up time

        return postgresql.insert(table)
    return sqlite.insert(table)


def put(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or overwrite the one with its primary key."""
    key = [column.name for column in table.primary_key]
    statement = inserting(connection, table).values(**values)
    others = {name: value for name, value in values.items() if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others))


def put_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, but for those whose key is there already."""
    connection.execute(inserting(connection, table).on_conflict_do_nothing(), rows)
