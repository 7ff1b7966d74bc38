"""The one clock. Everything that needs the time takes a `Clock`; nothing else reads it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
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


class ScaledClock:
    """Virtual time that runs `factor` times as fast as life; sleeping shortens accordingly."""

    def __init__(self, factor: float, start: datetime | None = None) -> None:
        """Start the clock now.

        Raises:
            ValueError: The factor is not above zero.
        """
        if not factor > 0:
            raise ValueError(f"time must go forward: the factor is {factor}")
        self.factor = factor
        self._start = datetime.now(UTC) if start is None else start
        self._origin_s = time.monotonic()

    def now(self) -> datetime:
        """Return the virtual time in UTC."""
        return self._start + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        """Return virtual seconds since the clock was made."""
        return (time.monotonic() - self._origin_s) * self.factor

    def sleep(self, seconds: float) -> None:
        """Block the calling thread until `seconds` of virtual time have passed."""
        time.sleep(max(0.0, seconds) / self.factor)


def process_age_s() -> float:
    """Return how long ago the system started this process: the interpreter's start-up counts too.

    Zero where the system does not tell.
    """
    try:
        words = Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()
        started_s = int(words[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
