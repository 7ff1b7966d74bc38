"""Who may act on a cluster, as the cluster itself keeps it: a lease, a freeze, a fence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ControlName(StrEnum):
    """The two texts that can be written."""

    LEASE = "lease"
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class Control:
    """What is kept now.

    Attributes:
        lease: As the executor that holds it wrote it; empty when none ever did.
        freeze: Why nothing may be moved, in somebody's words; empty when it may.
        fence: The highest fencing number that any act carried.
    """

    lease: str = ""
    freeze: str = ""
    fence: int = 0

    @property
    def frozen(self) -> bool:
        """Tell whether somebody has frozen the cluster."""
        return bool(self.freeze.strip())
