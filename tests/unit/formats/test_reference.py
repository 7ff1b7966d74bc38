"""The reference pages are in step with what they describe, and their examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balancer.errors import ExitCode
from balancer.formats.reference import PAGES
from balancer.formats.snapshot import parse_snapshot
from balancer.policy.load import parse_policy
from balancer.policy.rules import KINDS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_is_in_step_with_the_models(page: str) -> None:
    renew = "python -m balancer.formats.reference docs/reference"
    assert (REFERENCE / page).read_text("utf-8") == PAGES[page](), f"renew it: {renew}"


def test_every_example_of_a_rule_is_one() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGES["policy.md"](), re.DOTALL)
    loaded = [parse_policy(f"version: 1\n{text}", "example") for text in examples]
    assert sorted(rule.kind for policy in loaded for rule in policy.rules) == sorted(KINDS)


def test_the_smallest_snapshot_is_legal() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGES["documents.md"](), re.DOTALL)
    seen = parse_snapshot(example, "example")
    assert seen.warnings == ()
    assert [vm.name for vm in seen.cluster.vms] == ["web01"]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_key_has_a_meaning(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", PAGES[page](), re.MULTILINE)
    assert len(rows) > 30
    assert [key for key, value, _, meaning in rows if not value or not meaning] == []


def test_the_exit_codes_are_those_of_the_program() -> None:
    text = (REFERENCE / "exit-codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [int(code) for code, _, _ in rows] == sorted(ExitCode)
