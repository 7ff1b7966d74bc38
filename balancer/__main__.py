"""The entry of the command line, also as `python -m balancer`: Ctrl-C is clean from the start."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; interrupted while it is still being imported, leave as quietly."""
    # Looking for plugins takes long, and would run what others have installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from balancer.cli import main as run_command_line  # noqa: PLC0415 -- that takes a while
    except KeyboardInterrupt:
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
