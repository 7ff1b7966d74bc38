"""When a cluster's first cycle is due after a start, a reload, or a time without anybody."""

from __future__ import annotations

from datetime import datetime

from balancer.policy.windows import Calendar
from balancer.service.events import EventKind
from balancer.service.schedule import Schedule
from balancer.service.telling import Teller
from balancer.store.standing import Marks

MISSED = "missed"  # the mark up to which times of a crontab that passed are given up


def first_due(
    schedule: Schedule,
    calendar: Calendar,
    marks: Marks,
    tell: Teller,
    now: datetime,
    last: datetime | None,
    not_before: datetime,
    *,
    since: datetime | None,
) -> datetime | None:
    """Return what `Schedule.first` says; tell of a time that passed and is not made up for.

    As long as the window is open that it lay in, it is.
    """
    given_up = marks.get(tell.cluster, MISSED)
    if given_up is not None:
        last = given_up if last is None else max(last, given_up)
    opened = calendar.opened(now) if calendar.windows else None
    due = schedule.first(now, last, not_before, since=since, opened=opened)
    missed = schedule.missed(now, last, since=since)
    if missed is not None and (due is None or due > now):
        marks.set(tell.cluster, MISSED, now)
        then = "" if due is None else f"; the next is due at {due:%Y-%m-%d %H:%M} UTC"
        text = f"nobody could begin the cycle that was due at {missed:%Y-%m-%d %H:%M} UTC{then}"
        tell(EventKind.CYCLE_MISSED, text, data={"due_at": missed.isoformat()})
    return due
