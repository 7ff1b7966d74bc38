"""What the judge has to say against a plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why a plan, or one start, is refused. The words are stable: scripts may rely on them."""

    WRONG_CLUSTER = "wrong-cluster"
    # One migration
    DUPLICATE_ID = "duplicate-id"
    UNKNOWN_VM = "unknown-vm"
    UNKNOWN_HOST = "unknown-host"
    KIND = "kind"
    IMMOVABLE = "immovable"
    NOT_ON_SOURCE = "not-on-source"
    TARGET = "target"
    NETWORK = "network"
    STOPOVER = "stopover"
    TRANSPORT = "transport"
    SETTINGS = "settings"
    UNKNOWN_AFTER = "unknown-after"
    CYCLE = "cycle"
    FORECAST = "forecast"
    REASON = "reason"
    BYTES = "bytes"
    # Caps
    CAP_MIGRATIONS = "cap-migrations"
    CAP_BYTES = "cap-bytes"
    CAP_DURATION = "cap-duration"
    CAP_DAY = "cap-day"
    # The recent past
    COOLDOWN = "cooldown"
    UNDONE = "undone"
    # The end of the plan
    MEMORY_END = "memory-end"
    OVERLOAD = "overload"
    RULE_END = "rule-end"
    AWAKE = "awake"
    CROWDED = "crowded"
    SURVIVAL_END = "survival-end"
    # On the way there
    MEMORY_DURING = "memory-during"
    CPU_RESERVE = "cpu-reserve"
    VIRTUAL_PROCESSORS = "virtual-processors"
    RULE_DURING = "rule-during"
    WINDOW = "window"
    SURVIVAL_DURING = "survival-during"
    # Only of a start
    UNKNOWN_MIGRATION = "unknown-migration"
    NOT_NEXT = "not-next"
    GROWN = "grown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that makes a plan illegal, or a start unsafe.

    Attributes:
        subject: The migration, host, rule or setting it is about.
        message: One sentence for a person.
    """

    code: Code
    subject: str
    message: str


def gib(count: float) -> str:
    """Write a number of bytes as a person reads it."""
    return f"{count / 2**30:.1f} GiB"
