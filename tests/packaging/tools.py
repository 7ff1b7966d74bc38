"""Running the tools that packaging is about."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def tool(name: str) -> str:
    """Return a tool's path, or skip the test that needs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: .ci/install-servers")
    return found


def ran(*words: object, timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it says is text, whether it succeeds is the caller's."""
    return subprocess.run(  # noqa: S603 -- commands of these tests
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **more,
    )


def done(*words: object, timeout: float = 120, **more: Any) -> str:
    """Run a command that has to succeed, and return what it said."""
    result = ran(*words, timeout=timeout, **more)
    assert result.returncode == 0, f"{words}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout + result.stderr
