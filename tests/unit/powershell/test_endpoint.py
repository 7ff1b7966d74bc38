"""The files that make the module installable and its endpoint constrained."""

from __future__ import annotations

import pytest

from tests.unit.powershell import source
from tests.unit.powershell.source import FOLDER, functions, module
from tests.unit.powershell.test_wire import ANSWERS

MANIFEST = source.data("HyperVBalancer.psd1")
ROLE = source.data("RoleCapabilities/HyperVBalancer.psrc")
SESSION = source.data("HyperVBalancer.pssc")


def test_all_files_are_there_and_no_others() -> None:
    names = {p.name for p in FOLDER.iterdir()}
    assert names == {"HyperVBalancer.psm1", "HyperVBalancer.psd1"} | {
        "HyperVBalancer.pssc",
        "RoleCapabilities",
    }


@pytest.mark.parametrize(
    "listed", [MANIFEST["FunctionsToExport"], ROLE["VisibleFunctions"]], ids=["export", "visible"]
)
def test_exactly_the_wires_functions_are_shown(listed: list[str]) -> None:
    assert sorted(listed) == sorted(ANSWERS)
    assert set(listed) <= set(functions(module()))


def test_nothing_else_is_exported() -> None:
    for key in ("CmdletsToExport", "VariablesToExport", "AliasesToExport"):
        assert MANIFEST[key] == []
    assert MANIFEST["RootModule"] == source.MODULE
    assert MANIFEST["PowerShellVersion"] == "5.1"
    assert {key for key in ROLE if key.startswith("Visible")} == {"VisibleFunctions"}
    assert ROLE["ModulesToImport"] == ["HyperVBalancer"]


def test_the_endpoint_is_constrained() -> None:
    assert SESSION["SessionType"] == "RestrictedRemoteServer"
    assert SESSION["LanguageMode"] == "NoLanguage"
    assert SESSION["RunAsVirtualAccount"] == "$true"
    assert "RoleCapabilities = 'HyperVBalancer'" in source.read("HyperVBalancer.pssc")


def test_no_two_files_share_an_identity() -> None:
    ids = {one["GUID"] for one in (MANIFEST, ROLE, SESSION)}
    assert len(ids) == 3
    assert all(len(found) == 36 for found in ids)
