"""Visits to clusters as jobs of Procrastinate, on the PostgreSQL that holds the store.

A job says "look after this cluster" and no more: what is due there is in the store, so a job may
come twice, late, or from a worker that is gone. Procrastinate hands each to one worker, one a
cluster at a time; who may act is decided by our lease and its number alone.

This is the only importer of procrastinate.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg_pool import PoolTimeout
from sqlalchemy.engine import URL

from balancer.store.address import named, words
from balancer.store.faults import StoreError
from balancer.store.postgresql import ARGUMENTS, LOCKS, lock_of

VISIT = "balancer.visit"
HEARTBEAT_S = 5.0
STALLED_S = 20.0  # a worker silent for so long has died, sleeps, or has lost the server
EVERY_S = 10.0  # between two looks for such workers
POLL_S = 2.0  # where a notification got lost
GRACE_S = 2.0  # visits go on without the queue: they have our lease
WAIT_S = 10.0  # for a connection

_TROUBLE = (ConnectorException, psycopg.Error, PoolTimeout, OSError)


class Counter:
    """Where jobs are handed in."""

    def __init__(self, url: URL) -> None:
        """Open the queue, and make or update its tables.

        Raises:
            StoreError: The server does not answer, or does not let us.
        """
        self._url = url
        self._app = App(
            connector=SyncPsycopgConnector(
                kwargs=_arguments(url), min_size=1, max_size=1, timeout=WAIT_S
            )
        )
        try:
            _prepare(url)
            self._app.open()
        except _TROUBLE as error:
            raise _told(url, error) from error

    def ask_for(self, clusters: Iterable[str]) -> None:
        """Have these clusters visited; one that waits for a visit already is not asked for twice.

        Raises:
            StoreError: The queue cannot be reached.
        """
        wanted = {key_of(name): name for name in clusters}
        if not wanted:
            return
        try:
            jobs = self._app.job_manager.list_jobs(task=VISIT, status="todo")
            waiting = {job.queueing_lock for job in jobs}
            for key in sorted(wanted.keys() - waiting):
                self._hand_in(key, wanted[key])
        except _TROUBLE as error:
            raise _told(self._url, error) from error

    def _hand_in(self, key: str, cluster: str) -> None:
        job = self._app.configure_task(VISIT, queue=key, lock=key, queueing_lock=key)
        try:
            job.defer(cluster=cluster)
        except (AlreadyEnqueued, AssertionError):
            return  # somebody was quicker; the latter where the server speaks another language

    def close(self) -> None:
        """Let go of the server."""
        self._app.close()


async def serve(
    url: URL,
    clusters: Iterable[str],
    visit: Callable[[str], None],
    concurrency: int,
    retried: Callable[[str], None],
) -> None:
    """Take jobs for these clusters and do them in threads, until cancelled.

    Cancelled, or without the server, it ends within seconds; visits go on in their threads.

    Raises:
        StoreError: The server was lost.
    """
    app = App(
        connector=PsycopgConnector(kwargs=_arguments(url), min_size=1, max_size=3, timeout=WAIT_S)
    )

    @app.task(name=VISIT)
    async def look_after(cluster: str) -> None:
        await _in_a_thread(lambda: visit(cluster))

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # told below, or not at all
    try:
        async with app.open_async(), _beside(_retry_stalled(app, retried)):
            await app.run_worker_async(
                queues=[key_of(name) for name in clusters],
                concurrency=concurrency,
                install_signal_handlers=False,
                delete_jobs="always",
                fetch_job_polling_interval=POLL_S,
                shutdown_graceful_timeout=GRACE_S,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
            )
    except _TROUBLE as error:
        raise _told(url, error) from error


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Wait for what a thread does; the thread goes on where nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the process ends
                loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="visit", daemon=True).start()
    await ended.wait()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _retry_stalled(app: App, retried: Callable[[str], None]) -> None:
    """Find jobs of workers that are gone, over and over, and give them to others.

    Not a job itself: it must go on while every worker is busy. All workers look; one finds.
    """
    while True:
        await asyncio.sleep(EVERY_S)
        with suppress(*_TROUBLE):
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
                await _again(app, job)
                retried(str(job.task_kwargs.get("cluster", "")))


async def _again(app: App, job: Job) -> None:
    try:
        await app.job_manager.retry_job(job)
    except UniqueViolation:  # one for the same cluster waits already: it comes next
        await app.job_manager.finish_job(job, Status.ABORTED, delete_job=True)


def key_of(cluster: str) -> str:
    """Return the name of a cluster's queue and locks: PostgreSQL cuts names at 63 bytes."""
    return hashlib.blake2s(cluster.casefold().encode(), digest_size=8).hexdigest()


def _arguments(url: URL) -> dict[str, Any]:
    return {**ARGUMENTS, **words(url), "application_name": "balancer queue"}


def _told(url: URL, error: BaseException) -> StoreError:
    return StoreError(
        f"the queue at {named(url)} cannot be reached: {type(error).__name__}",
        remedy="see that the database server runs and lets our role create tables",
    )


def _migrations() -> Mapping[str, str]:
    folder = resources.files("procrastinate.sql") / "migrations"
    return {
        file.name: file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda each: each.name)
        if file.name.endswith(".sql")
    }


def _prepare(url: URL) -> None:
    """Make Procrastinate's tables, or bring those of an earlier version up to date.

    It leaves to its users to know which of its migrations were applied: a comment tells.
    """
    migrations = _migrations()
    latest = max(migrations)
    with psycopg.connect(**_arguments(url)) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCKS, lock_of("queue")))
        found = connection.execute(
            "SELECT t IS NOT NULL, obj_description(t, 'pg_class')"
            " FROM to_regclass('procrastinate_jobs') AS t"
        ).fetchone()
        exists, applied = found or (False, None)
        if exists and (applied or "") >= latest:
            return
        newer = [text for name, text in migrations.items() if name > (applied or "")]
        for text in newer if exists else [SchemaManager.get_schema()]:
            connection.execute(sql.SQL(text))  # the library's own text
        connection.execute(
            sql.SQL("COMMENT ON TABLE procrastinate_jobs IS {}").format(sql.Literal(latest))
        )
