"""Demand from history: what lasts counts, what repeats itself is foreseen, spikes are nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balancer.demand import Outlook, Readings, outlook
from balancer.demand.readings import Floats
from balancer.demand.season import persistence, seasons
from balancer.model.past import Trouble
from balancer.policy.policy import Policy, Thresholds
from balancer.policy.stability import HistoryPolicy
from tests.notation import cluster

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
GIB = 2.0**30
HOW = HistoryPolicy(window_s=4 * HOUR, hold_s=30 * MINUTE, at_least_s=HOUR, season_s=28 * DAY)
POLICY = Policy(history=HOW, thresholds=Thresholds(imbalance=0.10))
SEEN = cluster("h1 64G 16c: a 8G 1c, b 8G 1c\nh2 64G 16c: c 8G 1c")
NOW_S = 400 * DAY


def readings(*columns: Floats, step_s: float = 5 * MINUTE, ids: str = "abc") -> Readings:
    """Return columns of readings that end now; what is not given used one core all along."""
    count = len(columns[0])
    work = np.ones((count, len(ids)))
    work[:, : len(columns)] = np.column_stack(columns)
    at_s = NOW_S - step_s * np.arange(count - 1, -1, -1, dtype=np.float64)
    return Readings(at_s, tuple(ids), work, np.full(work.shape, 8 * GIB))


def used(found: Outlook) -> dict[str, float]:
    return {vm.id: round(vm.cpu_used_cores, 3) for vm in found.cluster.vms}


def test_without_a_history_in_the_policy_the_snapshot_stays_as_it_is() -> None:
    found = outlook(SEEN, Policy(), readings(np.full(48, 9.0)), None, NOW_S)
    assert found == Outlook(SEEN)


def test_too_short_a_history_says_so_and_changes_nothing() -> None:
    found = outlook(SEEN, POLICY, readings(np.full(6, 9.0)), None, NOW_S)
    assert found.cluster is SEEN
    assert found.short_of.startswith("history goes back 25m; load is not acted on before")


def test_a_spike_of_one_reading_is_no_demand_and_no_trouble() -> None:
    spike = np.ones(48)
    spike[-1] = 16.0
    found = outlook(SEEN, POLICY, readings(spike), None, NOW_S)
    assert used(found)["a"] == 1.0
    assert found.lasting == {Trouble.OVERLOAD: frozenset(), Trouble.UNEVEN: frozenset()}


@pytest.mark.parametrize(("minutes", "lasts"), [(20, False), (40, True)])
def test_overload_counts_once_it_has_lasted_for_the_hold_time(minutes: int, *, lasts: bool) -> None:
    load = np.ones(49)
    load[-(minutes // 5 + 1) :] = 15.0
    found = outlook(SEEN, POLICY, readings(load), None, NOW_S)
    assert found.lasting is not None
    assert found.lasting[Trouble.OVERLOAD] == (frozenset({"h1"}) if lasts else frozenset())


def test_what_two_vms_never_need_at_once_is_not_added_up() -> None:
    turns = np.tile([6.0, 0.0], 24)
    taking_turns = outlook(SEEN, POLICY, readings(turns, 6.0 - turns), None, NOW_S)
    at_once = outlook(SEEN, POLICY, readings(turns, turns), None, NOW_S)
    assert used(taking_turns)["a"] + used(taking_turns)["b"] == pytest.approx(6.0)
    assert used(at_once)["a"] + used(at_once)["b"] == pytest.approx(12.0)


def test_a_gap_is_no_idleness_and_a_new_vm_counts_as_it_was_read() -> None:
    gap = np.full(48, 4.0)
    gap[10:40] = np.nan
    found = outlook(SEEN, POLICY, readings(gap, ids="a"), None, NOW_S)
    assert used(found) == {"a": 4.0, "b": 1.0, "c": 1.0}


def test_a_host_of_another_speed_is_planned_in_its_own_cores() -> None:
    fast = replace(SEEN, hosts=tuple(replace(host, cpu_speed=2.0) for host in SEEN.hosts))
    assert used(outlook(fast, POLICY, readings(np.full(48, 4.0)), None, NOW_S))["a"] == 2.0


def hours(days: int) -> Floats:
    return np.arange(days * 24, dtype=np.float64)


def hourly(*columns: Floats, ids: str) -> Readings:
    work = np.column_stack(columns)
    at_s = NOW_S - HOUR * np.arange(len(work), 0, -1, dtype=np.float64)
    return Readings(at_s, tuple(ids), work, np.full(work.shape, 8 * GIB))


def test_a_daily_peak_is_met_before_it_comes() -> None:
    """At midnight a VM that works from one to five every night is planned with that."""
    busy = np.where((hours(10) % 24 >= 1) & (hours(10) % 24 < 5), 12.0, 1.0)
    season = seasons(hourly(busy, np.ones(240), np.ones(240), ids="abc"))
    assert season.period_h.tolist() == [24, 0, 0]
    found = outlook(SEEN, POLICY, readings(np.ones(48)), season, NOW_S)
    assert used(found)["a"] == pytest.approx(12.0, abs=0.6)
    assert "1 of 3 VMs follow a season or trend" in found.notes[0]


def test_an_overload_that_comes_every_night_need_not_last_first() -> None:
    busy = np.where((hours(10) % 24 >= 1) & (hours(10) % 24 < 5), 15.0, 1.0)
    season = seasons(hourly(busy, np.ones(240), np.ones(240), ids="abc"))
    found = outlook(SEEN, POLICY, readings(np.ones(48)), season, NOW_S)
    assert found.lasting is not None
    assert found.lasting[Trouble.OVERLOAD] == frozenset({"h1"})


def test_a_weekly_season_is_told_from_a_daily_one() -> None:
    at = hours(28)
    weekly = np.where((at // 24 % 7 == 3) & (at % 24 < 12), 9.0, 1.0)
    assert seasons(hourly(weekly, ids="a")).period_h.tolist() == [168]


def test_noise_has_no_season_and_no_trend() -> None:
    noise = np.random.default_rng(1).lognormal(0.0, 1.0, size=(28 * 24, 60))
    found = seasons(hourly(*noise.T, ids="x" * 60))
    assert not found.period_h.any()
    assert np.count_nonzero(found.slope_per_s) <= 3  # one in a hundred by chance


def test_growth_is_seen_and_a_jump_to_and_fro_is_not() -> None:
    grows = 1.0 + hours(14) / 24
    swings = np.where(hours(14) // 24 % 2 == 0, 1.0, 5.0)
    slope = seasons(hourly(grows, swings, ids="ab")).slope_per_s * DAY
    assert slope == pytest.approx([1.0, 0.0])


def test_what_has_never_lasted_is_hardly_believed() -> None:
    """A VM that jumps every hour is planned with what it usually needs, not with the last hours."""
    rng = np.random.default_rng(2)
    restless, steady = rng.choice([1.0, 9.0], size=(240, 2)).T
    steady = np.repeat(steady[:10], 24)
    kept = persistence(hourly(restless, steady, ids="ab"), 4)
    assert kept[0] < 0.2
    assert kept[1] > 0.5
    assert persistence(hourly(restless[:48], ids="a"), 4).tolist() == [1.0]
