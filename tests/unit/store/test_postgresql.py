"""A real PostgreSQL as the store: lost and found, locked by the dead, refused, copied."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

from balancer.clock import SystemClock, VirtualClock
from balancer.errors import ExitCode, RefusedError
from balancer.service.opening import opened
from balancer.service.readiness import Manager
from balancer.store import postgresql
from balancer.store.address import named, open_words, where
from balancer.store.backup import back_up
from balancer.store.faults import StoreError, StoreUnreachableError, UnusableStoreError
from balancer.store.store import Store
from tests.postgresql import PASSWORD, Server, serving, with_password

pytestmark = pytest.mark.server
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that nobody minds being stopped."""
    with serving() as running:
        yield running


def test_what_was_said_to_be_written_is_there_after_the_server_crashed(own: Server) -> None:
    said: list[datetime] = []
    faults: list[BaseException] = []
    over = threading.Event()
    with Store.open(with_password(own.new_database())) as store:
        lease = store.leases.acquire("c", "me", 60.0, NOW)
        run, _ = store.journal.begin_run(lease, "p", [], NOW)

        def write() -> None:
            at = NOW
            while not over.is_set():
                at += timedelta(seconds=1)
                try:
                    store.journal.note(lease.fence, run, at, "a word")
                    store.journal.open_runs("c")
                except Exception as error:  # noqa: BLE001 -- looked at below
                    faults.append(error)
                else:
                    said.append(at)

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(2):
            time.sleep(0.5)
            before = len(said)
            own.restart("immediate")
        time.sleep(1)
        over.set()
        thread.join()
        assert len(said) > before  # it went on by itself
        assert len(faults) <= 2  # at most the write that was under way
        assert all(isinstance(fault, StoreUnreachableError) for fault in faults)
        notes = {line.at for line in store.journal.transitions(run) if line.state == "note"}
        assert set(said) <= notes
        assert len(notes) <= len(said) + len(faults)
        assert store.leases.renew(lease, NOW).fence == lease.fence


STOPPED = """
import sys, time
from datetime import UTC, datetime
from balancer.store import postgresql
postgresql._SESSION = (*postgresql._SESSION, "SET idle_in_transaction_session_timeout = '2s'")
from balancer.store.store import Store
from balancer.store.leases import require_held
with Store.open(sys.argv[1]) as store:
    lease = store.leases.acquire("c", "sleeper", 1.0, datetime(2026, 1, 1, tzinfo=UTC))
    with store.journal._writing() as connection:
        require_held(connection, lease)
        print("locked", flush=True)
        time.sleep(60)
"""


def test_who_sleeps_in_the_middle_of_a_write_holds_nobody_up_for_long(server: Server) -> None:
    place = with_password(server.new_database())
    Store.open(place).close()
    command = [sys.executable, "-c", STOPPED, place]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sleeper,  # noqa: S603
        Store.open(place) as store,
    ):
        try:
            assert sleeper.stdout is not None
            assert sleeper.stdout.readline() == "locked\n"
            began = time.monotonic()
            lease = store.leases.acquire("c", "me", 60.0, NOW + timedelta(seconds=5))
            assert 0.5 < time.monotonic() - began < 10
            assert store.leases.current("c", NOW) == lease
        finally:
            sleeper.kill()


def test_the_server_gives_up_on_a_sleeper_before_others_give_up_waiting(server: Server) -> None:
    with Store.open(with_password(server.new_database())) as store:
        with store._engine.connect() as connection:
            shown = [
                connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in (
                    "idle_in_transaction_session_timeout",
                    "lock_timeout",
                    "synchronous_commit",
                    "transaction_isolation",
                )
            ]
        assert shown == ["15s", "30s", "on", "read committed"]
    assert postgresql.IDLE_IN_TRANSACTION_S < postgresql.WAIT_FOR_LOCK_S


def test_a_commit_waits_for_the_disk_even_where_the_server_is_set_not_to(server: Server) -> None:
    url = server.new_database()
    with server.connect() as connection:
        name = url.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with Store.open(with_password(url)) as store, store._engine.connect() as one:
        assert one.execute(text("SHOW synchronous_commit")).scalar_one() == "on"


def test_a_reader_may_not_write_and_needs_a_store(server: Server) -> None:
    place = with_password(server.new_database())
    with pytest.raises(UnusableStoreError, match="there is no store"):
        Store.open_read_only(place)
    assert Store.peek(place) is None
    with Store.open(place) as store, Store.open_read_only(place) as reader:
        with pytest.raises(StoreError, match="only be read"):
            reader.leases.acquire("c", "me", 60.0, NOW)
        with store._engine.begin() as writing:  # in the middle of a write
            writing.execute(text("UPDATE leases SET holder = holder"))
            assert reader.leases.current("c", NOW) is None


