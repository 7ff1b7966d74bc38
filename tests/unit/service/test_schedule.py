"""When cycles begin, on the nights on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from balancer.service.schedule import Schedule
from balancer.unattended import SchedulePart


@pytest.mark.parametrize(
    ("cron", "zone", "since"),
    [
        ("30 1,2,3 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC)),
        ("*/20 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("15 * * * *", "America/New_York", datetime(2026, 3, 8, 3, tzinfo=UTC)),
    ],
)
def test_each_cycle_is_later_than_the_one_before(cron: str, zone: str, since: datetime) -> None:
    schedule = Schedule(SchedulePart(cron=cron, timezone=zone), "a cluster")
    due = schedule.first(since, None, since)
    for _ in range(12):
        assert due is not None
        following = schedule.next_after(due, due)  # it began on time, and took no time
        assert following is not None
        assert following - due >= timedelta(minutes=20)
        due = following
