"""The circuit breaker within a run: when so much fails, what is left would most likely fail too."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.execute.aside import has_failed
from balancer.execute.move import Move
from balancer.model.outcome import MigrationState

# A few failures are chance as long as most go well; ten are too many in any run.
FAILED_MIN = 3
FAILED_SHARE = 1 / 3
FAILED_MOST = 10


def tripped(moves: Sequence[Move]) -> str:
    """Return why a run should begin nothing more; empty while it may go on."""
    failed, done = counts(moves)
    share = failed / (failed + done) if failed else 0.0
    if failed >= FAILED_MOST or (failed >= FAILED_MIN and share >= FAILED_SHARE):
        return f"{failed} of {failed + done} migrations failed, which is no chance any more"
    return ""


def counts(moves: Sequence[Move]) -> tuple[int, int]:
    """Return how many migrations failed, and how many are done."""
    failed = sum(has_failed(move) for move in moves)
    return failed, sum(move.state is MigrationState.DONE for move in moves)
