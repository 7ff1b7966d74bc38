"""The PowerShell sources parse, stay within what is allowed, and never run text."""

from __future__ import annotations

from functools import cache

import pytest

from balancer.gateway import wire
from tests.unit.powershell import source
from tests.unit.powershell.source import Call, calls, every, functions, module, read, text, walk

PLATFORM = ("Hyper-V\\", "FailoverClusters\\")

# Every other command the module may use, with the parameters it may use.
ALLOWED = {
    "CimCmdlets\\Get-CimInstance": {"Namespace", "ClassName", "Filter", "Property", "CimSession"},
    "CimCmdlets\\Invoke-CimMethod": {"InputObject", "MethodName", "Arguments"},
    "CimCmdlets\\New-CimSession": {"ComputerName", "OperationTimeoutSec"},
    "CimCmdlets\\Remove-CimSession": {"CimSession"},
    "NetworkATC\\Get-NetIntent": set(),
    "Microsoft.PowerShell.Core\\Get-Command": {"Name"},
    "Microsoft.PowerShell.Core\\Import-Module": {"Name"},
    "Microsoft.PowerShell.Core\\Set-StrictMode": {"Version"},
    "Microsoft.PowerShell.Diagnostics\\Get-WinEvent": {"FilterHashtable"},
    "Microsoft.PowerShell.Utility\\ConvertTo-Json": {"InputObject", "Compress", "Depth"},
}
NEED_NO_STOP = {
    "Microsoft.PowerShell.Core\\Set-StrictMode",
    "Microsoft.PowerShell.Utility\\ConvertTo-Json",
}
# Where "nothing" is the answer and no error: each has its reason in the module.
MAY_BE_SILENT = {
    ("CimCmdlets\\Remove-CimSession", "Get-LbTargetService"),
    ("Hyper-V\\Get-VM", "New-LbMoveRow"),
    ("Microsoft.PowerShell.Core\\Get-Command", "Test-LbCommand"),
    ("Microsoft.PowerShell.Core\\Import-Module", ""),
    ("Microsoft.PowerShell.Diagnostics\\Get-WinEvent", "Get-LbBlackouts"),
}
TYPES = {
    "Microsoft.Management.Infrastructure.Serialization.CimSerializer",
    "Microsoft.Management.Infrastructure.Serialization.InstanceSerializationOptions",
    "Microsoft.Win32.Registry",
    "Microsoft.Win32.RegistryValueKind",
    "System.Collections.ArrayList",
    "System.Collections.Generic.Dictionary[string, object]",
    "System.Convert",
    "System.Environment",
    "System.Globalization.CultureInfo",
    "System.Globalization.NumberStyles",
    "System.Net.IPAddress",
    "System.StringComparison",
    "System.Text.Encoding",
    "datetime",
    "double",
    "guid",
    "regex",
}


@cache
def placed_calls() -> list[tuple[str, Call]]:
    """Every command of the module with the function it stands in ("" for the top)."""
    inside = [(name, found) for name, node in functions(module()).items() for found in calls(node)]
    known = {found.node.start_byte for _, found in inside}
    return inside + [("", c) for c in calls(module()) if c.node.start_byte not in known]


def ours(found: Call) -> bool:
    return found.name in functions(module())


def test_the_check_sees_the_whole_module() -> None:
    assert len(placed_calls()) > 150
    assert {c.name.split("\\")[0] for _, c in placed_calls() if "\\" in c.name} >= {
        "Hyper-V",
        "FailoverClusters",
        "CimCmdlets",
    }


@pytest.mark.parametrize("name", source.SOURCES)
def test_parses_without_errors(name: str) -> None:
    bad = [n for n in walk(source.parse(read(name))) if n.type == "ERROR" or n.is_missing]
    assert [(n.start_point.row + 1, text(n)[:60]) for n in bad] == []


@pytest.mark.parametrize("name", source.SOURCES)
def test_is_plain_ascii(name: str) -> None:
    # Windows PowerShell reads a file without a byte order mark in the host's own code page.
    assert read(name).isascii()


def test_only_allowed_commands() -> None:
    used = {c.name for _, c in placed_calls() if not ours(c) and not c.name.startswith(PLATFORM)}
    assert used == set(ALLOWED)


