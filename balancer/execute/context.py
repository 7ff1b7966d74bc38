"""What every part of a run needs: the doors to the outside, the lease, and a voice."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from balancer.clock import Clock
from balancer.errors import UnreachableError
from balancer.execute.progress import News, NewsKind
from balancer.execute.window import MayStart, anytime
from balancer.gateway.port import Gateway, MoveRefusedError, ReplyLostError
from balancer.store.faults import StoreError
from balancer.store.leases import Lease
from balancer.store.store import Store

RENEW_SHARE = 1 / 3  # of the lease's life after which it is renewed

# A host that does not take note of our number is asked again this often: it may take a whole
# request's time to fail, and others wait meanwhile.
SHOW_AGAIN_S = 10.0

# Several hosts that hang cost a request's time each. Once that is over, or what healthy hosts take
# adds up to so much, the rest waits for the next step: what moves is looked at in between.
STEP_MAX_S = 10.0

T = TypeVar("T")


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
    _shown: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # fences, since when
    _show_again_s: dict[str, float] = field(default_factory=dict)
    _failed_s: dict[str, float] = field(default_factory=dict)  # when a host last did not answer
    _step_began_s: float = math.inf

    def __post_init__(self) -> None:
        # The lease may be minutes old: the cluster was read and planned on since it was taken.
        self.renewed_s = -math.inf

    @property
    def now(self) -> datetime:
        """Return the present time."""
        return self.clock.now()

    @property
    def now_s(self) -> float:
        """Return monotonic seconds."""
        return self.clock.monotonic_s()

    def begin_step(self) -> None:
        """Count the time of a step from now on."""
        self._step_began_s = self.now_s

    @property
    def is_late(self) -> bool:
        """Tell whether what can wait should be left to the next step."""
        return self.now_s - self._step_began_s > STEP_MAX_S

    def failed_s(self, host: str) -> float:
        """Return when a host last did not answer: who goes by it keeps nobody waiting for one."""
        return self._failed_s.get(host, -math.inf)

    def note_failed(self, host: str) -> None:
        """Take note that a host does not answer now."""
        self._failed_s[host] = self.now_s

    def renew(self) -> None:
        """Renew the lease when it is due.

        Raises:
            LeaseLostError: A newer executor has the cluster.
        """
        if self.now_s - self.renewed_s >= self.lease.ttl_s * RENEW_SHARE:
            self.lease = self.store.leases.renew(self.lease, self.now)
            self.renewed_s = self.now_s

    def let_go(self) -> None:
        """Be no executor any more, having been told of a newer one: nothing may renew our lease."""
        with suppress(StoreError):
            self.store.leases.release(self.lease)

    def act(self, host: str, request: Callable[[int], T]) -> T:
        """Send a request with our number to a host.

        One whose reply gets lost may still lie there. So the number is raised at once: as soon as
        the host has seen the new one it turns the old request away, whenever that is its turn.
        """
        fence = self.lease.fence
        try:
            answer = self.act_anywhere(request)
        except (ReplyLostError, UnreachableError):
            self.note_failed(host)
            raise
        self._note_shown(host, fence)
        return answer

    def act_anywhere(self, request: Callable[[int], T]) -> T:
        """Send a request with our number to whichever node takes it."""
        try:
            return request(self.lease.fence)
        except ReplyLostError:
            self.lease = self.store.leases.advance(self.lease)
            raise

    def turned_away_since_s(self, host: str, fence: int) -> float | None:
        """Return since when a host turns away requests with `fence`, having let it know ours.

        None as long as it has not said that it took note: then such a request may still be
        carried out. Writing the setting that is set changes nothing and is an act like any other.
        """
        if (since_s := self._known_since_s(host, fence)) is not None:
            return since_s
        if self.is_late or self.now_s < self._show_again_s.get(host, -math.inf):
            return None
        self.renew()
        try:
            present = self.gateway.read_transport(host)
            self.act(host, lambda ours: self.gateway.write_transport(host, present, present, ours))
        except (MoveRefusedError, ReplyLostError, UnreachableError):
            self.note_failed(host)
            self._show_again_s[host] = self.now_s + SHOW_AGAIN_S
        return self._known_since_s(host, fence)

    def _known_since_s(self, host: str, fence: int) -> float | None:
        shown = self._shown.get(host, ())
        return next((since_s for seen, since_s in shown if seen > fence), None)

    def _note_shown(self, host: str, fence: int) -> None:
        if self._known_since_s(host, fence - 1) is None:
            self._shown.setdefault(host, []).append((fence, self.now_s))

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
