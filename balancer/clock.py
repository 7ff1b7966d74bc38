"""The one clock. Everything that needs the time takes a `Clock`; nothing else reads it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic seconds for durations and deadlines."""

    def now(self) -> datetime:
        """Return the present time, always in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(max(0.0, seconds))


class VirtualClock:
    """A clock that moves only when told to: simulated hours pass in milliseconds."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """Return the virtual time in UTC."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return virtual seconds since the clock was made."""
        return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        """Advance the clock at once."""
        self._elapsed_s += max(0.0, seconds)
