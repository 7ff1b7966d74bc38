"""What a search may spend: counted work first, seconds and interrupts only where given.

A counted limit makes the same input give the same bytes on any machine; a time limit or an
interrupt cannot, and the plan says so. One part of a search is given a part of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from balancer.model.plan import StoppedBy

INF = float("inf")


@dataclass
class Work:
    """A budget that search and solvers draw on; mutable, one for each plan.

    Attributes:
        units: What is left of the counted work. One unit is about a microsecond of numpy.
        elapsed_s: Seconds since the command started, or None where there is no time limit.
        time_limit_s: Seconds for the whole command.
        interrupted: Asked whether the user wants the best plan so far.
        stopped_by: What ended the search, once something has.
        whole: The budget that this one is a part of.
        reserve_s: Seconds to be kept for what comes after the search.
    """

    units: float
    elapsed_s: Callable[[], float] | None = None
    time_limit_s: float | None = None
    interrupted: Callable[[], bool] | None = None
    stopped_by: StoppedBy | None = None
    whole: Work | None = None
    reserve_s: float = 0.0

    def spend(self, units: float) -> bool:
        """Take `units`; return whether the search may go on."""
        self.charge(units)
        if self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT):
            return False
        if self.interrupted is not None and self.interrupted():
            self.stopped_by = StoppedBy.INTERRUPT
        elif (left := self.seconds_left()) is not None and left <= 0:
            self.stopped_by = StoppedBy.TIME
        elif self.units <= 0:
            self.stopped_by = StoppedBy.WORK
        return self.stopped_by is None

    def charge(self, units: float) -> None:
        """Take `units` from this budget and those it is a part of."""
        self.units -= units
        if self.whole is not None:
            self.whole.charge(units)

    def left(self) -> float:
        """Return what is left of the budget that this one is in the end a part of."""
        return self.units if self.whole is None else self.whole.left()

    def seconds_left(self) -> float | None:
        """Return the seconds that search may still take, or None without a limit."""
        if self.time_limit_s is None or self.elapsed_s is None:
            return None
        return self.time_limit_s - self.reserve_s - self.elapsed_s()

    def part(self, units: float) -> Work:
        """Return a budget of up to `units`, taken from this one as it is spent."""
        cut = self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT)
        return replace(
            self,
            units=min(units, self.units),
            stopped_by=self.stopped_by if cut else None,
            whole=self,
        )

    def apart(self, units: float) -> Work:
        """Return a budget of its own under the same clock, for what comes after the search."""
        return replace(self.part(INF), units=units, whole=None, reserve_s=0.5 * self.reserve_s)

    def note(self, part: Work) -> None:
        """Take over that a part was cut short by the clock or the user."""
        if part.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT):
            self.stopped_by = part.stopped_by

    def cut_short(self) -> bool:
        """Tell whether the clock or the user ended the search, now or before."""
        self.spend(0)
        return self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT)
