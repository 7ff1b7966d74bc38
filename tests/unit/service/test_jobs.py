"""The queue on a real PostgreSQL: each cluster waits once, is visited by one, and is never lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy.engine import URL

from balancer.service import jobs
from balancer.service.jobs import Counter, key_of, serve
from balancer.store.address import where, words
from balancer.store.faults import StoreError
from tests.postgresql import Server, serving, with_password

pytestmark = pytest.mark.server
ODD = '\'; DROP TABLE "ü" --(' + "x" * 200


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def url(server: Server) -> URL:
    return where(with_password(server.new_database()))


class Worker:
    """A worker in a thread, until it is told to leave."""

    def __init__(
        self, url: URL, clusters: list[str], visit: Callable[[str], None], most: int = 4
    ) -> None:
        self.retried: list[str] = []
        self.faults: list[StoreError] = []
        self._loop = asyncio.new_event_loop()
        work = serve(url, clusters, visit, most, self.retried.append)
        self._task = self._loop.create_task(work)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            try:
                self._loop.run_until_complete(self._task)
            except StoreError as error:
                self.faults.append(error)
        self._loop.close()

    def leave(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def waiting(url: URL, status: str = "todo") -> int:
    with psycopg.connect(**words(url)) as connection:  # type: ignore[arg-type]
        row = connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status::text = %s", (status,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_tables_are_made_once_and_brought_up_to_date(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[BaseException] = []

    def open_it() -> None:
        try:
            Counter(url).close()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the test must see it
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    shipped = dict(jobs._migrations())
    newer = {"97.sql": "CREATE TABLE one (x int); CREATE TABLE two (y int)", "98.sql": "SELECT 1"}
    monkeypatch.setattr(jobs, "_migrations", lambda: shipped | newer)
    Counter(url).close()
    Counter(url).close()  # finds it done
    with psycopg.connect(**words(url)) as connection:  # type: ignore[arg-type]
        told = connection.execute(
            "SELECT obj_description('procrastinate_jobs'::regclass, 'pg_class'),"
            " to_regclass('one') IS NOT NULL AND to_regclass('two') IS NOT NULL"
        ).fetchone()
    assert told == ("98.sql", True)


def test_a_cluster_waits_once_and_each_is_visited_by_one_at_a_time(url: URL) -> None:
    counter = Counter(url)
    counter.ask_for([ODD, "b"])
    counter.ask_for([ODD, "b", "c"])
    assert waiting(url) == 3
    lock, now, most, visited = threading.Lock(), set[str](), [0], list[str]()

    def visit(cluster: str) -> None:
        with lock:
            assert cluster not in now
            now.add(cluster)
            visited.append(cluster)
            most[0] = max(most[0], len(now))
        time.sleep(0.3)
        with lock:
            now.remove(cluster)

    workers = [Worker(url, [ODD, "b"], visit) for _ in range(3)]
    try:
        until(lambda: sorted(visited) == sorted([ODD, "b"]))
        counter.ask_for([ODD])
        counter.ask_for(["b"])
        until(lambda: sorted(visited) == sorted([ODD, "b"] * 2))
        time.sleep(0.5)
        assert waiting(url) == 1  # "c" is nobody's here
        assert most[0] >= 1
    finally:
        for worker in workers:
            worker.leave()
        counter.close()
    assert not [fault for worker in workers for fault in worker.faults]


def test_the_job_of_a_worker_that_is_gone_is_given_to_another(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "STALLED_S", 2.0)
    monkeypatch.setattr(jobs, "EVERY_S", 0.5)
    counter = Counter(url)
    counter.ask_for(["alone", "doubled"])
    with psycopg.connect(**words(url), autocommit=True) as connection:  # type: ignore[arg-type]
        row = connection.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 h')"
            " RETURNING id"
        ).fetchone()
        assert row is not None
        for name in ("alone", "doubled"):  # a worker took them, and died
            connection.execute(
                "SELECT id FROM procrastinate_fetch_job_v2(%s, %s)", ([key_of(name)], row[0])
            )
    assert waiting(url, "doing") == 2
    counter.ask_for(["doubled"])
    visited: list[str] = []
    worker = Worker(url, ["alone", "doubled"], visited.append)
    try:
        until(lambda: sorted(visited) == ["alone", "doubled"])
        until(lambda: waiting(url, "doing") == 0)
        assert sorted(worker.retried) == ["alone", "doubled"]
        assert waiting(url) == 0
    finally:
        worker.leave()
        counter.close()


def test_a_worker_that_is_told_to_leave_does_not_wait_for_its_visits(url: URL) -> None:
    counter = Counter(url)
    counter.ask_for(["slow"])
    begun, may_end = threading.Event(), threading.Event()

    def visit(cluster: str) -> None:
        begun.set()
        may_end.wait(30)

    worker = Worker(url, ["slow"], visit)
    assert begun.wait(30)
    began = time.monotonic()
    worker.leave()
    assert time.monotonic() - began < 10
    assert waiting(url, "doing") == 0
    may_end.set()
    counter.close()


def test_a_queue_that_cannot_be_reached_says_so_and_no_secret(url: URL) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        Counter(url.set(password="geheim"))
    assert "geheim" not in str(caught.value)
