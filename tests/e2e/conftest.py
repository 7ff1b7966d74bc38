"""The command line as a user runs it: in processes of its own, against hosts over real WinRM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "balancer")
TIMEOUT_S = 90


def environment(**more: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    return kept | {"LANG": "C.UTF-8"} | more


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        assert self.stdout, f"exit code {self.code}: {self.stderr}"
        return json.loads(self.stdout)


def run(*words: object, **more: str) -> Ran:
    """Run one command to its end."""
    done = subprocess.run(  # noqa: S603 -- our own program
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(**more),
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def start(*words: object, **more: str) -> subprocess.Popen[str]:
    """Start a command and leave it running."""
    return subprocess.Popen(  # noqa: S603 -- our own program
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment(**more),
    )


@dataclass
class Served:
    """A simulated site that is being served by a process of its own."""

    directory: Path
    process: subprocess.Popen[str]
    config: Path
    told: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *words: object, **more: str) -> Ran:
        """Run a command on this site."""
        return run(*words, BALANCER_CONFIG=str(self.config), **more)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command on this site."""
        return start(*words, BALANCER_CONFIG=str(self.config))

    @property
    def password(self) -> str:
        return (self.directory / "password").read_text("utf-8")

    def host_of(self, vm: str) -> str:
        """Return where a VM is, by its id or its only name."""
        vms = self("observe", "--json").document["vms"]
        (host,) = {each["host"] for each in vms if vm in (each["id"], each["name"])}
        return str(host)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return what serves a scenario until the end of the test."""
    with ExitStack() as stack:

        def make(scenario: str, *words: object) -> Served:
            directory = tmp_path / f"site mit Umläuten {Path(scenario).stem}"
            process = start(
                *("simulate", "--json", "--scenario", scenario, "--directory", directory, *words)
            )
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            served = Served(directory, process, Path(told["config"]), told)
            stack.callback(served.stop)
            return served

        yield make
