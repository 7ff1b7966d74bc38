"""What commands need not import to start: a fleet's scripts start hundreds of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from balancer.store.store import Store

# What plans, what migrates a store, and what speaks to hosts.
HEAVY = (
    "alembic",
    "numpy",
    "pulp",
    "highspy",
    "pypsrp",
    "balancer.planner",
    "balancer.policy.load",
)
SCRIPT = """
import importlib, sys
from balancer.store.store import Store
importlib.import_module("balancer.cli." + sys.argv[1])
Store.open(sys.argv[2]).close()
print(*(name for name in sys.argv[3:] if name in sys.modules))
"""


@pytest.mark.parametrize("verb", ["status", "cancel"])
def test_a_word_to_the_records_needs_no_planner(verb: str, tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    Store.open(path).close()
    command = [sys.executable, "-c", SCRIPT, verb, path, *HEAVY]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603 -- ours
    assert told.stdout.split() == []
