"""Opening the database: SQLite or PostgreSQL, migrated to our schema, or a clear no."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from balancer.store import postgresql, sqlite
from balancer.store.address import is_sqlite
from balancer.store.faults import UnusableStoreError, opening
from balancer.store.schema import migrate, refuse_other, require_present


def open_engine(url: URL, location: str) -> Engine:
    """Open the database for reading and writing, and bring its schema up to date."""
    if is_sqlite(url):
        sqlite.made_for_its_directory(url)
    engine = _engine(url, location, writing=True)
    try:
        with opening(location):
            with engine.begin() as connection:
                postgresql.alone(connection, "schema")
                refuse_other(connection, location)
            if is_sqlite(url):
                sqlite.use_wal(engine)
            with engine.begin() as connection:
                postgresql.alone(connection, "schema")
                migrate(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_engine_read_only(url: URL, location: str) -> Engine:
    """Open an existing database for reading; it must have exactly our schema."""
    url = sqlite.read_only(url) if is_sqlite(url) else url
    engine = _engine(url, location, writing=False)
    try:
        with opening(location), engine.begin() as connection:
            require_present(connection, location)
    except BaseException:
        engine.dispose()
        raise
    return engine


def reading_engine(engine: Engine, location: str) -> Engine:
    """Return what reads the same database, a query a time; a SQLite file by ways of its own."""
    if is_sqlite(engine.url) and not sqlite.in_memory(engine.url):
        engine = _engine(engine.url, location, writing=False)
    return engine.execution_options(**{sqlite.ONE_QUERY: True})


def _engine(url: URL, location: str, *, writing: bool) -> Engine:
    more: dict[str, Any] = sqlite.arguments(url, writing=writing) if is_sqlite(url) else {}
    if url.get_backend_name() == "postgresql":
        more = postgresql.arguments()
    try:
        engine = create_engine(url, **more)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise UnusableStoreError(
            f"the store {location} cannot be used: there is no driver for it here",
            remedy="give a file, or postgresql:// with the extra `fleet` installed",
        ) from error
    (sqlite if is_sqlite(url) else postgresql).behave(engine, writing=writing)
    return engine
