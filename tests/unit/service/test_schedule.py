"""When cycles begin: by interval and by crontab, over nights on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from balancer.errors import InputError
from balancer.service.schedule import EVERY_S, Schedule
from balancer.unattended import SchedulePart

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def every(text: float = 900.0, *, jitter: float = 0.0, name: str = "PROD") -> Schedule:
    return Schedule(
        SchedulePart.model_validate({"every": f"{text}s", "jitter": f"{jitter}s"}), name
    )


def cron(text: str, zone: str = "UTC", name: str = "PROD") -> Schedule:
    return Schedule(SchedulePart.model_validate({"cron": text, "timezone": zone}), name)


def lived(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    """Return when cycles begin that each take a minute, in a service that starts at `begin`."""
    found: list[datetime] = []
    due = schedule.first(begin, None, begin)
    while due is not None and due < end:
        found.append(due)
        due = schedule.next_after(due, due + minutes(1))
    return found


def local(times: list[datetime], zone: str) -> list[str]:
    return [f"{at.astimezone(ZoneInfo(zone)):%d %H:%M%z}" for at in times]


def test_without_a_word_a_cluster_is_balanced_every_quarter_of_an_hour() -> None:
    times = lived(Schedule(SchedulePart(), "PROD"), NOON, NOON + timedelta(hours=2))
    assert {b - a for a, b in pairwise(times)} == {timedelta(seconds=EVERY_S)}


def test_the_first_cycle_waits_for_the_start_delay() -> None:
    assert every().first(NOON, None, NOON + minutes(1)) == NOON + minutes(1)
    assert every().first(NOON + minutes(5), None, NOON + minutes(1)) == NOON + minutes(5)


def test_the_first_cycles_of_many_clusters_are_spread_over_the_pause() -> None:
    firsts = [
        Schedule(SchedulePart(every=900.0), name, share).first(NOON, None, NOON)
        for name, share in (("A", 0.0), ("B", 1 / 3), ("C", 2 / 3))
    ]
    assert firsts == [NOON, NOON + minutes(5), NOON + minutes(10)]
    again = Schedule(SchedulePart(every=900.0), "B", 1 / 3)
    assert again.first_sample(NOON) == NOON + timedelta(seconds=20)
    assert again.first(NOON + minutes(40), NOON + minutes(5), NOON) == NOON + minutes(50)


def test_a_nightly_time_within_the_start_delay_is_not_lost() -> None:
    nightly = cron("2 12 * * *")
    assert nightly.first(NOON, None, NOON + minutes(3)) == NOON + minutes(2)
    assert nightly.first(NOON, NOON - minutes(1), NOON + minutes(3)) == NOON + minutes(2)


def test_a_nightly_time_that_nobody_could_answer_is_made_up_for_within_the_hour_and_once() -> None:
    nightly, due = cron("2 12 * * *"), NOON + minutes(2)
    yesterday, tomorrow = due - timedelta(days=1), due + timedelta(days=1)
    for late in (0, 1, 59):
        now = due + minutes(late)
        assert nightly.first(now, yesterday, now) == due
        assert nightly.first(now + minutes(1), due, now) == tomorrow  # it had its cycle
    assert nightly.first(due + minutes(61), yesterday, due) == tomorrow


def test_a_crontab_is_not_late_for_times_before_it_was_written() -> None:
    nightly, now = cron("2 12 * * *"), NOON + minutes(10)
    tomorrow = NOON + timedelta(days=1, minutes=2)
    assert nightly.first(now, None, now) == tomorrow
    assert nightly.first(now, NOON - minutes(30), now, since=NOON + minutes(5)) == tomorrow
    assert nightly.first(now, None, now, since=NOON) == NOON + minutes(2)


def test_missed_times_of_an_hour_bring_one_cycle() -> None:
    often, now = cron("*/10 * * * *"), NOON + minutes(45)
    due = often.first(now, NOON, now)
    assert due == NOON + minutes(10)
    assert often.next_after(due, now) == NOON + minutes(50)


def test_after_a_restart_an_interval_goes_on_from_the_last_cycle() -> None:
    last = NOON - minutes(10)
    assert every().first(NOON, last, NOON + minutes(1)) == last + minutes(15)
    overdue = NOON - minutes(100)
    due = every().first(NOON, overdue, NOON + minutes(1))
    assert due == NOON + minutes(5)  # on the grid, and once: what was missed is not made up for
    assert every().first(NOON, last, NOON + minutes(9)) == last + minutes(30)


def test_cycles_missed_while_one_ran_are_one() -> None:
    began = NOON
    assert every().next_after(began, NOON + minutes(50)) == NOON + minutes(60)
    nightly = cron("0 * * * *")
    assert nightly.next_after(NOON, NOON + minutes(150)) == NOON + minutes(180)


def test_a_cycle_that_ends_within_its_second_is_not_due_again() -> None:
    assert every(60).next_after(NOON, NOON) == NOON + minutes(1)
    assert cron("* * * * *").next_after(NOON, NOON) == NOON + minutes(1)


def test_jitter_delays_by_less_than_it_says_and_the_same_each_time() -> None:
    plain, spread = every(), every(jitter=300)
    names = [every(jitter=300, name=f"C{n}") for n in range(200)]
    delays = [(one.first(NOON, None, NOON) or NOON) - NOON for one in names]
    assert all(timedelta(0) <= delay < minutes(5) for delay in delays)
    assert len(set(delays)) > 100
    assert spread.first(NOON, None, NOON) == every(jitter=300).first(NOON, None, NOON)
    assert plain.first(NOON, None, NOON) == NOON
    assert spread.longest_pause_s == 900 + 300
    assert cron("0 3 * * *").longest_pause_s > 7 * 86400


@pytest.mark.parametrize(
    ("zone", "begin", "times"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00. New York, 8 March: the same at 02:00.
        (BERLIN, datetime(2026, 3, 27, 12, tzinfo=UTC), ["28 02:30+0100", "30 02:30+0200"]),
        (NEW_YORK, datetime(2026, 3, 6, 17, tzinfo=UTC), ["07 02:30-0500", "09 02:30-0400"]),
    ],
)
def test_a_time_that_the_night_leaves_out_comes_once_or_not_but_never_twice(
    zone: str, begin: datetime, times: list[str]
) -> None:
    found = local(lived(cron("30 2 * * *", zone), begin, begin + timedelta(days=3)), zone)
    on_the_night = [each for each in found if each not in times]
    assert found[0] == times[0]
    assert found[-1] == times[1]
    assert len(on_the_night) <= 1
    assert all(each[3:5] == "03" for each in on_the_night)


@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        # Berlin, 25 October 2026: 02:00 to 03:00 comes twice. New York, 1 November: 01:00 to 02:00.
        (BERLIN, datetime(2026, 10, 23, 12, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 10, 30, 17, tzinfo=UTC)),
    ],
)
def test_a_time_that_the_night_has_twice_is_one_cycle(zone: str, begin: datetime) -> None:
    hour = 2 if zone == BERLIN else 1
    times = lived(cron(f"30 {hour} * * *", zone), begin, begin + timedelta(days=4))
    days = [at.astimezone(ZoneInfo(zone)).date() for at in times]
    assert len(days) == len(set(days)) == 4
    assert {f"{at.astimezone(ZoneInfo(zone)):%H:%M}" for at in times} == {f"0{hour}:30"}


@pytest.mark.parametrize(
    "begin", [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)]
)
def test_an_interval_knows_no_summer_time(begin: datetime) -> None:
    times = lived(every(1800), begin, begin + timedelta(hours=8))
    assert {b - a for a, b in pairwise(times)} == {minutes(30)}
    assert len(times) == 16


@pytest.mark.parametrize(
    "begin", [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)]
)
def test_every_quarter_by_crontab_goes_on_through_the_night(begin: datetime) -> None:
    times = lived(cron("*/15 * * * *", BERLIN), begin, begin + timedelta(hours=8))
    assert max(b - a for a, b in pairwise(times)) <= minutes(75)
    assert all(b > a for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("0", "Sun"), ("7", "Sun"), ("sun", "Sun"), ("1", "Mon"), ("1-5", "Mon Tue Wed Thu Fri"),
        ("mon-fri", "Mon Tue Wed Thu Fri"), ("0,6", "Sat Sun"), ("0-2", "Mon Tue Sun"),
        ("6-7", "Sat Sun"), ("*/2", "Mon Wed Fri Sun"),
    ],
)  # fmt: skip
def test_weekdays_are_numbered_as_crontab_does(weekday: str, days: str) -> None:
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    times = lived(cron(f"0 12 * * {weekday}"), monday, monday + timedelta(days=7))
    assert " ".join(f"{at:%a}" for at in times) == days


def test_a_cron_expression_that_means_nothing_is_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match="61") as caught:
        cron("61 * * * *")
    assert "30 22 * * mon-fri" in str(caught.value)


def test_a_date_that_never_comes_is_never_due() -> None:
    assert cron("0 0 30 2 *").first(NOON, None, NOON) is None


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=400), minutes(14)])
def test_a_clock_set_back_puts_the_next_cycle_off_by_no_more_than_the_interval(
    step: timedelta,
) -> None:
    last = NOON + step  # by the clock as it was before it was set back
    due = every().first(NOON, last, NOON)
    assert due is not None
    assert NOON <= due <= NOON + minutes(15)


def test_a_clock_set_forward_brings_one_cycle() -> None:
    due = every().first(NOON + timedelta(days=3), NOON, NOON + timedelta(days=3))
    assert due is not None
    assert NOON + timedelta(days=3) <= due <= NOON + timedelta(days=3, minutes=15)


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