def test_only_allowed_parameters() -> None:
    for _, found in placed_calls():
        if found.name in ALLOWED:
            extra = set(found.arguments) - ALLOWED[found.name] - {"ErrorAction"}
            assert not extra, f"line {found.line}: {found.name} {extra}"


def test_our_own_functions_are_called_with_their_own_parameters() -> None:
    known = {name: set(source.parameters(node)) for name, node in functions(module()).items()}
    for _, found in placed_calls():
        if ours(found):
            assert set(found.arguments) <= known[found.name], f"line {found.line}: {found.name}"
            assert not found.positional, f"line {found.line}: {found.name}"


def test_nothing_is_run_that_is_not_named() -> None:
    assert every(module(), "command_invokation_operator") == []
    assert [c for _, c in placed_calls() if not c.name] == []
    banned = ("scriptblock", "invoke-expression", "addscript", "-as [", "iex ")
    assert [word for word in banned if word in read(source.MODULE).lower()] == []


def test_no_text_is_built_by_expansion() -> None:
    expanded = [
        text(n)
        for n in every(module(), "expandable_string_literal")
        if every(n, "variable") or every(n, "sub_expression")
    ]
    assert expanded == []


def test_the_one_query_built_from_an_argument_takes_a_guid() -> None:
    node = functions(module())["Start-LbHostMove"]
    assert source.parameters(node)["VmId"].startswith("[guid]")
    formats = [text(n) for n in every(node, "format_expression") if " -f " in text(n)]
    assert "\"Name = '{0}'\" -f $VmId.ToString().ToUpperInvariant()" in formats
    filters = {text(f) for _, c in placed_calls() if (f := c.arguments.get("Filter")) is not None}
    assert filters == {
        "\"Name = 'ClusSvc'\"",
        "\"Name = 'SCVMMAgent'\"",
        "$filter",
        "'MigrationType = 32768'",
    }


def test_static_members_only_of_known_types() -> None:
    used = {
        text(n.children[0]).removeprefix("[").removesuffix("]")
        for kind in ("member_access", "invokation_expression")
        for n in every(module(), kind)
        if n.children[0].type == "type_literal"
    }
    assert used == TYPES


def test_every_platform_call_stops_on_its_first_error() -> None:
    silent = set()
    for place, found in placed_calls():
        if ours(found) or found.name in NEED_NO_STOP:
            continue
        value = found.arguments.get("ErrorAction")
        action = text(value) if value is not None else ""
        assert action in {"Stop", "SilentlyContinue"}, f"line {found.line}: {found.name}"
        if action == "SilentlyContinue":
            silent.add((found.name, place))
    assert silent == MAY_BE_SILENT


def test_json_depth_is_said_and_deep_enough() -> None:
    (found,) = (c for _, c in placed_calls() if c.short == "ConvertTo-Json")
    depth = found.arguments["Depth"]
    assert depth is not None
    # Answer, section, list, VM, list of disks, disk, value.
    assert int(text(depth)) >= 7


def test_no_script_variables_preferences_or_global_names() -> None:
    names = {text(n).lower() for n in every(module(), "variable")}
    assert not {n for n in names if ":" in n or n.endswith("preference")}
    assert not {n for n in functions(module()) if ":" in n}
    automatic = {"$input", "$args", "$host", "$matches", "$switch", "$event", "$sender", "$this"}
    assigned = {text(n).lower() for n in every(module(), "left_assignment_expression")}
    assert not assigned & automatic


def test_no_large_hexadecimal_numbers() -> None:
    # 5.1 reads 0x80000000 and up as negative 32 bit numbers.
    assert every(module(), "hexadecimal_integer_literal") == []


@pytest.mark.parametrize(
    "snippet",
    ["function F { & $x }", "function F { . $y }"],
)
def test_a_call_by_variable_would_be_noticed(snippet: str) -> None:
    assert every(source.parse(snippet), "command_invokation_operator")


def test_the_module_number_is_the_wire_version() -> None:
    node = functions(module())["Get-LbModuleNumber"]
    (number,) = every(node, "decimal_integer_literal")
    assert int(text(number)) == wire.MODULE_VERSION
    version = source.data("HyperVBalancer.psd1")["ModuleVersion"]
    assert int(version.split(".")[0]) == wire.MODULE_VERSION
