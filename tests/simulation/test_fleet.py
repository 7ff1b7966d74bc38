"""Timetables and visits on a virtual clock: what is due is done once, by whoever comes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from balancer.gateway.control import ControlName
from balancer.gateway.simulator.drains import OperatorDrain
from balancer.service.dispatch import Dispatch
from balancer.service.events import Bus, Event, EventKind
from balancer.service.loop import Setup
from balancer.service.metrics import Metrics
from balancer.service.others import Others
from balancer.service.stop import AbandonedError
from balancer.service.visit import Visits
from balancer.store.standing import Freeze
from balancer.store.store import Store
from balancer.unattended import SchedulePart
from tests.simulation.daemon import setup
from tests.simulation.small import Small
from tests.simulation.test_clock_steps import SetClock
from tests.stores import new_store


@dataclass
class Fleet:
    """Dispatchers and workers of one cluster on one store; the queue is a flag."""

    small: Small
    made: Setup
    dispatchers: int = 1
    workers: int = 3
    store: Store = field(default_factory=new_store)
    told: list[Event] = field(default_factory=list)
    wanted: bool = False
    visits: int = 0

    def __post_init__(self) -> None:
        clock = self.small.clock
        bus = Bus()
        bus.subscribe("test", self.told.append)
        self.timetables = [
            Dispatch(self.made, self.store, clock, bus, self) for _ in range(self.dispatchers)
        ]
        self.crew = [Visits(self.made, self.store, clock, bus) for _ in range(self.workers)]

    def ask_for(self, clusters: Iterable[str]) -> None:
        self.wanted = self.wanted or "small" in clusters

    def visit(self) -> None:
        """Have the next worker make a visit."""
        self.wanted = False
        self.visits += 1
        self.crew[self.visits % self.workers].visit()
        assert self.store.leases.current("small", self.small.clock.now()) is None

    def run(self, **time: float) -> None:
        until = self.small.clock.now() + timedelta(**time)
        while (now := self.small.clock.now()) < until:
            wait_s = min(each.turn() for each in self.timetables)
            if self.wanted:
                self.visit()
            else:
                self.small.clock.sleep(min(wait_s, (until - now).total_seconds()))

    def count(self, kind: EventKind) -> int:
        return sum(event.kind is kind for event in self.told)


def made(each: Small, **more: object) -> Setup:
    return setup(each, **more)  # type: ignore[arg-type]


def test_a_morning_by_three_workers_is_as_by_one_daemon() -> None:
    each = Small()
    fleet = Fleet(each, made(each, schedule=SchedulePart(every=900.0, sample_every=60.0)))
    fleet.run(hours=1)
    assert fleet.count(EventKind.CYCLE_STARTED) == 4
    assert fleet.count(EventKind.CYCLE_FAILED) == 0
    assert fleet.count(EventKind.SAMPLED) >= 60
    assert fleet.count(EventKind.MIGRATION_DONE) == 2  # ramping up, one and then the other
    assert fleet.visits >= 60


def test_two_dispatchers_ask_for_the_same_times() -> None:
    each = Small()
    fleet = Fleet(each, made(each, schedule=SchedulePart(cron="*/20 * * * *")), dispatchers=2)
    fleet.run(hours=1)
    assert fleet.count(EventKind.CYCLE_STARTED) == 3  # 00:00, after the start delay, :20 and :40
    each = Small()
    fleet = Fleet(each, made(each, schedule=SchedulePart(every=900.0)), dispatchers=2)
    fleet.run(hours=1)
    assert fleet.count(EventKind.CYCLE_STARTED) == 4


def test_a_clock_that_was_ahead_for_a_while_stops_no_timetable() -> None:
    clock = SetClock()
    each = Small(clock=clock)
    fleet = Fleet(each, made(each, schedule=SchedulePart(every=900.0, sample_every=60.0)))
    fleet.run(hours=1)
    clock.wrong_by += timedelta(days=2)
    fleet.run(hours=1)
    clock.wrong_by -= timedelta(days=2)
    cycles, readings = fleet.count(EventKind.CYCLE_STARTED), fleet.count(EventKind.SAMPLED)
    fleet.run(hours=1)
    assert fleet.count(EventKind.CYCLE_STARTED) - cycles in range(4, 6)
    assert fleet.count(EventKind.SAMPLED) - readings >= 55


def test_a_job_that_comes_twice_does_nothing_twice() -> None:
    each = Small()
    fleet = Fleet(each, made(each))
    fleet.run(minutes=2)
    assert fleet.count(EventKind.CYCLE_STARTED) == 1
    for _ in range(5):
        fleet.visit()
    assert fleet.count(EventKind.CYCLE_STARTED) == 1


def test_a_time_that_was_skipped_is_over() -> None:
    each = Small()
    fleet = Fleet(each, made(each, schedule=SchedulePart(every=900.0, sample_every=60.0)))
    fleet.store.freezes.freeze(Freeze("small", "me", each.clock.now(), "patching"))
    fleet.run(minutes=14)
    assert fleet.count(EventKind.CYCLE_SKIPPED) == 1
    fleet.store.freezes.thaw("small")
    fleet.visit()
    assert fleet.count(EventKind.CYCLE_STARTED) == 0
    fleet.run(minutes=2)
    assert fleet.count(EventKind.CYCLE_STARTED) == 1


def test_what_a_worker_left_in_the_middle_is_ended_and_done_anew_by_the_next() -> None:
    each = Small()
    fleet = Fleet(each, made(each))
    fleet.timetables[0].turn()
    each.clock.sleep(31)
    fleet.timetables[0].turn()
    first = fleet.crew[0]

    def ends(event: Event) -> None:
        first.stopping.abandon |= event.kind is EventKind.MIGRATION_STARTED

    first._tell.bus.subscribe("end", ends)
    with pytest.raises(AbandonedError):
        first.visit()
    assert fleet.count(EventKind.MIGRATION_STARTED) == 1
    assert fleet.store.journal.adrift(each.clock.now()) == frozenset()  # its lease lasts
    fleet.crew[1].visit()
    assert fleet.count(EventKind.STANDING_BY) == 1
    each.clock.sleep(61)
    assert fleet.store.journal.adrift(each.clock.now()) == {"small"}
    fleet.crew[2].visit()
    assert fleet.count(EventKind.MIGRATION_ADOPTED) == 1
    assert fleet.count(EventKind.CYCLE_STARTED) == 2
    assert fleet.store.journal.adrift(each.clock.now()) == frozenset()
    assert not fleet.store.journal.open_runs("small")


def test_requests_are_carried_out_by_a_visit() -> None:
    each = Small()
    fleet = Fleet(each, made(each, mode="recommend"))
    number = fleet.store.requests.submit("small", "apply", {}, "me", each.clock.now())
    fleet.visit()
    assert fleet.store.requests.get(number).exit_code == 0
    assert fleet.count(EventKind.MIGRATION_DONE) >= 1


def test_what_others_put_off_is_due_again_at_the_next_visit() -> None:
    each = Small()
    OperatorDrain("h4", 10.0, resume_after_s=200.0).enter(each.world)
    for guest in each.world.guests.values():
        if guest.host == "h4":
            guest.assigned_bytes *= 5  # so that the drain takes longer than our first cycle
    fleet = Fleet(each, made(each, schedule=SchedulePart(every=3600.0, sample_every=60.0)))
    fleet.run(seconds=50)
    assert fleet.count(EventKind.HELD_BACK) >= 1
    assert fleet.count(EventKind.RUN_STARTED) == 0
    fleet.run(minutes=20)  # not only at the next full hour
    assert fleet.count(EventKind.MIGRATION_DONE) == 1  # the first run makes one move


def test_a_time_that_no_dispatcher_was_there_for_is_told_of_once() -> None:
    each = Small()
    nightly = made(each, schedule=SchedulePart(cron="30 2 * * *", sample_every=3600.0))
    store = new_store()
    Fleet(each, nightly, store=store).run(hours=1)
    store.marks.set("small", "cycled", each.clock.now())
    each.clock.sleep(5 * 3600)
    later = Fleet(each, nightly, store=store, dispatchers=2)
    later.run(hours=1)
    assert later.count(EventKind.CYCLE_MISSED) == 1
    assert later.count(EventKind.CYCLE_STARTED) == 0


class Worker:
    """A worker in a process of its own, with its metrics."""

    def __init__(self, small: Small, setup: Setup, store: Store) -> None:
        self.told: list[Event] = []
        self.metrics = Metrics()
        self.metrics.watch({"small": 900.0}, 0.0)
        bus = Bus()
        bus.subscribe("metrics", self.metrics.hear)
        bus.subscribe("test", self.told.append)
        self.loop = Visits(setup, store, small.clock, bus)
        self.others = Others(store, small.clock, bus)

    def gauge(self, name: str, **labels: str) -> float | None:
        labels = {"cluster": "small", **labels}
        return self.metrics.series.registry.get_sample_value(f"balancer_{name}", labels)

    def gauges(self) -> dict[str, float | None]:
        names = ("unknown_hosts", "frozen", "approval_pending", "unresolved_problems")
        return {name: self.gauge(name) for name in names}


def test_every_worker_shows_how_a_cluster_stands_whoever_visited_it_last() -> None:
    each, store = Small(), new_store()
    one, two = (Worker(each, made(each, mode="recommend"), store) for _ in range(2))

    def visit(worker: Worker) -> None:
        worker.loop.visit()
        for other in (one, two):
            other.others.follow({"small"})
        each.clock.sleep(61)

    store.marks.set("small", "due", each.clock.now())
    visit(one)
    assert one.gauges() == two.gauges()
    assert two.gauge("approval_pending") == 1

    each.world.machines["h3"].powered = False
    each.gateway.write_control(ControlName.FREEZE, "", "stop it", 0)
    visit(one)
    expected = {"unknown_hosts": 1, "frozen": 1, "approval_pending": 1, "unresolved_problems": 0}
    assert one.gauges() == two.gauges() == expected
    assert two.gauge("host_answers", host="h3") == 0

    each.world.machines["h3"].powered = True
    each.gateway.write_control(ControlName.FREEZE, "stop it", "", 0)
    each.clock.sleep(24 * 3600)  # the plan's life is over
    visit(two)
    assert one.gauges() == two.gauges() == dict.fromkeys(expected, 0)
    assert one.gauge("host_answers", host="h3") == 1
    kinds = [event.kind for worker in (one, two) for event in worker.told]
    for once in (EventKind.HOST_LOST, EventKind.HOST_BACK, EventKind.FROZEN, EventKind.THAWED):
        assert kinds.count(once) == 1, once
    assert kinds.count(EventKind.PLAN_EXPIRED) == 1


def test_a_freeze_that_was_lifted_meanwhile_costs_no_cycle() -> None:
    each, store = Small(), new_store()
    one, two = (Worker(each, made(each), store) for _ in range(2))
    each.gateway.write_control(ControlName.FREEZE, "", "stop it", 0)
    one.loop.visit()
    each.gateway.write_control(ControlName.FREEZE, "stop it", "", 0)
    each.clock.sleep(61)
    store.marks.set("small", "due", each.clock.now())
    two.loop.visit()
    assert EventKind.CYCLE_SKIPPED not in {event.kind for event in two.told}
    assert EventKind.RUN_ENDED in {event.kind for event in two.told}
