"""The command line as it is, and how long its search took: `python -m benchmarks.timed_command`.

Takes the arguments of `balancer`; a line of stderr says the CPU seconds of search and solver.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from balancer.__main__ import main

SAID = "search, CPU s: "


def timed(search: Callable[..., Any]) -> Callable[..., Any]:
    """Return `search` so that it says how long it took."""

    def run(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        found = search(*args, **named)
        print(f"{SAID}{time.process_time() - started}", file=sys.stderr, flush=True)
        return found

    return run


if __name__ == "__main__":
    front: Any = import_module("balancer.planner.plan")
    front.optimise = timed(front.optimise)
    main()
