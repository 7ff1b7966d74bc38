"""The workers' side of a process: visits to clusters, a few at a time, as Procrastinate hands out.

A visit runs in a thread and holds the cluster's lease; the queue is only how it came about. So when
the database server is lost, or the process is told to end, visits go on or stop by the lease's
rules, and the queue is taken up again, or not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL

from balancer.clock import Clock
from balancer.errors import BalancerError
from balancer.execute.progress import OnInterrupt
from balancer.execute.requests import SERVED
from balancer.service.events import Bus, EventKind
from balancer.service.jobs import Counter, serve
from balancer.service.loop import Setup
from balancer.service.others import Others
from balancer.service.stop import AbandonedError
from balancer.service.telling import Teller
from balancer.service.visit import Visits
from balancer.store.store import Store

LOOK_S = 1.0  # between two looks for requests
MARK_S = 10.0  # between two marks that we serve
AGAIN_S, AGAIN_MAX_S = 2.0, 30.0  # after the queue was lost: doubled each time


class Crew:
    """Visits clusters for as long as the process lives; safe for use by several threads."""

    def __init__(
        self, setups: Iterable[Setup], store: Store, url: URL, clock: Clock, bus: Bus, most: int
    ) -> None:
        """Be ready to visit these clusters, `most` at a time.

        Raises:
            StoreError: The queue cannot be reached.
        """
        self._store, self._url, self._clock, self._bus = store, url, clock, bus
        self._tell = Teller(bus, clock)
        self._most = most
        self._counter = Counter(url)
        self._lock = threading.Lock()
        self._loops: dict[str, Visits] = {}
        self._others = Others(store, clock, bus)
        self._busy: set[str] = set()
        self._over = threading.Event()
        self._aio = asyncio.new_event_loop()
        self._serving: asyncio.Task[None] | None = None
        self._threads = tuple(
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("queue", self._run_queue), ("errands", self._run_errands))
        )
        self._add(setups)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def names(self) -> frozenset[str]:
        """Return the clusters that are served."""
        with self._lock:
            return frozenset(self._loops)

    def busy(self) -> tuple[Visits, ...]:
        """Return the clusters that are being visited now."""
        with self._lock:
            return tuple(self._loops[name] for name in sorted(self._busy) if name in self._loops)

    def _add(self, setups: Iterable[Setup]) -> None:
        for setup in setups:
            loop = Visits(setup, self._store, self._clock, self._bus)
            with self._lock:
                self._loops[setup.name] = loop

    # Another configuration

    def follow(
        self, added: Iterable[Setup], removed: Iterable[str], changed: Iterable[Setup]
    ) -> None:
        """Serve other clusters from here on, or the same by other rules."""
        for name in removed:
            with self._lock:
                loop = self._loops.pop(name)
                idle = name not in self._busy
            loop.stopping.how = OnInterrupt.FINISH
            if idle:
                loop.close()
        self._add(added)
        for setup in changed:
            self._loops[setup.name].replace(setup)
        self._aio.call_soon_threadsafe(self._leave_queue)  # it comes back with the new names

    # Visits

    def _visit(self, name: str) -> None:
        with self._lock:
            loop = self._loops.get(name)
            if loop is None or name in self._busy or self._over.is_set():
                return  # another visit will be asked for
            self._busy.add(name)
        try:
            with suppress(AbandonedError):
                loop.visit()
        finally:
            with self._lock:
                self._busy.discard(name)
                is_ours = self._loops.get(name) is loop
            if not is_ours:
                loop.close()

    # The queue

    def _run_queue(self) -> None:
        asyncio.set_event_loop(self._aio)
        try:
            self._aio.run_until_complete(self._queue())
        finally:
            self._aio.close()

    async def _queue(self) -> None:
        again_s = AGAIN_S
        while not self._over.is_set():
            began_s = self._clock.monotonic_s()
            work = serve(self._url, self.names, self._visit, self._most, self._retried)
            self._serving = asyncio.create_task(self._told(work))
            with suppress(asyncio.CancelledError):
                await self._serving
            held = self._clock.monotonic_s() - began_s > AGAIN_MAX_S
            again_s = AGAIN_S if held else min(AGAIN_MAX_S, 2 * again_s)
            if not self._over.is_set():
                await asyncio.sleep(again_s)

    async def _told(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BalancerError as error:
            self._tell(EventKind.STORE_FAILED, error.message)
        except Exception as error:  # noqa: BLE001 -- a worker without its queue would only look well
            text = f"internal error: {type(error).__name__}: {error}"
            self._tell(EventKind.STORE_FAILED, text)

    def _leave_queue(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def _retried(self, cluster: str) -> None:
        told = Teller(self._bus, self._clock, cluster)
        told(EventKind.JOB_RETRIED, "its worker fell silent; others look after the cluster")

    # Errands

    def _run_errands(self) -> None:
        marked_s: float | None = None
        while not self._over.wait(LOOK_S):
            names = self.names
            now_s = self._clock.monotonic_s()
            with suppress(Exception):  # visits find out and tell; this goes on
                wanted = set(self._store.requests.asked())
                if marked_s is None or now_s - marked_s >= MARK_S:
                    self._store.marks.set_all(names, SERVED, self._clock.now())
                    wanted |= self._store.journal.adrift(self._clock.now())
                    self._others.follow(names)
                    marked_s = now_s
                self._counter.ask_for(wanted & names)

    # Ending

    def leave(self, how: OnInterrupt) -> None:
        """Take no more jobs, and have every visit end as `how` says."""
        self._over.set()
        with self._lock:
            loops = tuple(self._loops.values())
        for loop in loops:
            loop.stopping.how = how
        with suppress(RuntimeError):  # it has ended already
            self._aio.call_soon_threadsafe(self._leave_queue)

    def abandon(self) -> None:
        """Have every visit end at once; what moves is left to whoever comes next."""
        for loop in self.busy():
            loop.stopping.abandon = True

    def close(self, timeout_s: float) -> None:
        """Let go of the queue and of the clusters that are not being visited."""
        for thread in self._threads:
            thread.join(timeout_s)
        busy = self.busy()
        for loop in self._loops.values():
            if loop not in busy:
                loop.close()
        self._counter.close()
