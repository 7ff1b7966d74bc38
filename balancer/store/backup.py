"""A copy of the store taken while others write to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from balancer.store.address import Address
from balancer.store.dump import dump
from balancer.store.faults import NoStoreError, StoreError, UnusableStoreError
from balancer.store.standing import COPIED, EVERY_CLUSTER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def back_up(store: Address, file: Path, now: datetime) -> int:
    """Copy the store to `file` and return its size in bytes.

    Of a SQLite file it is SQLite's own online backup, of PostgreSQL a dump: one consistent state,
    whatever happens meanwhile. The copy is checked, written to disk and only then given its name.
    A copy of a SQLite file says of itself since when it is one, so that nothing in it goes on.

    Raises:
        UnusableStoreError: There is no store.
        StoreError: The copy cannot be written, or is damaged; what was at `file` is untouched.
    """
    if isinstance(store, Path) and not store.is_file():
        raise NoStoreError(str(store))
    if isinstance(store, Path) and file.exists() and file.samefile(store):
        raise UnusableStoreError(f"{file} is the store itself", remedy="name another file")
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        beside.touch(mode=0o600, exist_ok=False)
        if isinstance(store, Path):
            _copy(store, beside, now)
        else:
            dump(store, beside)
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(file)
        return file.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the backup to {file} failed: {error}", remedy="see that there is room for it"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _copy(store: Path, to: Path, now: datetime) -> None:
    address = f"file:{quote(str(store))}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True)) as source,
        contextlib.closing(sqlite3.connect(to)) as target,
    ):
        # In one step: it reads one state, and in WAL mode keeps no writer waiting. In several,
        # SQLite begins anew after each commit of others, and beside a busy service never ends.
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        _mark(target, now)
        (found,) = target.execute("PRAGMA quick_check").fetchone()
        if found != "ok":
            raise StoreError(
                f"the copy of {store} is damaged: {found}",
                remedy="check the store with `sqlite3 FILE 'PRAGMA integrity_check'`",
            )


def _mark(copy: sqlite3.Connection, now: datetime) -> None:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'marks'"
    if copy.execute(query).fetchone() is None:
        return  # of a version that had none yet
    at = (now - _EPOCH) // timedelta(microseconds=1)
    words = (EVERY_CLUSTER, COPIED, at)
    copy.execute("INSERT OR REPLACE INTO marks (cluster, name, at) VALUES (?, ?, ?)", words)
    copy.commit()
