"""A worker's visit to one cluster: everything that is due there, then the cluster is let go.

It is the daemon's own loop, from taking the lease to letting it go. Only where the daemon asks its
timetable whether a cycle is due, a visit asks the store.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from balancer.cycle import Cycle
from balancer.service.dispatch import DUE
from balancer.service.events import EventKind
from balancer.service.loop import ClusterLoop
from balancer.service.memory import Memory
from balancer.service.stop import AbandonedError
from balancer.store.leases import Lease

SOON = timedelta(seconds=1)  # later than the time that was just answered
ANSWERED = "answered"  # the mark that tells which due time was answered last


class Visits(ClusterLoop):
    """One cluster in the life of a worker: nothing, but for its visits."""

    def _made_memory(self) -> Memory:
        """Return what all who visit the cluster share."""
        return Memory(self.name, self._store.known)

    def visit(self) -> None:
        """Do what is due and let the cluster go, so that any worker may come next.

        Raises:
            AbandonedError: The worker had to end at once: the lease runs out by itself.
        """
        self._sample_at = self._clock.now()
        try:
            while self.turn() <= 0 and self.stopping.how is None:
                pass
        except AbandonedError:
            raise
        except Exception as error:  # noqa: BLE001 -- one cluster must not take the others along
            self.failed(error)
        self._tenure.release()
        self._recovered = False

    def _tell_of(self, lease: Lease) -> None:
        self._tell(EventKind.VISIT_STARTED, "a visit", data={"fence": lease.fence})

    def _recover(self, lease: Lease) -> None:
        """Bring to an end what was left; a run that was cut short is followed by a cycle."""
        was_cut = bool(self._store.journal.open_runs(self.name))
        self._memory.recall()
        self._pending.recall()
        super()._recover(lease)
        if was_cut:
            self._cycle_at = self._clock.now()

    def _first_cycle(self) -> datetime | None:
        """Return when the cycle was due that nobody has answered yet, or None."""
        due = self._store.marks.get(self.name, DUE)
        answered = self._store.marks.get(self.name, ANSWERED)
        if answered is not None and answered > self._clock.now():
            answered = None  # by a clock that was set back since
        return due if due is not None and (answered is None or answered < due) else None

    def _cycle(self, lease: Lease) -> None:
        """Answer what is due, before anything else: what crashes a worker is not done for ever."""
        due = self._store.marks.get(self.name, DUE)
        if due is not None:
            self._store.marks.set(self.name, ANSWERED, due)
        super()._cycle(lease)
        self._cycle_at = None

    def _run_cycle(self, lease: Lease, late_s: float) -> Cycle:
        """Run a cycle; one that others kept from acting for a while is due again soon."""
        cycled = super()._run_cycle(lease, late_s)
        if cycled.held is not None and cycled.held.passes:
            self._store.marks.set(self.name, DUE, self._clock.now() + SOON)
        return cycled
