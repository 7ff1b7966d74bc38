"""When moving is allowed: windows and blackouts on the wall clocks of any time zone.

A span says what a wall clock shows: "Monday to Friday, 22:00 to 06:00, Europe/Berlin". Instants
come from it day by day, so summer time needs no special case but these two, for one night a year:

- A time that the clock skips (02:30 when it goes from 02:00 to 03:00) is the moment of the skip.
- A time that comes twice is its first occurrence in a window; a blackout begins at the first and
  ends at the second, so that it is never shorter than it looks.

Spans are half-open: open at the start, closed at the end. Blackouts win over windows; without any
window, moving is allowed whenever no blackout forbids it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY_MINUTES = 24 * 60
EVERY_DAY = frozenset(range(7))

# Openings further away than this are "never": nobody waits for them.
HORIZON = timedelta(days=800)
_FIRST_LOOK = timedelta(days=9)  # a week, and a day to either side
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_YEAR_DAYS = 366
_ANY_DATE = date(2026, 1, 1).toordinal()  # where no date is said, one year is like another
_FIRST_DATE, _LAST_DATE = 10, date.max.toordinal() - 10  # with room for reckoning

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Span:
    """Hours of some weekdays on the wall clock of one time zone.

    Attributes:
        days: Weekdays on which it begins, 0 is Monday.
        from_minute: Minutes after midnight, 0..1439.
        to_minute: The same, 1..1440; not after `from_minute` means on the next day.
        timezone: A name of the tz database.
        first_date: No begin before this date; None has no first.
        last_date: No begin after this date; None has no last.
    """

    days: frozenset[int] = EVERY_DAY
    from_minute: int = 0
    to_minute: int = DAY_MINUTES
    timezone: str = "UTC"
    first_date: date | None = None
    last_date: date | None = None

    def intervals(self, since: datetime, until: datetime, *, last_end: bool) -> Iterator[Interval]:
        """Yield the instants of every occurrence that touches [since, until), in order.

        Args:
            since: From when.
            until: To when.
            last_end: An end that comes twice is its second occurrence.
        """
        zone = ZoneInfo(self.timezone)
        # An occurrence begins at most two calendar days before it ends, wherever the zone is.
        day = since.astimezone(zone).date() - 2 * _DAY
        last = until.astimezone(zone).date()
        while day <= last:
            if self._begins_on(day):
                begin = instant(_at_minute(day, self.from_minute), zone, fold=0)
                end_day = day if self.to_minute > self.from_minute else day + _DAY
                end = instant(_at_minute(end_day, self.to_minute), zone, fold=int(last_end))
                if begin < end and begin < until and end > since:
                    yield begin, end
            day += _DAY

    def _begins_on(self, day: date) -> bool:
        return (
            day.weekday() in self.days
            and (self.first_date is None or day >= self.first_date)
            and (self.last_date is None or day <= self.last_date)
        )


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows and blackouts together. Every method takes and returns instants in UTC."""

    windows: tuple[Span, ...] = ()
    blackouts: tuple[Span, ...] = ()

    def is_open(self, at: datetime) -> bool:
        """Tell whether moving is allowed at `at`."""
        return any(begin <= at < end for begin, end in self.openings(at, at + _SECOND))

    def closes(self, at: datetime) -> datetime | None:
        """Return when the opening that `at` lies in ends.

        None if it does not end within `HORIZON`. Closed now means `at` itself.
        """
        for until in _looks(at):
            for begin, end in self.openings(at, until):
                if begin <= at < end < until:
                    return end
                if begin <= at < end:
                    break  # it goes on beyond what we looked at
            else:
                return at
        return None

    def opened(self, at: datetime) -> datetime | None:
        """Return since when it has been open at `at`, at most some days; None if it is closed."""
        for begin, end in self.openings(at - _FIRST_LOOK, at + _SECOND):
            if begin <= at < end:
                return begin
        return None

    def next_opening(self, at: datetime) -> datetime | None:
        """Return `at` if it is open, else when it next opens; None if not within `HORIZON`."""
        for until in _looks(at):
            for begin, end in self.openings(at, until):
                if end > at and begin < until:  # of blackouts beyond nothing was asked
                    return max(begin, at)
        return None

    def latest_start(self, at: datetime, expected_s: float) -> datetime | None:
        """Return until when what takes `expected_s` may start, to end in the opening at `at`.

        None: any time, as far as can be seen. Before `at`: not in this opening any more.
        """
        closes = self.closes(at)
        return None if closes is None else closes - timedelta(seconds=expected_s)

    def may_start(self, at: datetime, expected_s: float) -> bool:
        """Tell whether what takes `expected_s` may start at `at`: it must end in the opening."""
        if not self.windows and not self.blackouts:
            return True
        end = at + timedelta(seconds=max(0.0, expected_s))
        return any(
            begin <= at < until and end <= until
            for begin, until in self.openings(at, end + _SECOND)
        )

    def openings(self, since: datetime, until: datetime) -> list[Interval]:
        """Return when it is open between two instants, in order, none touching the next.

        What is open at `until` ends there, or later.
        """
        if self.windows:
            spans = (span.intervals(since, until, last_end=False) for span in self.windows)
            opened = _merged(one for each in spans for one in each)
        else:
            opened = [(since, until)]
        spans = (span.intervals(since, until, last_end=True) for span in self.blackouts)
        closed = _merged(one for each in spans for one in each)
        return _without(opened, closed)


