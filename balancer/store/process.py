"""Which process this is, so that a later one can tell for certain that it is gone.

A process id alone proves nothing: it is given out again, and means something else in a container
or on another machine. Only what cannot be told apart wrongly counts: the same boot of the same
kernel, the same namespaces, and the moment the process began. Whatever is not certain is "perhaps
alive", which costs a wait and no more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
# What our units have systemd say, since they hide all of /proc but processes.
BOOT_ID = "BALANCER_BOOT_ID"
_HEX_DIGITS = 32
# Of the words after the command's name in /proc/PID/stat.
_STATE, _THREADS, _STARTED = 0, 17, 19
_ENDED = ("Z", "X")  # killed, and not yet taken note of by its parent


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    threads: int
    started: str  # clock ticks since boot


def identity() -> str:
    """Return who this process is; empty where the system does not tell (not Linux, no /proc)."""
    try:
        if int((_PROC / "self").readlink().name) != os.getpid():
            return ""  # the processes listed there are those of another namespace
        spaces = [(_PROC / "self/ns" / kind).readlink().name for kind in ("pid", "time")]
        return " ".join((_boot(), *spaces, str(os.getpid()), _stat(os.getpid()).started))
    except (OSError, ValueError, IndexError):
        return ""


def is_gone(other: str) -> bool:
    """Tell whether the process of that identity certainly has ended."""
    mine, theirs = identity().split(" "), other.split(" ")
    if len(mine) != len(theirs) or mine[:-2] != theirs[:-2] or not theirs[-2].isdecimal():
        return False
    pid, started = int(theirs[-2]), theirs[-1]
    try:
        os.kill(pid, 0)  # sends nothing, and finds processes that /proc may hide from us
    except ProcessLookupError:
        return True
    except OSError:
        pass
    try:
        now = _stat(pid)
    except (OSError, ValueError, IndexError):
        return False
    return now.started != started or (now.state in _ENDED and now.threads <= 1)


def _boot() -> str:
    """Return the id of this boot as 32 digits: the kernel's, or what systemd was told of it."""
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        text = os.environ.get(BOOT_ID, "")
    boot = text.strip().replace("-", "")
    if len(boot) != _HEX_DIGITS:
        raise ValueError(text)
    return f"{int(boot, 16):032x}"


def _stat(pid: int) -> _Stat:
    words = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return _Stat(words[_STATE], int(words[_THREADS]), words[_STARTED])
