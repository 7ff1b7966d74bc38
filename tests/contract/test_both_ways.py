"""The same cases over both ways to a host: what one shows and does, the other does as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.errors import UnreachableError
from balancer.gateway.port import (
    FencedError,
    MoveRefusedError,
    MoveRequest,
    Observation,
    ReplyLostError,
    SettingAnswer,
)
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.model.cluster import HostState, Transport, Vm, VmState
from tests.contract.conftest import WAYS, Bench

Make = Callable[..., Bench]

each_way = pytest.mark.parametrize("way", WAYS)


def movable(observation: Observation, host: str) -> Vm:
    """Return a running VM of a host that nothing keeps from moving."""
    cluster = observation.cluster
    return next(
        vm
        for vm in cluster.vms_on[host]
        if vm.state is VmState.RUNNING and not vm.blocked_by and vm.memory_assigned_bytes > 0
    )


def request(observation: Observation, source: str, target: str) -> MoveRequest:
    vm = movable(observation, source)
    return MoveRequest(vm.id, source, target, vm.clustered)


@pytest.mark.parametrize("name", ["demo", "branch", "standalone"])
def test_both_ways_see_the_same(bench: Make, name: str) -> None:
    near, far = (bench(name, way).gateway.observe() for way in WAYS)
    assert near == far
    assert near.cluster.vms
    assert {host.state for host in near.cluster.hosts} == {HostState.UP}
    assert near.notes == ()


@each_way
def test_names_that_are_code_or_foreign_are_seen_and_moved(bench: Make, way: str) -> None:
    one = bench("demo", way)
    seen = one.gateway.observe()
    names = {vm.name for vm in seen.cluster.vms}
    assert {"'; Stop-Computer #", '"ü漢[*]'} <= names
    for vm in (vm for vm in seen.cluster.vms if vm.name in ("'; Stop-Computer #", '"ü漢[*]')):
        target = next(host.name for host in seen.cluster.hosts if host.name != vm.host)
        one.gateway.start(MoveRequest(vm.id, vm.host, target, vm.clustered), fence=1)
        one.pass_s(900)
        assert one.gateway.look([vm.id])[vm.id].hosts == (target,)


@each_way
@pytest.mark.parametrize(
    ("name", "source", "target"), [("branch", "BR1", "BR2"), ("standalone", "SA1", "SA3")]
)
def test_a_migration_from_start_to_end(
    bench: Make, way: str, name: str, source: str, target: str
) -> None:
    one = bench(name, way)
    move = request(one.gateway.observe(), source, target)
    one.gateway.start(move, fence=1)
    one.pass_s(3)
    during = one.gateway.look([move.vm.upper()])[move.vm.upper()]
    assert during.moving
    assert during.answered
    assert during.hosts == (source,)
    flying = one.gateway.observe()
    assert [(flight.vm, flight.source) for flight in flying.in_flight] == [(move.vm, source)]
    assert "migrating" in flying.cluster.vm_by_id[move.vm].blocked_by
    one.pass_s(900)
    after = one.gateway.look([move.vm])[move.vm]
    assert (after.hosts, after.moving, after.failure_code) == ((target,), False, None)
    assert after.blackout_s is not None
    end = one.gateway.observe()
    assert end.cluster.vm_by_id[move.vm].host == target
    assert end.in_flight == ()


@each_way
def test_a_cancelled_migration_stays(bench: Make, way: str) -> None:
    one = bench("branch", way)
    move = request(one.gateway.observe(), "BR1", "BR2")
    one.gateway.start(move, fence=1)
    one.pass_s(3)
    one.gateway.cancel(move.vm, "BR1", fence=1)
    one.pass_s(60)
    after = one.gateway.look([move.vm])[move.vm]
    assert (after.hosts, after.moving) == (("BR1",), False)
    one.gateway.cancel(move.vm, "BR1", fence=1)  # nothing left to cancel is no error


@each_way
def test_a_migration_that_fails_says_by_which_code(bench: Make, way: str) -> None:
    one = bench("branch", way)
    move = request(one.gateway.observe(), "BR1", "BR2")
    mishaps.inject(one.world, Fault(FaultKind.MOVE_FAILS, vm=move.vm, code=0x80072746))
    one.gateway.start(move, fence=1)
    one.pass_s(900)
    after = one.gateway.look([move.vm])[move.vm]
    assert (after.hosts, after.moving) == (("BR1",), False)
    assert after.failure_code == 0x80072746


@each_way
def test_an_older_executor_is_fenced_off(bench: Make, way: str) -> None:
    one = bench("branch", way)
    move = request(one.gateway.observe(), "BR1", "BR2")
    one.gateway.write_transport("BR1", Transport.COMPRESSION, Transport.TCP, fence=2**33)
    with pytest.raises(FencedError):
        one.gateway.start(move, fence=2**33 - 1)
    with pytest.raises(FencedError):
        one.gateway.cancel(move.vm, "BR1", fence=1)
    with pytest.raises(FencedError):
        one.gateway.write_transport("BR1", Transport.TCP, Transport.SMB, fence=1)


@each_way
def test_what_the_platform_refuses(bench: Make, way: str) -> None:
    one = bench("branch", way)
    move = request(one.gateway.observe(), "BR1", "BR2")
    nobody = "00000000-0000-0000-0000-000000000001"
    with pytest.raises(MoveRefusedError):
        one.gateway.start(MoveRequest(nobody, "BR1", "BR2", clustered=True), fence=1)
    with pytest.raises(MoveRefusedError):
        one.gateway.start(MoveRequest(move.vm, "BR1", "BR9", clustered=True), fence=1)
    with pytest.raises(UnreachableError, match="no host"):
        one.gateway.start(MoveRequest(move.vm, "BR9", "BR2", clustered=True), fence=1)


@each_way
def test_the_transport_of_a_host(bench: Make, way: str) -> None:
    one = bench("branch", way)
    gateway = one.gateway
    move = request(gateway.observe(), "BR1", "BR2")
    assert gateway.read_transport("br1") is Transport.COMPRESSION
    write = gateway.write_transport
    assert write("BR1", Transport.SMB, Transport.TCP, 1) is SettingAnswer.DIFFERS
    assert write("BR1", Transport.COMPRESSION, Transport.SMB, 1) is SettingAnswer.WRITTEN
    assert write("BR1", Transport.COMPRESSION, Transport.SMB, 1) is SettingAnswer.WRITTEN
    assert gateway.read_transport("BR1") is Transport.SMB
    gateway.start(move, fence=1)
    one.pass_s(3)
    assert write("BR1", Transport.SMB, Transport.TCP, 1) is SettingAnswer.BUSY
    one.pass_s(900)
    one.world.machines["BR1"].atc = True
    assert write("BR1", Transport.SMB, Transport.TCP, 1) is SettingAnswer.MANAGED


@each_way
@pytest.mark.parametrize(
    "kind", [FaultKind.UNREACHABLE, FaultKind.SILENT, FaultKind.GARBAGE, FaultKind.REQUEST_LOST]
)
def test_a_host_out_of_reach_is_unknown_and_still_loaded(
    bench: Make, way: str, kind: FaultKind
) -> None:
    one = bench("branch", way)
    before = one.gateway.observe()
    fault = Fault(kind, host="BR1")
    mishaps.inject(one.world, fault)
    during = one.gateway.observe()
    assert during.cluster.host_by_name["BR1"].state is HostState.UNKNOWN
    assert during.cluster.host_by_name["BR2"].state is HostState.UP
    assert any(note.startswith("BR1 is unknown") for note in during.notes)
    known = {vm.id: vm.memory_assigned_bytes for vm in before.cluster.vms_on["BR1"]}
    assert {vm.id: vm.memory_assigned_bytes for vm in during.cluster.vms_on["BR1"]} == known
    vm = movable(before, "BR1").id
    assert not one.gateway.look([vm])[vm].answered
    mishaps.heal(one.world, fault)
    one.pass_s(1)
    assert wait_for(one, "BR1") is HostState.UP


def wait_for(one: Bench, host: str) -> HostState:
    """Healing is told to a listening thread: observe until it has heard, a few times at most."""
    for _ in range(5):
        state = one.gateway.observe().cluster.host_by_name[host].state
        if state is HostState.UP:
            break
    return state


@each_way
def test_an_act_whose_reply_is_lost_has_happened_once(bench: Make, way: str) -> None:
    one = bench("branch", way)
    move = request(one.gateway.observe(), "BR1", "BR2")
    lost = Fault(FaultKind.REPLY_LOST, host="BR1", function="Start-LbMigration")
    mishaps.inject(one.world, lost)
    with pytest.raises(ReplyLostError):
        one.gateway.start(move, fence=1)
    mishaps.heal(one.world, lost)
    one.pass_s(900)
    assert one.gateway.look([move.vm])[move.vm].hosts == ("BR2",)


@each_way
def test_without_quorum_nobody_is_believed(bench: Make, way: str) -> None:
    one = bench("demo", way)
    one.gateway.observe()
    mishaps.inject(one.world, Fault(FaultKind.NO_QUORUM))
    one.pass_s(120)
    with pytest.raises(UnreachableError, match="no node can be believed"):
        one.gateway.observe()


@each_way
def test_an_isolated_node_is_not_believed_and_another_is_asked(bench: Make, way: str) -> None:
    one = bench("demo", way)
    speaker = one.gateway.observe().cluster.hosts[0].name
    mishaps.inject(one.world, Fault(FaultKind.NODE_ISOLATED, host=speaker))
    one.pass_s(5)
    seen = one.gateway.observe()
    assert seen.cluster.host_by_name[speaker].state in (HostState.UNKNOWN, HostState.DOWN)
    assert len([h for h in seen.cluster.hosts if h.state is HostState.UP]) == 7


@each_way
@pytest.mark.parametrize("section", ["vps", "smb_limit", "nics"])
def test_a_section_that_fails_alone(bench: Make, way: str, section: str) -> None:
    one = bench("branch", way)
    mishaps.inject(one.world, Fault(FaultKind.SECTION_FAILS, host="BR1", section=section))
    seen = one.gateway.observe()
    assert seen.cluster.host_by_name["BR1"].state is HostState.UP
    assert any(f"BR1: its {section} section failed" in note for note in seen.notes)
