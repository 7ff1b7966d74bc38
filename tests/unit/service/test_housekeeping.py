"""The store does not grow for ever: readings thin out, then go; plans nobody carried out go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from balancer.clock import VirtualClock
from balancer.model.outcome import RunEnd
from balancer.service.events import Bus, Event, EventKind
from balancer.service.housekeeping import PAUSE_S, tidy
from balancer.service.telling import Teller
from balancer.store import thinning
from balancer.store.audit import AuditEntry
from balancer.store.history import Sample, SubjectKind
from balancer.store.store import Store
from balancer.unattended import RetentionPart
from tests.notation import cluster
from tests.stores import new_store

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86400.0
KEEP = RetentionPart(samples=DAY_S, hourly=10 * DAY_S, plans=DAY_S)


class House:
    """A store that is tidied on a virtual clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = VirtualClock(START)
        self.told: list[Event] = []
        bus = Bus()
        bus.subscribe("test", self.told.append)
        self._tell = Teller(bus, self.clock)

    def live(self, hours: int, every_minutes: int = 20) -> None:
        for _ in range(hours * 60 // every_minutes):
            self.store.history.record(cluster("h1 64G: a 4G, b 8G"), self.clock.now())
            self.clock.sleep(every_minutes * 60)

    def tidy(self, keep: RetentionPart = KEEP, *, leave_after: int = 10**6) -> None:
        asked = iter(range(10**6))
        tidy(self.store, keep, self.clock, self._tell, lambda: next(asked) >= leave_after)

    def samples(self) -> tuple[Sample, ...]:
        return self.store.history.samples("test", SubjectKind.HOST, "h1", START)


@pytest.fixture
def house() -> Iterator[House]:
    with new_store() as store:
        yield House(store)


def test_readings_of_the_last_day_stay_and_older_ones_become_hourly(house: House) -> None:
    house.live(hours=36)
    house.tidy()
    times = [sample.at for sample in house.samples()]
    border = START + timedelta(hours=12)
    assert [at for at in times if at < border] == [START + timedelta(hours=n) for n in range(12)]
    assert len([at for at in times if at >= border]) == 24 * 3


def test_thinning_goes_on_where_it_was_and_changes_nothing_twice(house: House) -> None:
    house.live(hours=30)
    house.tidy()
    once = house.samples()
    house.tidy()
    assert house.samples() == once
    house.live(hours=6)
    house.tidy()
    assert len(house.samples()) == 12 + 24 * 3


def test_hourly_means_go_when_their_time_has_come(house: House) -> None:
    house.live(hours=24, every_minutes=60)
    house.clock.sleep(9.5 * DAY_S)
    border = house.clock.now() - timedelta(days=10)
    house.tidy()
    assert min(sample.at for sample in house.samples()) >= border
    house.clock.sleep(DAY_S)
    house.tidy()
    assert house.samples() == ()


def test_it_leaves_off_between_two_hours_when_the_service_ends(house: House) -> None:
    house.live(hours=36)
    house.tidy(leave_after=4)
    assert len(house.samples()) == 36 * 3 - 4 * 2
    assert not house.told  # it was not finished, so nothing is said
    house.tidy()
    assert len(house.samples()) == 12 + 24 * 3


def test_it_says_what_it_did(house: House) -> None:
    house.live(hours=26)
    house.tidy()
    (event,) = house.told
    assert event.kind is EventKind.STORE_PRUNED
    assert event.data["samples"] == 2 * 2 * 3  # two hours, of three subjects, from three to one


def test_a_clock_that_was_ahead_once_does_not_end_the_thinning(house: House) -> None:
    house.live(hours=3)
    ahead = House(house.store)
    ahead.clock.sleep(100 * DAY_S)
    ahead.live(hours=30)
    ahead.tidy(RetentionPart(samples=DAY_S, hourly=1000 * DAY_S, plans=DAY_S))
    house.live(hours=45)
    house.tidy()
    at = [sample.at for sample in house.samples() if sample.at < START + timedelta(hours=24)]
    assert len(at) == 24
    assert all(each.minute == 0 for each in at)


def test_a_clock_that_was_set_back_loses_nothing(house: House) -> None:
    house.live(hours=30)
    house.tidy()
    kept = house.samples()
    back = House(house.store)
    back.tidy()  # at the beginning of the year again
    assert house.samples() == kept


def test_what_others_have_to_wait_for_is_short(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two hosts or VMs at a time, an hour of three takes two transactions; readings stay."""
    monkeypatch.setattr(thinning, "AT_A_TIME", 2)
    house.live(hours=30)
    began = house.clock.now()
    house.tidy()
    assert (house.clock.now() - began).total_seconds() == pytest.approx(6 * 2 * PAUSE_S)
    assert len(house.samples()) == 6 + 24 * 3
    (event,) = house.told
    assert event.data["samples"] == 6 * 3 * 2


def test_the_journal_and_the_audit_log_go_when_their_time_has_come(house: House) -> None:
    store, now = house.store, house.clock.now()
    with store.leases.hold("test", "me", house.clock) as lease:
        run, _ = store.journal.begin_run(lease, "p", [], now)
        store.journal.end_run(lease, run, RunEnd.DONE, now)
    store.audit.append([AuditEntry(now, "test", "me", "ran", "", "", "done", "")])
    keep = RetentionPart(journal=100 * DAY_S, audit=200 * DAY_S)
    kept = []
    for days in (99, 2, 98, 2):
        house.clock.sleep(days * DAY_S)
        house.tidy(keep)
        kept.append((len(store.journal.runs("test")), len(store.audit.entries())))
    assert kept == [(1, 1), (0, 1), (0, 1), (0, 0)]
