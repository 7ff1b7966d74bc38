"""Who is asking: apart from what they ask for, so that a word to the records needs no planner."""

from __future__ import annotations

import getpass
import os
import socket


def me() -> str:
    """Return who is asking, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
