"""Tells people: mail, Teams, Slack or a webhook through Apprise, sparingly and never in the way.

The first message of a quiet time goes out at once. What follows within `every_s` is collected and
goes out as one digest, equal things once with their number; so a bad night is a handful of
messages and not a thousand. A message that cannot be delivered is tried again with growing pauses,
by a thread of its own, and grows by what happens meanwhile; the oldest go when `KEPT_MAX` wait.

Apprise is an extra (`pip install hyperv-balancer[notify]`). Its addresses hold secrets, so
they come from a file or the environment only, and are never logged.
"""

from __future__ import annotations

import importlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from balancer.clock import Clock
from balancer.errors import InputError
from balancer.service.events import Event, EventKind, Weight
from balancer.service.redact import Secrets

EVERY_S = 300.0  # long enough for a run that goes wrong to go wrong altogether
KEPT_MAX = 200  # different things in one digest; nobody reads more
LINES_MAX = 30  # of a digest that are written out
BACK_OFF_S, BACK_OFF_MAX_S = 15.0, 900.0
TICK_S = 0.2  # how often to ask the clock, which need not be the machine's, whether it is time

_RANK = {Weight.DETAIL: 0, Weight.INFO: 1, Weight.WARNING: 2, Weight.ERROR: 3}

# Told whatever the level: somebody is asked for something, or asked for it.
ALWAYS = frozenset(
    {
        EventKind.APPROVAL_WANTED,
        EventKind.FROZEN,
        EventKind.THAWED,
        EventKind.DRAIN_ENDED,
        EventKind.DRAIN_FAILED,
    }
)


class Sender(Protocol):
    """Delivers one message; false, or an error, when that failed."""

    def __call__(self, title: str, body: str, weight: Weight) -> bool:
        """Deliver, within seconds, and say whether it was taken."""
        ...


