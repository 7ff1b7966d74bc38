"""SQLite, set up as a server would be.

Why `synchronous=FULL` everywhere: an act on a host depends on the journal line before it, so a
commit must survive a power cut; WAL with NORMAL loses the last commits then. It costs one disk
flush a commit, and we commit a few times a second at most; samples go in one commit a reading.

Why `BEGIN IMMEDIATE`: a transaction that reads and then writes would otherwise fail at once, not
wait, when another process wrote in between. Whoever only reads uses plain `BEGIN`, or none for
one query, and in WAL mode never blocks a writer nor waits for one.

Why one connection writes and others read: SQLite lets one write at a time, and whoever waits for
that asks again and again, in no order. With a thread for each of 200 clusters, waiting for the one
connection is cheaper and fair; and as many as wait to write, nobody waits for them to read.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, StaticPool, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from balancer.clock import SystemClock
from balancer.store.faults import NoStoreError

BUSY_TIMEOUT_MS = 30_000  # writers queue: the longest commit, a fleet's samples, takes under 1 s
READERS = 16  # connections: a read takes a millisecond
WAL_RETRY_S = 0.02
ONE_QUERY = "balancer_one_query"  # execution option of connections that are for one query each


def in_memory(url: URL) -> bool:
    """Tell whether the database is in memory: all share one connection then."""
    return url.database in (None, "", ":memory:")


def arguments(url: URL, *, writing: bool) -> dict[str, Any]:
    """Return what to make the engine with."""
    if in_memory(url):
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    size = 1 if writing else READERS
    return {"pool_size": size, "max_overflow": 0, "pool_timeout": BUSY_TIMEOUT_MS / 1000}


def made_for_its_directory(url: URL) -> None:
    """Where root is the first to need the file, make it for whoever owns its directory.

    The service's user has to write to it, too; files beside it get its owner from SQLite.
    """
    if sys.platform == "win32" or in_memory(url) or os.geteuid() != 0:
        return
    path = Path(url.database or "")
    with suppress(OSError):  # it is there, or cannot be: then opening it says so
        owner = path.parent.stat()
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o644)
        try:
            os.fchown(file, owner.st_uid, owner.st_gid)
        finally:
            os.close(file)


def read_only(url: URL) -> URL:
    """Return the URL by which the file can only be read."""
    path = Path(url.database or "")
    if not path.is_file():
        raise NoStoreError(str(path))
    query = {"mode": "ro", "uri": "true"}
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() and not os.access(path.parent, os.W_OK):
        # Nobody has it open, and we cannot make the files that readers and writers share: then
        # SQLite reads it only on our word that it does not change, for as long as we look.
        query["immutable"] = "1"
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def behave(engine: Engine, *, writing: bool) -> None:
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
        if connection.get_execution_options().get(ONE_QUERY, False):
            return  # it is a transaction by itself
        statement = "BEGIN IMMEDIATE" if writing else "BEGIN"
        driver: Any = connection.connection.driver_connection
        try:  # past SQLAlchemy: half of all that we ever execute is this
            driver.execute(statement).close()
        except sqlite3.Error as error:
            raise DBAPIError(statement, None, error) from error


def use_wal(engine: Engine) -> None:
    """Keep readers and writers apart; the file remembers it, and cannot within a transaction.

    SQLite's own patience does not cover this switch: while another process makes it, or has only
    just opened the file, it answers "busy" at once. So the patience is ours.
    """
    clock = SystemClock()
    until_s = clock.monotonic_s() + BUSY_TIMEOUT_MS / 1000
    connection = engine.raw_connection()
    try:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
                if not busy or clock.monotonic_s() > until_s:
                    raise DBAPIError("PRAGMA journal_mode=WAL", None, error) from error
                clock.sleep(WAL_RETRY_S)
            else:
                return
    finally:
        connection.close()
