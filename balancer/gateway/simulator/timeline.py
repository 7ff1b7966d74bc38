"""What is going to happen when: a queue of things due at instants of virtual time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count


class Timeline:
    """Things due, in order of time and then of registration."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()

    def add(self, at_s: float, action: Callable[[float], None]) -> None:
        """Let `action` happen at an instant; it is told that instant."""
        heapq.heappush(self._due, (at_s, next(self._numbers), action))

    @property
    def next_s(self) -> float:
        """When the next thing is due; infinity when nothing is."""
        return self._due[0][0] if self._due else math.inf

    def fire(self, now_s: float) -> None:
        """Do everything that is due by now, also what these things add for now."""
        while self._due and self._due[0][0] <= now_s:
            at_s, _, action = heapq.heappop(self._due)
            action(at_s)
