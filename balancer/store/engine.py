"""Opening the database: SQLite as a server would be, migrated to our schema, or a clear no.

Why `synchronous=FULL` everywhere: an act on a host depends on the journal line before it, so a
commit must survive a power cut; WAL with NORMAL loses the last commits then. It costs one disk
flush a commit, and we commit a few times a second at most; samples go in one commit a reading.

Why `BEGIN IMMEDIATE`: a transaction that reads and then writes would otherwise fail at once, not
wait, when another process wrote in between. Readers use plain `BEGIN`, and in WAL mode never
block a writer nor wait for one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from balancer.store.faults import UnusableStoreError, opening

BUSY_TIMEOUT_MS = 30_000  # writers queue: the longest commit, a fleet's samples, takes under 1 s
READING = "balancer_reading"  # execution option of connections that only read


def where(location: str | Path) -> URL:
    """Return the database URL for a path or a URL.

    Raises:
        UnusableStoreError: It looks like a URL and is none.
    """
    text = str(location)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except ArgumentError as error:
        raise UnusableStoreError(
            f"{text!r} is no database URL", remedy="give a file, or postgresql+psycopg://..."
        ) from error


def open_engine(url: URL, location: str) -> Engine:
    """Open the database for reading and writing, and bring its schema up to date."""
    engine = _engine(url, location, writing=True)
    try:
        with opening(location):
            with engine.begin() as connection:
                _refuse_other(connection, location)
            if _is_sqlite(url):
                _use_wal(engine)
            with engine.begin() as connection:
                _migrate(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_engine_read_only(url: URL, location: str) -> Engine:
    """Open an existing database for reading; it must have exactly our schema."""
    url = _read_only_file(url) if _is_sqlite(url) else url
    engine = _engine(url, location, writing=False).execution_options(**{READING: True})
    try:
        with opening(location), engine.begin() as connection:
            _check_revision(connection, location)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _engine(url: URL, location: str, *, writing: bool) -> Engine:
    more: dict[str, Any] = {}
    if _is_sqlite(url) and url.database in (None, "", ":memory:"):
        more = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    try:
        engine = create_engine(url, **more)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise UnusableStoreError(
            f"the store {location} cannot be used: there is no driver for it here",
            remedy="give a file, or postgresql+psycopg:// with psycopg installed",
        ) from error
    if _is_sqlite(url):
        _behave(engine, writing=writing)
    return engine


def _read_only_file(url: URL) -> URL:
    path = Path(url.database or "")
    if not path.is_file():
        raise UnusableStoreError(
            f"there is no store at {path}", remedy="it is created by the first run"
        )
    query = {"mode": "ro", "uri": "true"}
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() and not os.access(path.parent, os.W_OK):
        # Nobody has it open, and we cannot make the files that readers and writers share: then
        # SQLite reads it only on our word that it does not change, for as long as we look.
        query["immutable"] = "1"
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _behave(engine: Engine, *, writing: bool) -> None:
    """Set what SQLite leaves to each connection."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: object) -> None:
        del record
        connection.isolation_level = None  # transactions begin where we say, below
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        if writing:
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _use_wal(engine: Engine) -> None:
    """Keep readers and writers apart; the file remembers it, and cannot within a transaction."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    here = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", here.replace("%", "%%"))
    return config


def _refuse_other(connection: Connection, location: str) -> None:
    """Refuse, before anything is changed, what is not ours or not ours any more."""
    present = MigrationContext.configure(connection).get_current_revision()
    if present is None and inspect(connection).get_table_names():
        raise UnusableStoreError(
            f"the store {location} cannot be used: it is a database of something else",
            remedy="name another file or database",
        )
    scripts = ScriptDirectory.from_config(_config(connection))
    _refuse_newer(present, scripts, location)


def _migrate(connection: Connection) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    if present == scripts.get_current_head():
        return
    command.upgrade(config, "head")


def _check_revision(connection: Connection, location: str) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(_config(connection))
    if present == scripts.get_current_head():
        return
    _refuse_newer(present, scripts, location)
    raise UnusableStoreError(
        f"the store {location} cannot be read: "
        + ("it is not a store" if present is None else "an older version wrote it"),
        remedy="run a command that writes, such as `balancer apply`, to bring it up to date",
    )


def _refuse_newer(present: str | None, scripts: ScriptDirectory, location: str) -> None:
    if present is None or present in {script.revision for script in scripts.walk_revisions()}:
        return
    raise UnusableStoreError(
        f"the store {location} cannot be used: a newer version of the balancer wrote it "
        f"(schema {present}, ours is {scripts.get_current_head()})",
        remedy="install that version or a later one",
    )
