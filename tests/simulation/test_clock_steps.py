"""A machine's clock that is set, forward or back, while the service runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from balancer.clock import VirtualClock
from balancer.service.events import EventKind as K
from balancer.unattended import SchedulePart
from tests.simulation.daemon import Daemon, setup
from tests.simulation.small import Small

NIGHTLY = SchedulePart(cron="30 2 * * *", timezone="Europe/Berlin")


class SetClock(VirtualClock):
    """A virtual clock that somebody sets: seconds that pass are not affected."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        super().__init__(start)
        self.wrong_by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.wrong_by


def living(schedule: SchedulePart | None = None) -> tuple[SetClock, Daemon]:
    clock = SetClock()
    small = Small(clock=clock)
    daemon = Daemon(small, setup(small, "", mode="recommend", schedule=schedule))
    daemon.run(minutes=20)
    daemon.told.clear()
    return clock, daemon


@pytest.mark.parametrize("days", [-3650, -1, -0.1, 0.1, 1, 3650])
def test_readings_and_cycles_by_interval_go_on(days: float) -> None:
    clock, daemon = living()
    clock.wrong_by += timedelta(days=days)
    daemon.run(hours=1)
    assert 3 <= daemon.count(K.CYCLE_STARTED) <= 5
    assert 55 <= daemon.count(K.SAMPLED) <= 70


@pytest.mark.parametrize("days", [-3650, -1, 1, 3650])
def test_nightly_cycles_come_the_same_night(days: float) -> None:
    clock, daemon = living(NIGHTLY)  # since midnight, an hour and a half before it is due
    clock.wrong_by += timedelta(days=days)
    daemon.run(hours=2)
    assert 1 <= daemon.count(K.CYCLE_STARTED) <= 2  # two if the step goes over one


def test_a_clock_that_is_disciplined_changes_nothing() -> None:
    clock, daemon = living()
    for _ in range(60):
        clock.wrong_by -= timedelta(seconds=0.5)
        daemon.run(minutes=1)
    assert daemon.count(K.CYCLE_STARTED) == 4
