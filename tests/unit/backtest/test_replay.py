"""Recorded days gone through again: who decides is asked in time, what comes of it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balancer.backtest import Moment, Recording, by_policy, nothing, replay
from balancer.backtest.recording import from_snapshots
from balancer.backtest.replay import broken_rules
from balancer.backtest.trace import from_readings, read_trace
from balancer.demand.readings import empty
from balancer.errors import InputError
from balancer.model.cluster import Blocker, Cluster, HostState, VmState
from balancer.model.rule import SelectBy, Selector
from balancer.policy.load import parse_policy
from balancer.policy.policy import Policy
from balancer.policy.rules import Apart, Spread
from balancer.policy.windows import Calendar, Span
from tests.notation import GIB, cluster

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SEEN = cluster("h1 64G 16c: a 8G 5c, b 8G 5c, c 8G 5c\nh2 64G 16c: d 8G 2c")
CALM = parse_policy("version: 1\naggressiveness: 3\n", "calm.yaml")


def days(count: int, change: Callable[[int, Cluster], Cluster] = lambda _, one: one) -> Recording:
    """Return hours of SEEN, each changed by `change`."""
    hours = (
        change(hour, replace(SEEN, taken_at=NOON + timedelta(hours=hour)))
        for hour in range(24 * count)
    )
    return from_snapshots(list(hours))


def run(record: Recording, policy: Policy, every_s: float = 3600.0) -> dict[str, float]:
    who, when = by_policy(policy), policy.calendar
    return replay(record, policy, who, label="us", every_s=every_s, calendar=when).figures()


def with_cores(one: Cluster, vm: str, cores: float) -> Cluster:
    vms = tuple(replace(each, cpu_used_cores=cores) if each.id == vm else each for each in one.vms)
    return replace(one, vms=vms)


def test_doing_nothing_is_counted_in_host_hours() -> None:
    tally = replay(days(2), Policy(), nothing, label="nothing", every_s=3600.0)
    assert tally.figures() == pytest.approx(
        {
            "hours": 48.0,
            "migrations": 0,
            "migrations_per_vm_week": 0,
            "gib": 0,
            "thrash": 0,
            "overload_hours": 48.0,
            "excess_hours": 48 * (15 / 16 - 0.8),
            "violation_hours": 0,
            "imbalance_p95": 15 / 16 - 17 / 32,
            "awake_hours": 96.0,
        }
    )


def test_the_planner_ends_a_lasting_overload_once_its_history_tells() -> None:
    found = run(days(2), CALM)
    assert 0 < found["overload_hours"] < 8
    assert 1 <= found["migrations"] <= 2
    assert found["thrash"] == 0
    assert run(days(2), Policy())["overload_hours"] == 0  # the last reading is enough for this one


def test_a_spike_of_one_reading_moves_nobody() -> None:
    def spikes(hour: int, one: Cluster) -> Cluster:
        quiet = with_cores(with_cores(one, "a", 1.0), "b", 1.0)
        return with_cores(quiet, "c", 15.0 if hour in (9, 40, 77) else 1.0)

    assert run(days(4, spikes), CALM)["migrations"] == 0
    assert run(days(4, spikes), Policy())["migrations"] > 0


def seen_at(record: Recording) -> list[Cluster]:
    """Return what whoever decides is shown, moment by moment, while nobody moves anything."""
    found: list[Cluster] = []

    def look(moment: Moment) -> dict[str, str]:
        found.append(moment.cluster)
        return {}

    replay(record, Policy(), look, label="", every_s=1.0)
    return found


@pytest.mark.parametrize(
    "last",
    [
        {"state": VmState.OFF},
        {"blocked_by": (Blocker.OPERATION_RUNNING.value,)},
        {"migrating_to": "h2"},
    ],
)
def test_what_is_so_at_the_last_moment_says_nothing_of_the_days_before(
    last: dict[str, Any],
) -> None:
    def change(hour: int, one: Cluster) -> Cluster:
        return replace(one, vms=tuple(replace(vm, **last) if hour == 23 else vm for vm in one.vms))

    found = run(days(1, change), Policy())
    assert found["migrations"] >= 1
    assert found["overload_hours"] == 0


def test_each_moment_has_the_states_and_blockers_recorded_then_but_no_migrations() -> None:
    backup, moving = Blocker.OPERATION_RUNNING.value, Blocker.MIGRATING.value

    def change(hour: int, one: Cluster) -> Cluster:
        a, b, c, d = one.vms
        if hour == 1:
            a = replace(a, state=VmState.OFF, cpu_used_cores=0.0)
            b = replace(b, blocked_by=(backup,))
            c = replace(c, blocked_by=(moving, backup), migrating_to="h2")
            d = replace(d, blocked_by=(moving,), state=VmState.PAUSED)
        return replace(one, vms=(a, b, c, d) if hour < 3 else (a, b, c))

    before, then, after, gone, *_ = seen_at(days(1, change))
    assert [vm.state for vm in then.vms] == ["off", "running", "running", "paused"]
    assert [vm.blocked_by for vm in then.vms] == [(), (backup,), (backup,), ()]
    assert not any(vm.migrating_to for vm in then.vms)
    assert before.vms == after.vms == SEEN.vms
    assert [vm.id for vm in gone.vms] == ["a", "b", "c"]


def test_a_vm_that_is_off_is_counted_by_rules_while_it_is_there() -> None:
    """As `plan` counts it; what is known of one moment is not taken for another."""

    def change(hour: int, one: Cluster) -> Cluster:
        off = replace(one.vms[1], state=VmState.OFF, cpu_used_cores=0.0)
        b = [off] if hour < 12 else []
        return replace(one, vms=(one.vms[0], *b, *one.vms[2:]))

    pair = (Selector(SelectBy.EXACT, "a"), Selector(SelectBy.EXACT, "b"))
    policy = Policy(rules=(Apart(vms=pair),))
    idle = replay(days(1, change), policy, nothing, label="", every_s=3600.0)
    assert idle.violation_hours == 12


def test_rules_are_asked_anew_when_a_host_goes() -> None:
    def change(hour: int, one: Cluster) -> Cluster:
        state = HostState.UP if hour < 12 else HostState.PAUSED
        return replace(one, hosts=(one.hosts[0], replace(one.hosts[1], state=state)))

    pair = (Selector(SelectBy.EXACT, "a"), Selector(SelectBy.EXACT, "b"))
    policy = Policy(rules=(Spread(vms=pair, domain="host"),))
    idle = replay(days(1, change), policy, nothing, label="", every_s=3600.0)
    assert idle.violation_hours == 12  # with one host left there is nothing to spread over


def test_the_same_recording_gives_the_same_figures() -> None:
    assert run(days(2), CALM) == run(days(2), CALM)


def test_a_move_that_is_undone_within_a_day_is_thrash() -> None:
    def to_and_fro(moment: Moment) -> dict[str, str]:
        host = moment.cluster.vm_by_id["a"].host
        return {"a": "h2" if host == "h1" else "h1"}

    tally = replay(days(2), Policy(), to_and_fro, label="", every_s=6 * 3600.0)
    assert (tally.migrations, tally.thrash) == (8, 7)
    assert tally.gib == 8 * 8
    slow = replay(days(2), Policy(), to_and_fro, label="", every_s=24 * 3600.0)
    assert (slow.migrations, slow.thrash) == (2, 0)


def test_nothing_is_decided_outside_the_windows() -> None:
    night = Calendar(windows=(Span(from_minute=0, to_minute=60),))
    asked: list[datetime] = []

    def ask(moment: Moment) -> dict[str, str]:
        asked.append(moment.now)
        return {}

    replay(days(2), Policy(), ask, label="", every_s=3600.0, calendar=night)
    assert [at.hour for at in asked] == [0, 0]


def test_vms_come_and_go_and_a_host_that_dies_loses_its_vms_to_where_they_were_recorded() -> None:
    def change(hour: int, one: Cluster) -> Cluster:
        if hour < 24:
            return one
        hosts = tuple(
            replace(host, state=HostState.DOWN) if host.name == "h1" else host for host in one.hosts
        )
        vms = tuple(replace(vm, host="h2") for vm in one.vms if vm.id != "c")
        return replace(one, hosts=hosts, vms=vms)

    record = days(2, change)
    places: list[dict[str, str]] = []

    def look(moment: Moment) -> dict[str, str]:
        places.append({vm.id: vm.host for vm in moment.cluster.vms})
        return {}

    replay(record, Policy(), look, label="", every_s=24 * 3600.0)
    assert places == [
        {"a": "h1", "b": "h1", "c": "h1", "d": "h2"},
        {"a": "h2", "b": "h2", "d": "h2"},
    ]


def test_broken_rules_are_counted_by_the_hour() -> None:
    pair = (Selector(SelectBy.EXACT, "a"), Selector(SelectBy.EXACT, "b"))
    policy = Policy(rules=(Apart(vms=pair),))
    assert broken_rules(SEEN, policy) == 1
    idle = replay(days(1), policy, nothing, label="", every_s=3600.0)
    assert idle.violation_hours == 24
    assert run(days(1), policy)["violation_hours"] == 0


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [
        ([replace(SEEN, taken_at=NOON)], "one snapshot is no history"),
        ([SEEN, replace(SEEN, taken_at=NOON)], "does not say when it was taken"),
        ([replace(SEEN, taken_at=NOON)] * 2, "of the same time"),
        (
            [
                replace(SEEN, taken_at=NOON),
                replace(SEEN, name="x", taken_at=NOON + timedelta(hours=1)),
            ],
            "of different clusters",
        ),
    ],
)
def test_what_is_no_history_is_refused(snapshots: list[Cluster], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_snapshots(snapshots)


def test_a_trace_says_what_vms_used(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(
        "time,vm,cpu_used_cores\n2026-06-01T00:00:00Z,a,3\n2026-06-01T01:00:00Z,A,4.5\n"
    )
    record = read_trace(SEEN, file)
    assert record.work[:, 0].tolist() == [3.0, 4.5]
    assert record.work[:, 3].tolist() == [2.0, 2.0]  # d is not named
    assert np.diff(record.at_s).tolist() == [3600.0]


def test_days_of_one_snapshot_have_what_lasts_of_it(tmp_path: Path) -> None:
    """A VM that used something ran; a backup and a migration were of the snapshot's moment."""
    base = cluster(
        "h1 64G 16c: a 8G off !operation_running !shared_disk, b 8G 5c !migrating >h2, e 8G off\n"
        "h2 64G 16c: d 8G 2c"
    )
    file = tmp_path / "trace.csv"
    file.write_text(
        "time,vm,cpu_used_cores\n"
        "2026-06-01T00:00:00Z,a,3\n2026-06-01T01:00:00Z,b,4\n2026-06-01T02:00:00Z,a,0\n"
    )
    first, second, _ = seen_at(read_trace(base, file))
    assert {vm.id: vm.state for vm in first.vms} == {
        "a": VmState.RUNNING,
        "e": VmState.OFF,
        "d": VmState.RUNNING,
    }
    assert {vm.id: vm.state for vm in second.vms} == {
        "a": VmState.OFF,
        "b": VmState.RUNNING,
        "e": VmState.OFF,
        "d": VmState.RUNNING,
    }
    assert first.vm_by_id["a"].blocked_by == ("shared_disk",)
    assert second.vm_by_id["b"].blocked_by == ()
    assert second.vm_by_id["b"].migrating_to is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,vm\n", "no column 'cpu_used_cores'"),
        ("time,vm,cpu_used_cores\n", "no lines"),
        ("time,vm,cpu_used_cores\nnow,a,1\n", "'now' is no time"),
        ("time,vm,cpu_used_cores\n2026-06-01,zz,1\n", "no VM is called 'zz'"),
        ("time,vm,cpu_used_cores\n2026-06-01,a,-1\n", "cpu_used_cores is '-1'"),
        ("time,vm,cpu_used_cores\n2026-06-01,a,nan\n", "cpu_used_cores is 'nan'"),
        ("time,vm,cpu_used_cores\n2026-06-01\n", "the line ends before its vm"),
        ("vm,cpu_used_cores,time\n\na,1\n", "trace.csv:3: the line ends before its time"),
        ("time,vm,cpu_used_cores\n2026-06-01,a\n", "ends before its cpu_used_cores"),
        ("time,vm,cpu_used_cores\n2026-06-01,a,1\n2026-06-01,b,1\n", "one moment is no history"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_trace(SEEN, file)


def test_a_store_without_history_is_refused() -> None:
    with pytest.raises(InputError, match="no history of test"):
        from_readings(SEEN, empty())


def test_consolidation_saves_host_hours_and_moves_little_for_it() -> None:
    """Busy by day, idle by night: hosts are emptied, and used again, without a VM going back."""

    def beats(hour: int, one: Cluster) -> Cluster:
        busy = 8 <= (12 + hour) % 24 < 18
        for vm in ("a", "b", "c", "d"):
            one = with_cores(one, vm, 4.0 if busy else 0.5)
        return one

    text = "version: 1\ngoal: consolidate\naggressiveness: 3\nconsolidate: {awake_at_least: 1}\n"
    record = days(6, beats)
    idle = replay(record, Policy(), nothing, label="nothing", every_s=3600.0).figures()
    ours = run(record, parse_policy(text, "sleep.yaml"))
    assert idle["awake_hours"] == 6 * 48
    assert ours["awake_hours"] < 6 * 48 - 20
    assert ours["overload_hours"] <= 6
    assert ours["thrash"] == 0


def test_what_was_waited_and_asked_for_is_replayed_as_load() -> None:
    first = cluster("h1 64G 8c: a 4G 3c")
    wants = replace(first.vms[0], cpu_wait_cores=1.0, memory_demand_bytes=6 * GIB)
    record = from_snapshots(
        [
            replace(one, taken_at=NOON + timedelta(hours=hour))
            for hour, one in enumerate((replace(first, vms=(wants,)), first))
        ]
    )
    seen = [record.cluster(at, record.place[at]).vms[0] for at in (0, 1)]
    assert [vm.cpu_demand_cores for vm in seen] == [4.0, 3.0]
    assert [vm.memory_needed_bytes for vm in seen] == [6 * GIB, 4 * GIB]
