"""The operations manual speaks of verbs and options that exist."""

from __future__ import annotations

import re

import click
import pytest

from balancer.cli import VERBS, balancer
from tests.packaging.tools import ROOT

MANUAL = (ROOT / "docs" / "operations.md").read_text("utf-8")
COMMANDS = re.findall(r"(?:`|^)balancer ([a-z]+)([^`\n#]*)", MANUAL, re.MULTILINE)


@pytest.mark.parametrize(("verb", "rest"), sorted(set(COMMANDS)))
def test_what_it_says_to_type_can_be_typed(verb: str, rest: str) -> None:
    assert verb in VERBS
    command = balancer.get_command(click.Context(balancer), verb)
    assert command is not None
    options = {name for parameter in command.params for name in parameter.opts}
    for option in re.findall(r"--[a-z-]+", rest):
        assert option in options, f"balancer {verb} has no {option}"


def test_it_says_much() -> None:
    assert len(set(COMMANDS)) > 15
