"""Leases: one holder at a time, a number that only grows, clocks that jump."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from balancer.clock import VirtualClock
from balancer.errors import ExitCode, HeldError
from balancer.store import process
from balancer.store.address import where
from balancer.store.leases import LeaseLostError, holder_name
from balancer.store.process import identity, is_gone
from balancer.store.store import Store
from balancer.store.upgrade import revisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_one_at_a_time_until_it_ends_or_expires(place: str) -> None:
    with Store.open(place) as store:
        first = store.leases.acquire("c", "a", 60.0, NOW)
        with pytest.raises(HeldError, match="held by a") as caught:
            store.leases.acquire("c", "b", 60.0, later(59))
        assert caught.value.exit_code is ExitCode.HELD_BY_OTHER
        assert "1 s" in caught.value.remedy
        assert store.leases.current("c", later(59)) == first
        assert store.leases.current("c", later(60)) is None
        second = store.leases.acquire("c", "b", 60.0, later(60))
        store.leases.release(second)
        third = store.leases.acquire("c", "a", 60.0, later(61))
        assert first.fence < second.fence < third.fence


def test_the_number_grows_even_when_the_clock_goes_back_or_the_store_is_lost(
    new: Callable[[], str],
) -> None:
    with Store.open(new()) as store:
        first = store.leases.acquire("c", "a", 60.0, NOW)
        store.leases.release(first)
        second = store.leases.acquire("c", "a", 60.0, NOW - timedelta(days=400))
        assert second.fence > first.fence
    with Store.open(new()) as anew:
        third = anew.leases.acquire("c", "a", 60.0, later(3600))
        assert third.fence > second.fence
        assert third.fence < 2**31


def test_renewing_works_until_somebody_else_took_over(place: str) -> None:
    with Store.open(place) as store:
        lease = store.leases.acquire("c", "a", 60.0, NOW)
        lease = store.leases.renew(lease, later(50))
        assert lease.expires_at == later(110)
        lease = store.leases.renew(lease, later(500))  # late, but nobody wanted it
        newer = store.leases.acquire("c", "b", 60.0, later(1000))
        with pytest.raises(LeaseLostError, match="b holds it"):
            store.leases.renew(lease, later(1001))
        store.leases.release(lease)  # lets go of nothing that is another's
        assert store.leases.current("c", later(1001)) == newer
        store.leases.release(newer)
        with pytest.raises(LeaseLostError, match="nobody"):
            store.leases.renew(newer, later(1002))


def test_the_holder_raises_its_number_and_keeps_the_lease(place: str) -> None:
    clock = VirtualClock()
    with Store.open(place) as store:
        with store.leases.hold("c", "a", clock) as first:
            second = store.leases.advance(first)
            third = store.leases.advance(second)
            assert first.fence < second.fence < third.fence
            assert store.leases.current("c", clock.now()) == third
            # A copy from before is the same lease, and comes back with the number of now.
            assert store.leases.renew(first, clock.now()).fence == third.fence
            assert store.leases.advance(first).fence > third.fence
            run, _ = store.journal.begin_run(second, "p", [], clock.now())
            assert store.journal.runs("c")[0].id == run
        assert store.leases.current("c", clock.now()) is None  # let go by the first copy
        newer = store.leases.acquire("c", "a", 60.0, clock.now())
        assert newer.fence > third.fence
        for stale in (first, third):
            with pytest.raises(LeaseLostError, match="a holds it"):
                store.leases.advance(stale)
            store.leases.release(stale)
        assert store.leases.current("c", clock.now()) == newer


def test_raising_the_number_does_not_overtake_who_took_the_cluster_by_another_store(
    new: Callable[[], str],
) -> None:
    with Store.open(new()) as one, Store.open(new()) as other:
        lease = one.leases.acquire("c", "a", 60.0, NOW)
        newer = other.leases.acquire("c", "b", 60.0, later(30))
        assert one.leases.advance(lease).fence < newer.fence


def test_holding_lets_go_whatever_happens(place: str) -> None:
    clock = VirtualClock()
    with Store.open(place) as store:
        with (
            pytest.raises(KeyError),
            store.leases.hold("c", holder_name(), clock),
        ):
            raise KeyError
        with store.leases.hold("c", "b", clock) as lease:
            assert lease.holder == "b"
        assert store.leases.current("c", clock.now()) is None


def test_of_many_who_want_it_at_once_one_gets_it(place: str) -> None:
    won: list[str] = []
    lost: list[str] = []
    with Store.open(place) as store:

        def want(name: str) -> None:
            try:
                store.leases.acquire("c", name, 60.0, NOW)
                won.append(name)
            except HeldError:
                lost.append(name)

        threads = [threading.Thread(target=want, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_clock_set_back_keeps_the_cluster_no_longer_than_a_lease_lasts(place: str) -> None:
    with Store.open(place) as store:
        first = store.leases.acquire("c", "a", 60.0, NOW)
        with pytest.raises(HeldError) as caught:
            store.leases.acquire("c", "b", 60.0, later(-3 * 3600))
        assert "in 60 s" in caught.value.remedy
        alive = store.leases.renew(first, later(-3 * 3600 + 20))
        with pytest.raises(HeldError):  # it lives and has renewed
            store.leases.acquire("c", "b", 60.0, later(-3 * 3600 + 70))
        second = store.leases.acquire("c", "b", 60.0, later(-3 * 3600 + 81))
        assert second.fence > alive.fence


HOLD = """
import sys, time
from datetime import UTC, datetime
from balancer.store.store import Store
with Store.open(sys.argv[1]) as store:
    store.leases.acquire("c", "the other", 60.0, datetime(2026, 1, 1, tzinfo=UTC))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(place: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the cluster of the store."""
    command = [sys.executable, "-c", HOLD, place]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- our own
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_lease_of_a_killed_process_is_free_at_once(
    place: str, other: subprocess.Popen[str]
) -> None:
    with Store.open(place) as store:
        held = store.leases.current("c", later(1))
        assert held is not None
        with pytest.raises(HeldError, match="the other"):
            store.leases.acquire("c", "me", 60.0, later(1))
        other.send_signal(signal.SIGSTOP)  # asleep is not dead
        with pytest.raises(HeldError, match="the other"):
            store.leases.acquire("c", "me", 60.0, later(1))
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still listed
        mine = store.leases.acquire("c", "me", 60.0, later(1))
        assert mine.fence > held.fence
        with pytest.raises(LeaseLostError):
            store.leases.renew(held, later(2))


def test_a_process_is_gone_only_when_that_is_certain(other: subprocess.Popen[str]) -> None:
    boot, pids, times, pid, started = identity().split(" ")
    assert (pid, is_gone(identity())) == (str(os.getpid()), False)
    other.kill()
    other.wait()
    dead = str(other.pid)
    assert is_gone(f"{boot} {pids} {times} {dead} {started}")
    assert is_gone(f"{boot} {pids} {times} {pid} 1")  # its id was given out again
    for doubtful in (
        "",
        "nonsense",
        f"other-boot {pids} {times} {dead} {started}",
        f"{boot} pid:[1] {times} {dead} {started}",  # another container
        f"{boot} {pids} time:[1] {dead} {started}",
        f"{boot} {pids} {times} -1 {started}",
        f"{boot} {pids} {times}  {started}",
    ):
        assert not is_gone(doubtful), doubtful


def test_a_lease_from_before_they_told_their_process_is_waited_for(place: str) -> None:
    old = create_engine(where(place))
    with old.begin() as connection:
        command.upgrade(revisions(connection), "0001")
        until = int(later(60).timestamp() * 1_000_000)
        row = {"cluster": "c", "fence": 7, "holder": "old", "ttl_s": 60.0, "expires_at": until}
        connection.execute(
            text(
                "INSERT INTO leases (cluster, fence, holder, ttl_s, expires_at)"
                " VALUES (:cluster, :fence, :holder, :ttl_s, :expires_at)"
            ),
            row,
        )
    old.dispose()
    with Store.open(place) as store:
        with pytest.raises(HeldError, match="held by old"):
            store.leases.acquire("c", "new", 60.0, later(59))
        assert store.leases.acquire("c", "new", 60.0, later(60)).fence


def test_where_only_processes_can_be_seen_systemd_says_which_boot_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = identity()
    boot = everything.split(" ")[0]
    monkeypatch.delenv(process.BOOT_ID, raising=False)
    for name in ("self", str(os.getpid())):  # as with ProcSubset=pid
        (tmp_path / name).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(process, "_PROC", tmp_path)
    assert identity() == ""
    monkeypatch.setenv(process.BOOT_ID, boot)
    assert identity() == everything
    for nonsense in ("", "%b", boot[1:], "g" * 32):
        monkeypatch.setenv(process.BOOT_ID, nonsense)
        assert identity() == ""


def test_units_that_hide_the_boot_say_which_it_is() -> None:
    units = sorted((Path(__file__).parents[3] / "systemd").glob("*.service"))
    hiding = [text for unit in units if "ProcSubset=pid" in (text := unit.read_text("utf-8"))]
    assert len(hiding) >= 3
    assert all(f"\nEnvironment={process.BOOT_ID}=%b\n" in text for text in hiding)
