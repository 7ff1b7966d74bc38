"""What a process takes part in where the store is in PostgreSQL: timetables, visits, or both."""

from __future__ import annotations

from sqlalchemy.engine import URL

from balancer.clock import Clock
from balancer.execute.progress import OnInterrupt
from balancer.service.crew import Crew
from balancer.service.dispatch import Dispatch
from balancer.service.events import Bus
from balancer.service.jobs import Counter
from balancer.service.loop import Setup
from balancer.service.reload import Difference, Plant
from balancer.service.visit import Visits
from balancer.store.store import Store


class Fleet:
    """Our part in a fleet; `works` where visits are made here."""

    def __init__(
        self, plant: Plant, store: Store, url: URL, clock: Clock, bus: Bus, *, works: bool
    ) -> None:
        """Take up the queue.

        Raises:
            StoreError: It cannot be reached.
        """
        self._store, self._clock, self._bus = store, clock, bus
        self._counter = Counter(url)
        self._crew: Crew | None = None
        if works:
            most = plant.config.document.service.worker.concurrency
            self._crew = Crew(plant.setups.values(), store, url, clock, bus, most)
            self._crew.start()

    def dispatch(self, setup: Setup) -> Dispatch:
        """Return the timetable of a cluster."""
        return Dispatch(setup, self._store, self._clock, self._bus, self._counter)

    def busy(self) -> tuple[Visits, ...]:
        """Return the clusters that are being visited here."""
        return () if self._crew is None else self._crew.busy()

    def follow(self, change: Difference) -> None:
        """Serve other clusters from here on, or the same by other rules."""
        if self._crew is not None:
            self._crew.follow(change.added, change.removed, change.changed)

    def leave(self, how: OnInterrupt) -> None:
        """Take no more jobs, and have every visit end as `how` says."""
        if self._crew is not None:
            self._crew.leave(how)

    def close(self, timeout_s: float) -> None:
        """End, at once where a visit has not ended yet, and let go of the queue."""
        if self._crew is not None:
            self._crew.abandon()
            self._crew.close(timeout_s)
        self._counter.close()
