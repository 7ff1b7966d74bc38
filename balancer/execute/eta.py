"""How long the run will take from now: the plan's own forecast, shifted by how late it is."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.execute.machine import IN_FLIGHT
from balancer.execute.move import Move
from balancer.execute.progress import TRUSTED_PERCENT
from balancer.model.outcome import MigrationState


def remaining_s(move: Move, now_s: float) -> float:
    """Return how much longer a migration in flight is expected to take."""
    elapsed_s = move.elapsed_s(now_s)
    if move.percent >= TRUSTED_PERCENT and not move.queued:
        return elapsed_s * (100 - move.percent) / move.percent
    return max(0.0, move.expected_s - (0.0 if move.queued else elapsed_s))


def eta_s(moves: Sequence[Move], elapsed_s: float, now_s: float) -> float | None:
    """Return the seconds to the end of the run, or None when nothing has shown its pace yet.

    The schedule says when each migration should end, slots and links considered. The migrations
    in flight show how late the run is, and what still waits is expected to be as late.
    """
    running = [move for move in moves if move.state in IN_FLIGHT]
    waiting = [move for move in moves if move.state is MigrationState.PLANNED]
    if not running and not waiting:
        return 0.0
    if not any(move.asked_s is not None for move in moves):
        return max(_planned_end_s(move) for move in waiting) if waiting else None
    ends_s = [remaining_s(move, now_s) for move in running]
    late_s = max(
        (
            elapsed_s + left_s - _planned_end_s(move)
            for move, left_s in zip(running, ends_s, strict=True)
        ),
        default=0.0,
    )
    if not running:
        late_s = elapsed_s - min(move.migration.start_s for move in waiting)
    ends_s += [_planned_end_s(move) + late_s - elapsed_s for move in waiting]
    return max(0.0, *ends_s)


def _planned_end_s(move: Move) -> float:
    return move.migration.start_s + max(move.migration.duration_s, move.expected_s)
