"""What has happened lately on a cluster, as far as the next plan has to heed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class PastMove:
    """A migration that was carried out, or that failed.

    Attributes:
        vm: Its id.
        at: When it ended.
        bytes: Memory copied, as forecast.
        done: Whether the VM arrived.
    """

    vm: str
    source: str
    target: str
    at: datetime
    bytes: int
    done: bool = True


class Trouble(StrEnum):
    """What a host can suffer from for long enough to be worth migrations."""

    OVERLOAD = "overload"
    UNEVEN = "uneven"


@dataclass(frozen=True)
class Past:
    """The moment of planning, and what led to it.

    Attributes:
        now: When the plan is made.
        moves: Migrations that ended before, oldest first: of a week at least, or of however long
            the policy's cool-downs and budgets look back.
        lasting: Where something has been wrong for as long as the policy wants; hosts by name.
            None: nobody looked, and what is wrong now counts at once.
        short_of: Why there is too little history to act on load; empty if there is enough.
        hold_s: How long something has to last.
    """

    now: datetime
    moves: tuple[PastMove, ...] = ()
    lasting: Mapping[Trouble, frozenset[str]] | None = None
    short_of: str = ""
    hold_s: float = 0.0
    pairs: Mapping[tuple[str, str], tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        pairs: dict[tuple[str, str], tuple[int, int]] = {}
        for move in self.moves:
            tried, failed = pairs.get((move.source, move.target), (0, 0))
            pairs[move.source, move.target] = (tried + 1, failed + (not move.done))
        object.__setattr__(self, "pairs", pairs)

    def failure_rate(self, source: str, target: str) -> float:
        """Return how often a migration between two hosts is expected to fail, 0..1.

        A prior worth `PRIOR_TRIES` migrations stands for what has not been tried yet.
        """
        tried, failed = self.pairs.get((source, target), (0, 0))
        return (failed + PRIOR_TRIES * PRIOR_RATE) / (tried + PRIOR_TRIES)


PRIOR_RATE, PRIOR_TRIES = 0.02, 5
