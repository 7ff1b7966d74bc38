"""Faults: what callers see of them, what becomes of the VMs, and that they end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.errors import InputError, UnreachableError
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator.faults import Fault, FaultKind, Scheduled
from balancer.gateway.simulator.mishaps import heal, inject, schedule
from balancer.gateway.simulator.windows import Hresult, MigrationState, VmStateCode
from balancer.model.cluster import HostState
from tests.unit.simulator.worlds import Small, small, vm


def gateway(world: Small) -> ClusterGateway:
    hosts = world.hosts
    return ClusterGateway("TEST", list(hosts), hosts.__getitem__, in_turn, world.clock)


@pytest.mark.parametrize(
    ("kind", "error", "done"),
    [
        (FaultKind.UNREACHABLE, UnreachableError, False),
        (FaultKind.SILENT, ReplyLostError, False),
        (FaultKind.GARBAGE, ReplyLostError, False),
        (FaultKind.REQUEST_LOST, ReplyLostError, False),
        (FaultKind.REPLY_LOST, ReplyLostError, True),
    ],
)
def test_faults_of_a_call(kind: FaultKind, error: type[Exception], *, done: bool) -> None:
    world = small()
    inject(world.world, Fault(kind, host="HV1", function="Start-LbMigration", count=1))
    assert world.hosts["HV1"].read_host().host.ok  # another function
    assert world.hosts["HV2"].version().computer == "HV2"  # another host
    with pytest.raises(error):
        world.start("vm0", "HV2")
    assert bool(world.world.engine.migrations) is done
    assert world.start("vm1", "HV2").accepted  # it was to hit once


def test_a_fault_lasts_as_long_as_it_says_in_virtual_time() -> None:
    world = small()
    schedule(world.world, [Scheduled(60.0, Fault(FaultKind.SILENT, host="HV1", lasts_s=30.0))])
    host = world.hosts["HV1"]
    world.clock.sleep(59)
    host.version()
    world.clock.sleep(2)
    with pytest.raises(ReplyLostError):
        host.version()
    world.clock.sleep(30)
    host.version()


def test_a_section_that_fails_takes_no_other_with_it() -> None:
    world = small()
    fault = Fault(FaultKind.SECTION_FAILS, host="HV1", section="vps", code=0x80041001)
    inject(world.world, fault)
    answer = world.hosts["HV1"].read_host()
    assert not answer.vps.ok
    assert answer.vps.fault is not None
    assert answer.vps.fault.hresult == 0x80041001
    assert answer.cpu.ok
    heal(world.world, fault)
    assert world.hosts["HV1"].read_host().vps.ok


@pytest.mark.parametrize("percent", [3, 50, 97])
def test_a_move_fails_where_it_is_to_and_only_that_one(percent: int) -> None:
    world = small()
    fault = Fault(FaultKind.MOVE_FAILS, vm=vm("vm0"), code=0x8007274C, percent=percent, count=1)
    inject(world.world, fault)
    world.start("vm0", "HV2")
    world.start("vm1", "HV3")
    furthest = 0
    while (row := world.row("vm0")).status[1:]:
        furthest = max(furthest, row.progress)
        world.clock.sleep(0.01)
    assert furthest == pytest.approx(percent, abs=2)
    assert row.failure == 0x8007274C
    world.until_over("vm1")
    assert (world.where("vm0"), world.where("vm1")) == ("HV1", "HV3")
    world.start("vm0", "HV2")
    world.until_over("vm0")
    assert world.where("vm0") == "HV2"
    assert world.row("vm0").failure == 0


@pytest.mark.parametrize("percent", [3, 50, 97])
def test_a_move_that_hangs_goes_on_for_ever_until_it_is_cancelled(percent: int) -> None:
    world = small()
    inject(world.world, Fault(FaultKind.MOVE_HANGS, host="HV1", percent=percent, count=1))
    world.start("vm0", "HV2")
    world.clock.sleep(86_400)
    row = world.row("vm0")
    assert row.status == [2, 32774]
    assert row.progress == pytest.approx(percent, abs=2)
    world.hosts["HV1"].stop(vm("vm0"), 1)
    assert world.row("vm0").status == [2]
    assert world.where("vm0") == "HV1"


def test_processors_may_be_incompatible_in_one_direction() -> None:
    world = small()
    inject(world.world, Fault(FaultKind.INCOMPATIBLE, host="HV1", target="HV2"))
    world.start("vm0", "HV2")
    world.start("vm1", "HV3")
    world.until_over("vm1")
    assert world.row("vm0").failure == Hresult.INCOMPATIBLE_NODES
    world.start("vm1", "HV2")
    world.until_over("vm1")
    world.start("vm1", "HV1")
    world.until_over("vm1")
    assert world.where("vm1") == "HV1"


def test_a_host_that_dies_is_unreachable_and_its_vms_restart_elsewhere() -> None:
    world = small()
    world.start("vm0", "HV2")
    world.clock.sleep(6)
    fault = Fault(FaultKind.HOST_DIES, host="HV1")
    inject(world.world, fault)
    with pytest.raises(UnreachableError):
        world.hosts["HV1"].version()
    world.clock.sleep(30)
    assert {world.where(f"vm{number}") for number in range(4)} == {"HV2", "HV3"}
    assert all(one.state is VmStateCode.RUNNING for one in world.world.guests.values())
    seen = gateway(world).observe().cluster
    assert seen.host_by_name["HV1"].state is HostState.DOWN
    assert {one.host for one in seen.vms} == {"HV2", "HV3"}
    heal(world.world, fault)
    assert gateway(world).observe().cluster.host_by_name["HV1"].state is HostState.UP


def test_a_target_that_reboots_in_the_middle_leaves_the_vm_on_its_source() -> None:
    world = small()
    world.start("vm0", "HV2")
    world.clock.sleep(6)
    inject(world.world, Fault(FaultKind.HOST_REBOOTS, host="HV2", lasts_s=120.0))
    row = world.row("vm0")
    assert (row.migration_state, row.status) == (MigrationState.FAILED, [2])
    world.clock.sleep(121)
    assert world.hosts["HV2"].read_host().os.data is not None
    assert world.where("vm0") == "HV1"


def test_a_stand_alone_host_gets_its_own_vms_back_after_a_reboot() -> None:
    world = small(clustered=False)
    inject(world.world, Fault(FaultKind.HOST_REBOOTS, host="HV1", lasts_s=60.0))
    world.clock.sleep(30)
    world.world.advance()
    assert {one.state for one in world.world.guests.values()} == {VmStateCode.OFF}
    world.clock.sleep(31)
    world.world.advance()
    assert {one.state for one in world.world.guests.values()} == {VmStateCode.RUNNING}


def test_an_isolated_node_sees_itself_alone_and_is_not_believed() -> None:
    world = small()
    inject(world.world, Fault(FaultKind.NODE_ISOLATED, host="HV1"))
    nodes = world.hosts["HV1"].read_cluster().nodes.data
    assert nodes is not None
    assert [node.state for node in nodes] == [0, 1, 1]
    assert not world.start("vm0", "HV2").accepted
    seen = gateway(world).observe().cluster
    assert seen.host_by_name["HV1"].state is not HostState.UP
    assert seen.host_by_name["HV2"].state is HostState.UP
    world.clock.sleep(239)
    assert world.where("vm0") == "HV1"
    world.clock.sleep(2)
    assert world.where("vm0") != "HV1"


def test_without_quorum_nobody_speaks_for_the_cluster() -> None:
    world = small()
    inject(world.world, Fault(FaultKind.NO_QUORUM, lasts_s=60.0))
    with pytest.raises(UnreachableError):
        gateway(world).observe()
    world.clock.sleep(61)
    gateway(world).observe()


def test_a_fault_of_a_host_that_is_not_there_is_an_error() -> None:
    world = small()
    checks: list[Callable[[], None]] = [
        lambda: inject(world.world, Fault(FaultKind.HOST_DIES, host="HV9")),
        lambda: schedule(world.world, [Scheduled(1.0, Fault(FaultKind.SILENT, host="HV9"))]),
        lambda: inject(world.world, Fault(FaultKind.HOST_DIES)),
    ]
    for check in checks:
        with pytest.raises(InputError):
            check()
