from __future__ import annotations

from datetime import UTC, datetime

import pytest

from balancer.errors import InputError
from balancer.policy.deadline import read_deadline

# The day before the clocks go back in Europe: 2026-10-25, 03:00 becomes 02:00.
NOW = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "zone", "wanted"),
    [
        ("23:30", "UTC", "2026-10-24T23:30"),
        ("19:00", "UTC", "2026-10-25T19:00"),
        ("06:00", BERLIN, "2026-10-25T05:00"),  # winter time by then
        ("06:00 Europe/Berlin", "UTC", "2026-10-25T05:00"),
        ("02:30", BERLIN, "2026-10-25T00:30"),  # comes twice: the first
        ("2026-10-25 03:00", BERLIN, "2026-10-25T02:00"),
        ("2026-10-26 06:00 America/New_York", "UTC", "2026-10-26T10:00"),
        ("2026-10-25T02:30:00+01:00", BERLIN, "2026-10-25T01:30"),
        ("2026-10-25T06:00:00Z", BERLIN, "2026-10-25T06:00"),
        ("2026-10-25T06:00:30", BERLIN, "2026-10-25T05:00:30"),
        ("2027-03-28 02:30", BERLIN, "2027-03-28T01:00"),  # skipped: the moment of the skip
        ("6:05", "UTC", "2026-10-25T06:05"),
    ],
)
def test_what_a_time_means(text: str, zone: str, wanted: str) -> None:
    assert read_deadline(text, NOW, zone) == datetime.fromisoformat(wanted).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "no time"),
        ("25:00", "no time"),
        ("2026-13-01 06:00", "no time"),
        ("06:00 Europe/Berlim", "no time zone"),
        ("06:00 ../etc/passwd", "no time"),
        ("2026-10-24 06:00", "past"),
    ],
)
def test_what_is_no_time(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_deadline(text, NOW)


def test_the_same_minute_is_tomorrow() -> None:
    assert read_deadline("20:00", NOW) == datetime(2026, 10, 25, 20, 0, tzinfo=UTC)
