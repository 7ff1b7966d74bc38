"""What plans leave free is given back, and threads have no heaps of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from balancer.service import heap
from balancer.service.turns import Turns

MIB = 2**20
glibc_only = pytest.mark.skipif(heap._TRIM is None, reason="this C library cannot give memory back")
# Twelve threads, one after the other, each leave a megabyte in pieces behind and stay; the heaps
# that were made for them are then told apart in what malloc_info(3) says.
THREADS = """
import ctypes, sys, threading
from balancer.service.heap import keep_small
if sys.argv[1] == "small":
    keep_small()
libc, leave, kept = ctypes.CDLL(None), threading.Event(), []
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
def work(done):
    kept.append([bytes(4000) for _ in range(250)])
    done.set()
    leave.wait()
for _ in range(12):
    done = threading.Event()
    threading.Thread(target=work, args=(done,)).start()
    done.wait()
stream = libc.fdopen(1, b"w")
libc.malloc_info(0, stream)
libc.fflush(stream)
leave.set()
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@glibc_only
def test_what_a_plan_leaves_free_is_given_back_to_the_system() -> None:
    kept = list[bytes]()

    def plan() -> None:
        with Turns(1).turn(bool):
            pieces = [bytes(4000) for _ in range(25_000)]
            kept.append(pieces[-1])  # at the end of the heap, which then does not shrink by itself
            del pieces

    before = resident_bytes()
    thread = threading.Thread(target=plan)
    thread.start()
    thread.join()
    assert kept
    assert resident_bytes() - before < 50 * MIB


def heaps(how: str) -> int:
    answer = subprocess.run(  # noqa: S603 -- our own script
        [sys.executable, "-c", THREADS, how], capture_output=True, check=True, text=True, timeout=60
    )
    return answer.stdout.count("<heap nr=")


@glibc_only
def test_threads_share_heaps() -> None:
    assert heaps("small") <= heap.ARENAS < heaps("as it comes")