class Notifier:
    """Collects what is worth telling and sends it from a thread of its own; `hear` listens."""

    def __init__(
        self,
        send: Sender,
        clock: Clock,
        *,
        at_least: Weight = Weight.WARNING,
        clusters: Collection[str] = (),
        every_s: float = EVERY_S,
        secrets: Secrets | None = None,
        told: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Begin.

        Args:
            send: What delivers.
            clock: For pauses; only its differences count.
            at_least: The least weight that is worth a message.
            clusters: Whose events; empty is everybody's.
            every_s: The least pause between two messages.
            secrets: What must not be sent.
            told: Called after each attempt with whether it was delivered.
        """
        self._send = send
        self._clock = clock
        self._at_least = _RANK[at_least]
        self._clusters = frozenset(clusters)
        self._every_s = every_s
        self._secrets = Secrets() if secrets is None else secrets
        self._told = told
        self._waiting: OrderedDict[tuple[str, ...], _Item] = OrderedDict()
        self._lost = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        self._thread.start()

    def hear(self, event: Event) -> None:
        """Keep an event for the next message if it is worth one; never waits for the network."""
        if not self._is_worth(event):
            return
        key = (event.kind.value, event.cluster, event.subject)
        with self._changed:
            item = self._waiting.pop(key, None)
            times = 1 if item is None else item.times + 1
            first = event.at if item is None else item.first_at
            self._waiting[key] = _Item(event, times, first)
            while len(self._waiting) > KEPT_MAX:
                self._waiting.popitem(last=False)
                self._lost += 1
            self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what waits, once and now, and stop; what takes longer is given up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _is_worth(self, event: Event) -> bool:
        if self._clusters and event.cluster and event.cluster not in self._clusters:
            return False
        return event.kind in ALWAYS or _RANK[event.weight] >= self._at_least

    def _work(self) -> None:
        not_before_s, back_off_s = 0.0, BACK_OFF_S
        while True:
            if not self._wait(not_before_s):
                return
            taken, lost = self._take()
            if self._deliver(taken, lost):
                not_before_s, back_off_s = self._now_s() + self._every_s, BACK_OFF_S
            elif self._closing:
                return
            else:
                self._put_back(taken, lost)
                not_before_s = self._now_s() + back_off_s
                back_off_s = min(BACK_OFF_MAX_S, 2 * back_off_s)

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    def _wait(self, not_before_s: float) -> bool:
        """Wait until there is something to send and it may be; false when there never will be."""
        with self._changed:
            while not self._closing:
                rest_s = not_before_s - self._now_s()
                if self._waiting and rest_s <= 0:
                    return True
                self._changed.wait(min(rest_s, TICK_S) if self._waiting else None)
            return bool(self._waiting)

    def _take(self) -> tuple[Sequence[_Item], int]:
        with self._changed:
            taken, lost = tuple(self._waiting.values()), self._lost
            self._waiting.clear()
            self._lost = 0
            return taken, lost

    def _put_back(self, taken: Sequence[_Item], lost: int) -> None:
        """Let what could not be sent wait again, before what has come meanwhile."""
        with self._changed:
            new = list(self._waiting.values())
            self._waiting.clear()
            self._lost += lost
            for item in (*taken, *new):
                key = (item.event.kind.value, item.event.cluster, item.event.subject)
                before = self._waiting.pop(key, None)
                times = item.times + (0 if before is None else before.times)
                first = item.first_at if before is None else before.first_at
                self._waiting[key] = _Item(item.event, times, first)
            while len(self._waiting) > KEPT_MAX:
                self._waiting.popitem(last=False)
                self._lost += 1

    def _deliver(self, items: Sequence[_Item], lost: int) -> bool:
        worst = max((item.event.weight for item in items), key=_RANK.__getitem__)
        try:
            sent = self._send(
                self._secrets.hide(title(items)), self._secrets.hide(digest(items, lost)), worst
            )
        except Exception:  # noqa: BLE001 -- whatever a service's plug-in raises, it was not sent
            sent = False
        self._told(sent)
        return sent


@dataclass(frozen=True, slots=True)
class _Item:
    """Something to tell: the last event of its kind about its subject, and how many there were."""

    event: Event
    times: int
    first_at: datetime


def title(items: Sequence[_Item]) -> str:
    """Return a message's subject: the thing itself if there is one, else what there is."""
    if len(items) == 1:
        event = items[0].event
        where = f"{event.cluster}: " if event.cluster else ""
        return f"[balancer] {where}{event.kind.value.replace('_', ' ')}"
    counts = Counter(item.event.weight for item in items)
    said = ", ".join(
        f"{counts[weight]} {weight.value}" for weight in sorted(counts, key=lambda w: -_RANK[w])
    )
    clusters = sorted({item.event.cluster for item in items if item.event.cluster})
    where = f"{clusters[0]}: " if len(clusters) == 1 else f"{len(clusters)} clusters: "
    return f"[balancer] {where if clusters else ''}{said}"


def digest(items: Sequence[_Item], lost: int) -> str:
    """Return a message's text: the worst first, one line each."""
    ordered = sorted(items, key=lambda item: (-_RANK[item.event.weight], item.event.at))
    lines = [_line(item) for item in ordered[:LINES_MAX]]
    if more := len(items) - len(lines) + lost:
        lines.append(f"... and {more} more; `balancer audit` and the log have all of them")
    return "\n".join(lines)


def _line(item: _Item) -> str:
    event = item.event
    where = " ".join(part for part in (event.cluster, event.subject) if part)
    text = event.text or event.kind.value.replace("_", " ")
    times = f" ({item.times} times since {item.first_at:%H:%M} UTC)" if item.times > 1 else ""
    what = f"{where}: {text}" if where else text
    return f"{event.at:%Y-%m-%d %H:%M} UTC {event.weight.value}: {what}{times}"


def apprise_sender(address: str, place: str) -> Sender:
    """Return what delivers to one Apprise address; `place` is where it was read.

    Raises:
        InputError: Apprise is not installed, or does not understand the address, which the
            message does not repeat.
    """
    try:
        apprise = importlib.import_module("apprise")
    except ImportError as error:
        raise InputError(
            "notifications are configured, but Apprise is not installed",
            remedy="pip install 'hyperv-balancer[notify]', or take out `notify`",
        ) from error
    service = apprise.Apprise()
    if not service.add(address):
        raise InputError(
            f"Apprise does not understand the address in {place}",
            remedy="see the Apprise documentation; one address a line, `#` begins a comment",
        )
    types = {
        Weight.ERROR: apprise.NotifyType.FAILURE,
        Weight.WARNING: apprise.NotifyType.WARNING,
    }

    def send(title: str, body: str, weight: Weight) -> bool:
        kind = types.get(weight, apprise.NotifyType.INFO)
        # Plain text in: names of VMs must not become markup at the other end.
        form = apprise.NotifyFormat.TEXT
        return bool(service.notify(body=body, title=title, notify_type=kind, body_format=form))

    return send


def addresses(text: str) -> tuple[str, ...]:
    """Return the Apprise addresses in a text: one a line, without comments and empty lines."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
