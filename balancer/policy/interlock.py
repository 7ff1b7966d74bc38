"""What a rebalance does when somebody else acts on the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Heed(StrEnum):
    """How somebody else who acts is heeded."""

    REFUSE = "refuse"  # nothing is carried out; plans are made and shown
    WAIT = "wait"  # put off until they are done
    TAKE_OVER = "take_over"  # switch them off for the time of a run, and on again
    IGNORE = "ignore"  # go on beside them: what they move counts, and collisions are left out


@dataclass(frozen=True, slots=True)
class Interlock:
    """One choice for each who may act.

    By default what acts by itself for ever is refused, and what ends by itself is waited for.
    """

    built_in_balancer: Heed = Heed.REFUSE
    scvmm: Heed = Heed.REFUSE
    cluster_aware_updating: Heed = Heed.WAIT
    node_drain: Heed = Heed.WAIT

    def of(self, who: str) -> Heed:
        """Return the choice for one of the fields, by name."""
        found: Heed = getattr(self, who)
        return found


DEFAULT = Interlock()
IGNORING = Interlock(Heed.IGNORE, Heed.IGNORE, Heed.IGNORE, Heed.IGNORE)
