"""Faults a simulated host can be given at run time, and the place they wait.

A fault is a value; the board holds at most one and hands it out to whoever asks. Waiting is
always on the board, never a sleep, so that healing or stopping the server ends it at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong.

    Faults with a kind that names a reply apply to one HTTP request at a time; `refuse_connect`
    and `frozen` apply to the whole host for as long as they are set.
    """

    SILENT = "silent"  # the request is read, never carried out and never answered
    DRIP = "drip"  # carried out; the reply comes one byte per `seconds`
    RESET = "reset"  # the connection is reset after the request was read; not carried out
    GARBAGE = "garbage"  # HTTP 200 with a body that is not XML
    SERVER_ERROR = "server_error"  # HTTP 500 with an HTML page
    UNAUTHORIZED = "unauthorized"  # HTTP 401, whatever the credentials
    DELAY = "delay"  # carried out `seconds` later
    LOST_REPLY = "lost_reply"  # functions run, and the connection breaks instead of their output
    REFUSE_CONNECT = "refuse_connect"  # nobody listens; open connections are reset
    FROZEN = "frozen"  # nothing moves, not even a TLS handshake; goes on when healed


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        seconds: Length of a delay, or the pause before each byte of a drip.
        action: Only requests of this WSMan action ("Create", "Command", "Receive", ...); None
            for any HTTP request, also those of a handshake. Not for a lost reply.
        function: For a lost reply: only the output of this function; None for any pipeline's.
        count: How many requests it hits before it is over; None until healed.
    """

    kind: FaultKind
    seconds: float = 1.0
    action: str | None = None
    function: str | None = None
    count: int | None = None


class FaultBoard:
    """Holds the present fault of one server. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._fault: Fault | None = None
        self._open = True

    def set(self, fault: Fault | None) -> None:
        """Replace the present fault; None heals."""
        with self._changed:
            self._fault = fault
            self._changed.notify_all()

    @property
    def present(self) -> Fault | None:
        """The fault that is on."""
        return self._fault

    def close(self) -> None:
        """Release everybody who waits here, for good."""
        with self._changed:
            self._open = False
            self._fault = None
            self._changed.notify_all()

    def reopen(self) -> None:
        """Serve again after `close`."""
        with self._changed:
            self._open = True

    def strike(self, action: str | None) -> Fault | None:
        """Return the fault that hits this request, if any, and count it as used.

        Args:
            action: The request's WSMan action, or None while it is not known yet.
        """
        with self._changed:
            fault = self._fault
            whole_host = (FaultKind.REFUSE_CONNECT, FaultKind.FROZEN, FaultKind.LOST_REPLY)
            if fault is None or fault.kind in whole_host or fault.action != action:
                return None
            return self._use(fault)

    def strike_output(self, function: str) -> bool:
        """Return whether the output of a function that is about to be sent gets lost."""
        with self._changed:
            fault = self._fault
            if fault is None or fault.kind is not FaultKind.LOST_REPLY:
                return False
            if fault.function not in (None, function):
                return False
            self._use(fault)
            return True

    def wait_while_frozen(self) -> bool:
        """Block while the host is frozen; return whether the server still runs."""
        self._wait_while(FaultKind.FROZEN)
        return self._open

    def wait_while_refusing(self) -> bool:
        """Block while connections are refused; return whether the server still runs."""
        self._wait_while(FaultKind.REFUSE_CONNECT)
        return self._open

    def wait_until_closed(self, timeout_s: float | None = None) -> bool:
        """Wait for the server to stop, at most `timeout_s`; return whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)

    def _wait_while(self, kind: FaultKind) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._fault is None or self._fault.kind is not kind)

    def _use(self, fault: Fault) -> Fault:
        if fault.count is not None:
            left = fault.count - 1
            self._fault = replace(fault, count=left) if left > 0 else None
        return fault
