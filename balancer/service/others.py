"""What other workers have found since: a worker's own last visit to a cluster may be long ago."""

from __future__ import annotations

from collections.abc import Collection

from balancer.clock import Clock
from balancer.service.events import Bus
from balancer.service.telling import Teller
from balancer.store.known import Known
from balancer.store.store import Store


class Others:
    """Tells how clusters stand, whoever has visited them; each worker has one."""

    def __init__(self, store: Store, clock: Clock, bus: Bus) -> None:
        self._store, self._clock, self._bus = store, clock, bus
        self._told: dict[str, Known] = {}

    def follow(self, names: Collection[str]) -> None:
        """Tell of those of these clusters that stand otherwise than they did.

        Raises:
            StoreError: The store cannot be read.
        """
        known = {one.cluster: one for one in self._store.known.all() if one.cluster in names}
        for name, now in known.items():
            if now != self._told.get(name):
                Teller(self._bus, self._clock, name).stands(now)
        self._told = known
