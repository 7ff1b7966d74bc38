"""So many plans at a time in this process: the others wait for their turn.

Planning is all arithmetic. Two hundred clusters that plan at once are no sooner ready, need the
memory of two hundred problems, and keep the interpreter from those that only have to look at what
moves, to renew a lease, or to write a line into the journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from balancer.service.heap import give_back

LOOK_S = 5.0
AT_A_TIME = 4  # so that small clusters get past a large one that plans for a minute


class Turns:
    """So many at a time; safe for use by several threads."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def turn(self, beat: Callable[[], object]) -> Iterator[None]:
        """Wait for a turn and have it for the duration of a with-block; `beat` while waiting."""
        while not self._free.acquire(timeout=LOOK_S):
            beat()
        try:
            yield
        finally:
            give_back()
            self._free.release()


PLANNING = Turns(AT_A_TIME)  # one for the process, as the interpreter is
