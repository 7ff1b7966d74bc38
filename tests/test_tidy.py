"""The repository's own rules, as tests: what may not be written, and where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from balancer import __version__

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "balancer").rglob("*.py"))
PURE = ("model", "policy/rules", "migration", "planner", "judge")

BANNED_IN_PURE = {
    "print": "return what there is to say",
    "open": "values come in as arguments; files are read in formats/ and policy/load.py",
    "input": "values come in as arguments",
}
BANNED_ATTRIBUTES_IN_PURE = {
    ("datetime", "now"): "take the time as a parameter",
    ("time", "time"): "take elapsed_s as a parameter",
    ("time", "monotonic"): "take elapsed_s as a parameter",
    ("time", "perf_counter"): "take elapsed_s as a parameter",
    ("random", "random"): "take a seed as a parameter",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "balancer").as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), "module docstring missing"


@pytest.mark.parametrize("path", [p for p in SOURCES if relative(p).startswith(PURE)], ids=relative)
def test_pure_code_has_no_input_output_clock_or_chance(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            remedy = BANNED_IN_PURE.get(node.func.id)
            assert remedy is None, f"line {node.lineno}: {node.func.id}: {remedy}"
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            remedy = BANNED_ATTRIBUTES_IN_PURE.get((node.func.value.id, node.func.attr))
            assert remedy is None, f"line {node.lineno}: {remedy}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_the_clock_is_read_in_one_place(path: Path) -> None:
    if relative(path) == "clock.py":
        return
    text = path.read_text("utf-8")
    assert "datetime.now(" not in text, "use balancer.clock"
    assert not re.search(r"\btime\.time\(", text), "use balancer.clock"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_is_left_undone(path: Path) -> None:
    left = re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text("utf-8"))
    assert left is None, "finish it, or say so in the changelog"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 450, f"{lines} lines: split it along a seam"


def test_changelog_opens_with_unreleased_and_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ == "0.1.0" or __version__ in headings


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(p.name[:4]) for p in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
