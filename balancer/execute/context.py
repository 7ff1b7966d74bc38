"""What every part of a run needs: the doors to the outside, the lease, and a voice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from balancer.clock import Clock
from balancer.execute.progress import News, NewsKind
from balancer.execute.window import MayStart, anytime
from balancer.gateway.port import Gateway
from balancer.store.leases import Lease
from balancer.store.store import Store

RENEW_SHARE = 1 / 3  # of the lease's life after which it is renewed


@dataclass(slots=True)
class Context:
    """One executor at work on one cluster.

    Attributes:
        alarm: Why nothing more may be started, once something has gone wrong that no plan
            foresaw; empty while all is well.
        may_start: Tells why a migration may not start now: windows and blackouts.
        notes: Sentences for the report, in order.
    """

    gateway: Gateway
    store: Store
    clock: Clock
    lease: Lease
    may_start: MayStart = anytime
    renewed_s: float = field(init=False)
    alarm: str = ""
    notes: list[str] = field(default_factory=list)
    _news: list[News] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.renewed_s = self.clock.monotonic_s()

    @property
    def now(self) -> datetime:
        """Return the present time."""
        return self.clock.now()

    @property
    def now_s(self) -> float:
        """Return monotonic seconds."""
        return self.clock.monotonic_s()

    def renew(self) -> None:
        """Renew the lease when it is due.

        Raises:
            LeaseLostError: A newer executor has the cluster.
        """
        if self.now_s - self.renewed_s >= self.lease.ttl_s * RENEW_SHARE:
            self.lease = self.store.leases.renew(self.lease, self.now)
            self.renewed_s = self.now_s

    def tell(self, kind: NewsKind, subject: str, text: str, *, note: bool = False) -> None:
        """Pass on a piece of news; with `note` the report keeps it too."""
        self._news.append(News(kind, subject, text))
        if note:
            self.notes.append(text)

    def stop(self, why: str) -> None:
        """Raise the alarm: migrations in flight are seen to their end, nothing more begins."""
        if not self.alarm:
            self.alarm = why
            self.tell(NewsKind.STOPPED, self.lease.cluster, f"stopped: {why}", note=True)

    def take_news(self) -> tuple[News, ...]:
        """Return the news since the last call."""
        news = tuple(self._news)
        self._news.clear()
        return news
