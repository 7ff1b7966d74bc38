"""Many clusters in one store: writers take turns, and nobody waits for them to read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from balancer.store.store import Store
from tests.notation import cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def in_threads(count: int, work: Callable[[int], None]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 -- the test says which
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_two_hundred_clusters_write_and_read_at_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:

        def live(number: int) -> None:
            name = f"C{number}"
            lease = store.leases.acquire(name, "me", 60.0, NOW)
            for turn in range(3):
                at = NOW + timedelta(seconds=turn)
                store.history.record(cluster("h1 64G: a 4G, b 8G"), at)
                lease = store.leases.renew(lease, at)
                assert store.freezes.of(name) is None
                assert store.marks.get(name, "cycled") in (None, *[NOW] * turn)
                store.marks.set(name, "cycled", NOW)

        assert in_threads(200, live) == []
        assert all(store.leases.current(f"C{n}", NOW) is not None for n in range(200))


def test_reading_does_not_wait_while_many_wait_to_write(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        store.marks.set("C", "cycled", NOW)
        release = threading.Event()
        waiting = threading.Semaphore(0)

        def write(number: int) -> None:
            waiting.release()
            store.marks.set(f"C{number}", "cycled", NOW)

        with store.marks._writing():
            writers = threading.Thread(target=lambda: in_threads(40, write))
            writers.start()
            for _ in range(40):
                waiting.acquire()
            time.sleep(0.1)
            began = time.monotonic()
            assert [store.marks.get("C", "cycled") for _ in range(20)] == [NOW] * 20
            assert time.monotonic() - began < 5.0
            release.set()
        writers.join(30)
        assert not writers.is_alive()
        assert store.marks.get("C39", "cycled") == NOW
