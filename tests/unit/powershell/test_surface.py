"""Every cmdlet, parameter, property and number the module uses exists on the platform."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.unit.powershell import source
from tests.unit.powershell.source import Call, calls, every, functions, module, text, words
from tests.unit.powershell.surface import (
    GENERAL,
    PASSED,
    Follow,
    Use,
    compared,
    facts,
    follow,
    members,
    projections,
)

COMMON = {"ErrorAction", "Confirm"}
PLATFORM = ("Hyper-V\\", "FailoverClusters\\")

# Commands that came after Windows Server 2012 R2, each looked for before it, or the class behind
# it, is used: Microsoft's cmdlet reference for each names its first version.
GUARDED = {
    "Get-VMAssignableDevice",
    "Get-VMGpuPartitionAdapter",
    "Get-VMSecurity",
    "Get-ClusterAffinityRule",
    "Get-NetIntent",
    "Get-StorageJob",
}
# Properties read only where they exist. The one that the dump of types (2020) does not have yet
# is from the Windows Server 2025 reference of Get-VMGpuPartitionAdapter.
OPTIONAL = {
    "SupportedVmVersions": "VMHost",
    "MaximumParallelMigrations": "Cluster",
    "AutoBalancerMode": "Cluster",
    "AutoBalancerLevel": "Cluster",
    "FaultDomain": "ClusterNode",
    "LockedFromMoving": "ClusterGroup",
    "S2DEnabled": "Cluster",
    "SupportsOutgoingLiveMigration": None,
    "MemoryAvailable": None,  # of a VMHostNumaNode; without it nothing fits any node
}
# Our own objects and .NET's: what a name must be for its members not to be checked here.
OWN = {
    "$_",
    "$From",
    "$Parts",
    "$Record",
    "$answer",
    "$bits",
    "$cause",
    "$entry",
    "$found",
    "$logical",
    "$match",
    "$own",
    "$pair",
    "$part",
    "$parsed",
    "$root",
    "$security",
    "$sums",
    "$there",
    "@(NetworkATC\\Get-NetIntent -ErrorAction Stop)",
}
MEANINGS = {
    ("VirtualMachineType", 4): "PlannedVirtualMachine",
    ("ClusterResourceState", 2): "Online",
    ("ClusterResourceState", 3): "Offline",
    ("ClusterResourceState", 4): "Failed",
    ("ClusterNodeState", 2): "Paused",
    ("GroupType", 1): "Cluster",
    ("GroupType", 111): "VirtualMachine",
    ("ClusterGroupState", 4): "Pending",
    ("ClusterApplicationStatusInformation", 4): "Queued",
    ("Msvm_MigrationJob.JobState", 2): "new",
    ("Msvm_MigrationJob.JobState", 3): "starting",
    ("Msvm_MigrationJob.JobState", 4): "running",
    ("Msvm_MigrationJob.JobState", 5): "suspended",
    ("Msvm_MigrationJob.JobState", 6): "shutting down",
    ("Msvm_MigrationJob.JobState", 8): "terminated",
    ("Msvm_MigrationJob.JobState", 9): "killed",
    ("Msvm_MigrationJob.JobState", 10): "exception",
    ("MSFT_NetAdapter.InterfaceOperationalStatus", 1): "up",
    ("MSFT_SmbBandwidthLimit.Category", 2): "live migration",
    ("MSFT_StorageJob.JobState", 2): "new",
    ("MSFT_StorageJob.JobState", 3): "starting",
    ("MSFT_StorageJob.JobState", 4): "running",
    ("MSFT_StorageJob.JobState", 5): "suspended",
    ("MSFT_StorageJob.JobState", 6): "shutting down",
    ("MSFT_VirtualDisk.HealthStatus", 0): "healthy",
}


@cache
def followed() -> list[Follow]:
    return list(follow(module()))


def uses() -> list[Use]:
    return [use for one in followed() for use in one.uses]


def platform_calls() -> list[Call]:
    return [found for found in calls(module()) if found.name.startswith(PLATFORM)]


def fitting_sets(found: Call) -> set[str]:
    """The parameter sets that take all given parameters and miss no mandatory one."""
    known = facts()["cmdlets"][found.name]["parameters"]
    names = {s for p in known.values() for s in p.get("sets", []) if s != "*"} or {"*"}
    given = set(found.arguments) - COMMON
    for name, parameter in known.items():
        sets = set(parameter.get("sets", ["*"]))
        if name in given and "*" not in sets:
            names &= sets
        if name not in given:
            names -= set(parameter.get("mandatory_in", []))
    return names


def test_every_cmdlet_exists() -> None:
    assert {c.name for c in platform_calls()} == set(facts()["cmdlets"])


def test_every_parameter_exists_and_the_combination_is_one_parameter_set() -> None:
    for found in platform_calls():
        known = set(facts()["cmdlets"][found.name]["parameters"])
        assert set(found.arguments) - COMMON <= known, f"line {found.line}: {found.name}"
        assert not found.positional, f"line {found.line}: {found.name}"
        assert fitting_sets(found), f"line {found.line}: {found.name} has no such parameter set"


@pytest.mark.parametrize(
    "snippet",
    [
        "Hyper-V\\Get-VMDvdDrive -ErrorAction Stop",
        "Hyper-V\\Get-VM -Id $a -Name 'b' -ErrorAction Stop",
        "FailoverClusters\\Set-ClusterParameter -Multiple $a -Name 'b' -ErrorAction Stop",
    ],
)
def test_a_wrong_combination_would_be_noticed(snippet: str) -> None:
    (found,) = calls(source.parse(snippet))
    assert not fitting_sets(found)


def test_the_output_types_are_followed_through_the_module() -> None:
    kinds = {use.kind for use in uses()}
    unread = {"ClusterParameter", "VMSwitch"} - kinds
    assert not unread
    assert len(kinds) > 35
    assert len(uses()) > 170


def test_every_property_exists_on_its_type() -> None:
    for use in uses():
        known = set(members(use.kind)) | GENERAL
        assert use.member in known, f"{use.function} line {use.line}: {use.kind}.{use.member}"


def test_a_wrong_property_would_be_noticed() -> None:
    root = source.parse(
        "function F { foreach ($vm in @(Hyper-V\\Get-VM -ErrorAction Stop)) { $vm.MemoryUsed } }"
    )
    (use,) = next(follow(root)).uses
    assert (use.kind, use.member) == ("VirtualMachine", "MemoryUsed")
    assert use.member not in members(use.kind)


def test_what_is_not_followed_is_ours() -> None:
    unknown = {name for one in followed() for name in one.unknown}
    assert {re.split(r"[.\[]", n)[0] if n.startswith("$") else n for n in unknown} == OWN


def test_objects_are_passed_only_where_the_table_says() -> None:
    declared = {
        (name, parameter)
        for name, node in functions(module()).items()
        for parameter, text_ in source.parameters(node).items()
        if "[object" in text_
    }
    assert set(PASSED) <= declared


def test_cim_classes_exist_and_read_properties_are_asked_for() -> None:
    known = facts()["classes"]
    asked: dict[str, set[str]] = {}
    for line, given, listed in projections(module()):
        kinds = [k for k in known if k == given or (given == "$ClassName" and "Hypervisor" in k)]
        assert kinds, f"line {line}: {given}"
        for kind in kinds:
            assert set(listed) <= set(known[kind]["properties"]), f"line {line}: {kind}"
            asked.setdefault(kind, set()).update(listed)
    assert len(asked) >= 9
    whole = {
        text(name).strip("'")
        for found in calls(module())
        if found.short == "Get-CimInstance" and "Property" not in found.arguments
        if (name := found.arguments["ClassName"]) is not None
    }
    assert whole <= set(known)
    for use in uses():
        if use.kind in asked and use.kind not in whole and use.member not in GENERAL:
            assert use.member in asked[use.kind], f"line {use.line}: {use.member} not asked for"


def test_cim_methods_take_these_arguments() -> None:
    methods = {
        name: set(arguments)
        for known in facts()["classes"].values()
        for name, arguments in known.get("methods", {}).items()
    }
    invoked = {}
    for found in calls(module()):
        if found.short == "Invoke-CimMethod":
            method, arguments = found.arguments["MethodName"], found.arguments["Arguments"]
            assert method is not None
            assert arguments is not None
            invoked[text(method)] = set(source.keys(every(arguments, "hash_literal_expression")[0]))
    assert set(invoked) == set(methods)
    assert all(given <= methods[name] for name, given in invoked.items())


def test_numbers_mean_what_they_are_compared_for() -> None:
    seen = set()
    for use in uses():
        kind = members(use.kind).get(use.member, "")
        for number in compared(use):
            if kind in facts()["enums"]:
                names = {value: name for name, value in facts()["enums"][kind].items()}
                assert names[number] == MEANINGS[kind, number]
                seen.add((kind, number))
            elif use.member in facts()["classes"].get(use.kind, {}).get("values", {}):
                values = facts()["classes"][use.kind]["values"][use.member]
                assert values[str(number)] == MEANINGS[kind, number]
                seen.add((kind, number))
    assert seen == set(MEANINGS)


def test_enum_words_and_ranges_exist() -> None:
    (resume,) = (c for c in platform_calls() if "Failback" in c.arguments)
    failback = resume.arguments["Failback"]
    assert failback is not None
    assert facts()["enums"]["ResumeClusterNodeFailbackType"][text(failback)] == 0
    (move,) = (c for c in platform_calls() if "MigrationType" in c.arguments)
    word = move.arguments["MigrationType"]
    assert word is not None
    assert text(word) == "Live"
    assert facts()["enums"]["VmMigrationType"][text(word)] == 4
    options = facts()["enums"]["VMMigrationPerformance"].values()
    value = source.parameters(functions(module())["Set-LbTransport"])["Value"]
    assert f"[ValidateRange({min(options)}, {max(options)})]" in value


def test_newer_commands_are_looked_for_first() -> None:
    looked_for = {
        text_
        for found in calls(module())
        if found.name == "Test-LbCommand"
        for text_ in words(found.arguments["Name"])
    }
    assert looked_for == GUARDED
    for name, node in functions(module()).items():
        guards = [c.node.start_byte for c in calls(node) if c.name == "Test-LbCommand"]
        for found in calls(node):
            if found.short in GUARDED:
                assert guards, f"{name}: {found.short}"
                assert min(guards) < found.node.start_byte


def test_optional_properties_are_known_or_sourced() -> None:
    asked = {
        word
        for found in calls(module())
        if found.name == "Get-LbValue"
        for word in words(found.arguments["Property"])
    }
    assert asked == set(OPTIONAL)
    for name, kind in OPTIONAL.items():
        assert kind is None or name in members(kind)


def test_private_properties_are_known() -> None:
    named = {
        word
        for n in every(module(), "element_access")
        if text(n).lower().startswith("$values[")
        for word in words(n)
    }
    assert named == set(facts()["private_properties"])


def test_no_name_parameter_takes_anything_but_our_own_words() -> None:
    # Hyper-V expands wildcards in names, names repeat, a group's name is not its VM's.
    by_name = {"Name", "VMName", "Group", "Resource", "ResourceType", "Cluster", "VMId"}
    named = {
        (found.short, name, text(argument))
        for found in platform_calls()
        for name, argument in found.arguments.items()
        if name in by_name and argument is not None
    }
    assert named == {
        ("Get-ClusterResourceType", "Name", "'Virtual Machine'"),
        ("Set-ClusterParameter", "Name", "'HyperVBalancerFence'"),
        ("Set-ClusterParameter", "Name", "'BalancerLease'"),
        ("Set-ClusterParameter", "Name", "'BalancerFreeze'"),
        ("Get-ClusterResource", "VMId", "$VmId"),
    }
    assert source.parameters(functions(module())["Get-LbVmResource"])["VmId"] == "[guid] $VmId"
    assert not [c for c in platform_calls() if "ComputerName" in c.arguments]
