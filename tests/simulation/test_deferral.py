"""What is being worked on is not moved: it is held, tried again, and then left out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from balancer.execute.run import HOLD_MAX_S
from balancer.gateway.simulator.actors import BackupWindow
from balancer.gateway.simulator.things import Disk, Guest
from balancer.gateway.simulator.windows import Operation
from balancer.model.outcome import RunEnd, Why
from balancer.service.events import EventKind
from tests.simulation.daemon import AWAY, Daemon, setup
from tests.simulation.small import Small
from tests.simulation.test_execute import DONE, SKIPPED, Bench, states

K = EventKind


def _backup(guest: Guest) -> None:
    guest.operation = Operation.BACKING_UP


def _checkpoint(guest: Guest) -> None:
    guest.operation = Operation.CREATING_CHECKPOINT


def _merge(guest: Guest) -> None:
    guest.operation = Operation.MERGING_DISKS


def _resync(guest: Guest) -> None:
    guest.replication_mode, guest.replication_state = 1, 11


def _first_copy(guest: Guest) -> None:
    guest.replication_mode, guest.replication_state = 1, 2


def _nothing(guest: Guest) -> None:
    guest.operation, guest.replication_state = None, 4


WORKS = [_backup, _checkpoint, _merge, _resync, _first_copy]
by_each = pytest.mark.parametrize("works", WORKS, ids=[one.__name__ for one in WORKS])


@by_each
def test_a_vm_that_is_worked_on_is_held_until_that_is_over(works: Callable[[Guest], None]) -> None:
    bench = Bench()
    guest = bench.small.world.guests[bench.small.vm("v11")]
    plan = bench.small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")])
    bench.later(0.5, lambda: works(guest))
    bench.small.clock.sleep(1.0)
    bench.later(90.0, lambda: _nothing(guest))
    began = bench.small.clock.now()
    report = bench.run(plan)
    assert states(report) == [DONE, DONE]
    held, other = report.migrations
    assert held.started_at is not None
    assert other.started_at is not None
    assert held.started_at - began >= timedelta(seconds=85)
    assert other.started_at - began < timedelta(seconds=5)  # it does not wait for the first


@by_each
def test_what_is_worked_on_for_long_is_left_out_with_the_reason(
    works: Callable[[Guest], None],
) -> None:
    bench = Bench()
    guest = bench.small.world.guests[bench.small.vm("v11")]
    plan = bench.small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")])
    works(guest)
    began_s = bench.small.clock.monotonic_s()
    report = bench.run(plan)
    assert states(report) == [SKIPPED, DONE]
    assert report.migrations[0].why is Why.BLOCKED
    assert "operation_running" in report.migrations[0].reason
    assert HOLD_MAX_S <= bench.small.clock.monotonic_s() - began_s < HOLD_MAX_S + 60


def test_replication_that_goes_well_is_no_reason_to_wait() -> None:
    bench = Bench()
    guest = bench.small.world.guests[bench.small.vm("v11")]
    guest.replication_mode, guest.replication_state = 1, 4
    assert bench.run(bench.small.plan([("m1", "v11", "h2")])).end is RunEnd.DONE


def _on_the_volume(bench: Bench) -> None:
    guest = bench.small.world.guests[bench.small.vm("v11")]
    guest.disks = (Disk(r"C:\ClusterStorage\Volume1\v11.vhdx"),)


def _access(bench: Bench, host: str, state: int) -> None:
    cluster = bench.small.world.cluster
    assert cluster is not None
    cluster.volumes[0].access[host] = state


UNAVAILABLE, PAUSED, DIRECT, FILE_SYSTEM_REDIRECTED, BLOCK_REDIRECTED = range(5)
POOR = [UNAVAILABLE, PAUSED, BLOCK_REDIRECTED]


@pytest.mark.parametrize("state", POOR)
def test_a_target_that_reaches_the_volume_badly_is_waited_for(state: int) -> None:
    bench = Bench()
    _on_the_volume(bench)
    plan = bench.small.plan([("m0", "v12", "h3"), ("m1", "v11", "h2")], after={"m1": ("m0",)})
    bench.later(1.0, lambda: _access(bench, "h2", state))
    bench.later(100.0, lambda: _access(bench, "h2", DIRECT))
    began = bench.small.clock.now()
    report = bench.run(plan)
    assert states(report) == [DONE, DONE]
    at = report.migrations[1].started_at
    assert at is not None
    assert at - began >= timedelta(seconds=95)


@pytest.mark.parametrize("state", POOR)
def test_a_target_that_goes_on_reaching_it_badly_is_left_out(state: int) -> None:
    bench = Bench()
    _on_the_volume(bench)
    plan = bench.small.plan([("m0", "v12", "h3"), ("m1", "v11", "h2")], after={"m1": ("m0",)})
    bench.later(1.0, lambda: _access(bench, "h2", state))
    report = bench.run(plan)
    assert states(report) == [DONE, SKIPPED]
    assert "shared volume" in report.migrations[1].reason


def test_file_system_redirection_is_how_nodes_reach_refs() -> None:
    bench = Bench()
    _on_the_volume(bench)
    for host in ("h2", "h3", "h4"):
        _access(bench, host, FILE_SYSTEM_REDIRECTED)
    assert bench.run(bench.small.plan([("m1", "v11", "h2")])).end is RunEnd.DONE


def test_a_poor_path_of_another_volume_is_no_matter() -> None:
    bench = Bench()
    _access(bench, "h2", PAUSED)  # v11 has no disk there
    assert bench.run(bench.small.plan([("m1", "v11", "h2")])).end is RunEnd.DONE


def test_a_night_of_backups_delays_the_service_and_no_more() -> None:
    small = Small()
    BackupWindow("h1", 10.0, each_s=700.0).enter(small.world)
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(hours=2)
    assert daemon.count(K.MIGRATION_DONE) == 2
    assert daemon.count(K.MIGRATION_FAILED) == daemon.count(K.CYCLE_FAILED) == 0
