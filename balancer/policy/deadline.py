"""A point in time as people write it: `06:00`, `2026-10-25 02:30 Europe/Berlin`, RFC 3339.

Without a date it is the next time the clock shows it. In the night the clocks change, a time that
is skipped is the moment of the skip, and one that comes twice is its first occurrence: what is
done by then is done by the second as well.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from balancer.errors import InputError
from balancer.policy.windows import instant

_WALL = re.compile(
    r"(?:(?P<date>\d{4}-\d{2}-\d{2})[ T])?(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?:[ ]+(?P<zone>[A-Za-z][\w+/-]*))?"
)
_REMEDY = "write 06:00, 06:00 Europe/Berlin, 2026-10-25 02:30 or 2026-10-25T02:30:00+01:00"


def read_deadline(text: str, now: datetime, zone: str = "UTC") -> datetime:
    """Return the instant in UTC that `text` means.

    Args:
        text: A wall clock time, with or without date and zone, or an instant with its offset.
        now: What "the next time" counts from.
        zone: Of wall clock times that name none.

    Raises:
        InputError: It is no time, names no known zone, or is past.
    """
    found = _read(text.strip(), now, zone)
    if found <= now:
        raise InputError(
            f"{text!r} is {found:%Y-%m-%d %H:%M} UTC, which is past", remedy="give a time to come"
        )
    return found


def _read(text: str, now: datetime, zone: str) -> datetime:
    match = _WALL.fullmatch(text)
    if match is None:
        try:
            given = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"{text!r} is no time", remedy=_REMEDY) from None
        if given.tzinfo is None:
            return instant(given, _zone(zone), fold=0)
        return given.astimezone(UTC)
    where = _zone(match["zone"] or zone)
    try:
        clock = time(int(match["hour"]), int(match["minute"]))
        day = date.fromisoformat(match["date"]) if match["date"] else None
    except ValueError:
        raise InputError(f"{text!r} is no time", remedy=_REMEDY) from None
    if day is not None:
        return instant(datetime.combine(day, clock), where, fold=0)
    today = now.astimezone(where).date()
    days = (today + timedelta(days=ahead) for ahead in range(3))
    ahead = (instant(datetime.combine(each, clock), where, fold=0) for each in days)
    return next(each for each in ahead if each > now)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo("UTC" if name.upper() in ("Z", "UTC") else name)
    except (KeyError, ValueError, OSError):
        raise InputError(
            f"there is no time zone {name!r}", remedy="use a name such as Europe/Berlin"
        ) from None
