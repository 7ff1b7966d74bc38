"""All migrations of a world: admission, queue, slots, progress, end.

Clustered moves over a limit wait, by priority and then in the order they came, and begin on
their own; moves of stand-alone hosts over the limit fail. A limit counts what comes in and what
goes out. The engine knows no clock: it is told the time at each event.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count

from balancer.gateway.simulator import admission
from balancer.gateway.simulator.physics import (
    Migration,
    Phase,
    Spoiler,
    share_out,
    spoilt_now,
    transport_of,
)
from balancer.gateway.simulator.physics import as_host as host_of
from balancer.gateway.simulator.physics import cores_taken as cores_of
from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine
from balancer.gateway.simulator.windows import (
    JOB_KEPT_S,
    Hresult,
    JobState,
    MigrationState,
    Operation,
    text,
)
from balancer.migration.rates import common_network, effective_transport, flow

SpoilerChoice = Callable[[Guest, Machine, Machine], Spoiler | None]


class Engine:
    """The migrations of one world. Not safe for threads: its world's lock guards it."""

    def __init__(
        self,
        guests_on: Mapping[str, dict[str, Guest]],
        cluster: FailoverCluster | None,
        spare_cores: Callable[[Machine, float], float],
    ) -> None:
        """Start with nothing moving.

        Args:
            guests_on: Guests by id, by machine name; the engine moves them between these.
            cluster: Whose limit and rules hold, or None.
            spare_cores: What a machine leaves to the compressor at a time.
        """
        self.migrations: list[Migration] = []  # in the order they were asked for
        self.spoil: SpoilerChoice = lambda _guest, _source, _target: None
        self._guests_on = guests_on
        self._cluster = cluster
        self._spare_cores = spare_cores
        self._numbers = count(1)

    @property
    def next_s(self) -> float:
        """When the next phase of any migration is over, or an ended one is forgotten."""
        return min(
            (m.due_s if m.ended_s is None else m.ended_s + JOB_KEPT_S for m in self.migrations),
            default=math.inf,
        )

    @property
    def busy(self) -> bool:
        """Tell whether anything runs or waits."""
        return any(m.phase is not Phase.OVER for m in self.migrations)

    def limit(self, machine: Machine) -> int:
        """Return how many migrations the machine may take part in."""
        cluster = self._cluster
        if cluster is not None and cluster.migrations_max is not None:
            return cluster.migrations_max
        return machine.migrations_max

    def running_on(self, machine: Machine) -> int:
        """Return how many migrations the machine takes part in, in and out."""
        return sum(m.running and m.touches(machine) for m in self.migrations)

    def engaged(self, machine: Machine) -> bool:
        """Tell whether a migration runs or waits that has the machine for an end."""
        return any(m.phase is not Phase.OVER and m.touches(machine) for m in self.migrations)

    def of(self, guest: Guest) -> Migration | None:
        """Return the guest's migration that runs or waits, if any."""
        for migration in self.migrations:
            if migration.guest is guest and migration.phase is not Phase.OVER:
                return migration
        return None

    def last_of(self, guest: Guest) -> Migration | None:
        """Return the guest's newest migration that is still listed as a job."""
        for migration in reversed(self.migrations):
            if migration.guest is guest:
                return migration
        return None

    def reserved(self, machine: Machine) -> int:
        """Return the memory that guests on their way in hold on the machine."""
        return sum(m.reserved_bytes for m in self.migrations if m.running and m.target is machine)

    def available(self, machine: Machine) -> int:
        """Return the memory the machine has left for guests, in bytes."""
        on = self._guests_on[machine.name].values()
        assigned = sum(guest.assigned_bytes for guest in on if guest.is_load)
        return machine.memory_bytes - machine.reserve_bytes - assigned - self.reserved(machine)

    def _loads(self, migration: Migration) -> list[Guest]:
        """Return the guests that run on its target, or are arriving there before this one."""
        there = [one for one in self._guests_on[migration.target.name].values() if one.is_load]
        return there + [
            other.guest
            for other in self.migrations
            if other.running and other.target is migration.target and other is not migration
        ]

    def refusal(self, guest: Guest, target: Machine, *, clustered: bool) -> Hresult | None:
        """Return why the platform refuses the move at once, or None when it accepts it."""
        if self.of(guest) is not None:
            return Hresult.GROUP_MOVING if clustered else Hresult.INVALID_STATE
        if (refused := admission.refusal_of_guest(guest)) is not None:
            return refused
        if not clustered or self._cluster is None:
            return None if target.powered else Hresult.CONNECTION_TIMED_OUT
        if (refused := admission.refusal_of_node(target)) is not None:
            return refused
        there = list(self._guests_on[target.name].values()) + [
            m.guest for m in self.migrations if m.phase is not Phase.OVER and m.target is target
        ]
        return admission.refusal_of_owner(guest, target, self._cluster, there)

    def has_slot(self, source: Machine, target: Machine) -> bool:
        """Tell whether a migration between two machines may begin now."""
        return all(self.running_on(end) < self.limit(end) for end in (source, target))

    def ask(
        self, guest: Guest, source: Machine, target: Machine, now_s: float, *, clustered: bool
    ) -> None:
        """Accept a move that was not refused: it begins, or waits for a slot.

        Guests that a rule of the cluster keeps on one node with it come along.
        """
        for one in (guest, *self._dragged(guest, source, target, clustered=clustered)):
            self.migrations.append(Migration(next(self._numbers), one, source, target, clustered))
            one.failure, one.failure_text, one.blackout_s = 0, "", None
            one.migration_state = MigrationState.NONE
        self._begin_waiting(now_s)
        self.reshare(now_s)

    def _dragged(
        self, guest: Guest, source: Machine, target: Machine, *, clustered: bool
    ) -> list[Guest]:
        """Return the guests on the source that SameNode rules move along, as far as they may."""
        if not clustered or self._cluster is None:
            return []
        groups = admission.same_node_groups(self._cluster, guest.group)
        on = self._guests_on[source.name].values()
        return [
            one
            for one in sorted(on, key=lambda other: other.id)
            if one is not guest and one.clustered and one.group in groups
            if self.refusal(one, target, clustered=True) is None
        ]

    def cancel(self, guest: Guest, now_s: float) -> None:
        """Cancel the guest's migration if there is one and it is not too late."""
        migration = self.of(guest)
        if migration is None or migration.phase is Phase.SWITCH:
            return
        self._stop(migration, now_s, JobState.TERMINATED)
        guest.migration_state = MigrationState.CANCELED
        self.settle(now_s)

    def fail(self, migration: Migration, code: int, now_s: float) -> None:
        """End a migration as a failure: the guest stays where it was."""
        self._stop(migration, now_s, JobState.EXCEPTION, code)
        guest = migration.guest
        guest.migration_state = MigrationState.FAILED
        guest.failure = code
        guest.failure_text = f'Fehler bei der Livemigration von "{guest.name}": {text(code)}'

    def fail_all(self, machine: Machine, code: int, now_s: float) -> None:
        """Fail every migration that has the machine for an end: it went away."""
        for migration in self.migrations:
            if migration.phase is not Phase.OVER and migration.touches(machine):
                self.fail(migration, code, now_s)
        self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Carry out every change of phase that is due, begin what may, share links anew."""
        for migration in self.migrations:
            while migration.due_s <= now_s:
                self._advance(migration, now_s)
        self.migrations = [
            m for m in self.migrations if m.ended_s is None or m.ended_s + JOB_KEPT_S > now_s
        ]
        self._begin_waiting(now_s)
        self.reshare(now_s)

    def reshare(self, now_s: float) -> None:
        """Share links and spare cores anew, because loads or migrations changed."""
        share_out(self.migrations, now_s, lambda machine: self._spare_cores(machine, now_s))

    def take_cores(self, seconds: float) -> None:
        """Charge both ends of every copy with what it took over the last `seconds`."""
        for migration in self.migrations:
            taken = cores_of(migration) * seconds
            if taken:
                migration.source.migration_core_s += taken
                migration.target.migration_core_s += taken

    def _begin_waiting(self, now_s: float) -> None:
        waiting = [m for m in self.migrations if m.phase is Phase.QUEUED]
        if not waiting:
            return
        # Counted once: with hundreds in the queue, counting for each would take most of the time.
        running = Counter(
            end.name for m in self.migrations if m.running for end in (m.source, m.target)
        )
        for migration in sorted(waiting, key=lambda m: (-m.guest.priority, m.number)):
            ends = (migration.source, migration.target)
            if all(running[end.name] < self.limit(end) for end in ends):
                self._begin(migration, now_s)
                running.update(end.name for end in ends if migration.running)

    def _begin(self, migration: Migration, now_s: float) -> None:
        guest, source, target = migration.guest, migration.source, migration.target
        refused = self._refusal_after_waiting(migration)
        if refused is not None:
            self.fail(migration, refused, now_s)
            return
        available = self.available(target)
        spoilers = (
            self.spoil(guest, source, target),
            admission.breakdown(guest, source, target, available, self._loads(migration)),
        )
        migration.spoiler = min(filter(None, spoilers), key=lambda one: one.percent, default=None)
        migration.begin(now_s)
        if available >= migration.memory_bytes:
            migration.reserved_bytes = migration.memory_bytes
        guest.operation = Operation.MIGRATING
        guest.migration_state = MigrationState.SETUP

    def _refusal_after_waiting(self, migration: Migration) -> Hresult | None:
        """Look again: while it waited, the guest or the target may have changed."""
        refused = admission.refusal_of_guest(migration.guest)
        if refused is None and migration.clustered and self._cluster is not None:
            refused = admission.refusal_of_node(migration.target)
        return refused

    def _advance(self, migration: Migration, now_s: float) -> None:
        guest = migration.guest
        if spoilt_now(migration) and migration.spoiler is not None:
            if migration.spoiler.code is None:
                migration.hang(now_s)
            else:
                self.fail(migration, migration.spoiler.code, now_s)
            return
        match migration.phase:
            case Phase.SETUP:
                self._begin_copy(migration, now_s)
            case Phase.COPY:
                migration.end_pass(now_s)
                migration.due_s = math.inf  # until links are shared anew
                self.reshare(now_s)
            case Phase.BLACKOUT:
                migration.begin_switch(now_s)
                guest.migration_state = MigrationState.GROUP_MOVE
            case Phase.SWITCH:
                self._arrive(migration, now_s)

    def _begin_copy(self, migration: Migration, now_s: float) -> None:
        """The transport is decided here and not earlier: settings may change while it waits."""
        source, target = host_of(migration.source), host_of(migration.target)
        migration.transport = effective_transport(
            transport_of(migration.source.option), transport_of(migration.target.option)
        )
        migration.flow = flow(source, target, migration.transport)
        ends = common_network(source, target)
        migration.rdma = ends is not None and all(end.rdma for end in ends)
        migration.begin_copy(now_s)
        migration.due_s = math.inf
        migration.guest.migration_state = MigrationState.TRANSFER
        self.reshare(now_s)

    def place(self, guest: Guest, target: Machine) -> None:
        """Put a guest onto another machine: the end of a migration, or a failover."""
        self._guests_on[target.name][guest.id] = self._guests_on[guest.host].pop(guest.id)
        guest.host = target.name

    def _arrive(self, migration: Migration, now_s: float) -> None:
        guest, source, target = migration.guest, migration.source, migration.target
        self.place(guest, target)
        guest.blackout_s = now_s - migration.blackout_begun_s
        guest.seen_on = frozenset((source.name, target.name))
        guest.switched_s = now_s
        self._stop(migration, now_s, JobState.COMPLETED)
        guest.migration_state = MigrationState.NONE

    def _stop(self, migration: Migration, now_s: float, job: JobState, code: int = 0) -> None:
        migration.end(now_s, job, code)
        if migration.guest.operation == Operation.MIGRATING:
            migration.guest.operation = None