def test_what_is_something_else_is_refused_and_left_as_it_was(server: Server) -> None:
    url = server.new_database()
    with server.connect(url.rpartition("/")[2]) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(UnusableStoreError, match="something else"):
        Store.open(with_password(url))
    newer = server.new_database()
    Store.open(with_password(newer)).close()
    with server.connect(newer.rpartition("/")[2]) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnusableStoreError, match="newer version"):
        Store.open(with_password(newer))


def test_who_may_not_create_tables_is_told_so(server: Server) -> None:
    url = server.new_database()
    name = url.rpartition("/")[2]
    with server.connect(name) as connection:
        connection.execute(f"CREATE ROLE r{name} LOGIN PASSWORD 'x'")
    with pytest.raises(UnusableStoreError, match="may not do that") as caught:
        Store.open(where(url).set(username=f"r{name}", password="x"))
    assert "owner" in caught.value.remedy


@pytest.mark.parametrize("wrong", ["password", "port", "database"])
def test_a_server_that_lets_nobody_in_is_unreachable_and_no_secret_is_told(
    server: Server, wrong: str
) -> None:
    url = where(with_password(server.new_database()))
    changed = {
        "password": url.set(password="geheim"),
        "port": url.set(port=1),
        "database": url.set(database="nowhere"),
    }[wrong]
    began = time.monotonic()
    for opening in (Store.open, Store.open_read_only):
        with pytest.raises(StoreUnreachableError, match="cannot be reached") as caught:
            opening(changed)
        assert caught.value.exit_code is ExitCode.CANNOT_REACH
        told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
        assert "geheim" not in told
        assert PASSWORD not in told
    assert time.monotonic() - began < 10  # a mistake is told at once, not waited for
    assert PASSWORD not in named(url)


def test_a_machine_whose_clock_is_wrong_is_refused(server: Server) -> None:
    place = where(with_password(server.new_database()))
    with Store.open(place) as store:
        assert abs(store.ahead_s(SystemClock())) < 5
    wrong = VirtualClock(datetime(2050, 1, 1, tzinfo=UTC))
    with pytest.raises(RefusedError, match="ahead of the database"):
        opened(place, Manager({}), wrong, lambda _: False)


class Skewed(SystemClock):
    ahead_s = 60.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)


def test_a_service_waits_until_its_machines_clock_is_set(server: Server) -> None:
    place, clock = where(with_password(server.new_database())), Skewed()

    def set_clock(wait_s: float) -> bool:
        del wait_s
        clock.ahead_s = 0.0
        return False

    store = opened(place, Manager({"NOTIFY_SOCKET": "/nowhere"}), clock, set_clock)
    assert store is not None
    store.close()
    assert clock.ahead_s == 0.0


def test_a_text_with_a_character_that_the_server_refuses_is_written_without_it(
    server: Server,
) -> None:
    with Store.open(with_password(server.new_database())) as store:
        lease = store.leases.acquire("c", "me", 60.0, NOW)
        run, _ = store.journal.begin_run(lease, "p", [], NOW)
        store.journal.note(lease.fence, run, NOW, "n\0o r\0oom: Größe")
        assert [line.reason for line in store.journal.transitions(run)][-1:] == [
            "n\ufffdo r\ufffdoom: Größe"
        ]


SPY = '#!/bin/sh\nprintf "%s\\n" "$@" > "{seen}"\nexec {real} "$@"\n'


def test_a_backup_is_restored_elsewhere_and_its_password_is_on_no_command_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = where(with_password(server.new_database()))
    seen = tmp_path / "seen"
    programs = tmp_path / "bin"
    programs.mkdir()
    spy = programs / "pg_dump"
    spy.write_text(SPY.format(seen=seen, real=server.programs / "pg_dump"))
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{server.programs}:/usr/bin:/bin")
    with Store.open(place) as store:
        lease = store.leases.acquire("c", "me", 60.0, NOW)
        run, _ = store.journal.begin_run(lease, "p", [], NOW)
        file = tmp_path / "o'dd ü.dump"
        assert back_up(place, file, NOW) == file.stat().st_size
    assert file.stat().st_mode & 0o077 == 0
    assert "--no-password" in seen.read_text()
    assert PASSWORD not in seen.read_text()

    elsewhere = where(with_password(server.new_database()))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    command = ["pg_restore", "--dbname", make_conninfo("", **open_words(elsewhere)), str(file)]
    subprocess.run(command, check=True)  # noqa: S603
    with Store.open(elsewhere) as copy:
        assert copy.leases.current("c", NOW) == lease
        assert copy.journal.open_runs("c")[0].id == run
    with pytest.raises(StoreError, match="pg_dump failed") as caught:
        back_up(place.set(database="nowhere"), tmp_path / "no.dump", NOW)
    assert PASSWORD not in str(caught.value)
    assert not list(tmp_path.glob("*no.dump*"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="client is not here"):
        back_up(place, file, NOW)
