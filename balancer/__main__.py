"""The entry of the command line, also as `python -m balancer`: Ctrl-C is clean from the start."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; interrupted while it is still being imported, leave as quietly."""
    try:
        from balancer.cli import main as run_command_line  # noqa: PLC0415 -- that takes a while
    except KeyboardInterrupt:
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
