"""Virtual time of a whole simulation: what is due happens in order, also while somebody waits.

Everything runs in one thread. Whoever sleeps lets others have their turns meanwhile, nested in its
own; so two daemons interleave at every point at which one of them waits, the same way every time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

from balancer.clock import VirtualClock


class Days:
    """The one timeline: `clock` is the truth, which no machine's wall clock has to agree with."""

    def __init__(self, start: datetime) -> None:
        self.clock = VirtualClock(start)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def now_s(self) -> float:
        """Return seconds since the beginning."""
        return self.clock.monotonic_s()

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen at an instant, or at once if that is past."""
        heapq.heappush(self._due, (max(seconds, self.now_s), next(self._numbers), act))

    def go_on(self, seconds: float) -> None:
        """Let so many seconds pass, or more: what happens meanwhile may take its time."""
        until_s = self.now_s + max(0.0, seconds)
        while self._due and self._due[0][0] <= until_s:
            at_s, _, act = heapq.heappop(self._due)
            self.clock.sleep(at_s - self.now_s)
            act()
        self.clock.sleep(until_s - self.now_s)


class MachineClock:
    """The clock of one machine: its wall time can be set; seconds go on for all alike."""

    def __init__(self, days: Days, sleep: Callable[[float], None]) -> None:
        self._clock, self._sleep = days.clock, sleep
        self._ahead = timedelta()

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._ahead += timedelta(seconds=seconds)

    def now(self) -> datetime:
        """Return what the wall clock shows."""
        return self._clock.now() + self._ahead

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return self._clock.monotonic_s()

    def sleep(self, seconds: float) -> None:
        """Wait, and let others go on."""
        self._sleep(seconds)
