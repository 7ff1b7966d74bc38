"""Windows and blackouts as they are written in a policy."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from balancer.policy.faults import shown_value
from balancer.policy.fields import Document
from balancer.policy.windows import DAY_MINUTES, Span

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})")
_CLOCK_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _minute(value: object) -> object:
    """Read a time of day as minutes after midnight; `24:00` is the day's end."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        hour, minute = int(found[1]), int(found[2])
        if minute < 60 and hour * 60 + minute <= DAY_MINUTES:  # noqa: PLR2004 -- minutes of an hour
            return hour * 60 + minute
    raise ValueError(f"expected a time from 00:00 to 24:00, for example 22:30, not {_said(value)}")


def _zone(value: object) -> object:
    if isinstance(value, str):
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return value
    raise ValueError(
        f"expected a time zone of the tz database, for example Europe/Berlin, not {_said(value)}"
    )


def _date(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"expected a date, for example 2026-12-20, not {_said(value)}")


def _said(value: object) -> str:
    return repr(value) if isinstance(value, str) else shown_value(value)


def _text(pattern: str, example: str) -> WithJsonSchema:
    made: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": [example]}
    return WithJsonSchema(made)


TimeOfDay = Annotated[int, BeforeValidator(_minute), _text(_CLOCK_PATTERN, "22:30")]
TimeZone = Annotated[
    str, BeforeValidator(_zone), WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]})
]
Date = Annotated[date, BeforeValidator(_date), _text(r"^\d{4}-\d{2}-\d{2}$", "2026-12-20")]


class SpanEntry(Document):
    """Hours of some weekdays, as the wall clocks of one time zone show them."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] | None = Field(
        None, description="Weekdays on which it begins; left out: all of them."
    )
    from_: TimeOfDay | None = Field(
        None, alias="from", description="When it begins; left out: 00:00."
    )
    to: TimeOfDay | None = Field(
        None,
        description="When it ends, on the next day if that is not later than `from`; "
        "left out: 24:00.",
    )
    timezone: TimeZone = Field("UTC", description="Whose wall clocks; summer time is followed.")
    first_date: Date | None = Field(None, description="It does not begin before this date.")
    last_date: Date | None = Field(None, description="It does not begin after this date.")

    @model_validator(mode="after")
    def _is_some_time(self) -> Self:
        if self.from_ == DAY_MINUTES:
            raise ValueError("expected `from` to be 23:59 at the latest, not 24:00")
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise ValueError("expected first_date not to be after last_date")
        return self

    def span(self) -> Span:
        """Return the span as the calendar takes it; `to: 00:00` is the midnight that follows."""
        return Span(
            days=frozenset(_DAYS.index(day) for day in self.days or _DAYS),
            from_minute=self.from_ or 0,
            to_minute=self.to or DAY_MINUTES,
            timezone=self.timezone,
            first_date=self.first_date,
            last_date=self.last_date,
        )
