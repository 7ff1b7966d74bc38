"""One cluster's timetable where workers do the work: it says what is due, and asks for visits.

What is due is a mark in the store, computed from the mark before: two dispatchers come to the same
times, and a visit that comes late, or twice, finds the same thing to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from balancer.clock import Clock
from balancer.errors import ExitCode
from balancer.service.events import Bus, EventKind
from balancer.service.loop import CYCLED, STEP, TROUBLE_S, Setup, Stopping
from balancer.service.telling import Teller
from balancer.service.timetable import first_due
from balancer.store.faults import StoreError
from balancer.store.leases import Lease
from balancer.store.store import Store

DUE = "due"  # the mark that tells when a cycle was due last
REST_S = 20.0


class Asking(Protocol):
    """Where visits are asked for."""

    def ask_for(self, clusters: Iterable[str]) -> None:
        """Have these clusters visited."""
        ...


class Dispatch:
    """The timetable of one cluster; it has the turns of a loop and never touches the cluster."""

    def __init__(self, setup: Setup, store: Store, clock: Clock, bus: Bus, counter: Asking) -> None:
        self.setup = setup
        self.stopping = Stopping()
        self.beat_s = clock.monotonic_s()
        self.busy_with = ""
        self._next_setup: Setup | None = None
        self._store, self._clock, self._counter = store, clock, counter
        self._tell = Teller(bus, clock, setup.name)
        self._started = self._seen_at = clock.now()
        self._cycle_at: datetime | None = None
        self._scheduled_at: datetime | None = None  # when another schedule came into force
        self._visit_at = self._started
        self._begun = False

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self.setup.name

    @property
    def leads(self) -> bool:
        """Tell that we are nobody's executor."""
        return False

    def replace(self, setup: Setup) -> None:
        """Go by another setup from the next turn on."""
        self._next_setup = setup

    def to_renew(self, silent_max_s: float) -> None:
        """Return nothing: a dispatcher holds no lease."""

    def renewed(self, lease: Lease, at_s: float) -> None:
        """Do nothing, for the same reason."""

    def failed(self, error: Exception) -> None:
        """Tell of what should not have happened."""
        text = f"internal error: {type(error).__name__}: {error}"
        self._tell(EventKind.CYCLE_FAILED, text, data={"exit_code": int(ExitCode.OUR_FAULT)})

    def close(self) -> None:
        """Do nothing: workers go on with what they were asked for."""

    def turn(self) -> float:
        """Ask for what is due, and return in how many seconds something is due again."""
        self.beat_s = self._clock.monotonic_s()
        try:
            return self._turn()
        except StoreError as error:
            self._tell(EventKind.STORE_FAILED, error.message)
            return min(TROUBLE_S, REST_S)

    def _turn(self) -> float:
        if self._next_setup is not None:
            if self._next_setup.part.schedule != self.setup.part.schedule:
                self._scheduled_at = self._clock.now()
            self.setup, self._next_setup, self._begun = self._next_setup, None, False
        self._follow_clock()
        if not self._begun:
            self._cycle_at, self._begun = self._first_cycle(), True
        now = self._clock.now()
        # Put off, not moved: other dispatchers name what they ask for by the same time.
        is_due = self._cycle_at is not None and now >= max(self._cycle_at, self._not_before)
        if is_due or now >= self._visit_at:
            if is_due and self._cycle_at is not None:
                self._say_due(self._cycle_at)
            self._counter.ask_for([self.name])
            self._tell(EventKind.VISIT_ASKED, "a cycle is due" if is_due else "a reading is due")
            self._visit_at = now + timedelta(seconds=self.setup.part.schedule.sample_every)
            if is_due and self._cycle_at is not None:
                self._cycle_at = self.setup.schedule.next_after(self._cycle_at, now)
        dues = [self._visit_at]
        if self._cycle_at is not None:
            dues.append(max(self._cycle_at, self._not_before))
        return min(REST_S, max(0.0, (min(dues) - now).total_seconds()))

    def _follow_clock(self) -> None:
        """Take up the timetable anew once the machine's clock was set back: what is due is not."""
        now, before = self._clock.now(), self._seen_at
        self._seen_at = now
        if before - now >= STEP:
            self._started = min(self._started, now)
            self._visit_at, self._begun = now, False

    def _say_due(self, due: datetime) -> None:
        """Leave the mark, unless another dispatcher has left it, or a later one.

        A time still to come was left by a clock that was set back since, and says nothing.
        """
        present = self._store.marks.get(self.name, DUE)
        if present is None or present < due or present > self._clock.now():
            self._store.marks.set(self.name, DUE, due)

    @property
    def _not_before(self) -> datetime:
        return self._started + timedelta(seconds=self.setup.service.start_delay)

    def _first_cycle(self) -> datetime | None:
        marks = [self._store.marks.get(self.name, name) for name in (DUE, CYCLED)]
        last = max((mark for mark in marks if mark is not None), default=None)
        since = self._scheduled_at or (self._started if last is None else None)
        now = self._clock.now()
        return first_due(
            self.setup.schedule,
            self.setup.policy.calendar,
            self._store.marks,
            self._tell,
            now,
            last,
            self._not_before,
            since=since,
        )
