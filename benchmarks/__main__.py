"""All benchmarks, one after the other: `make bench`; each is also a command of its own."""

from __future__ import annotations

import sys

from benchmarks import command, observe, planner


def main() -> int:
    planner.main([])
    print()
    slow = command.main([])
    print()
    return observe.main([]) or slow


if __name__ == "__main__":
    sys.exit(main())
