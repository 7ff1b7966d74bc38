"""Running a program of any kind and counting the CPU seconds of it and all its children."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Timer

THREADS = 2
# Libraries that would start a thread for each core.
ONE_POOL = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended; `cut` if it had to be stopped, and then what it had said by then."""

    status: int
    out: str
    err: str
    cpu_s: float
    wall_s: float
    cut: bool


def run(
    command: Sequence[str],
    *,
    limit_s: float,
    text: str = "",
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run `command` on at most two processors and wait for it, no longer than `limit_s`.

    Args:
        command: The program and its arguments; no shell reads them.
        limit_s: Wall seconds after which it and its children are ended.
        text: Its standard input.
        environment: Variables on top of our own.
    """
    variables = os.environ | dict.fromkeys(ONE_POOL, "1") | dict(environment or {})
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(text.encode())
        given.seek(0)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(before)[:THREADS])  # the child inherits it
        try:
            started = time.monotonic()
            child = subprocess.Popen(
                command, stdin=given, stdout=out, stderr=err, env=variables, start_new_session=True
            )
        finally:
            os.sched_setaffinity(0, before)
        ended: list[bool] = []
        timer = Timer(limit_s, _end, (child.pid, ended))
        timer.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
        finally:
            timer.cancel()
        wall_s = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Ran(
            status=child.returncode,
            out=out.read().decode(errors="replace"),
            err=err.read().decode(errors="replace"),
            cpu_s=used.ru_utime + used.ru_stime,
            wall_s=wall_s,
            cut=bool(ended),
        )


def _end(pid: int, ended: list[bool]) -> None:
    """End a child and what it started; the child is the leader of a session of its own."""
    ended.append(True)
    with suppress(ProcessLookupError):  # it ended just now, by itself
        os.killpg(pid, signal.SIGKILL)
