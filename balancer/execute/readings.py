"""The executor's picture of the cluster: an observation, kept for a while, and what we know since.

Reading 64 hosts before each of hundreds of moves would load them more than the moves do. So an
observation serves for a while, brought up to date with what our own looks have verified
since: where our VMs are. A VM that is about to start is looked at again by itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from balancer.clock import Clock
from balancer.execute.decide import foreign
from balancer.execute.machine import IN_FLIGHT
from balancer.execute.move import Move
from balancer.gateway.port import Gateway, InFlight, Observation
from balancer.model.cluster import Blocker, Cluster, Vm
from balancer.model.outcome import MigrationState

# A reading may be this old for each host in it: so reading takes a bounded share of every host's
# time, however large the cluster. Load changes over minutes and where our VMs are we follow
# ourselves; a start that collides with something newer is queued or refused by the platform.
AGE_PER_HOST_S = 0.5
AGE_MIN_S = 5.0


class Readings:
    """Observes when it must, and answers from what is known otherwise."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self.taken_s = 0.0
        self._observation: Observation | None = None

    def latest(self) -> Observation:
        """Return an observation that is recent enough, taking one if need be.

        Raises:
            UnreachableError: No node that can be believed answered.
        """
        last, now_s = self._observation, self._clock.monotonic_s()
        if last is None or now_s - self.taken_s > _age_max_s(last):
            self._observation = last = self._gateway.observe()
            self.taken_s = self._clock.monotonic_s()
        return last

    @property
    def known(self) -> Observation:
        """The latest observation, however old; one is taken if there is none."""
        return self._observation or self.latest()

    def forget(self) -> None:
        """Have the next question answered by a new observation."""
        self.taken_s = -math.inf

    def foreign(self, moves: Iterable[Move]) -> tuple[InFlight, ...]:
        """Return the migrations of others that the latest observation shows.

        A VM of ours that had come to rest before, and moves again, is moved by somebody else.
        """
        ours = frozenset(
            move.migration.vm
            for move in moves
            if move.state in IN_FLIGHT or _rests_since(move, self.taken_s)
        )
        seen = self._observation.in_flight if self._observation else ()
        return foreign(seen, ours)


def _age_max_s(observation: Observation) -> float:
    return max(AGE_MIN_S, AGE_PER_HOST_S * len(observation.cluster.hosts))


def brought_up_to_date(cluster: Cluster, taken_s: float, moves: Iterable[Move]) -> Cluster:
    """Return a cluster read at `taken_s` with our VMs where we have seen them since.

    VMs in flight count at their sources. One of ours that has come to rest since the reading is
    not "migrating" any more, though the reading says so.
    """
    hosts_of: dict[str, str] = {}
    at_rest: set[str] = set()
    for move in sorted(moves, key=lambda each: each.since_s):
        migration = move.migration
        if move.state in IN_FLIGHT:
            hosts_of[migration.vm] = migration.source
            at_rest.discard(migration.vm)
        elif _rests_since(move, taken_s):
            done = move.state is MigrationState.DONE
            hosts_of[migration.vm] = migration.target if done else migration.source
            at_rest.add(migration.vm)
    vms = tuple(_vm(vm, hosts_of.get(vm.id), at_rest=vm.id in at_rest) for vm in cluster.vms)
    return dataclasses.replace(cluster, vms=vms)


def _rests_since(move: Move, taken_s: float) -> bool:
    """Tell whether a migration of ours was over only after a reading had begun."""
    return move.asked_s is not None and move.since_s >= taken_s


def _vm(vm: Vm, host: str | None, *, at_rest: bool) -> Vm:
    blocked = vm.blocked_by
    if at_rest and Blocker.MIGRATING.value in blocked:
        blocked = tuple(word for word in blocked if word != Blocker.MIGRATING.value)
    if (host is None or host == vm.host) and blocked is vm.blocked_by:
        return vm
    return dataclasses.replace(vm, host=host or vm.host, blocked_by=blocked)
