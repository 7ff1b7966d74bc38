"""When a cluster's cycles begin. APScheduler's triggers say when; nothing here does anything.

All times returned are in UTC: a sum of a local time and a duration is wrong on the nights on
which clocks change. What such a night leaves out comes once, when it is over; what it has twice
comes the first time only, unless the expression asks for every hour or every minute anyway.
Times that passed while a cycle ran are not made up for: the next one counts. Of a crontab's times
that passed while nobody could begin a cycle, those of the last hour and those of the window that
is open are made up for by one cycle: the next may be a day away. A cycle that is late begins as
soon as it can, once.
"""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from balancer.errors import InputError
from balancer.unattended import SchedulePart

EVERY_S = 900.0
GRACE = timedelta(hours=1)  # so long any crontab's time that passed is made up for
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as crontab(5) numbers them
_SECOND = timedelta(seconds=1)


class Schedule:
    """The times at which one cluster is balanced.

    `name` spreads clusters over the jitter: the same name and time, the same delay. `share` of
    the pause passes before the very first cycle and reading: many clusters do not begin at once.
    """

    def __init__(self, part: SchedulePart, name: str, share: float = 0.0) -> None:
        """Make the schedule.

        Raises:
            InputError: The cron expression means nothing.
        """
        self._name = name
        self._jitter_s = part.jitter
        self._every_s = part.every or EVERY_S
        self._share = share
        self._sample_every_s = part.sample_every
        self._zone = ZoneInfo(part.timezone)
        self._cron = None if part.cron is None else _cron(part.cron, self._zone)
        # crontab(5) asks each field of a time whether it begins with a star.
        self._at_fixed_times = part.cron is not None and "*" not in "".join(part.cron.split()[:2])

    def first(
        self,
        now: datetime,
        last: datetime | None,
        not_before: datetime,
        *,
        since: datetime | None = None,
        opened: datetime | None = None,
    ) -> datetime | None:
        """Return when the first cycle after a start is due; if in the past, it was missed.

        Args:
            now: The present.
            last: When the last one began, as far as is known: with an interval, it goes on from
                there, so that a restart brings no cycle of its own. A time still to come was
                noted by a clock that was set back since, and says nothing.
            not_before: The end of the start delay: a time that falls into it comes after it.
            since: No earlier time of a crontab was missed. Without it `last` tells, or the present.
            opened: Since when the window is open in which it is the present.
        """
        if last is not None and last > now:
            last = None
        if self._cron is not None:
            reach = min(now - GRACE, opened or now)
            return self.next(max(reach, min(now, _answered(last, since) or now)))
        begin = max(now, not_before)
        return (
            self._late(begin + self._part_of(self._every_s))
            if last is None
            else self.next(begin, last)
        )

    def missed(
        self, now: datetime, last: datetime | None, *, since: datetime | None = None
    ) -> datetime | None:
        """Return the first time of a crontab that has passed without a cycle; see `first`."""
        answered = None if self._cron is None else _answered(last, since)
        due = None if answered is None or answered > now else self.next(answered)
        return due if due is not None and due < now else None

    def next(self, after: datetime, last: datetime | None = None) -> datetime | None:
        """Return when the next cycle is due, not before `after`; None if never."""
        trigger = self._cron or IntervalTrigger(
            seconds=int(self._every_s), start_date=last or after, timezone=ZoneInfo("UTC")
        )
        # Without the time it fired last a trigger looks ahead only: that is what we want.
        found = trigger.get_next_fire_time(None, after)
        if found is None:
            return None
        due: datetime = found.astimezone(
            UTC
        )  # to add to a time that comes twice leads to its first
        if self._at_fixed_times and due.astimezone(self._zone).fold:
            return self.next(due + _SECOND, last)
        if self._cron is None and last is not None and due <= last:
            due = last + timedelta(seconds=self._every_s)  # it began this very moment
        return self._late(due)

    def next_after(self, began: datetime, now: datetime) -> datetime | None:
        """Return when the next cycle is due, once one that was due at `began` is over."""
        return self.next(max(now, began + _SECOND), began if self._cron is None else None)

    def first_sample(self, started: datetime) -> datetime:
        """Return when to read for the first time: many clusters one after another."""
        return started + self._part_of(self._sample_every_s)

    def next_sample(self, now: datetime) -> datetime:
        """Return when to read next: at the cluster's own place in each period, not all at once."""
        every_s = self._sample_every_s
        place_s = zlib.crc32(self._name.encode()) / 2**32 * every_s
        periods = math.ceil((now.timestamp() + every_s / 2 - place_s) / every_s)
        return datetime.fromtimestamp(periods * every_s + place_s, UTC)

    @property
    def longest_pause_s(self) -> float:
        """The longest pause between two cycles, for alarms: of a cron schedule, a week's."""
        return self._every_s + self._jitter_s if self._cron is None else 8 * 86400.0

    def _part_of(self, pause_s: float) -> timedelta:
        return timedelta(seconds=int(self._share * pause_s))

    def _late(self, due: datetime) -> datetime:
        """Return a time put off by the cluster's share of the jitter."""
        if not self._jitter_s:
            return due
        drawn = zlib.crc32(f"{self._name} {due.timestamp():.0f}".encode()) / 2**32
        return due + timedelta(seconds=int(drawn * self._jitter_s))


def _answered(last: datetime | None, since: datetime | None) -> datetime | None:
    """Return up to when no time was missed."""
    known = [at for at in (since, last and last + _SECOND) if at is not None]
    return max(known, default=None)


def _cron(text: str, zone: ZoneInfo) -> CronTrigger:
    """Return the trigger for five fields as crontab(5) has them."""
    minute, hour, day, month, weekday = text.split()
    try:
        return CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_named(weekday),
            timezone=zone,
        )
    except ValueError as error:
        raise InputError(
            f"{text!r} is no time for a schedule: {error}",
            remedy="write minute, hour, day of month, month, weekday: 30 22 * * mon-fri",
        ) from error


def _named(weekday: str) -> str:
    """Return weekdays by name: APScheduler counts from Monday, crontab from Sunday."""
    return ",".join(_named_part(part) for part in weekday.split(","))


def _named_part(part: str) -> str:
    days, slash, step = part.partition("/")
    ends = [_DAYS[int(end)] if end.isdecimal() and len(end) == 1 and int(end) < len(_DAYS) else end
            for end in days.split("-")]  # fmt: skip
    if ends[0] == "sun" and ends[1:] not in ([], ["sun"]) and not slash:
        return f"sun,mon-{ends[1]}"  # for APScheduler Sunday is the last day of the week
    return "-".join(ends) + slash + step
