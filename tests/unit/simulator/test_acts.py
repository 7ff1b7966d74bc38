"""What the platform lets be done, and how it says no."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.gateway.simulator.physics import Phase
from balancer.gateway.simulator.things import AffinityRule, Disk
from balancer.gateway.simulator.windows import (
    AffinityRuleType,
    Hresult,
    JobState,
    MigrationState,
    NodeState,
    NodeStatus,
    Operation,
    VmStateCode,
)
from tests.unit.simulator.worlds import GIB, Small, guest, machine, small, vm


def phases(world: Small) -> list[Phase]:
    world.world.advance()
    return [migration.phase for migration in world.world.engine.migrations]


def test_a_cluster_queues_what_is_over_the_limit_and_begins_it_by_itself() -> None:
    world = small(migrations_max=1)
    for name in ("vm0", "vm1", "vm2"):
        assert world.start(name, "HV2").accepted
    assert phases(world) == [Phase.SETUP, Phase.QUEUED, Phase.QUEUED]
    row = world.row("vm1")
    assert row.group_status == 4
    assert row.migration_state == MigrationState.NONE
    for name in ("vm0", "vm1", "vm2"):
        world.until_over(name)
    assert {world.where(name) for name in ("vm0", "vm1", "vm2")} == {"HV2"}


def test_the_queue_goes_by_priority_then_by_order() -> None:
    world = small(migrations_max=1)
    world.world.guests[vm("vm3")].priority = 3000
    for name in ("vm0", "vm1", "vm2", "vm3"):
        world.start(name, "HV2")
    world.until_over("vm0")
    assert phases(world)[1:] == [Phase.QUEUED, Phase.QUEUED, Phase.SETUP]
    world.until_over("vm3")
    assert phases(world)[1:3] == [Phase.SETUP, Phase.QUEUED]


def test_the_limit_counts_in_and_out_together() -> None:
    world = small(migrations_max=1)
    world.world.guests_on["HV3"][vm("vm3")] = world.world.guests_on["HV1"].pop(vm("vm3"))
    world.world.guests[vm("vm3")].host = "HV3"
    world.start("vm0", "HV2")
    world.start("vm3", "HV1")
    assert phases(world) == [Phase.SETUP, Phase.QUEUED]


def test_a_stand_alone_host_over_its_limit_refuses() -> None:
    world = small(clustered=False)
    assert world.start("vm0", "HV2").accepted
    assert world.start("vm1", "HV2").accepted
    answer = world.start("vm2", "HV2")
    assert not answer.accepted
    assert answer.fault.hresult == Hresult.ANOTHER_MIGRATION_RUNNING
    assert "21501" in answer.fault.message


def test_a_stand_alone_move_is_a_job_that_stays_listed_for_minutes() -> None:
    world = small(clustered=False)
    world.start("vm0", "HV2")
    world.clock.sleep(6)
    assert world.row("vm0").job_state == JobState.RUNNING
    assert world.row("vm0").owner == ""
    world.until_over("vm0")
    assert world.where("vm0") == "HV2"
    assert world.row("vm0", "HV1").job_state == JobState.COMPLETED
    world.clock.sleep(301)
    assert world.row("vm0", "HV1").job_state is None


def pause(world: Small) -> None:
    world.world.machines["HV2"].node_state = NodeState.PAUSED


def drain(world: Small) -> None:
    pause(world)
    world.world.machines["HV2"].node_status = NodeStatus.DRAIN_IN_PROGRESS


def down(world: Small) -> None:
    world.world.machines["HV2"].node_state = NodeState.DOWN


def owners(world: Small) -> None:
    world.world.guests[vm("vm0")].possible_owners = ("HV1", "HV3")


def backup(world: Small) -> None:
    world.world.guests[vm("vm0")].operation = Operation.BACKING_UP


def lock(world: Small) -> None:
    world.world.guests[vm("vm0")].locked = True


def off(world: Small) -> None:
    world.world.guests[vm("vm0")].state = VmStateCode.OFF


def replica(world: Small) -> None:
    world.world.guests[vm("vm0")].replication_mode = 2


def moving(world: Small) -> None:
    assert world.start("vm0", "HV3").accepted


def apart(world: Small) -> None:
    assert world.world.cluster is not None
    kind = AffinityRuleType.DIFFERENT_NODE
    world.world.cluster.rules = (AffinityRule("apart", kind, ("vm0", "vm1")),)
    assert world.start("vm1", "HV2").accepted


def no_service(world: Small) -> None:
    world.world.service_up = False


@pytest.mark.parametrize(
    ("arrange", "code"),
    [
        (pause, 0x800713CE),
        (drain, 0x8007174A),
        (down, Hresult.NODE_DOWN),
        (owners, 0x80071398),
        (backup, 0x80071748),
        (lock, 0x80071748),
        (off, 0x8007139F),
        (replica, 0x80071754),
        (moving, 0x80071714),
        (apart, 0x80071753),
        (no_service, Hresult.NO_QUORUM),
    ],
)
def test_refused_at_once(arrange: Callable[[Small], None], code: int) -> None:
    world = small()
    arrange(world)
    answer = world.start("vm0", "HV2")
    assert not answer.accepted
    assert answer.fault.hresult == code
    assert answer.fault.fqid.startswith("Move-ClusterVirtualMachineRole,")
    assert f"0x{code:08X}" in answer.fault.message
    assert world.where("vm0") == "HV1"


def test_our_own_refusals_have_an_id_and_no_code() -> None:
    world = small()
    gone = world.hosts["HV2"].start(vm("vm0"), "HV3", clustered=True, fence=1)
    wrong_way = world.hosts["HV1"].start(vm("vm0"), "HV2", clustered=False, fence=1)
    nowhere = world.hosts["HV1"].start(vm("vm0"), "HV9", clustered=True, fence=1)
    found = [
        (one.accepted, one.fault.fqid, one.fault.hresult)
        for one in (gone, wrong_way, nowhere)
        if one.fault is not None
    ]
    assert found == [
        (False, "LbVmNotFound", None),
        (False, "LbClusteredDiffers", None),
        (False, "LbTargetUnknown", None),
    ]


def short(world: Small) -> None:
    world.world.machines["HV2"].memory_bytes = 8 * GIB


def no_processors(world: Small) -> None:
    world.world.machines["HV2"].logical_processors = 2


def reserved(world: Small) -> None:
    world.world.machines["HV2"].logical_processors = 6
    for name, percent in (("vm0", 100), ("vm1", 60)):  # 4 and 2.4 of 6
        world.world.guests[vm(name)].cpu_reserve_percent = percent
    assert world.start("vm1", "HV2").accepted
    world.until_over("vm1")


def no_node(world: Small) -> None:
    machine = world.world.machines["HV2"]
    machine.numa_spanning, machine.numa_nodes, machine.memory_bytes = False, 2, 18 * GIB


def vendor(world: Small) -> None:
    world.world.machines["HV2"].cpu_vendor = "AuthenticAMD"


def switch(world: Small) -> None:
    world.world.machines["HV2"].switches = ("other",)


def version(world: Small) -> None:
    world.world.guests[vm("vm0")].version = "12.0"


def disabled(world: Small) -> None:
    world.world.machines["HV2"].migration_enabled = False


def image(world: Small) -> None:
    world.world.guests[vm("vm0")].media = (r"D:\server.iso",)


def pass_through(world: Small) -> None:
    world.world.guests[vm("vm0")].disks = (Disk(""),)


@pytest.mark.parametrize(
    ("arrange", "code", "at_least", "below"),
    [
        (short, 0x800705AA, 0, 10),
        (no_processors, 0x800705AA, 0, 10),
        (reserved, 0x800705AA, 0, 10),
        (no_node, 0x800705AA, 0, 10),
        (vendor, 0x80071741, 0, 10),
        (switch, 0x80071741, 0, 10),
        (version, 0x80071741, 0, 10),
        (disabled, 0x800713AB, 0, 10),
        (pass_through, 0x80004005, 0, 10),
        (image, 0xC03A0014, 95, 100),
    ],
)
def test_accepted_and_failed_later(
    arrange: Callable[[Small], None], code: int, at_least: int, below: int
) -> None:
    world = small()
    arrange(world)
    assert world.start("vm0", "HV2").accepted
    furthest = 0
    while (row := world.row("vm0")).status[1:]:
        furthest = max(furthest, row.progress)
        world.clock.sleep(0.05)
    assert at_least <= furthest < below
    assert (row.migration_state, row.failure, row.owner) == (MigrationState.FAILED, code, "HV1")
    assert "Fehler" in row.failure_text
    assert world.where("vm0") == "HV1"


def test_a_target_paused_while_the_move_waits_fails_it() -> None:
    world = small(migrations_max=1)
    world.start("vm0", "HV3")
    world.start("vm1", "HV2")
    pause(world)
    world.until_over("vm0")
    world.world.advance()
    assert world.row("vm1").failure == Hresult.NODE_PAUSED


def test_cancelling_ends_it_on_the_source_and_twice_is_no_error() -> None:
    world = small()
    world.start("vm0", "HV2")
    world.clock.sleep(6)
    for _ in range(2):
        assert world.hosts["HV1"].stop(vm("vm0"), 1).accepted
    assert world.row("vm0").migration_state == MigrationState.CANCELED
    assert world.row("vm0").failure == 0
    assert world.where("vm0") == "HV1"
    assert world.start("vm0", "HV2").accepted


def test_cancelling_during_the_switch_comes_too_late() -> None:
    world = small()
    world.start("vm0", "HV2")
    while world.world.engine.migrations[0].phase is not Phase.SWITCH:
        world.clock.sleep(0.05)
        world.world.advance()
    assert world.row("vm0").group_state == 4
    assert world.hosts["HV1"].stop(vm("vm0"), 1).accepted
    world.clock.sleep(1)
    assert world.where("vm0") == "HV2"


def test_a_memory_reservation_holds_on_the_target_until_it_is_over() -> None:
    world = small()
    part = world.hosts["HV2"].read_host().memory.data
    world.start("vm0", "HV2")
    world.clock.sleep(1)
    during = world.hosts["HV2"].read_host().memory.data
    assert part is not None
    assert during is not None
    assert part.available_bytes - during.available_bytes == 8 * GIB
    world.hosts["HV1"].stop(vm("vm0"), 1)
    after = world.hosts["HV2"].read_host().memory.data
    assert after == part


def test_an_older_executor_is_turned_away_on_every_node() -> None:
    world = small()
    assert world.start("vm0", "HV2", fence=7).accepted
    other = world.hosts["HV3"]
    assert other.stop(vm("vm0"), 6).fenced
    assert other.set_transport(0, 2, 6).result == "fenced"
    assert world.start("vm1", "HV2", fence=6).fenced
    assert world.start("vm1", "HV2", fence=8).accepted


def test_writing_the_transport() -> None:
    world = small()
    host, one = world.hosts["HV1"], world.world.machines["HV1"]
    assert (host.set_transport(1, 2, 1).result, one.option) == ("differs", 0)
    assert (host.set_transport(0, 2, 1).result, one.option) == ("written", 2)
    assert host.set_transport(0, 2, 1).result == "written"  # it is so already
    world.start("vm0", "HV2")
    busy = host.set_transport(2, 1, 1)
    assert (busy.result, busy.value) == ("busy", 2)
    assert world.hosts["HV2"].set_transport(0, 1, 1).result == "busy"
    assert world.hosts["HV3"].set_transport(0, 1, 1).result == "written"
    world.until_over("vm0")
    one.atc = True
    assert host.set_transport(2, 1, 1).result == "managed"


def test_names_decide_nothing() -> None:
    world = Small([machine(1), machine(2)], [guest("a"), guest("b", group="b")])
    for one in world.world.guests.values():
        one.name = "same"
    assert world.start("b", "HV2").accepted
    world.until_over("b")
    assert (world.where("a"), world.where("b")) == ("HV1", "HV2")


def test_a_set_of_virtual_nodes_fits_where_one_would_not() -> None:
    world = small()
    no_node(world)
    world.world.guests[vm("vm0")].numa_nodes = 2
    assert world.start("vm0", "HV2").accepted
    world.until_over("vm0")
    assert world.where("vm0") == "HV2"
    (answer,) = [world.hosts["HV2"].read_host()]
    assert answer.host.data is not None
    assert answer.host.data.numa_free_mib == [3 * 1024, 3 * 1024]
