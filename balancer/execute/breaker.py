"""Circuit breakers: when so much fails, what is left would most likely fail too."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.execute.aside import Ended, has_failed
from balancer.execute.context import Context
from balancer.execute.progress import NewsKind
from balancer.model.outcome import MigrationState

# A few failures are chance as long as most go well; ten are too many in any run.
FAILED_MIN = 3
FAILED_SHARE = 1 / 3
FAILED_MOST = 10


def tripped(moves: Sequence[Ended]) -> str:
    """Return why a run should begin nothing more; empty while it may go on."""
    failed, done = _counts(moves)
    share = failed / (failed + done) if failed else 0.0
    if failed >= FAILED_MOST or (failed >= FAILED_MIN and share >= FAILED_SHARE):
        return f"{failed} of {failed + done} migrations failed, which is no chance any more"
    return ""


def went_wrong(moves: Sequence[Ended]) -> bool:
    """Tell whether no fewer migrations of a run failed than went well."""
    failed, done = _counts(moves)
    return failed > 0 and failed >= done


def count_failed(context: Context, plan: str) -> None:
    """Take note of a run that failed, for the circuit breaker across runs."""
    why = context.alarm or "as many migrations failed as went well"
    now = context.now
    found = context.store.breakers.failed(context.lease, f"plan {plan}: {why}", now)
    if found.is_open(now) and found.open_until is not None:
        text = (
            f"{found.failed_runs} runs in a row failed: nothing is done unattended until "
            f"{found.open_until:%Y-%m-%d %H:%M} UTC"
        )
        context.tell(NewsKind.NOTED, context.lease.cluster, text, note=True)


def _counts(moves: Sequence[Ended]) -> tuple[int, int]:
    """Return how many migrations failed, and how many are done."""
    failed = sum(has_failed(move) for move in moves)
    return failed, sum(move.state is MigrationState.DONE for move in moves)
