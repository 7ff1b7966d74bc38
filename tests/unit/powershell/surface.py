"""What the platform's commands give back, followed through the module's variables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tests.unit.powershell.source import (
    Node,
    call,
    chain,
    every,
    functions,
    parameters,
    text,
    walk,
)

OUTPUT = {
    "Hyper-V\\Get-VM": "VirtualMachine",
    "Hyper-V\\Get-VMAssignableDevice": "VMAssignedDevice",
    "Hyper-V\\Get-VMDvdDrive": "DvdDrive",
    "Hyper-V\\Get-VMFibreChannelHba": "VMFibreChannelHba",
    "Hyper-V\\Get-VMGpuPartitionAdapter": "VMGpuPartitionAdapter",
    "Hyper-V\\Get-VMHardDiskDrive": "HardDiskDrive",
    "Hyper-V\\Get-VMHost": "VMHost",
    "Hyper-V\\Get-VMMigrationNetwork": "VMMigrationNetwork",
    "Hyper-V\\Get-VMNetworkAdapter": "VMNetworkAdapter",
    "Hyper-V\\Get-VMProcessor": "VMProcessor",
    "Hyper-V\\Get-VMSecurity": "VMSecurity",
    "Hyper-V\\Get-VMSwitch": "VMSwitch",
    "FailoverClusters\\Get-Cluster": "Cluster",
    "FailoverClusters\\Get-ClusterGroup": "ClusterGroup",
    "FailoverClusters\\Get-ClusterNetwork": "ClusterNetwork",
    "FailoverClusters\\Get-ClusterNode": "ClusterNode",
    "FailoverClusters\\Get-ClusterOwnerNode": "ClusterOwnerNodeList",
    "FailoverClusters\\Get-ClusterParameter": "ClusterParameter",
    "FailoverClusters\\Get-ClusterQuorum": "ClusterQuorumSettings",
    "FailoverClusters\\Get-ClusterResource": "ClusterResource",
    "FailoverClusters\\Get-ClusterResourceType": "ClusterResourceType",
    "FailoverClusters\\Get-ClusterSharedVolume": "ClusterSharedVolume",
    "FailoverClusters\\Get-ClusterSharedVolumeState": "ClusterSharedVolumeStateInfo",
    "Get-LbMachines": "VirtualMachine",
    "Get-LbCoreGroup": "ClusterGroup",
    "Find-LbNode": "ClusterNode",
    "Get-LbMigrationService": "Msvm_VirtualSystemMigrationService",
    "Get-LbJobs": "Msvm_MigrationJob",
    "Get-LbNewestJob": "Msvm_MigrationJob",
}

# What callers pass; the parameter itself is declared as plain object. A list is "any of them".
PASSED = {
    ("Get-LbNewestJob", "Jobs"): ["Msvm_MigrationJob"],
    ("Get-LbMoveFailure", "Job"): ["Msvm_MigrationJob"],
    ("New-LbMoveRow", "Job"): ["Msvm_MigrationJob"],
    ("New-LbVmRow", "Machine"): ["VirtualMachine"],
    ("Get-LbVmSecurity", "Machine"): ["VirtualMachine"],
    ("New-LbDiskRow", "Disk"): ["HardDiskDrive"],
    ("Test-LbGpuMovable", "Partitions"): ["VMGpuPartitionAdapter"],
    ("New-LbGroupRow", "Group"): ["ClusterGroup"],
    ("New-LbGroupRow", "Resources"): ["ClusterResource"],
    ("Get-LbPossibleOwners", "Resources"): ["ClusterResource"],
    ("Get-LbAccess", "States"): ["ClusterSharedVolumeStateInfo"],
    ("Group-LbByVm", "Parts"): [
        "HardDiskDrive",
        "DvdDrive",
        "VMNetworkAdapter",
        "VMFibreChannelHba",
        "VMProcessor",
        "VMAssignedDevice",
        "VMGpuPartitionAdapter",
    ],
}
# New-LbVmRow takes a VM's parts back out of these groups.
GROUPS = {
    "adapters": "VMNetworkAdapter",
    "gpus": "VMGpuPartitionAdapter",
    "processors": "VMProcessor",
    "disks": "HardDiskDrive",
    "media": "DvdDrive",
    "fibre": "VMFibreChannelHba",
    "devices": "VMAssignedDevice",
}
# Not in the dump of output types: documented with Get-ClusterSharedVolume.
EXTRA_TYPES = {"ClusterSharedVolumeInfo": {"FriendlyVolumeName": "String"}}
GENERAL = {"Count", "ToString", "PSObject", "Add"}

Types = list[str]


@cache
def facts() -> dict[str, Any]:
    here = files("tests.unit.powershell")
    read = {
        name: json.loads(here.joinpath(name).read_text("utf-8"))
        for name in ("modules.json", "classes.json")
    }
    return {**read["modules.json"], **read["classes.json"]}


def members(kind: str) -> dict[str, str]:
    """Property to type of a platform type or CIM class."""
    known = facts()
    if kind in known["classes"]:
        found = known["classes"][kind]
        return {name: kind + "." + name for name in found["properties"] + ["ReturnValue"]}
    types: dict[str, dict[str, str]] = {**known["types"], **EXTRA_TYPES}
    return types[kind]


def element(kind: str) -> str:
    """The type that enumerating a property's type gives."""
    for opening in ("ICollection<", "List<", "IReadOnlyList<", "Nullable<"):
        if kind.startswith(opening):
            return kind[len(opening) : -1]
    return kind.removesuffix("[]")


