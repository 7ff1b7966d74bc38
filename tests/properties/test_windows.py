"""Windows against a clock that is watched minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.policy.windows import Calendar, Span

MINUTE = timedelta(minutes=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago",
         "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca")  # fmt: skip
# Nights on which clocks change in one of the zones, and one on which none does.
NIGHTS = (date(2026, 3, 29), date(2026, 10, 25), date(2026, 3, 8), date(2026, 11, 1),
          date(2026, 4, 5), date(2026, 10, 4), date(2026, 9, 6), date(2026, 2, 15),
          date(2026, 3, 22), date(2026, 7, 1))  # fmt: skip

minutes = st.one_of(st.integers(0, 1439), st.integers(100, 200))
spans = st.builds(
    Span,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    from_minute=minutes,
    to_minute=minutes.map(lambda minute: minute + 1),
    timezone=st.sampled_from(ZONES),
    first_date=st.none() | st.sampled_from(NIGHTS),
    last_date=st.none() | st.sampled_from(NIGHTS),
)
calendars = st.builds(
    Calendar,
    windows=st.lists(spans, max_size=3).map(tuple),
    blackouts=st.lists(spans, max_size=2).map(tuple),
)


@lru_cache(maxsize=len(ZONES) * len(NIGHTS))
def walls_of(timezone: str, start: datetime, count: int) -> list[datetime]:
    """Return what the wall clock shows in each of so many minutes."""
    zone = ZoneInfo(timezone)
    return [(start + n * MINUTE).astimezone(zone).replace(tzinfo=None) for n in range(count)]


def watched(span: Span, since: datetime, until: datetime, *, last_end: bool) -> set[datetime]:
    """Return the minutes in which a span is on, by looking at the wall clock of each."""
    start = since - timedelta(days=3)
    count = (until - start) // MINUTE
    walls = walls_of(span.timezone, start, count)
    on: set[datetime] = set()
    for day in {wall.date() for wall in walls}:
        allowed = (span.first_date or date.min) <= day <= (span.last_date or date.max)
        if not allowed or day.weekday() not in span.days:
            continue
        begin = datetime.combine(day, time()) + timedelta(minutes=span.from_minute)
        end = datetime.combine(day, time()) + timedelta(minutes=span.to_minute)
        if span.to_minute <= span.from_minute:
            end += timedelta(days=1)
        first = next((n for n, wall in enumerate(walls) if wall >= begin), count)
        if last_end:
            over = 1 + max((n for n, wall in enumerate(walls) if wall < end), default=-1)
        else:
            over = next((n for n, wall in enumerate(walls) if wall >= end), count)
        on |= {start + n * MINUTE for n in range(first, over)}
    return on


@settings(max_examples=150, deadline=None)
@given(calendars, st.sampled_from(NIGHTS))
def test_openings_are_what_the_wall_clocks_show(made: Calendar, night: date) -> None:
    since = datetime.combine(night, time(), UTC) - timedelta(hours=20)
    until = since + timedelta(hours=48)
    every = [since + n * MINUTE for n in range((until - since) // MINUTE)]
    open_ = set(every)
    if made.windows:
        open_ = set[datetime]().union(
            *(watched(span, since, until, last_end=False) for span in made.windows)
        )
    for span in made.blackouts:
        open_ -= watched(span, since, until, last_end=True)
    openings = made.openings(since, until)
    found = {at for at in every if any(begin <= at < end for begin, end in openings)}
    assert found == open_ & set(every)
    assert all(before[1] < after[0] for before, after in pairwise(openings))


@settings(max_examples=150, deadline=None)
@given(calendars, st.sampled_from(NIGHTS), st.integers(0, 2880), st.integers(0, 100_000))
def test_the_questions_agree_with_each_other(
    made: Calendar, night: date, minute: int, expected_s: int
) -> None:
    at = datetime.combine(night, time(), UTC) + minute * MINUTE
    closes, opens = made.closes(at), made.next_opening(at)
    assert made.is_open(at) == (closes != at) == (opens == at)
    may = made.may_start(at, expected_s)
    latest = made.latest_start(at, expected_s)
    assert may == (made.is_open(at) and (latest is None or at <= latest))
    if opens is not None:
        assert made.is_open(opens)
        assert opens == at or not made.is_open(opens - timedelta(seconds=1))
    if closes is not None and closes > at:
        assert not made.is_open(closes)
        assert made.is_open(closes - timedelta(seconds=1))
