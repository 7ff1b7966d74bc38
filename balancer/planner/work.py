"""What a search may spend: counted work first, seconds and interrupts only where given.

A counted limit makes the same input give the same bytes on any machine; a time limit or an
interrupt cannot, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from balancer.model.plan import StoppedBy

# The scheduler, the transport and the explanations still have to run when the search stops.
SEARCH_SHARE = 0.85


@dataclass
class Work:
    """A budget that search and solvers draw on; mutable, one for each plan.

    Attributes:
        units: What is left of the counted work. One unit is about a microsecond of numpy.
        elapsed_s: Seconds since the command started, or None where there is no time limit.
        time_limit_s: Seconds for the whole command.
        interrupted: Asked whether the user wants the best plan so far.
        stopped_by: What ended the search, once something has.
    """

    units: float
    elapsed_s: Callable[[], float] | None = None
    time_limit_s: float | None = None
    interrupted: Callable[[], bool] | None = None
    stopped_by: StoppedBy | None = None

    def spend(self, units: float) -> bool:
        """Take `units`; return whether the search may go on."""
        self.units -= units
        if self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT):
            return False
        if self.interrupted is not None and self.interrupted():
            self.stopped_by = StoppedBy.INTERRUPT
        elif (left := self.seconds_left()) is not None and left <= 0:
            self.stopped_by = StoppedBy.TIME
        elif self.units <= 0:
            self.stopped_by = StoppedBy.WORK
        return self.stopped_by is None

    def seconds_left(self) -> float | None:
        """Return the seconds that search may still take, or None without a limit."""
        if self.time_limit_s is None or self.elapsed_s is None:
            return None
        return self.time_limit_s * SEARCH_SHARE - self.elapsed_s()

    def renewed(self, units: float) -> Work:
        """Return a fresh budget of `units` under the same clock and interrupt."""
        cut = self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT)
        kept = self.stopped_by if cut else None
        return Work(units, self.elapsed_s, self.time_limit_s, self.interrupted, kept)

    def cut_short(self) -> bool:
        """Tell whether the clock or the user ended the search, now or before."""
        self.spend(0)
        return self.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT)
