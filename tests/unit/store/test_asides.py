"""What is set aside: for how long, what failures add up to, and what clears it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from balancer.model.aside import About, Aside
from balancer.store.asides import FIRST, MOST
from balancer.store.breakers import COOL_OFF, RUNS_MAX
from balancer.store.leases import Lease, LeaseLostError
from balancer.store.store import Store
from tests.stores import new_store

HOUR = timedelta(hours=1)


@dataclass
class Bench:
    store: Store
    lease: Lease
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    found: list[tuple[Aside, ...]] = field(default_factory=list)

    def fail(
        self, vm: str, source: str, target: str, about: About = About.WAY
    ) -> tuple[Aside, ...]:
        one = Aside("c", vm, vm, source, target, self.now, self.now, 0, 0x80071741, "no")
        return self.store.asides.failed(self.lease, one, about)

    def labels(self) -> list[str]:
        return [one.label for one in self.store.asides.active("c", self.now)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with new_store() as store:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        yield Bench(store, store.leases.acquire("c", "me", 1e9, now), now)


def test_one_failure_sets_its_own_way_aside_and_time_clears_it(bench: Bench) -> None:
    (one,) = bench.fail("a", "h1", "h2")
    assert (one.about, one.until, one.failures) == (About.WAY, bench.now + FIRST, 1)
    (back,) = bench.store.asides.active("c", bench.now)
    assert back == one
    assert bench.store.asides.active("other", bench.now) == ()
    assert one.covers("a", "h1", "h2")
    assert not one.covers("a", "h2", "h1")
    assert not one.covers("a", "h1", "h3")
    bench.now += FIRST
    assert bench.labels() == []


def test_each_further_failure_lasts_twice_as_long_up_to_a_week(bench: Bench) -> None:
    lasted: list[timedelta] = []
    for _ in range(9):
        (one,) = bench.fail("a", "h1", "h2")
        lasted.append(one.until - one.since)
        bench.now = one.until
    assert lasted[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert lasted[-1] == MOST


def test_what_has_not_failed_for_long_begins_anew(bench: Bench) -> None:
    for _ in range(3):
        (one,) = bench.fail("a", "h1", "h2")
    bench.now = one.until + MOST + HOUR
    (again,) = bench.fail("a", "h1", "h2")
    assert again.failures == 1


def test_a_vm_that_fails_on_two_ways_is_set_aside_itself(bench: Bench) -> None:
    bench.fail("a", "h1", "h2")
    bench.fail("a", "h1", "h3")
    assert bench.labels() == ["a from h1 to h2", "a from h1 to h3", "a"]


def test_three_vms_between_the_same_hosts_blame_the_pair_alone(bench: Bench) -> None:
    for vm in "abc":
        bench.fail(vm, "h1", "h2")
    assert bench.labels()[3:] == ["anything from h1 to h2"]


def test_three_vms_from_several_hosts_blame_the_target(bench: Bench) -> None:
    for vm, source in (("a", "h1"), ("b", "h1"), ("c", "h3")):
        bench.fail(vm, source, "h2")
    assert bench.labels()[3:] == ["anything to h2"]


def test_three_vms_to_several_hosts_blame_the_source(bench: Bench) -> None:
    for vm, target in (("a", "h2"), ("b", "h2"), ("c", "h3")):
        bench.fail(vm, "h1", target)
    assert bench.labels()[3:] == ["anything from h1"]


def test_old_failures_do_not_add_up_to_new_ones(bench: Bench) -> None:
    for vm in "abc":
        bench.fail(vm, "h1", "h2")
        bench.now += FIRST
    assert not any("anything" in label for label in bench.labels())


@pytest.mark.parametrize(
    ("about", "label"),
    [(About.VM, "a"), (About.TARGET, "anything to h2"), (About.SOURCE, "anything from h1")],
)
def test_a_code_may_blame_more_than_the_way(bench: Bench, about: About, label: str) -> None:
    bench.fail("a", "h1", "h2", about)
    assert bench.labels() == [label]


def test_what_goes_well_clears_what_it_proves_wrong_and_no_more(bench: Bench) -> None:
    for vm, source in (("a", "h1"), ("b", "h1"), ("c", "h3")):
        bench.fail(vm, source, "h2")
    bench.fail("d", "h4", "h3")
    cleared = bench.store.asides.went_well(bench.lease, "e", "h4", "h2")
    assert [one.label for one in cleared] == ["anything to h2"]
    assert bench.store.asides.went_well(bench.lease, "a", "h1", "h2")[0].label == "a from h1 to h2"
    assert bench.labels() == ["b from h1 to h2", "c from h3 to h2", "d from h4 to h3"]


def test_only_the_executor_of_now_may_write(bench: Bench) -> None:
    stale = bench.lease
    bench.store.leases.release(stale)
    with pytest.raises(LeaseLostError):
        bench.fail("a", "h1", "h2")
    with pytest.raises(LeaseLostError):
        bench.store.asides.went_well(stale, "a", "h1", "h2")
    with pytest.raises(LeaseLostError):
        bench.store.breakers.failed(stale, "no", bench.now)


def test_the_breaker_opens_after_some_runs_in_a_row_and_for_a_day(bench: Bench) -> None:
    breakers = bench.store.breakers
    assert breakers.of("c") is None
    for number in range(1, RUNS_MAX + 1):
        found = breakers.failed(bench.lease, f"run {number}", bench.now)
        assert breakers.of("c") == found
        assert found.is_open(bench.now) is (number == RUNS_MAX)
    assert not found.is_open(bench.now + COOL_OFF)
    bench.now += COOL_OFF
    assert breakers.failed(bench.lease, "again", bench.now).is_open(bench.now)


def test_a_run_that_goes_well_in_between_counts_anew(bench: Bench) -> None:
    breakers = bench.store.breakers
    for _ in range(RUNS_MAX):
        assert not breakers.failed(bench.lease, "no", bench.now).is_open(bench.now)
        assert breakers.close("c")
    assert not breakers.close("c")
