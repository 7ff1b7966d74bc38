"""Keeps the store from growing for ever: once an hour, in small steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from balancer.clock import Clock
from balancer.service.events import EventKind
from balancer.service.telling import Teller
from balancer.store.standing import EVERY_CLUSTER
from balancer.store.store import Store
from balancer.store.thinning import HOUR, hour_of
from balancer.unattended import RetentionPart

FIRST_S = 120.0  # after a start, when everything else has settled
EVERY_S = 3600.0
PAUSE_S = 0.1  # after each step, in which others write
THINNED = "thinned"  # the mark up to which readings are hourly


def tidy(
    store: Store,
    retention: RetentionPart,
    clock: Clock,
    tell: Teller,
    leave: Callable[[], bool] = lambda: False,
) -> None:
    """Thin out and delete what is older than it is to be kept."""
    gone, steps = 0, _steps(store, retention, clock.now())
    while not leave():
        step = next(steps, None)
        if step is None:
            tell(EventKind.STORE_PRUNED, f"{gone} records went", data={"samples": gone})
            return
        gone += step
        clock.sleep(PAUSE_S)


def _steps(store: Store, retention: RetentionPart, now: datetime) -> Iterator[int]:
    """Do one short transaction after another; yield how many records went with each."""
    yield from _thin(store, now - timedelta(seconds=retention.samples))
    oldest_kept = now - timedelta(seconds=retention.hourly)
    while (oldest := store.thinning.oldest(None)) is not None and oldest < oldest_kept:
        yield store.history.prune(min(oldest_kept, hour_of(oldest) + HOUR))
    expiry, journal_s = store.expiry, retention.journal
    for drop, kept_s in (
        (expiry.runs, journal_s),
        (expiry.drains, journal_s),
        (expiry.campaigns, journal_s),
        (expiry.requests, journal_s),
        (expiry.measurements, journal_s),
        (expiry.plans, retention.plans),  # after the runs that keep some
        (expiry.audit, retention.audit),
    ):
        while gone := drop(now - timedelta(seconds=kept_s)):
            yield gone


def _thin(store: Store, before: datetime) -> Iterator[int]:
    last = hour_of(before)  # what is before it becomes hourly
    done = store.marks.get(EVERY_CLUSTER, THINNED)
    if done is not None and done > last:
        done = None  # by a clock that was set back since: what came after would stay for ever
    while (oldest := store.thinning.oldest(done)) is not None and hour_of(oldest) < last:
        hour = hour_of(oldest)
        for some in store.thinning.parts():
            yield store.thinning.thin_hour(hour, some)
        done = hour + HOUR
        store.marks.set(EVERY_CLUSTER, THINNED, done)
