"""What the readings of one cluster add up to: history, silent hosts, a freeze."""

from __future__ import annotations

import contextlib

from balancer.clock import Clock
from balancer.errors import UnreachableError
from balancer.gateway.port import Gateway, Observation, ReplyLostError
from balancer.model.cluster import HostState
from balancer.service.events import EventKind, Value
from balancer.service.memory import Memory
from balancer.service.telling import Teller
from balancer.store.store import Store


class Sight:
    """Takes note of readings; tells of what changes."""

    def __init__(
        self, store: Store, clock: Clock, tell: Teller, memory: Memory | None = None
    ) -> None:
        self._store, self._clock, self._tell = store, clock, tell
        self._memory = memory or Memory(tell.cluster)

    @property
    def frozen(self) -> str:
        """Return why nothing may move; empty while it may."""
        return self._memory.known.frozen

    def sampled(self, seen: Observation, seconds: float) -> None:
        """Record a reading in the history and take note of it."""
        self._store.history.record(seen.cluster, self._clock.now())
        self.noted(seen, seconds)

    def noted(self, seen: Observation, seconds: float) -> None:
        """Take note of a reading that is recorded: tell of hosts that fell silent or came back."""
        cluster = seen.cluster
        silent = frozenset(
            host.name for host in cluster.hosts if host.state in (HostState.UNKNOWN, HostState.DOWN)
        )
        before = frozenset(self._memory.known.silent)
        for name in sorted(silent - before):
            self._tell(EventKind.HOST_LOST, "it does not answer", subject=name)
        for name in sorted(before - silent):
            self._tell(EventKind.HOST_BACK, "it answers again", subject=name)
        self._memory.note(silent=tuple(sorted(silent)))
        data: dict[str, Value] = {
            "seconds": seconds,
            "hosts": len(cluster.hosts),
            "vms": len(cluster.vms),
            "unknown_hosts": len(silent),
        }
        self._tell(EventKind.SAMPLED, "; ".join(seen.notes[:3]), data=data)
        if seen.control is not None:
            self._memory.note(in_cluster=seen.control.freeze.strip())
            self.look_at_freeze(None)

    def still_frozen(self, gateway: Gateway) -> str:
        """Return why nothing may move; a freeze in the cluster may be over since it was read."""
        if self._memory.known.in_cluster:
            self.look_at_freeze(gateway)
        return self.frozen

    def look_at_freeze(self, gateway: Gateway | None) -> None:
        """Find out whether the cluster is frozen; with a gateway ask the cluster as well."""
        if gateway is not None:
            with contextlib.suppress(UnreachableError, ReplyLostError):  # the last one counts
                self._memory.note(in_cluster=gateway.read_control().freeze.strip())
        where, text = "", ""
        if (freeze := self._store.freezes.of(self._tell.cluster)) is not None:
            where = "store"
            text = f"frozen by {freeze.by}: {freeze.reason or 'no reason given'}"
        elif in_cluster := self._memory.known.in_cluster:
            where, text = "cluster", f"frozen in the cluster itself: {in_cluster}"
        if text == self.frozen:
            return
        self._memory.note(frozen=text)
        if text:
            self._tell(EventKind.FROZEN, text, data={"where": where, "reason": text})
        else:
            self._tell(EventKind.THAWED, "migrations may run again")
