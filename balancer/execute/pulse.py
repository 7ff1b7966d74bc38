"""Guests that have arrived: nothing more begins until their heartbeat is what it was.

A guest is reached over other paths on its new host, and a fault there shows in it, not in the
migration. One such guest may be chance, but the next move would be made on the same ground: so
the run stops, and a person looks.
"""

from __future__ import annotations

from collections.abc import Mapping

from balancer.execute.context import Context
from balancer.execute.move import Move
from balancer.execute.progress import NewsKind
from balancer.gateway.port import Sighting
from balancer.gateway.pulse import is_worse

# Guests are asked every few seconds, and some take a while to notice where they are. A guest that
# is well has answered long before.
GRACE_S = 60.0


class Pulse:
    """Knows the moves of a run whose guests have not answered again as they did before."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._missing: dict[int, tuple[Move, float]] = {}

    @property
    def missing(self) -> list[Move]:
        """Return the moves whose guests are still looked at."""
        return [move for move, _ in self._missing.values()]

    def arrived(self, move: Move, sighting: Sighting | None) -> None:
        """Take note of a move that is done, as the look showed it that said so."""
        if sighting is not None and is_worse(sighting.heartbeat, move.heartbeat):
            self.doubt(move)

    def doubt(self, move: Move) -> None:
        """Look at a guest until it is as well as it was."""
        self._missing[move.record] = (move, self._context.now_s + GRACE_S)

    def feel(self, sightings: Mapping[str, Sighting]) -> None:
        """Conclude from another look: a guest is well again, or there is reason for an alarm."""
        for move, until_s in list(self._missing.values()):
            sighting = sightings.get(move.migration.vm)
            over = self._context.now_s >= until_s
            if sighting is None or not sighting.answered:
                if over:
                    self._lose_sight(move)
                continue
            if sighting.hosts != (move.migration.target,) or sighting.moving:
                del self._missing[move.record]  # somebody has moved it on: it is theirs now
            elif not is_worse(sighting.heartbeat, move.heartbeat):
                del self._missing[move.record]
            elif over:
                del self._missing[move.record]
                self._context.stop(_alarm(move, sighting))

    def _lose_sight(self, move: Move) -> None:
        del self._missing[move.record]
        text = f"{move.label}: its heartbeat could not be looked at for {GRACE_S:.0f} s"
        self._context.tell(NewsKind.NOTED, move.id, text, note=True)


def _alarm(move: Move, sighting: Sighting) -> str:
    migration = move.migration
    return (
        f"the heartbeat of {migration.name} was {move.heartbeat} on {migration.source}, and is "
        f"{sighting.heartbeat} {GRACE_S:.0f} s after it arrived on {migration.target}"
    )
