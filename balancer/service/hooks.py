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
from types import TracebackType
from typing import Self

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
    with StartedHook(command, variables, timeout_s, clock) as started:
        while (result := started.result(LOOK_S)) is None:
            beat()
    return result


class StartedHook:
    """A command that was started, to be looked at until it is over or its time is.

    Use as a context manager, or look until there is a result.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        timeout_s: float,
        clock: Clock | None = None,
    ) -> None:
        """Start it; one that cannot be started has its result at once."""
        self._clock = clock or SystemClock()
        self._timeout_s = timeout_s
        self._began_s = self._clock.monotonic_s()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 -- closed at the end of the process
        self._process: subprocess.Popen[bytes] | None = None
        self._result: HookResult | None = None
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- the administrator's own, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
                env=environment | dict(variables),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._end(HookResult(0.0, NOT_STARTED, f"cannot start {command[0]}: {why}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._result is None:  # nobody waits for it any more
            self._kill(self._process)
        self._printed.close()

    def result(self, wait_s: float = 0.0) -> HookResult | None:
        """Return how it went, or None while it runs; wait for that a little."""
        if self._process is None or self._result is not None:
            return self._result
        left_s = self._began_s + self._timeout_s - self._clock.monotonic_s()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, min(wait_s, left_s)))
            seconds, told = self._clock.monotonic_s() - self._began_s, self._told()
            code = self._process.returncode
            text = (told or f"it ended with {code}") if code else ""
            return self._end(HookResult(seconds, code, text))
        if left_s > wait_s:
            return None
        self._kill(self._process)
        seconds = self._clock.monotonic_s() - self._began_s
        text = f"killed: not over after {self._timeout_s:.0f} s. {self._told()}"
        return self._end(HookResult(seconds, KILLED, text))

    def ended(self) -> str | None:
        """Return None while it runs, then why it failed, or nothing when it went well."""
        result = self.result()
        return None if result is None else result.text

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _told(self) -> str:
        """Return the end of what it printed."""
        size = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, size - TOLD_MAX))
        return self._printed.read().decode("utf-8", "replace").strip()

    def _end(self, result: HookResult) -> HookResult:
        self._printed.close()
        self._result = result
        return result
