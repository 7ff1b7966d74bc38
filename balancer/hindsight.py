"""What the store knows of the past, as the next plan of a cluster needs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from balancer.demand import outlook
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.policy.policy import Policy
from balancer.policy.stability import DAY_S
from balancer.store.store import Store

MOVES_S = 28 * DAY_S  # how far back failures between two hosts count


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The cluster with the demand to plan for, what led to now, and what to know about both."""

    cluster: Cluster
    past: Past
    notes: tuple[str, ...] = ()


def hindsight(
    store: Store, cluster: Cluster, policy: Policy, now: datetime, *, unattended: bool
) -> Hindsight:
    """Return what the history and the journal make of a snapshot.

    Args:
        store: Where both are.
        cluster: The snapshot.
        policy: How much of it counts.
        now: The moment of planning.
        unattended: Nobody asked for this plan: where history is short, load is not acted on.
            What somebody asks for is then planned on the last reading, and says so.
    """
    back_s = max(MOVES_S, policy.cooldown.longest_s)
    moves = store.lately.moves(cluster.name, now - timedelta(seconds=back_s))
    how = policy.history
    if how is None:
        return Hindsight(cluster, Past(now, moves))
    reach = timedelta(seconds=max(how.window_s, how.at_least_s))
    readings = store.lately.readings(cluster, now - reach, now)
    season = None
    if how.season_s:
        since = now - timedelta(seconds=how.season_s)
        season = store.lately.seasons(cluster, since, now)
    found = outlook(cluster, policy, readings, season, now.timestamp())
    short, notes = found.short_of, found.notes
    if short and not unattended:
        notes, short = (f"{short}: this plan goes by the last reading alone",), ""
    elif short:
        notes = (short,)
    past = Past(now, moves, found.lasting, short_of=short, hold_s=how.hold_s)
    return Hindsight(found.cluster, past, notes)
