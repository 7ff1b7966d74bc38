"""From answers to a snapshot: load, states, blockers, and whom to believe."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.gateway.port import InFlight, Observation
from balancer.gateway.wire import (
    AtcPart,
    ClusterAnswer,
    HostAnswer,
    MemoryPart,
    MigrationServicePart,
    SmbLimitPart,
)
from balancer.model.cluster import (
    AutoBalancer,
    Cluster,
    HostState,
    ManagedBy,
    Priority,
    Transport,
    Vm,
    VmState,
)
from tests.unit.gateway.answers import (
    GIB,
    NOW,
    assemble,
    cluster,
    cluster_part,
    cpu_part,
    disk,
    failed,
    group,
    host,
    host_part,
    job,
    network,
    node,
    os_part,
    vm,
    vps,
)


def observe(
    *rows: Any, last: Cluster | None = None, groups: Any = None, **sections: Any
) -> Observation:
    """Assemble a cluster of H1, with these VMs and sections, and an empty H2."""
    of_h1 = [group(one.id, "H1") for one in rows if one.clustered] if groups is None else groups
    answer = cluster([node("H1"), node("H2")], of_h1)
    hosts = {"H1": host("H1", rows, **sections), "H2": host("H2")}
    return assemble("prod", answer, hosts, NOW, last)


def only(observation: Observation) -> Vm:
    (one,) = observation.cluster.vms
    return one


def state_of(observation: Observation, name: str) -> HostState:
    return observation.cluster.host_by_name[name].state


def test_a_host_is_what_its_counters_say() -> None:
    observation = observe(
        vm("a"),
        vm("off", state=3, memory_assigned_bytes=0),
        host=host_part(migration_option=2, migrations_max=3),
        smb_limit=SmbLimitPart(live_migration_bytes_per_s=750_000_000),
        atc=AtcPart(managed=True),
    )
    one = observation.cluster.host_by_name["H1"]
    assert observation.notes == ()
    assert (one.cpu_cores, one.cpu_used_cores) == (16, 8)
    assert one.root_cpu_cores == 8
    assert one.root_cpu_used_cores == pytest.approx(0.8)
    assert one.memory_bytes == 36 * GIB
    assert one.fault_domain == ("Site:A",)
    assert one.migration.transport is Transport.SMB
    assert one.migration.concurrent == 3
    assert one.migration.smb_limit_bytes_per_s == 750_000_000
    assert one.migration.managed_by is ManagedBy.NETWORK_ATC
    assert [(n.name, n.link_bps) for n in one.migration.networks] == [("LM", 10e9)]
    assert observation.cluster.settings.concurrent_per_host == 1
    assert observation.cluster.settings.auto_balancer is AutoBalancer.OFF
    assert observation.cluster.taken_at == NOW


def test_what_a_vm_reserves_and_what_a_numa_node_has() -> None:
    rows = vm("a", vcpus=8, cpu_reserve_percent=25, numa_nodes=2), vm("b", vcpus=8)
    seen = observe(*rows, host=host_part(numa_spanning=False, numa_free_mib=[2048, 1024])).cluster
    assert [(one.cpu_reserved_cores, one.numa_nodes) for one in seen.vms] == [
        (2.0, 2),
        (None, None),
    ]
    assert seen.host_by_name["H1"].numa_free_bytes == (2 * GIB, GIB)
    assert seen.host_by_name["H2"].numa_free_bytes == ()
    untold = observe(vm("a"), host=host_part(numa_spanning=False)).cluster
    assert untold.host_by_name["H1"].numa_free_bytes == (0,)  # nobody tells, so nothing fits


def test_hosts_without_and_with_one_vm() -> None:
    assert observe().cluster.vms == ()
    one = only(observe(vm("a", notes="#prod, the #db.", memory_demand_bytes=0)))
    assert (one.id, one.host, one.state, one.clustered) == ("a", "H1", VmState.RUNNING, True)
    assert one.tags == ("prod", "db")
    assert one.groups == ("role a",)
    assert one.memory_demand_bytes is None
    assert one.blocked_by == ()


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("a", "a"),
        ("Web-01", "WEB-01"),
        ("'; Stop-Computer #", "'; Stop-Computer _"),
        ('"ü漢[*]', '"Ü漢[*]'),
        ("sql (old)/1:2", "sql [old]_1:2"),
        ("x:Hv VP 7", "x:Hv VP 7"),
        ("zwei\nZeilen", "zwei\nZeilen"),
    ],
)
def test_processor_load_is_found_by_the_name_counters_give(name: str, counted: str) -> None:
    assert only(observe(vm("a", name), vps=vps(counted, 30, 90))).cpu_used_cores == 1.2


@pytest.mark.parametrize(
    ("percent", "cores"),
    [(0.3, None), (40.4, 0.4), (500.0, 0.8), (-3.0, None), (float("nan"), None)],
    ids=["hardly", "some", "more than there is", "less than nothing", "no number"],
)
def test_what_processors_wait_for_is_told_beside_what_they_use(
    percent: float, cores: float | None
) -> None:
    counters = [row.model_copy(update={"wait_percent": percent}) for row in vps("a", 30, 90)]
    seen = only(observe(vm("a"), vps=counters))
    assert (seen.cpu_used_cores, seen.cpu_wait_cores) == (1.2, cores)


@pytest.mark.parametrize(
    ("dynamic", "most", "counts"), [(False, 0, None), (True, 0, 7), (True, 5, 5), (True, 9, 7)]
)
def test_only_what_dynamic_memory_may_come_to_is_asked_for(
    dynamic: bool,  # noqa: FBT001
    most: int,
    counts: int | None,
) -> None:
    row = vm("a", memory_demand_bytes=7, dynamic_memory=dynamic, memory_maximum_bytes=most)
    assert only(observe(row)).memory_demand_bytes == counts


@pytest.mark.parametrize(
    "counters",
    [[], vps("a", 30), vps("a", 30, 90, 10), [*vps("a", 1, 1), *vps("A", 1)], failed()],
    ids=["none", "one of two", "three of two", "three of two, by two names", "failed"],
)
def test_where_counters_cannot_tell_the_coarse_percentage_counts(counters: Any) -> None:
    assert only(observe(vm("a"), vps=counters)).cpu_used_cores == pytest.approx(0.8)


def test_names_that_differ_in_case_are_one_name() -> None:
    counters = [*vps("a", 30), *vps("A", 90)]
    assert only(observe(vm("a"), vps=counters)).cpu_used_cores == 1.2


def test_vms_of_one_name_are_told_apart_by_id_and_measured_coarsely() -> None:
    observation = observe(
        vm("a", "web"), vm("b", "WEB", cpu_percent_of_host=10.0), vps=vps("web", 50, 50)
    )
    assert [one.cpu_used_cores for one in observation.cluster.vms] == [
        pytest.approx(0.8),
        pytest.approx(1.6),
    ]


@pytest.mark.parametrize(
    ("value", "state", "words"),
    [
        (2, VmState.RUNNING, ()),
        (9, VmState.PAUSED, ()),
        (3, VmState.OFF, ()),
        (6, VmState.SAVED, ()),
        (32779, VmState.SAVED, ()),
        (10, VmState.RUNNING, ("not_running",)),
        (4, VmState.RUNNING, ("not_running",)),
        (32785, VmState.CRITICAL, ()),
        (32796, VmState.CRITICAL, ()),
        (1, VmState.UNKNOWN, ()),
        (4711, VmState.UNKNOWN, ()),
    ],
)
def test_states(value: int, state: VmState, words: tuple[str, ...]) -> None:
    one = only(observe(vm("a", state=value)))
    assert (one.state, one.blocked_by) == (state, words)


CSV = "C:\\ClusterStorage\\Volume1\\"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"disks": [disk("", pass_through=True)]}, "pass_through_disk"),
        ({"disks": [disk(CSV + "a.vhds", shared=True)]}, "shared_disk"),
        ({"disks": [disk("D:\\VMs\\a.vhdx")]}, "local_storage"),
        ({"disks": [disk("\\\\.\\PhysicalDrive1")]}, "local_storage"),
        ({"disks": [disk("\\\\?\\Volume{1}\\a.vhdx")]}, "local_storage"),
        ({"disks": [disk("C:\\ClusterStorageOld\\a.vhdx")]}, "local_storage"),
        ({"clustered": False}, "local_storage"),
        ({"media": ["D:\\ISO\\setup.iso"]}, "local_media"),
        ({"assigned_devices": 1}, "assigned_device"),
        ({"gpu_partitions": 1, "version": "12.0"}, "gpu_partition"),
        ({"gpu_partitions": 1, "gpu_partitions_movable": True}, "gpu_partition"),
        ({"fibre_channel_adapters": 1}, "fibre_channel"),
        ({"tpm": True}, "key_protector"),
        ({"shielded": True}, "key_protector"),
        ({"status": [2, 32776]}, "operation_running"),
        ({"status": [2, 23769]}, "operation_running"),
        ({"replication_mode": 1, "replication_state": 11}, "operation_running"),
        ({"replication_mode": 1, "replication_state": 2}, "operation_running"),
        ({"status": [2, 32774]}, "migrating"),
        ({"status": [2, 32778]}, "migrating"),
        ({"replication_mode": 2}, "replica"),
        ({"replication_mode": 3}, "replica"),
    ],
)
def test_what_blocks_a_move(values: dict[str, Any], word: str) -> None:
    assert only(observe(vm("a", **values))).blocked_by == (word,)


@pytest.mark.parametrize(
    "values",
    [
        {"disks": [disk("\\\\fs01\\vms\\a.vhdx")], "clustered": False},
        {"disks": [disk("c:\\CLUSTERSTORAGE\\x\\a.vhdx")]},
        {"disks": []},
        {"media": ["\\\\fs01\\iso\\a.iso", CSV + "b.iso"]},
        {"sr_iov": True},
        {"checkpoint_type": 5},
        {"heartbeat": None},
        {"replication_mode": 1},
        {
            "gpu_partitions": 1,
            "gpu_partitions_movable": True,
            "version": "12.0",
        },
    ],
)
def test_what_does_not_block_a_move(values: dict[str, Any]) -> None:
    assert only(observe(vm("a", **values))).blocked_by == ()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"locked": True}, "locked"),
        ({"status": 1}, "locked"),
        ({"status": 4}, "migrating"),
        ({"state": 4}, "migrating"),
        ({"migration_state": 2}, "migrating"),
    ],
)
def test_what_its_group_says_blocks_as_well(values: dict[str, Any], word: str) -> None:
    assert only(observe(vm("a"), groups=[group("a", "H1", **values)])).blocked_by == (word,)


def test_an_old_failure_of_a_migration_blocks_nothing() -> None:
    one = only(observe(vm("a"), groups=[group("a", "H1", migration_state=5)]))
    assert one.blocked_by == ()


def test_a_clustered_vm_without_a_group_is_not_moved_behind_its_clusters_back() -> None:
    assert only(observe(vm("a"), groups=[])).blocked_by == ("locked",)


@pytest.mark.parametrize(
    ("value", "word"),
    [(3000, Priority.HIGH), (2000, Priority.MEDIUM), (1000, Priority.LOW), (0, Priority.NONE)],
)
def test_priorities(value: int, word: Priority) -> None:
    assert only(observe(vm("a"), groups=[group("a", "H1", priority=value)])).priority is word


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, HostState.UP),
        ({"state": 1}, HostState.DOWN),
        ({"state": 2}, HostState.PAUSED),
        ({"state": 2, "drain": 1}, HostState.PAUSED),
        ({"status": 4}, HostState.PAUSED),
        ({"status": 16}, HostState.PAUSED),
        ({"status": 32}, HostState.PAUSED),
        ({"status": 1}, HostState.UNKNOWN),
        ({"status": 2}, HostState.UNKNOWN),
        ({"state": 3}, HostState.UNKNOWN),
        ({"state": -1}, HostState.UNKNOWN),
    ],
)
def test_node_states(values: dict[str, Any], state: HostState) -> None:
    answer = cluster([node("H1", **values)], [group("a", "H1")])
    observation = assemble("c", answer, {"h1.contoso.com": host("h1", [vm("a")])}, NOW)
    assert state_of(observation, "H1") is state
    assert only(observation).memory_assigned_bytes == 4 * GIB  # its load counts all the same


def test_a_silent_host_is_unknown_and_its_last_known_load_counts() -> None:
    last = observe(vm("a"), vm("b"), vm("gone"), vm("alone", clustered=False)).cluster
    answer = cluster(
        [node("H1"), node("H2")], [group("a", "H1"), group("b", "H2"), group("new", "H1")]
    )
    hosts = {"H1": None, "H2": host("H2", [vm("b")])}
    seen = assemble("c", answer, hosts, NOW, last, {"h1": "it is asleep"})
    assert seen.notes == ("H1 is unknown: it is asleep",)
    before = last.host_by_name["H1"]
    assert seen.cluster.host_by_name["H1"] == dataclasses.replace(before, state=HostState.UNKNOWN)
    on = {one.id: (one.host, one.memory_assigned_bytes) for one in seen.cluster.vms}
    assert on == {
        "a": ("H1", 4 * GIB),
        "b": ("H2", 4 * GIB),
        "new": ("H1", 0),
        "alone": ("H1", 4 * GIB),
    }


def test_a_host_never_seen_is_there_all_the_same() -> None:
    answer = cluster([node("H1"), node("H2")], [group("a", "H2")])
    seen = assemble("c", answer, {"H1": host("H1"), "H2": None}, NOW)
    assert state_of(seen, "H2") is HostState.UNKNOWN
    assert only(seen).host == "H2"
    again = assemble("c", answer, {"H1": host("H1"), "H2": None}, NOW, seen.cluster)
    assert again.cluster.vms == seen.cluster.vms


@pytest.mark.parametrize("name", ["os", "host", "cpu", "memory", "vms"])
def test_a_host_whose_needed_sections_failed_is_unknown(name: str) -> None:
    last = observe(vm("a")).cluster
    sections: dict[str, Any] = {name: failed()}
    seen = observe(vm("a"), last=last, **sections)
    assert state_of(seen, "H1") is HostState.UNKNOWN
    assert only(seen).memory_assigned_bytes == 4 * GIB
    assert "0x80041001" in seen.notes[0]
    assert "Zugriff für „Prüfer“ verweigert" in seen.notes[0]


@pytest.mark.parametrize(
    "name",
    ["vps", "switches", "nics", "lm_networks", "smb_limit", "jobs", "atc", "migration"],
)
def test_a_host_whose_other_sections_failed_still_works(name: str) -> None:
    sections: dict[str, Any] = {name: failed()}
    seen = observe(vm("a"), **sections)
    assert state_of(seen, "H1") is HostState.UP
    assert seen.notes[0].startswith(f"H1: its {name} section failed")
    assert seen.cluster.host_by_name["H1"].migration.networks


def test_not_knowing_who_owns_the_settings_is_a_reason_not_to_write_them() -> None:
    seen = observe(atc=failed())
    assert seen.cluster.host_by_name["H1"].migration.managed_by is ManagedBy.NETWORK_ATC


def test_without_an_address_to_listen_on_nothing_migrates() -> None:
    silent = MigrationServicePart(active=0, active_storage=0, listeners=[])
    seen = observe(migration=silent)
    assert not seen.cluster.host_by_name["H1"].migration.enabled


@pytest.mark.parametrize(
    "lie",
    [
        {"host": host_part(logical_processors=0)},
        {"host": host_part(logical_processors=-4)},
        {"host": host_part(migration_option=7)},
        {"host": host_part(migrations_max=-1)},
        {"host": host_part(memory_capacity_bytes=0)},
        {"cpu": cpu_part(lp_run_percent=float("nan"))},
        {"cpu": cpu_part(lp_run_percent=float("inf"))},
        {"cpu": cpu_part(lp_run_percent=-1.0)},
        {"cpu": cpu_part(lp_run_percent=4000.0)},
        {"cpu": cpu_part(root_run_percent=float("nan"))},
        {"cpu": cpu_part(lp_count=0)},
        {"memory": MemoryPart(available_bytes=-1)},
        {"memory": MemoryPart(available_bytes=2**60)},
        {"vms": [vm("a", memory_assigned_bytes=-1)]},
        {"vms": [vm("a", memory_assigned_bytes=65 * GIB * 2)]},
        {"vms": [vm("a", cpu_percent_of_host=float("nan"))]},
        {"vms": [vm("a", vcpus=-1)]},
        {"vms": [vm("a", cpu_reserve_percent=-5)]},
        {"vms": [vm("a"), vm("A")]},
        {"vps": vps("a", float("nan"), 1)},
        {"vps": vps("a", -5.0, 1)},
        {"vps": vps("a", 301.0, 0)},
        {"vps": vps("a")},
        {"os": os_part(now_utc="2026-03-01T09:00:00Z")},
    ],
)
def test_a_host_that_lies_is_unknown(lie: dict[str, Any]) -> None:
    last = observe(vm("a")).cluster
    seen = observe(vm("a"), last=last, **lie)
    assert state_of(seen, "H1") is HostState.UNKNOWN
    assert state_of(seen, "H2") is HostState.UP
    assert seen.cluster.vms == last.vms
    assert len(seen.notes) == 1
    assert seen.notes[0].startswith("H1 is unknown: ")


def test_our_own_wrong_clock_makes_nobody_suspect() -> None:
    late = os_part(now_utc="2026-03-01T15:00:00Z")
    answer = cluster([node("H1"), node("H2"), node("H3")])
    hosts = {name: host(name, os=late) for name in ("H1", "H2", "H3")}
    seen = assemble("c", answer, hosts, NOW)
    assert {one.state for one in seen.cluster.hosts} == {HostState.UP}


def test_another_computer_that_answers_for_a_node_is_not_believed() -> None:
    answer = cluster([node("H1"), node("H2")])
    seen = assemble("c", answer, {"H1": host("OTHER"), "H2": host("H2")}, NOW)
    assert state_of(seen, "H1") is HostState.UNKNOWN
    assert "calls itself OTHER" in seen.notes[0]


def two_claim(groups: Any, h1: Any, h2: Any, last: Cluster | None = None) -> Observation:
    answer = cluster([node("H1"), node("H2"), node("H3")], groups)
    return assemble("c", answer, {"H1": h1, "H2": h2, "H3": host("H3")}, NOW, last)


def test_a_vm_that_two_hosts_claim_without_a_migration_is_its_owners() -> None:
    seen = two_claim([group("a", "H2")], host("H1", [vm("a"), vm("b")]), host("H2", [vm("a")]))
    assert state_of(seen, "H1") is HostState.UNKNOWN
    assert state_of(seen, "H2") is HostState.UP
    assert only(seen).host == "H2"
    assert "no migration explains that" in seen.notes[0]


@pytest.mark.parametrize(
    ("h1", "groups"),
    [
        (host("H1", [vm("a")], jobs=[job("A", "H2")]), [group("a", "H2")]),
        (host("H1", [vm("a")], jobs=[job("a", "H2", state=7)]), [group("a", "H2")]),
        (host("H1", [vm("a", status=[2, 32774])]), [group("a", "H2")]),
        (host("H1", [vm("a")]), [group("a", "H2", migration_state=3)]),
    ],
    ids=["job", "job just over", "status", "group"],
)
def test_at_the_instant_of_a_switch_two_hosts_are_right(h1: Any, groups: Any) -> None:
    seen = two_claim(groups, h1, host("H2", [vm("a")]))
    assert {one.state for one in seen.cluster.hosts} == {HostState.UP}
    assert only(seen).host == "H2"
    assert "migrating" in only(seen).blocked_by


def test_an_owner_that_contradicts_the_host_that_shows_the_vm() -> None:
    seen = two_claim([group("a", "H2")], host("H1", [vm("a")]), host("H2"))
    assert state_of(seen, "H1") is HostState.UNKNOWN
    assert "the cluster says H2" in seen.notes[0]
    moved = two_claim(
        [group("a", "H2")], host("H1", [vm("a")], jobs=[job("a", "H2", state=7)]), host("H2")
    )
    assert {one.state for one in moved.cluster.hosts} == {HostState.UP}
    assert (only(moved).host, only(moved).blocked_by) == ("H1", ("migrating",))


def test_a_vm_its_owner_denies_stays_where_a_silent_host_had_it() -> None:
    last = observe(vm("a")).cluster
    answer = cluster([node("H1"), node("H2")], [group("a", "H2")])
    seen = assemble("c", answer, {"H1": None, "H2": host("H2")}, NOW, last)
    assert (only(seen).host, only(seen).blocked_by) == ("H1", ("migrating",))


@pytest.mark.parametrize("name", ["groups", "affinity"])
def test_not_knowing_the_clusters_rules_no_clustered_vm_moves(name: str) -> None:
    answer = cluster([node("H1")], [group("a", "H1")], **{name: failed()})
    share = [disk("\\\\fs\\v\\b.vhdx")]
    vms = [vm("a"), vm("b", clustered=False, disks=share)]
    seen = assemble("c", answer, {"H1": host("H1", vms)}, NOW)
    assert {one.id: one.blocked_by for one in seen.cluster.vms} == {"a": ("locked",), "b": ()}
    assert "no clustered VM is moved" in " ".join(seen.notes)


def test_a_configured_host_that_is_no_node_is_left_out() -> None:
    answer = cluster([node("H1")])
    seen = assemble("c", answer, {"H1": host("H1"), "H9": host("H9", [vm("x")])}, NOW)
    assert [one.name for one in seen.cluster.hosts] == ["H1"]
    assert seen.notes == ("H9 is configured but is no node of the cluster; it is left out",)


def test_stand_alone_hosts() -> None:
    share = [disk("\\\\fs\\v\\a.vhdx")]
    hosts = {
        "hv01.contoso.com": host(
            "HV01", [vm("a", clustered=False, disks=share), vm("odd", clustered=True)]
        ),
        "10.1.0.2": host("HV02"),
        "alias": host("HV02"),
    }
    seen = assemble("branch", None, hosts, NOW)
    assert state_of(seen, "hv01.contoso.com") is HostState.UP
    assert state_of(seen, "alias") is HostState.UNKNOWN
    assert "same computer as 10.1.0.2" in seen.notes[0]
    assert {one.id: (one.clustered, one.blocked_by) for one in seen.cluster.vms} == {
        "a": (False, ()),
        "odd": (True, ("locked",)),
    }


def test_what_is_in_flight() -> None:
    vms = [vm("job"), vm("queued"), vm("state", status=[2, 32774]), vm("group"), vm("still")]
    groups = [
        group("job", "H1", migration_state=2, migration_progress=35),
        group("queued", "H1", status=4),
        group("state", "H1"),
        group("group", "H1", migration_state=1, migration_progress=5),
        group("still", "H1"),
    ]
    answer = cluster([node("H1"), node("H2")], groups)
    done = job("still", "H2", state=7)
    hosts = {
        "H1": host("H1", vms, jobs=[job("{JOB}", "h2.contoso.com"), done]),
        "H2": host("H2", jobs=[job("job", "H2", percent=90)]),
    }
    seen = assemble("c", answer, hosts, NOW)
    assert {vm.id: vm.migrating_to for vm in seen.cluster.vms if vm.migrating_to} == {"job": "H2"}
    assert seen.in_flight == (
        InFlight("job", "H1", "H2", 40, queued=False),
        InFlight("queued", "H1", None, 0, queued=True),
        InFlight("state", "H1", None, 0, queued=False),
        InFlight("group", "H1", None, 5, queued=False),
    )


HOST_SECTIONS = [n for n in HostAnswer.model_fields if n not in ("module", "computer")]
CLUSTER_SECTIONS = [n for n in ClusterAnswer.model_fields if n not in ("module", "computer")]


@settings(max_examples=200, deadline=None)
@given(
    missing=st.dictionaries(st.sampled_from(["H1", "H2"]), st.sets(st.sampled_from(HOST_SECTIONS))),
    silent=st.sets(st.sampled_from(["H1", "H2", "H3"])),
    cluster_missing=st.sets(st.sampled_from(CLUSTER_SECTIONS)),
    owners=st.lists(st.sampled_from(["H1", "h2", "H3", "H7", ""]), min_size=3, max_size=3),
    alone=st.booleans(),
    remembers=st.booleans(),
)
def test_any_mix_of_missing_sections_makes_a_sound_snapshot(
    missing: dict[str, set[str]],
    silent: set[str],
    cluster_missing: set[str],
    owners: list[str],
    *,
    alone: bool,
    remembers: bool,
) -> None:
    vms = {"H1": [vm("a"), vm("b")], "H2": [vm("b"), vm("c", state=3)], "H3": [vm("d")]}
    hosts = {
        name: None
        if name in silent
        else host(name, rows, **{part: failed() for part in missing.get(name, ())})
        for name, rows in vms.items()
    }
    groups = [group(one, owner) for one, owner in zip("abc", owners, strict=True)]
    answer = cluster(
        [node("H1"), node("H2"), node("H3")],
        groups,
        **{part: failed() for part in cluster_missing},
    )
    last = observe(vm("a"), vm("z")).cluster if remembers else None
    seen = assemble("c", None if alone else answer, hosts, NOW, last)
    names = [one.name for one in seen.cluster.hosts]
    ids = [one.id for one in seen.cluster.vms]
    assert sorted(names) == ["H1", "H2", "H3"]
    assert len(ids) == len(set(ids))
    assert {one.host for one in seen.cluster.vms} <= set(names)
    assert all(state_of(seen, name) is not HostState.UP for name in silent)
    for rule in seen.cluster.rules:
        rule.says(seen.cluster)


def test_networks_down_or_excluded_are_no_migration_networks() -> None:
    networks = [
        network("Management", "10.0.0.0/24"),
        network("LM", "10.1.0.0/24"),
        network("Down", "10.2.0.0/24", state=1),
    ]
    part = cluster([node("H1")], networks=networks, cluster=cluster_part("H1"))
    seen = assemble("c", part, {"H1": host("H1")}, NOW)
    assert [one.name for one in seen.cluster.networks] == ["Management", "LM", "Down"]
    assert [one.name for one in seen.cluster.hosts[0].migration.networks] == ["LM"]
