"""What the service manager is told, over the datagram socket that it names; see sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

NOTIFY_SOCKET = "NOTIFY_SOCKET"
WATCHDOG_USEC = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
STATUS_MAX = 400


class Manager:
    """The service manager, or nobody. Telling never fails: nobody has to listen."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get(NOTIFY_SOCKET, "")
        self._status = ""
        self.watchdog_s = _watchdog_s(environment)

    @property
    def listens(self) -> bool:
        """Tell whether there is one."""
        return bool(self._address)

    def ready(self) -> None:
        """Say that everything runs."""
        self._send("READY=1")

    def reloading(self, monotonic_s: float) -> None:
        """Say that the configuration is read again; `ready` says that this is over."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def stopping(self) -> None:
        """Say that we end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Say that all is in motion; without it for too long we are killed and started anew."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def patience(self, seconds: float) -> None:
        """Ask for so much more time to start or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Say in a line what we do; `systemctl status` shows it."""
        line = " ".join(text.split())[:STATUS_MAX]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door,
        ):
            door.connect(address)
            door.sendall("\n".join(lines).encode())


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return within how many seconds a sign of life is wanted; None for none from us."""
    text, process = environment.get(WATCHDOG_USEC, ""), environment.get(WATCHDOG_PID, "")
    if not text.isdecimal() or (process and process != str(os.getpid())):
        return None
    return int(text) / 1e6 or None
