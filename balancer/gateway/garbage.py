"""Keeping Python's collector of reference cycles from searching a sweep's answers, or imports.

The answers of a large cluster are some hundred thousand objects that all live until the sweep
ends and refer to each other in no cycle. Left alone, the collector goes through them, and
through all the rest of the program, again and again while they arrive: two thirds of the time
that reading them takes. Reference counting goes on meanwhile, so nothing of size is kept.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType


class _Pause:
    """Pauses the collector while anybody is inside. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._resume = False  # not where the program runs without the collector anyway

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._resume = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._resume:
                gc.enable()


uncollected = _Pause()  # one for the process, as the collector is
