"""The C library's heap, kept small in a process of many threads that compute in turn.

glibc gives threads heaps of their own, eight for each processor, and what one thread frees the
others cannot have: in a daemon of 200 clusters each of them grew to what the largest plan needs.
Where the library is another one there is nothing to do.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# mallopt(3). Two, so that whoever plans need not keep from memory those that read hosts.
_M_ARENA_MAX, ARENAS = -8, 2


def keep_small() -> None:
    """Let all threads share two heaps; to be called before there are any."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free memory to the system, which a plan leaves plenty of."""
    if _TRIM is not None:
        _TRIM(0)


def _function(name: str) -> Callable[..., int] | None:
    """Return a function that glibc has and musl has not."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


_TRIM = _function("malloc_trim")
