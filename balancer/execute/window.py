"""Whether a migration may start now: it has to end, as far as can be told, before windows close.

A forecast is stretched by how wrong forecasts have been: nine of ten earlier migrations of the
cluster took no longer than so many times what was expected. Until enough have been measured a
broad margin stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from balancer.policy.windows import Calendar
from balancer.store.history import History, Measurement

MEASURED_SINCE = timedelta(days=90)
MEASURED_ENOUGH = 10
MARGIN_UNMEASURED = 1.5
MARGIN_MIN = 1.1
NINE_OF_TEN = 0.9
SLACK_S = 10.0  # accepting, queueing and finding out take seconds whatever the size

# Returns why what takes so many seconds may not start at that moment; empty when it may.
MayStart = Callable[[datetime, float], str]


def anytime(at: datetime, expected_s: float) -> str:
    """Let everything start."""
    del at, expected_s
    return ""


def margin(measured: Sequence[Measurement]) -> float:
    """Return by which factor forecasts are to be stretched."""
    ratios = sorted(one.duration_s / one.expected_s for one in measured if one.expected_s > 0)
    if len(ratios) < MEASURED_ENOUGH:
        return MARGIN_UNMEASURED
    return max(MARGIN_MIN, ratios[min(len(ratios) - 1, int(NINE_OF_TEN * len(ratios)))])


@dataclass(frozen=True, slots=True)
class InWindow:
    """Lets start what is predicted to end in the window that is open, margin included."""

    calendar: Calendar
    margin: float

    def __call__(self, at: datetime, expected_s: float) -> str:
        """Return why not, or nothing."""
        needed_s = expected_s * self.margin + SLACK_S
        if self.calendar.may_start(at, needed_s):
            return ""
        closes = self.calendar.closes(at)
        if closes is None or closes > at:
            until = "" if closes is None else f", which closes at {_shown(closes)}"
            return f"it may take {needed_s:.0f} s and would not end inside the window{until}"
        opens = self.calendar.next_opening(at)
        when = "" if opens is None else f"; the next opens at {_shown(opens)}"
        return f"no window is open{when}"


def in_window(calendar: Calendar, history: History, cluster: str, now: datetime) -> MayStart:
    """Return what tells whether a migration of this cluster may start."""
    if not calendar.windows and not calendar.blackouts:
        return anytime
    measured = history.measurements(cluster, since=now - MEASURED_SINCE)
    return InWindow(calendar, margin(measured))


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