@dataclass(frozen=True)
class Use:
    """One property read from a value of a known type."""

    function: str
    line: int
    kind: str
    member: str
    node: Node


class Follow:
    """One function's variables and the types that reach them."""

    def __init__(self, name: str, function: Node) -> None:
        self.name = name
        self.function = function
        self.types: dict[str, Types] = {
            "$" + p: PASSED[name, p] for p in parameters(function) if (name, p) in PASSED
        }
        self.projected: dict[str, list[str]] = {}
        self.uses: list[Use] = []
        self.unknown: set[str] = set()
        for _ in range(3):  # values pass through at most two variables before they are read
            self._assignments()
        self._reads()

    def of(self, node: Node) -> Types:
        """The types a value may have; empty when it is not the platform's."""
        commands = [n for n in walk(node) if n.type == "command"]
        if commands and text(node).lstrip("@(").startswith(text(commands[0])[:20]):
            return self._output(commands[0])
        if node.type == "variable":
            return self.types.get(text(node), [])
        if node.type == "member_access":
            start, names = chain(node)
            found = self.of(start)
            if not found and names == ["group"]:  # Get-LbVmResource's own objects carry it
                return ["ClusterGroup"]
            for name in names:
                found = [element(members(k)[name]) for k in found if name in members(k)]
            return [k for k in found if k in {*facts()["types"], *EXTRA_TYPES}]
        loops = [n for n in walk(node) if n.type == "foreach_statement"]
        if loops:  # @(foreach ($x in ...) { if (...) { $x } }) filters
            variable = next(text(c) for c in loops[0].children if c.type == "variable")
            body = text(loops[0].children[-1])
            return self.types.get(variable, []) if f"{{ {variable} }}" in body else []
        children = node.named_children
        return self.of(children[0]) if children else []

    def _output(self, command: Node) -> Types:
        found = call(command)
        if found.name == "CimCmdlets\\Get-CimInstance":
            name = found.arguments["ClassName"]
            assert name is not None
            kinds = [text(name).strip("'")]
            if kinds == ["$ClassName"]:
                prefix = "Win32_PerfFormattedData_HvStats_HyperVHypervisor"
                kinds = [prefix + "LogicalProcessor", prefix + "RootVirtualProcessor"]
            return kinds
        if found.name == "Select-LbPart":
            group = found.arguments["Groups"]
            assert group is not None
            return [GROUPS[k] for k in [text(group).rpartition(".")[2]] if k in GROUPS]
        return [OUTPUT[found.name]] if found.name in OUTPUT else []

    def _assignments(self) -> None:
        for node in every(self.function, "assignment_expression"):
            target = text(node.children[0])
            if target.startswith("$") and target[1:].isalnum():
                self._add(target, self.of(node.children[-1]))
        for node in every(self.function, "foreach_statement"):
            variable = next(c for c in node.children if c.type == "variable")
            source = next(c for c in node.children if c.type == "pipeline")
            self._add(text(variable), self.of(source))

    def _add(self, variable: str, kinds: Types) -> None:
        known = self.types.setdefault(variable, [])
        known.extend(k for k in kinds if k not in known)

    def _reads(self) -> None:
        for node in every(self.function, "member_access"):
            start, names = chain(node)
            if start.type == "type_literal" or "::" in text(node):
                continue
            found = self.of(start)
            if not found:
                self.unknown.add(text(start))
            for kind in found:
                before = kind
                for name in names[:-1]:
                    before = element(members(before).get(name, ""))
                    if before not in {*facts()["types"], *EXTRA_TYPES}:
                        break
                else:
                    row = node.start_point.row + 1
                    self.uses.append(Use(self.name, row, before, names[-1], node))


def follow(root: Node) -> Iterator[Follow]:
    for name, node in functions(root).items():
        yield Follow(name, node)


def projections(root: Node) -> Iterator[tuple[int, str, list[str]]]:
    """Line, class and named properties of every projected CIM reading."""
    for node in every(root, "command"):
        found = call(node)
        if found.short == "Get-CimInstance" and "Property" in found.arguments:
            name = found.arguments["ClassName"]
            assert name is not None
            text_after = text(node).partition("-Property")[2].partition("-ErrorAction")[0]
            listed = [part.strip().strip("'") for part in text_after.split(",")]
            yield found.line, text(name).strip("'"), listed


def compared(use: Use) -> list[int]:
    """The numbers a property is compared with, or masked by."""
    node = use.node
    while (parent := node.parent) is not None and not parent.type.endswith("statement"):
        if parent.type in {"comparison_expression", "bitwise_expression"}:
            left, *others = parent.named_children
            if left.start_byte <= use.node.start_byte < left.end_byte and others:
                numbers = every(others[-1], "decimal_integer_literal")
                return [int(text(number)) for number in numbers]
        node = parent
    return []
