"""Commands of the administrator around a run: started without a shell, bounded in time.

A hook gets `PATH`, `HOME`, `LANG` and what is documented in docs/reference/configuration.md, and
nothing else of our environment: there may be secrets in it. Its standard input is empty; what it
prints is kept for the message when it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from balancer.clock import Clock, SystemClock

KEPT = ("PATH", "HOME", "LANG", "TZ")
LOOK_S = 0.5
TOLD_MAX = 500  # characters of what it printed, from the end
NOT_STARTED = 127  # what a shell says of a command that it cannot start
KILLED = 124  # what timeout(1) says


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a hook went. `text` is empty when it went well."""

    seconds: float
    exit_code: int
    text: str

    @property
    def ok(self) -> bool:
        """Tell whether it went well."""
        return self.exit_code == 0


def run_hook(
    command: Sequence[str],
    variables: Mapping[str, str],
    timeout_s: float,
    *,
    beat: Callable[[], object] = lambda: None,
    clock: Clock | None = None,
) -> HookResult:
    """Run a command to its end, or kill it and its children after `timeout_s`.

    `beat` is called while it runs. A process runs in real time, so `clock` is the machine's.
    """
    clock = clock or SystemClock()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    began_s = clock.monotonic_s()
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(  # noqa: S603 -- the administrator's own command, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=environment | dict(variables),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return HookResult(0.0, NOT_STARTED, f"cannot start {command[0]}: {why}")
        timed_out = _wait(process, timeout_s, clock, beat)
        seconds = clock.monotonic_s() - began_s
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - TOLD_MAX))
        told = printed.read().decode("utf-8", "replace").strip()
    if timed_out:
        return HookResult(seconds, KILLED, f"killed: not over after {timeout_s:.0f} s. {told}")
    code = process.returncode
    return HookResult(seconds, code, told or f"it ended with {code}" if code else "")


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, clock: Clock, beat: Callable[[], object]
) -> bool:
    """Wait for the end; tell whether it had to be brought about."""
    end_s = clock.monotonic_s() + timeout_s
    while (left_s := end_s - clock.monotonic_s()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(LOOK_S, left_s))
            return False
        beat()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True
