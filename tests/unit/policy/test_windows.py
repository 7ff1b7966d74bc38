from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from balancer.errors import InputError
from balancer.policy.load import parse_policy
from balancer.policy.windows import Calendar, Span, never_meet

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def calendar(text: str) -> Calendar:
    return parse_policy(f"version: 1\n{text}", "policy").calendar


def opened(made: Calendar, since: str, until: str) -> list[tuple[str, str]]:
    return [
        (f"{begin:%m-%dT%H:%M}", f"{end:%m-%dT%H:%M}")
        for begin, end in made.openings(at(since), at(until))
    ]


def test_without_windows_it_is_always_open() -> None:
    made = calendar("")
    now = at("2026-07-01T12:00")
    assert made.is_open(now)
    assert made.closes(now) is None
    assert made.next_opening(now) == now
    assert made.latest_start(now, 1e6) is None
    assert made.may_start(now, 1e9)


def test_a_window_over_midnight() -> None:
    made = calendar(
        f"windows: [{{days: [fri], from: 22:00, to: 06:00, timezone: {BERLIN}}}]"
    )  # 2026-07-03 is a Friday
    assert opened(made, "2026-07-01T00:00", "2026-07-10T00:00") == [("07-03T20:00", "07-04T04:00")]
    assert not made.is_open(at("2026-07-03T19:59:59"))
    assert made.is_open(at("2026-07-03T20:00"))
    assert made.is_open(at("2026-07-04T03:59:59"))
    assert not made.is_open(at("2026-07-04T04:00"))
    assert made.closes(at("2026-07-03T21:00")) == at("2026-07-04T04:00")
    assert made.next_opening(at("2026-07-04T04:00")) == at("2026-07-10T20:00")
    assert made.closes(at("2026-07-05T04:00")) == at("2026-07-05T04:00")


def test_what_would_not_end_inside_may_not_start() -> None:
    made = calendar("windows: [{from: 22:00, to: 06:00}]")
    now = at("2026-07-03T23:00")
    assert made.latest_start(now, 3600) == at("2026-07-04T05:00")
    assert made.may_start(at("2026-07-04T05:00"), 3600)
    assert not made.may_start(at("2026-07-04T05:00:01"), 3600)
    assert not made.may_start(at("2026-07-04T12:00"), 1)
    assert not made.may_start(now, 8 * 3600)


def test_a_time_that_does_not_exist_is_the_moment_of_the_skip() -> None:
    # Berlin, 2026-03-29: 02:00 CET (01:00 UTC) becomes 03:00 CEST.
    until = f"windows: [{{days: [sun], from: 01:00, to: 02:30, timezone: {BERLIN}}}]"
    since = f"windows: [{{days: [sun], from: 02:30, to: 05:00, timezone: {BERLIN}}}]"
    inside = f"windows: [{{days: [sun], from: 02:10, to: 02:50, timezone: {BERLIN}}}]"
    night = ("2026-03-28T12:00", "2026-03-29T12:00")
    assert opened(calendar(until), *night) == [("03-29T00:00", "03-29T01:00")]
    assert opened(calendar(since), *night) == [("03-29T01:00", "03-29T03:00")]
    assert opened(calendar(inside), *night) == []


def test_a_time_that_comes_twice() -> None:
    # Berlin, 2026-10-25: 03:00 CEST (01:00 UTC) becomes 02:00 CET.
    entry = f"[{{days: [sun], from: 02:30, to: 02:45, timezone: {BERLIN}}}]"
    night = ("2026-10-25T00:00", "2026-10-25T03:00")
    assert opened(calendar(f"windows: {entry}"), *night) == [("10-25T00:30", "10-25T00:45")]
    assert opened(calendar(f"blackouts: {entry}"), *night) == [
        ("10-25T00:00", "10-25T00:30"),
        ("10-25T01:45", "10-25T03:00"),
    ]
    long = f"windows: [{{days: [sat], from: 22:00, to: 06:00, timezone: {BERLIN}}}]"
    ((begin, end),) = calendar(long).openings(at("2026-10-24T12:00"), at("2026-10-26T00:00"))
    assert end - begin == timedelta(hours=9)


def test_windows_that_touch_are_one_and_blackouts_win() -> None:
    made = calendar(
        "windows: [{from: 20:00, to: 00:00}, {from: 00:00, to: 04:00}]\n"
        "blackouts: [{days: [sat], from: 01:00, to: 02:00}]"
    )
    assert made.closes(at("2026-07-02T21:00")) == at("2026-07-03T04:00")
    assert made.closes(at("2026-07-03T21:00")) == at("2026-07-04T01:00")
    assert made.next_opening(at("2026-07-04T01:30")) == at("2026-07-04T02:00")
    assert not made.may_start(at("2026-07-04T00:59"), 120)


def test_dates_bound_the_days_on_which_a_span_begins() -> None:
    made = calendar(
        "blackouts: [{first_date: 2026-12-20, last_date: 2027-01-06, timezone: America/New_York}]"
    )
    assert made.closes(at("2026-06-01T00:00")) == at("2026-12-20T05:00")
    assert made.next_opening(at("2026-12-25T00:00")) == at("2027-01-07T05:00")


