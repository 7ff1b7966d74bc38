"""Runs a command as the unit would: its user, no new privileges, its system calls, no new code.

`confine.py UNIT USER COMMAND...`. What systemd adds beyond this (a read-only file system, private
devices and so on) needs a running systemd. Standard library only: any python3 runs it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

NO_NEW_PRIVS, SECCOMP, MDWE = 38, 22, 65  # prctl(2)
FILTER_MODE = 2
X86_64 = 0xC000003E
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, IS, RETURN = 0x20, 0x15, 0x06  # of classic BPF
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def expanded(names: set[str]) -> set[str]:
    """Return system calls for names and @sets of them."""
    out: set[str] = set()
    analyze = shutil.which("systemd-analyze") or "systemd-analyze"
    for name in names:
        if not name.startswith("@"):
            out.add(name)
            continue
        told = subprocess.run(  # noqa: S603 -- our own words
            [analyze, "syscall-filter", "--no-pager", name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = [line.strip() for line in told.splitlines()[1:]]
        out |= expanded({line for line in lines if line and not line.startswith("#")})
    return out


def allowed(unit: Path) -> set[str]:
    """Return the system calls that a unit may make."""
    calls = expanded({"@default"})
    for line in unit.read_text("utf-8").splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.partition("=")[2]
            if words.startswith("~"):
                calls -= expanded(set(words[1:].split())) - expanded({"@default"})
            else:
                calls |= expanded(set(words.split()))
    return calls


def program(calls: set[str]) -> bytes:
    """Return the filter: what is not allowed fails with EPERM."""
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text("utf-8")))
    steps = [(LOAD, 0, 0, 4), (IS, 1, 0, X86_64), (RETURN, 0, 0, FAIL), (LOAD, 0, 0, 0)]
    for number in sorted(int(known[call]) for call in calls if call in known):
        steps += [(IS, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, FAIL))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def main() -> None:
    """Give up everything, then become the command."""
    unit, user, *command = sys.argv[1:]
    entry = pwd.getpwnam(user)
    code = program(allowed(Path(unit)))
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    )

    def prctl(option: int, argument: int, pointer: object = 0) -> None:
        if libc.prctl(option, argument, pointer, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl {option}: {os.strerror(number)}")

    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o027)
    prctl(NO_NEW_PRIVS, 1)
    prctl(MDWE, 1)
    prctl(SECCOMP, FILTER_MODE, ctypes.byref(fprog))
    os.execv(command[0], command)  # noqa: S606 -- that is the purpose


if __name__ == "__main__":
    main()
