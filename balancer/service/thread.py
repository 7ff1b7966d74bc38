"""A cluster's loop in a thread of its own: the only place that knows of both."""

from __future__ import annotations

import threading
from typing import Protocol

from balancer.service.loop import TROUBLE_S, Setup, Stopping
from balancer.service.stop import AbandonedError
from balancer.store.leases import Lease


class Turning(Protocol):
    """What a thread of its own drives: a cluster's loop, or its timetable alone."""

    beat_s: float
    busy_with: str
    stopping: Stopping

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        ...

    @property
    def leads(self) -> bool:
        """Tell whether we are the cluster's executor."""
        ...

    def turn(self) -> float:
        """Do what is due, and return in how many seconds something is due again."""
        ...

    def replace(self, setup: Setup) -> None:
        """Go by another setup from the next turn on."""
        ...

    def to_renew(self, silent_max_s: float) -> Lease | None:
        """Return the lease if another thread should renew it now, while a turn takes long."""
        ...

    def renewed(self, lease: Lease, at_s: float) -> None:
        """Take note that the lease was renewed in the store, begun `at_s` by the clock."""
        ...

    def failed(self, error: Exception) -> None:
        """Tell of what should not have happened."""
        ...

    def close(self) -> None:
        """Let go of the cluster."""
        ...


class LoopThread:
    """A loop in a thread of its own, woken when something is due or was asked for."""

    def __init__(self, loop: Turning) -> None:
        self.loop = loop
        self._wake = threading.Event()
        self._leave = False
        self._thread = threading.Thread(target=self._run, name=f"cluster {loop.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next turn begin now."""
        self._wake.set()

    def leave(self) -> None:
        """End once the present turn is over."""
        self._leave = True
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; tell whether it has come."""
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        loop = self.loop
        while not self._leave:
            try:
                wait_s = loop.turn()
            except AbandonedError:
                return  # no farewell: the lease runs out, and the next start adopts
            except Exception as error:  # noqa: BLE001 -- one cluster must not take the others along
                loop.failed(error)
                wait_s = TROUBLE_S
            loop.beat_s += wait_s
            self._wake.wait(wait_s)
            self._wake.clear()
        loop.close()
