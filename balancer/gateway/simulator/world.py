"""A simulated world: machines, guests, migrations and what befalls them, on a `Clock`.

The world stands still while nobody looks. Whoever asks first lets everything happen that was
due since, in order; so a thousand quiet hours cost nothing, and what is seen never depends on
how often one looks. One lock guards it all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from balancer.clock import Clock
from balancer.errors import InputError
from balancer.gateway.simulator.engine import Engine
from balancer.gateway.simulator.faults import FaultBoard
from balancer.gateway.simulator.physics import prefer_subnets
from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine
from balancer.gateway.simulator.timeline import Timeline
from balancer.gateway.simulator.windows import NodeState, NodeStatus

COUNTER_INTERVAL_S = 10.0  # performance counters are averages over intervals of this length
MEMORY_INTERVAL_S = 300.0  # how often dynamic memory is moved between guests
MEMORY_BUFFER = 1.2  # Hyper-V keeps a fifth more than a guest asks for
_MIB = 2**20

T = TypeVar("T")


class World:
    """Hosts and VMs, clustered or stand-alone."""

    def __init__(
        self,
        clock: Clock,
        machines: Iterable[Machine],
        guests: Iterable[Guest],
        cluster: FailoverCluster | None = None,
    ) -> None:
        """Begin at the clock's present.

        Raises:
            InputError: Two machines or guests are the same, or a guest has no machine.
        """
        self.clock = clock
        self.cluster = cluster
        self.lock = threading.RLock()
        self.timeline = Timeline()
        self.now_s = 0.0
        self.fences: dict[str, int] = {}
        self.controls: dict[str, dict[str, str]] = {}  # lease and freeze, by what shares a fence
        self.service_up = True  # the cluster service, on all nodes
        self._origin_s = clock.monotonic_s()
        self._epoch = clock.now()
        self._catching_up = False
        self._counters_s = 0.0
        self._charged_s = 0.0
        self.machines = _by_key("host", ((m.name, m) for m in machines))
        self.guests = _by_key("VM", ((g.id, g) for g in guests))
        _check_identities(self.guests.values())
        self.guests_on: dict[str, dict[str, Guest]] = {name: {} for name in self.machines}
        for guest in self.guests.values():
            if guest.host not in self.guests_on:
                raise InputError(f"VM {guest.name} is on {guest.host}, which does not exist")
            guest.group = guest.group or guest.name
            guest.startup_bytes = guest.startup_bytes or guest.assigned_bytes
            self.guests_on[guest.host][guest.id] = guest
        self.groups = _by_key("group", ((g.group, g) for g in self.guests.values() if g.clustered))
        for role in cluster.roles if cluster is not None else ():
            role.owner = role.owner or next(iter(self.machines))
        prefer_subnets(list(self.machines.values()), cluster)
        self.engine = Engine(self.guests_on, cluster, self.spare_cores)
        self.faults = FaultBoard(self.machines)
        self.engine.spoil = self.faults.spoil
        if any(guest.dynamic for guest in self.guests.values()):
            self.timeline.add(MEMORY_INTERVAL_S, self._balance_memory)

    @property
    def name(self) -> str:
        """The cluster's name, or a word for a set of stand-alone hosts."""
        return self.cluster.name if self.cluster is not None else "stand-alone"

    @contextmanager
    def present(self) -> Iterator[float]:
        """Hold the lock with everything done that was due; yields the time in seconds.

        Within something that was due, the present is the instant at which it was.
        """
        with self.lock:
            if not self._catching_up:
                self._catching_up = True
                try:
                    self._catch_up(self.clock.monotonic_s() - self._origin_s)
                finally:
                    self._catching_up = False
            yield self.now_s

    def advance(self) -> None:
        """Let everything happen that is due by now."""
        with self.present():
            pass

    def charge(self) -> None:
        """Charge hosts with what migrations took since; call it before an act changes rates."""
        self.engine.take_cores(self.now_s - self._charged_s)
        self._charged_s = self.now_s

    def at(self, seconds: float, action: Callable[[float], None]) -> None:
        """Let `action` happen `seconds` after the world began, or at once when that is past."""
        with self.lock:
            self.timeline.add(max(seconds, self.now_s), action)

    def time(self, seconds: float) -> datetime:
        """Return the wall time of an instant of the world, in UTC."""
        return self._epoch + timedelta(seconds=seconds)

    def counter_s(self, now_s: float) -> float:
        """Return the instant that performance counters of `now_s` show."""
        return math.floor(now_s / COUNTER_INTERVAL_S) * COUNTER_INTERVAL_S

    def fence_key(self, machine: Machine) -> str:
        """Return what shares one fencing number: the cluster, or the stand-alone host."""
        return self.cluster.name if self.cluster is not None else machine.name

    def wanted_cores(self, machine: Machine, now_s: float) -> tuple[float, float]:
        """Return the cores that guests want and that the root partition wants, by counters."""
        at_s = self.counter_s(now_s)
        on = self.guests_on[machine.name].values()
        guests = sum(guest.load.cores(at_s) for guest in on if guest.is_load)
        return guests, machine.root_load.cores(at_s)

    def spare_cores(self, machine: Machine, now_s: float) -> float:
        """Return the cores that compression could take: idle in the host and in its root."""
        guests, root = self.wanted_cores(machine, now_s)
        of_host = machine.logical_processors - guests - root
        return max(0.0, min(of_host, machine.root_processors - root))

    def has_quorum(self, machine: Machine) -> bool:
        """Tell whether a node is part of the cluster that may act."""
        if self.cluster is None or machine.node_state in (NodeState.DOWN, NodeState.UNKNOWN):
            return False
        if not self.service_up or machine.node_status & NodeStatus.ISOLATED:
            return False
        votes = sum(m.weight for m in self.machines.values())
        up = sum(
            m.weight
            for m in self.machines.values()
            if m.powered and m.node_state in (NodeState.UP, NodeState.PAUSED)
        )
        witness = self.cluster.witness_online
        if witness is not None and votes % 2 == 0:  # it makes an even number of votes odd
            votes += 1
            up += int(witness)
        return up * 2 > votes

    def _catch_up(self, target_s: float) -> None:
        """Let everything due up to `target_s` happen in order."""
        while True:
            next_s = min(self.timeline.next_s, self.engine.next_s, self._next_counters_s())
            if next_s > target_s:
                break
            self.now_s = max(self.now_s, next_s)
            self.charge()
            self._close_interval()
            self.timeline.fire(self.now_s)
            self.engine.settle(self.now_s)
        self.now_s = max(self.now_s, target_s)

    def _next_counters_s(self) -> float:
        """When a counter interval ends that migrations make interesting."""
        warm = any(m.migration_cores or m.migration_core_s for m in self.machines.values())
        if not (warm or self.engine.busy):
            return math.inf
        return self.counter_s(max(self.now_s, self._charged_s)) + COUNTER_INTERVAL_S

    def _close_interval(self) -> None:
        """At the end of a counter interval, what was summed up becomes what counters show."""
        interval_s = self.counter_s(self.now_s)
        if interval_s == self._counters_s:
            return
        self._counters_s = interval_s
        for machine in self.machines.values():
            machine.migration_cores = machine.migration_core_s / COUNTER_INTERVAL_S
            machine.migration_core_s = 0.0

    def _balance_memory(self, now_s: float) -> None:
        """Give dynamic guests what they ask for, as far as their machine has it."""
        for machine in self.machines.values():
            left = self.engine.available(machine)
            for guest in self.guests_on[machine.name].values():
                if not (guest.dynamic and guest.is_load and self.engine.of(guest) is None):
                    continue
                demand = guest.load.demand(now_s, guest.maximum_bytes)
                wish = min(int(demand * MEMORY_BUFFER), guest.maximum_bytes)
                wish = max(wish // (2 * _MIB) * 2 * _MIB, 512 * _MIB)
                given = min(wish, guest.assigned_bytes + max(0, left))
                left -= given - guest.assigned_bytes
                guest.assigned_bytes = given
        self.timeline.add(now_s + MEMORY_INTERVAL_S, self._balance_memory)


def _check_identities(guests: Iterable[Guest]) -> None:
    for guest in guests:
        try:
            written = str(UUID(guest.id))
        except ValueError:
            written = ""
        if written != guest.id:
            raise InputError(
                f"the id of VM {guest.name} is {guest.id!r}",
                remedy="give it a GUID in lower case, without braces",
            )


def _by_key(what: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for key, thing in pairs:
        if key in found:
            raise InputError(f"two things of the world are the {what} {key}")
        found[key] = thing
    return found