ALWAYS = Calendar()


@lru_cache(maxsize=1024)
def never_meet(one: Calendar, other: Calendar) -> bool:
    """Tell whether both calendars have windows that open, but none that are open at once.

    Whatever the time is now: what rules say does not come to contradict itself over night.
    """
    opening = all(any(_meet(span, span) for span in each.windows) for each in (one, other))
    return opening and not any(_meet(a, b) for a in one.windows for b in other.windows)


def _meet(one: Span, other: Span) -> bool:
    """Tell whether two spans ever have an instant in common.

    Weeks repeat, and changes of clocks do by the year: one year tells of all.
    """
    firsts = [span.first_date.toordinal() for span in (one, other) if span.first_date]
    lasts = [span.last_date.toordinal() for span in (one, other) if span.last_date]
    since = max(firsts, default=min(lasts, default=_ANY_DATE) - _YEAR_DAYS)
    until = min([since + _YEAR_DAYS, *lasts])
    around = [  # what begins on a day may end on the next, and days are those of a time zone
        datetime.fromordinal(min(max(day, _FIRST_DATE), _LAST_DATE)).replace(tzinfo=UTC)
        for day in (since - 3, until + 3)
    ]
    ours, theirs = (span.intervals(*around, last_end=False) for span in (one, other))
    mine, its = next(ours, None), next(theirs, None)
    while mine and its:
        if max(mine[0], its[0]) < min(mine[1], its[1]):
            return True
        if mine[1] <= its[1]:
            mine = next(ours, None)
        else:
            its = next(theirs, None)
    return False


def _looks(at: datetime) -> Iterator[datetime]:
    """Yield ends of ever longer looks into the future: most questions are about this week."""
    ahead = _FIRST_LOOK
    while ahead < HORIZON:
        yield at + ahead
        ahead *= 3
    yield at + HORIZON


def _at_minute(day: date, minute: int) -> datetime:
    return datetime.combine(day, time()) + timedelta(minutes=minute)


@lru_cache(maxsize=4096)
def instant(wall: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    """Return when the clocks of `zone` show `wall`; see the module for skipped and double times."""
    found = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall:
        return found
    # Skipped. With fold 0 the offset before the skip is taken, which leads to after it, and
    # with fold 1 the other way round: the skip is between, at a whole second.
    after = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union, in order: what overlaps or touches is one."""
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _without(opened: list[Interval], closed: list[Interval]) -> list[Interval]:
    """Return what of `opened` is not in `closed`; both are merged."""
    left: list[Interval] = []
    for begin, end in opened:
        rest = begin
        for shut, reopened in closed:
            if reopened <= rest or shut >= end:
                continue
            if shut > rest:
                left.append((rest, shut))
            rest = max(rest, reopened)
        if rest < end:
            left.append((rest, end))
    return left