def test_windows_that_never_open_within_the_horizon() -> None:
    made = calendar("windows: [{last_date: 2020-01-01}]")
    assert made.next_opening(at("2026-01-01T00:00")) is None
    shut = calendar("windows: [{days: [mon]}]\nblackouts: [{}]")
    assert shut.next_opening(at("2026-01-01T00:00")) is None


def test_a_zone_without_a_midnight_and_one_without_a_whole_day() -> None:
    # Santiago, 2026-09-06: 00:00 becomes 01:00 (04:00 UTC). Apia has no 2011-12-30.
    made = Calendar((Span(frozenset({6}), 0, 120, "America/Santiago"),))
    assert opened(made, "2026-09-05T00:00", "2026-09-07T00:00") == [("09-06T04:00", "09-06T05:00")]
    apia = Calendar((Span(frozenset({4}), 0, 1440, "Pacific/Apia", date(2011, 12, 30)),))
    assert opened(apia, "2011-12-25T00:00", "2012-01-03T00:00") == []


def test_openings_of_a_year_agree_with_the_wall_clock() -> None:
    made = calendar(f"windows: [{{from: 08:00, to: 17:00, timezone: {BERLIN}}}]")
    zone = ZoneInfo(BERLIN)
    found = made.openings(at("2026-01-01T00:00"), at("2027-01-01T00:00"))
    assert len(found) == 365
    for begin, end in found:
        assert (begin.astimezone(zone).hour, end.astimezone(zone).hour) == (8, 17)


@pytest.mark.parametrize(
    "entry",
    [
        "{from: 25:00}",
        "{to: 6}",
        "{days: [monday]}",
        "{days: []}",
        "{timezone: Mars/Olympus}",
        "{timezone: ../etc}",
        "{first_date: 2026-02-30}",
        "{first_date: 2026-03-02, last_date: 2026-03-01}",
        "{from: 24:00}",
    ],
)
def test_what_is_no_span_is_refused_with_its_place(entry: str) -> None:
    with pytest.raises(InputError) as caught:
        calendar(f"windows:\n  - {entry}")
    assert caught.value.place is not None
    assert caught.value.place.line == 3
    assert caught.value.remedy


def test_an_unknown_key_is_told_the_keys_as_they_are_written() -> None:
    with pytest.raises(InputError) as caught:
        calendar("windows: [{start: 22:00}]")
    assert "from," in caught.value.remedy
    assert "from_" not in caught.value.remedy


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("{days: [sat]}", "{days: [sun]}", True),
        ("{days: [sat], from: 22:00, to: 00:30}", "{days: [sun]}", False),
        ("{from: 22:00, to: 06:00}", "{from: 06:00, to: 22:00}", True),
        ("{from: 22:00, to: 06:00}", "{from: 06:00, to: 22:00, timezone: Europe/Berlin}", False),
        ("{to: 01:00}", "{from: 06:00, to: 07:00, timezone: Asia/Kolkata}", False),
        ("{first_date: 2026-03-01}", "{last_date: 2026-02-28}", True),
        ("{first_date: 2026-03-01}", "{from: 22:00, to: 06:00, last_date: 2026-02-28}", False),
        ("{first_date: 2026-03-02, last_date: 2026-03-04}", "{days: [thu]}", True),
        ("{first_date: 2026-03-02, last_date: 2026-03-05}", "{days: [thu]}", False),
        # In summer time only.
        ("{to: 01:00}", "{from: 02:00, to: 03:00, timezone: Europe/Berlin}", False),
        ("{last_date: 1999-01-01}", "{days: [sun], last_date: 1999-01-01}", False),
        ("{first_date: 9999-12-31}", "{last_date: 0001-01-01}", False),
        ("{days: [mon], first_date: 2026-01-06, last_date: 2026-01-06}", "{days: [sat]}", False),
    ],
)
def test_hours_that_never_meet(one: str, other: str, *, apart: bool) -> None:
    first, second = calendar(f"windows: [{one}]"), calendar(f"windows: [{other}]")
    assert never_meet(first, second) is apart
    assert never_meet(second, first) is apart
    both = calendar(f"windows: [{one}, {other}]")
    assert not never_meet(first, both), "one of several is enough"


def test_what_begins_where_a_look_ends_is_looked_at_again() -> None:
    """Blackouts that begin just as a look ahead ends, and another ends, leave no gap between."""
    windows = tuple(Span(days=frozenset({0}), from_minute=at, to_minute=1) for at in (0, 1))
    berlin = Span(days=frozenset({0, 1}), from_minute=1, to_minute=1, timezone="Europe/Berlin")
    made = Calendar(windows=windows, blackouts=(berlin,))
    opens = made.next_opening(datetime(2026, 3, 29, 0, 2, tzinfo=UTC))
    assert opens is None or made.is_open(opens)
