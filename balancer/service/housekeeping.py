"""Keeps the store from growing for ever: once an hour, in small steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from balancer.clock import Clock
from balancer.service.events import EventKind
from balancer.service.telling import Teller
from balancer.store.standing import EVERY_CLUSTER
from balancer.store.store import Store
from balancer.store.thinning import HOUR, hour_of
from balancer.unattended import RetentionPart

FIRST_S = 120.0  # after a start, when everything else has settled
EVERY_S = 3600.0
PAUSE_S = 0.2  # between two hours of history, in which others write
THINNED = "thinned"  # the mark up to which readings are hourly


def tidy(
    store: Store,
    retention: RetentionPart,
    clock: Clock,
    tell: Teller,
    leave: Callable[[], bool] = lambda: False,
) -> None:
    """Thin out and delete what is older than it is to be kept."""
    now = clock.now()
    last = hour_of(now - timedelta(seconds=retention.samples))  # what is before it becomes hourly
    done = store.marks.get(EVERY_CLUSTER, THINNED)
    if done is not None and done > last:
        done = None  # by a clock that was set back since: what came after would stay for ever
    gone = 0
    while (oldest := store.thinning.oldest(done)) is not None and hour_of(oldest) < last:
        if leave():
            return
        gone += store.thinning.thin_hour(hour_of(oldest))
        done = hour_of(oldest) + HOUR
        store.marks.set(EVERY_CLUSTER, THINNED, done)
        clock.sleep(PAUSE_S)
    gone += store.history.prune(now - timedelta(seconds=retention.hourly))
    store.thinning.drop_plans(now - timedelta(seconds=retention.plans))
    tell(EventKind.STORE_PRUNED, f"{gone} readings went", data={"samples": gone})
