"""Opening a store: made, migrated, refused with a reason, or read without disturbing anybody."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text

from balancer.errors import ExitCode
from balancer.store import tables
from balancer.store.faults import StoreError, UnusableStoreError
from balancer.store.schema import HEAD
from balancer.store.store import Store
from balancer.store.upgrade import refuse_reading
from tests.notation import cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_migrations_make_exactly_the_tables_we_use(place: str) -> None:
    with Store.open(place) as store, store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == HEAD


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_root_makes_it_for_whoever_owns_the_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    with Store.open(folder / "store.db") as store:
        store.leases.acquire("c", "me", 60.0, NOW)
        owners = {(each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()}
        assert (len(list(folder.iterdir())), owners) == (3, {(4711, 4712)})
    os.chown(folder / "store.db", 4713, 4714)
    with Store.open(folder / "store.db"):  # what is there stays as it is
        assert (folder / "store.db").stat().st_uid == 4713


def test_it_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "odd % name.db"
    with Store.open(path) as store:
        first = store.leases.acquire("c", "me", 60.0, NOW)
    with Store.open(f"sqlite:///{path}") as store:
        assert store.leases.current("c", NOW) == first


def test_a_commit_is_on_disk_before_we_go_on(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store, store._engine.connect() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_many_may_open_a_new_store_at_once(place: str) -> None:
    faults: list[BaseException] = []

    def open_it() -> None:
        try:
            Store.open(place).close()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the test must see it
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_what_is_no_store_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"this is no database at all, but long enough to be looked at" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    newer = tmp_path / "newer.db"
    Store.open(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for path, words in (
        (noise, "not a SQLite database"),
        (other, "something else"),
        (newer, "newer version"),
        (tmp_path / "no" / "such" / "place.db", "cannot be opened or created"),
    ):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(UnusableStoreError, match=words) as caught:
            Store.open(path)
        assert caught.value.remedy
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert before is None or path.read_bytes() == before


def test_words_that_only_look_like_a_url_are_refused() -> None:
    with pytest.raises(UnusableStoreError, match="no database URL"):
        Store.open("sqlite:\\\\://")
    with pytest.raises(UnusableStoreError, match="no driver"):
        Store.open("what://ever")


def test_reading_only_needs_a_store_of_our_schema(tmp_path: Path) -> None:
    with pytest.raises(UnusableStoreError, match="there is no store"):
        Store.open_read_only(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    empty = tmp_path / "empty.db"
    with sqlite3.connect(empty) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(UnusableStoreError, match="not a store"):
        Store.open_read_only(empty)


def test_a_store_that_came_by_our_schema_meanwhile_is_no_reason_to_refuse() -> None:
    with Store.open("sqlite://") as store, store.journal._engine.connect() as connection:
        refuse_reading(connection, "the store")


def test_a_reader_neither_writes_nor_waits_nor_makes_wait(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.open(path) as store, Store.open_read_only(path) as reader:
        with pytest.raises(StoreError, match="only be read"):
            reader.leases.acquire("c", "me", 60.0, NOW)
        with store._engine.begin() as writing:  # in the middle of a write
            writing.execute(text("UPDATE leases SET holder = holder"))
            assert reader.leases.current("c", NOW) is None
        with reader._engine.begin() as reading:  # in the middle of a read
            assert reading.execute(text("SELECT count(*) FROM leases")).scalar_one() == 0
            store.leases.acquire("c", "me", 60.0, NOW)


def test_a_full_disk_loses_nothing_that_was_said_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    snapshot = cluster("h1: " + ", ".join(f"v{n}" for n in range(2000)))
    with Store.open(path) as store:
        lease = store.leases.acquire("c", "me", 60.0, NOW)

        @event.listens_for(store._engine, "begin")
        def shrink(connection: object) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count=1")  # type: ignore[attr-defined]

        with pytest.raises(StoreError, match="the disk is full") as caught:
            store.history.record(snapshot, NOW)
        assert caught.value.exit_code is ExitCode.OUR_FAULT
        assert store.leases.current("c", NOW) == lease


READ = """
import os, sys
from balancer.errors import BalancerError
from balancer.store.store import Store
path, how = sys.argv[1:]
Store.open("sqlite://").close()  # all code is loaded while we may still read it
os.setgroups([])
os.setuid(65534)
try:
    with (Store.open if how == "write" else Store.open_read_only)(path) as store:
        print(store.journal.runs())
except BalancerError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_somebody_who_may_not_write_there(tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents):
        if place != Path("/"):
            place.chmod(place.stat().st_mode | 0o055)
    path = tmp_path / "s.db"
    Store.open(path).close()
    path.chmod(0o644)

    def try_it(how: str) -> str:
        return subprocess.run(  # noqa: S603 -- our own words
            [sys.executable, "-c", READ, str(path), how],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        ).stdout

    assert "UnusableStoreError" in try_it("write")
    assert "write" in try_it("write")
    assert try_it("read").strip() == "()"


@pytest.mark.parametrize(
    "location", ["postgresql+psycopg://u:geheim@h:port/d", "postgresql psycopg://u:geheim@h/d"]
)
def test_an_address_that_is_none_is_refused_without_its_password(location: str) -> None:
    with pytest.raises(UnusableStoreError, match="no database URL") as caught:
        Store.open(location)
    assert "geheim" not in f"{caught.value!r} {caught.value.remedy}"
    assert caught.value.__cause__ is None
