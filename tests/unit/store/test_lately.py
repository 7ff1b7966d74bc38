"""What plans see of the past: loads as arrays, and what was moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from balancer.hindsight import hindsight
from balancer.model.cluster import Cluster
from balancer.model.outcome import RunEnd
from balancer.model.past import PastMove, Trouble
from balancer.policy.policy import Policy
from balancer.policy.stability import HistoryPolicy
from balancer.store.journal import Change, Entry
from balancer.store.store import Store
from tests.notation import cluster
from tests.simulation.small import plan_for
from tests.stores import new_store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEEN = cluster("h1 64G 16c: a 4G 2c, b 8G 1c\nh2 64G 16c: c 4G off")
HOUR = timedelta(hours=1)


def loaded(cores: float) -> Cluster:
    vms = tuple(replace(vm, cpu_used_cores=cores) if vm.id == "a" else vm for vm in SEEN.vms)
    return replace(SEEN, vms=vms)


def test_loads_come_as_means_of_equal_times_and_what_was_off_is_not_known() -> None:
    with new_store() as store:
        for minute in range(60):
            store.history.record(loaded(float(minute // 30)), NOW + timedelta(minutes=minute))
        store.history.record(replace(SEEN, name="another"), NOW)
        found = store.lately.readings(SEEN, NOW, NOW + HOUR - timedelta(seconds=1), 2)
    assert found.vms == ("a", "b")
    assert found.at_s.tolist() == pytest.approx([NOW.timestamp(), NOW.timestamp() + 1799.5])
    assert found.work[:, 0].tolist() == pytest.approx([0.0, 1.0], abs=0.1)
    assert found.memory[0].tolist() == [4 * 2**30, 8 * 2**30]


def test_work_is_counted_at_the_speed_of_the_host_it_was_read_on() -> None:
    fast = replace(SEEN, hosts=tuple(replace(host, cpu_speed=2.0) for host in SEEN.hosts))
    with new_store() as store:
        store.history.record(fast, NOW)
        found = store.lately.readings(fast, NOW - HOUR, NOW)
        empty = store.lately.readings(fast, NOW + HOUR, NOW + 2 * HOUR)
    assert found.work.tolist() == [[4.0, 2.0]]
    assert (len(empty.at_s), empty.vms) == (0, ())


def test_moves_are_those_that_arrived_or_failed() -> None:
    made = plan_for(SEEN, [("m1", "a", "h2"), ("m2", "b", "h2")])
    with new_store() as store:
        lease = store.leases.acquire("test", "me", 60.0, NOW)
        entries = [Entry(migration, clustered=True) for migration in made.migrations]
        run, (first, second) = store.journal.begin_run(lease, made.id, entries, NOW)
        store.journal.move(lease, run, first, Change("planned", "intended", NOW))
        store.journal.move(lease, run, first, Change("intended", "failed", NOW + HOUR, "why"))
        store.journal.move(lease, run, second, Change("planned", "skipped", NOW, "why"))
        store.journal.end_run(lease, run, RunEnd.IN_PART, NOW)
        found = store.lately.moves("test", NOW)
        assert store.lately.moves("test", NOW + 2 * HOUR) == ()
    size = made.migrations[0].bytes
    assert found == (PastMove("a", "h1", "h2", NOW + HOUR, size, done=False),)


POLICY = Policy(history=HistoryPolicy(window_s=3600.0, hold_s=600.0, at_least_s=1800.0))


def recorded(store: Store, minutes: int, cores: float) -> datetime:
    for minute in range(minutes + 1):
        store.history.record(loaded(cores), NOW + timedelta(minutes=minute))
    return NOW + timedelta(minutes=minutes)


def test_hindsight_is_demand_and_what_lasts() -> None:
    with new_store() as store:
        now = recorded(store, 60, 14.0)
        behind = hindsight(store, loaded(0.5), POLICY, now, unattended=True)
    assert behind.cluster.vm_by_id["a"].cpu_used_cores == pytest.approx(14.0)
    assert behind.past.lasting is not None
    assert behind.past.lasting[Trouble.OVERLOAD] == frozenset({"h1"})
    assert behind.past.short_of == ""


def test_a_short_history_binds_who_is_unattended_and_warns_who_asks() -> None:
    with new_store() as store:
        now = recorded(store, 5, 14.0)
        alone = hindsight(store, SEEN, POLICY, now, unattended=True)
        asked = hindsight(store, SEEN, POLICY, now, unattended=False)
    assert alone.past.short_of.startswith("history goes back 5m")
    assert (asked.past.short_of, asked.past.lasting) == ("", None)
    assert asked.notes[0].endswith("this plan goes by the last reading alone")
    assert asked.cluster is SEEN


def test_seasons_are_looked_for_once_an_hour() -> None:
    with new_store() as store:
        recorded(store, 3, 1.0)
        found = store.lately.seasons(SEEN, NOW - 24 * HOUR, NOW + HOUR)
        assert store.lately.seasons(SEEN, NOW, NOW + HOUR + HOUR / 2) is found
        assert store.lately.seasons(SEEN, NOW, NOW + 2 * HOUR) is not found
        assert not np.any(found.period_h)


def test_memory_that_was_asked_for_counts_where_it_was_more_than_there_was() -> None:
    asks = {"a": 6 * 2**30, "b": 7 * 2**30}
    vms = tuple(replace(vm, memory_demand_bytes=asks.get(vm.id)) for vm in SEEN.vms)
    with new_store() as store:
        store.history.record(replace(SEEN, vms=vms), NOW)
        found = store.lately.readings(SEEN, NOW - HOUR, NOW)
    assert found.memory[0].tolist() == [6 * 2**30, 8 * 2**30]
