"""Pausing nodes, moving roles and volumes, lease and freeze: the same over both ways to a host."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.errors import UnreachableError
from balancer.gateway.control import Control, ControlName
from balancer.gateway.estate import Estate
from balancer.gateway.port import FencedError, MoveRefusedError, ReplyLostError, SettingAnswer
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.rows import group_id
from balancer.gateway.simulator.things import Role
from balancer.gateway.simulator.world import World
from balancer.model.cluster import AutoBalancer, HostState, VmState
from tests.contract.conftest import WAYS, Bench

Make = Callable[..., Bench]

each_way = pytest.mark.parametrize("way", WAYS)
LEASE, FREEZE = ControlName.LEASE, ControlName.FREEZE


def estate(one: Bench) -> Estate:
    found = one.gateway.observe().estate
    assert found is not None
    return found


@each_way
def test_a_paused_node_receives_nothing_and_a_resumed_one_does(bench: Make, way: str) -> None:
    one = bench("demo", way)
    one.gateway.set_node("hv02", paused=True, fence=1)
    one.gateway.set_node("HV02", paused=True, fence=1)
    seen = one.gateway.observe()
    assert seen.cluster.host_by_name["HV02"].state is HostState.PAUSED
    assert seen.estate is not None
    node = seen.estate.node("HV02")
    assert node is not None
    assert (node.paused, node.member, node.draining) == (True, True, False)
    core = next(role for role in seen.estate.roles if role.core)
    with pytest.raises(MoveRefusedError) as refused:
        one.gateway.move_group(core.id, "HV02", fence=1)
    assert refused.value.code == 0x800713CE
    one.gateway.set_node("HV02", paused=False, fence=1)
    assert one.gateway.observe().cluster.host_by_name["HV02"].state is HostState.UP


@each_way
def test_the_core_group_other_roles_and_volumes_move(bench: Make, way: str) -> None:
    def add_role(world: World) -> None:
        assert world.cluster is not None
        world.cluster.roles += (Role("files", 100, owner="HV03", nodes=("HV03", "HV04")),)

    one = bench("demo", way, add_role)
    before = estate(one)
    roles = {role.name: role for role in before.roles if not role.vm}
    assert roles["files"].owners == ("HV03", "HV04")
    assert [volume.owner for volume in before.volumes] == ["HV01"]
    one.gateway.move_group(roles["Clustergruppe"].id, "HV05", fence=1)
    one.gateway.move_group(roles["files"].id.upper(), "HV04", fence=1)
    one.gateway.move_volume("Volume1", "HV06", fence=1)
    with pytest.raises(MoveRefusedError) as refused:
        one.gateway.move_group(roles["files"].id, "HV01", fence=1)
    assert refused.value.code == 0x80071398
    one.pass_s(10)
    after = estate(one)
    owners = {role.name: role.owner for role in after.roles if not role.vm}
    assert owners == {"Clustergruppe": "HV05", "files": "HV04"}
    assert [volume.owner for volume in after.volumes] == ["HV06"]


@each_way
def test_only_a_vm_that_stands_still_is_moved_as_a_group(bench: Make, way: str) -> None:
    one = bench("demo", way)
    seen = one.gateway.observe()
    assert seen.estate is not None
    standing = {vm.id: vm for vm in seen.cluster.vms if vm.state in (VmState.OFF, VmState.SAVED)}
    roles = {role.vm: role for role in seen.estate.roles if role.vm}
    assert set(roles) == set(standing)
    role = next(iter(roles.values()))
    one.gateway.move_group(role.id, "HV07", fence=1)
    one.pass_s(10)
    assert one.gateway.look([role.vm])[role.vm].hosts == ("HV07",)
    assert estate(one).vm_owners is not None
    running = next(guest for guest in one.world.groups.values() if guest.is_load)
    with pytest.raises(MoveRefusedError, match="LbGroupRuns"):
        one.gateway.move_group(group_id(running), "HV07", fence=1)


@each_way
@pytest.mark.parametrize("name", ["demo", "standalone"])
def test_lease_and_freeze_are_compared_before_they_are_written(
    bench: Make, way: str, name: str
) -> None:
    one = bench(name, way)
    assert one.gateway.read_control() == Control()
    assert one.gateway.write_control(LEASE, "", "a|4|then", 4) == "a|4|then"
    assert one.gateway.write_control(LEASE, "", "b|5|then", 5) == "a|4|then"
    assert one.gateway.write_control(LEASE, "a|4|then", "b|6|then", 6) == "b|6|then"
    with pytest.raises(FencedError):
        one.gateway.write_control(LEASE, "b|6|then", "a|4|later", 4)
    assert one.gateway.write_control(FREEZE, "", "patch night", 0) == "patch night"
    now = one.gateway.read_control()
    assert (now, now.frozen) == (Control("b|6|then", "patch night", 6), True)
    assert one.gateway.write_control(FREEZE, "patch night", "", 0) == ""
    assert not one.gateway.read_control().frozen


@each_way
def test_a_reading_of_the_cluster_says_who_may_act(bench: Make, way: str) -> None:
    one = bench("branch", way)
    one.gateway.write_control(FREEZE, "", "by hand", 0)
    assert one.gateway.observe().control == Control(freeze="by hand")


@each_way
def test_older_executors_pause_and_move_nothing(bench: Make, way: str) -> None:
    one = bench("branch", way)
    core = next(role for role in estate(one).roles if role.core)
    one.gateway.set_node("BR2", paused=True, fence=9)
    for late in (
        lambda: one.gateway.set_node("BR2", paused=False, fence=8),
        lambda: one.gateway.move_group(core.id, "BR1", fence=8),
        lambda: one.gateway.move_volume("Volume1", "BR1", fence=8),
        lambda: one.gateway.write_auto_balancer(AutoBalancer.OFF, AutoBalancer.ALWAYS, fence=8),
    ):
        with pytest.raises(FencedError):
            late()
    assert one.gateway.observe().cluster.host_by_name["BR2"].state is HostState.PAUSED


@each_way
def test_the_built_in_balancer_is_set_only_if_it_is_as_expected(bench: Make, way: str) -> None:
    one = bench("branch", way)
    off, always = AutoBalancer.OFF, AutoBalancer.ALWAYS
    write = one.gateway.write_auto_balancer
    assert write(AutoBalancer.ON_JOIN, always, fence=1) is SettingAnswer.DIFFERS
    assert write(off, always, fence=1) is SettingAnswer.WRITTEN
    assert one.gateway.observe().cluster.settings.auto_balancer is always
    assert write(off, always, fence=1) is SettingAnswer.WRITTEN


@each_way
def test_what_must_be_known_of_storage_and_votes(bench: Make, way: str) -> None:
    def repairing(world: World) -> None:
        assert world.cluster is not None
        world.cluster.storage_direct, world.cluster.storage_jobs = True, 2
        world.cluster.unhealthy_disks = ("Volume1",)

    one = bench("branch", way, repairing)
    found = estate(one)
    assert (found.storage.jobs, found.storage.unhealthy) == (2, ("Volume1",))
    assert found.votes_without(frozenset({"br1"})) == (2, 3)
    one.world.cluster.witness_online = False  # type: ignore[union-attr]
    assert estate(one).votes_without(frozenset({"br1"})) == (1, 3)


@each_way
def test_hosts_that_stand_alone_have_nothing_to_pause(bench: Make, way: str) -> None:
    one = bench("standalone", way)
    assert one.gateway.observe().estate is None
    with pytest.raises(MoveRefusedError, match="LbNotClustered"):
        one.gateway.set_node("SA1", paused=True, fence=1)


@each_way
def test_a_node_that_is_not_reached_is_passed_over(bench: Make, way: str) -> None:
    one = bench("demo", way)
    one.gateway.observe()
    mishaps.inject(one.world, Fault(FaultKind.UNREACHABLE, host="HV01"))
    one.gateway.set_node("HV03", paused=True, fence=1)
    assert one.gateway.read_control().fence == 1
    mishaps.inject(one.world, Fault(FaultKind.UNREACHABLE))
    with pytest.raises(UnreachableError):
        one.gateway.set_node("HV03", paused=False, fence=1)


def test_an_act_whose_reply_was_lost_is_not_given_to_another_node(bench: Make) -> None:
    one = bench("demo", WAYS[0])
    one.gateway.observe()
    mishaps.inject(one.world, Fault(FaultKind.REPLY_LOST, function="Set-LbNode", count=1))
    with pytest.raises(ReplyLostError):
        one.gateway.set_node("HV03", paused=True, fence=1)
    assert one.gateway.observe().cluster.host_by_name["HV03"].state is HostState.PAUSED
