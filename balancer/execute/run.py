"""One run: a stream of migrations over the plan's partial order, each begun when it may be.

Every poll: look at what is in flight and conclude; settle host settings; begin what has its turn.
A migration has its turn when all it comes after is done, its hosts' settings are settled, slots
are free at both hosts and in the cluster (others' migrations count), its back-off is over, a look
shows its VM at rest on the source, and the judge passes it on a fresh enough reading. It is held
for a while if not, then left out, with the reason; what comes after it is left out too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from balancer.errors import UnreachableError
from balancer.execute.aside import note_end, why_aside
from balancer.execute.breaker import tripped, went_wrong
from balancer.execute.context import Context
from balancer.execute.decide import Ends, admitted, blocked_by, is_there, verdict, why_not_at_rest
from balancer.execute.held import Held, held_back, why_unwell
from balancer.execute.machine import IN_FLIGHT, TABLE
from balancer.execute.move import LOOK_AGE_MAX_S, Move, Mover
from balancer.execute.progress import NewsKind, OnInterrupt
from balancer.execute.pulse import Pulse
from balancer.execute.readings import Readings, brought_up_to_date
from balancer.execute.recover import look, patient
from balancer.execute.settings import HostSetting, owed_text, restore, write
from balancer.execute.takeover import take_over, taken_back
from balancer.gateway.port import InFlight, Observation, Sighting
from balancer.judge import judge_start
from balancer.migration.forecast import dirty_rate, forecast
from balancer.migration.rates import effective_transport, flow
from balancer.model.aside import Aside
from balancer.model.cluster import Cluster, Transport
from balancer.model.outcome import Cause, MigrationState, Why
from balancer.model.plan import Plan
from balancer.policy.capacity import caps_in_force
from balancer.policy.policy import Policy

# A migration whose turn has come and that is not safe is asked about again this often, and given
# up after so long: others' migrations and load peaks pass in minutes, or not within this run.
HOLD_S = 10.0
HOLD_MAX_S = 300.0

# Each start is a call to a host, of seconds at worst; after so many, what is in flight is looked
# at again and whoever watches is told.
STARTS_PER_POLL = 16

# Restoring settings at the end waits for others' migrations to leave the host, but not for ever:
# the next start restores what is still owed.
RESTORE_PATIENCE_S = 120.0


class Run:
    """Carries out one judged plan. `moves` are in the plan's order."""

    def __init__(
        self,
        context: Context,
        plan: Plan,
        policy: Policy,
        readings: Readings,
        run: int,
        moves: tuple[Move, ...],
        *,
        by_hand: bool = False,
    ) -> None:
        self.plan = plan  # follows what the hosts really are set to
        self.moves = moves
        transports = tuple(HostSetting(change) for change in plan.settings)
        self._over = None if by_hand else take_over(readings.known, policy, moves)
        self.settings = transports if self._over is None else (*transports, self._over)
        self.interrupted = False
        self.unwell = False  # it was stopped for the cluster's sake
        self._by_hand = by_hand
        self._closed: Cause | None = None  # why nothing more begins, where that is no alarm
        self._context = context
        self._policy = policy
        self._readings = readings
        self.id = run
        self._mover = Mover(context)
        self._pulse = Pulse(context)
        self._setting_of = {setting.change.host: setting for setting in transports}
        self._started_s = context.now_s

    @property
    def in_flight(self) -> list[Move]:
        """Return the moves that are asked for and not over."""
        return [move for move in self.moves if move.state in IN_FLIGHT]

    @property
    def has_failed(self) -> bool:
        """Tell whether as much failed as went well, or something went wrong that nobody foresaw."""
        return went_wrong(self.moves) or bool(self._context.alarm and not self.unwell)

    @property
    def is_over(self) -> bool:
        """Tell whether every move has ended, and every guest that moved is as well as before."""
        return all(move.state.is_final for move in self.moves) and not self._pulse.missing

    def step(self, interrupted: Callable[[], bool], on_interrupt: OnInterrupt) -> None:
        """Do everything that can be done now.

        Raises:
            FencedError, LeaseLostError: A newer executor has the cluster: stop at once.
            StoreError: The journal cannot be written, so nothing may be done.
        """
        self._context.renew()
        self._context.begin_step()
        if interrupted() and not self.interrupted:
            self._interrupt(on_interrupt)
        if self.interrupted and on_interrupt is OnInterrupt.CANCEL:
            self._cancel_all()
        looked_at = [*self.in_flight, *self._pulse.missing]
        sightings = look(self._context, looked_at) if looked_at else {}
        self._context.begin_step()
        self._pulse.feel(sightings)
        for move in patient(self.in_flight, self._context):
            sighting = sightings.get(move.migration.vm)
            self._mover.follow(move, sighting)
            if move.state is MigrationState.DONE:
                self._pulse.arrived(move, sighting)
            if move.state.is_final:
                self._ended(move)
        self._leave_out()
        self._settle()
        if not self._context.alarm and not self.interrupted and not self._pulse.missing:
            self._begin(interrupted)

    def _ended(self, move: Move) -> None:
        """Draw conclusions from a move that has ended, for this run and for those to come."""
        note_end(move, self._context)
        if not self._by_hand and (why := tripped(self.moves)):
            self._context.stop(why)

    def restore_settings(self, interrupted: Callable[[], bool], poll_s: float) -> None:
        """Give hosts their settings back once nothing of ours moves; wait a while if need be."""
        began_s = self._context.now_s
        asked_before = interrupted()
        while owed := [setting for setting in self.settings if setting.is_owed]:
            self._context.renew()
            for setting in owed:
                restore(setting, self._context)
            patience_over = self._context.now_s - began_s >= RESTORE_PATIENCE_S
            asked_now = interrupted() and not asked_before
            owed = [setting for setting in owed if setting.is_owed]
            if owed and (patience_over or asked_now):
                for setting in owed:
                    if setting.record is not None:
                        text = owed_text(setting.record)
                        self._context.tell(NewsKind.NOTED, setting.change.host, text, note=True)
                return
            if owed:
                self._context.clock.sleep(poll_s)

    def _interrupt(self, on_interrupt: OnInterrupt) -> None:
        self.interrupted = True
        text = f"asked to stop: nothing more begins, {len(self.in_flight)} migrations in flight"
        if on_interrupt is OnInterrupt.CANCEL:
            text += " are cancelled"
        self._context.tell(NewsKind.INTERRUPTED, self.plan.cluster, text, note=True)

    def _cancel_all(self) -> None:
        for move in self.moves:
            if move.state is MigrationState.RUNNING:
                self._mover.cancel(move, Cause(Why.INTERRUPTED, "cancelled: asked to stop"))

    def _leave_out(self) -> None:
        """Skip what can no longer have its turn."""
        late_s = TABLE[MigrationState.PLANNED].limit_s(self.plan.makespan_s)
        too_late = self._context.now_s - self._started_s > late_s
        changed = True
        while changed:  # one skipped takes those after it along
            changed = False
            states = {move.id: move.state for move in self.moves}
            for move in self.moves:
                if move.state is MigrationState.PLANNED and (
                    why := self._why_never(move, states, too_late=too_late)
                ):
                    self._mover.skip(move, why)
                    changed = True

    def _why_never(
        self, move: Move, states: Mapping[str, MigrationState], *, too_late: bool
    ) -> Cause | None:
        if self._context.alarm:
            return Cause(Why.ALARM, f"the run was stopped: {self._context.alarm}")
        if self.interrupted:
            return Cause(Why.INTERRUPTED, "asked to stop")
        if self._closed is not None:
            return self._closed
        _, lost = blocked_by(move.migration, states)
        if lost:
            named = ", ".join(f"{id_} ({states[id_].value})" for id_ in lost)
            return Cause(Why.DEPENDENCY, f"it comes after {named}")
        return Cause(Why.LATE, f"the run took too long{self._others_text()}") if too_late else None

    def _others_text(self) -> str:
        """Name what others migrate: as long as that goes on, it takes slots from ours."""
        others = [
            f"{flight.vm} from {flight.source} to {flight.target or 'another host'}"
            for flight in self._readings.foreign(self.moves)
        ]
        return f": somebody else is migrating {', '.join(others[:3])}" if others else ""

    def _settle(self) -> None:
        """Write settings whose moves have their turn, restore those whose moves are over."""
        now_s = self._context.now_s
        states = {move.id: move.state for move in self.moves}
        over, wanted = self._over, any(not state.is_final for state in states.values())
        if over is not None and wanted and not over.settled and now_s >= over.again_s:
            self._context.renew()
            write(over, self.id, self._context)
            self._readings.forget()
        for host, setting in sorted(
            self._setting_of.items(), key=lambda one: self._context.failed_s(one[0])
        ):
            if self._context.is_late:
                return
            mine = [m for m in self.moves if host in (m.migration.source, m.migration.target)]
            if now_s < setting.again_s or any(move.state in IN_FLIGHT for move in mine):
                continue
            waiting = [move for move in mine if not move.state.is_final]
            if setting.is_owed and not waiting:
                restore(setting, self._context)
            elif not setting.settled and any(
                not any(blocked_by(move.migration, states)) for move in waiting
            ):
                self._context.renew()
                write(setting, self.id, self._context)
                if not setting.in_force:
                    self._give_up_setting(host)

    def _begin(self, interrupted: Callable[[], bool]) -> None:
        """Begin every move whose turn it is and that is safe, in the order of the forecast."""
        ready = self._ready()
        if not self._admitted(ready, self._readings.known.cluster, ()):
            _wait_for_slots(ready)
            return  # our own moves take all slots: no reason to read the cluster
        try:
            seen = self._readings.latest()
        except UnreachableError as error:
            for move in ready:
                self._hold(move, Cause(Why.HOST_UNREACHABLE, error.message))
            return
        if why := why_unwell(seen):
            self.unwell = True
            self._context.stop(why)
            return
        if not self._by_hand and (held := self._held(seen)) is not None:
            if not held.passes:
                self._closed = held.cause
            for move in ready if held.passes else ():
                self._hold(move, held.cause)
            return
        cluster = seen.cluster
        self._go_by_what_is_set(cluster)
        chosen = self._admitted(ready, cluster, self._readings.foreign(self.moves))
        admitted_ids = {move.id for move in chosen}
        _wait_for_slots(move for move in ready if move.id not in admitted_ids)
        self._begin_each(chosen, cluster, interrupted)

    def _begin_each(
        self, chosen: list[Move], cluster: Cluster, interrupted: Callable[[], bool]
    ) -> None:
        """Look at those that have slots, and begin them.

        While hosts hang a step takes minutes: so who wants us to stop is heard before each start.
        """
        sightings = look(self._context, chosen) if chosen else {}
        looked_s = self._context.now_s
        cluster = brought_up_to_date(cluster, self._readings.taken_s, self.moves)
        for move in chosen[:STARTS_PER_POLL]:
            self._context.renew()
            stops = interrupted() or bool(self._context.alarm)
            if stops or self._context.now_s - looked_s > LOOK_AGE_MAX_S:
                return  # the next poll says so and cleans up, or looks again
            self._begin_if_safe(move, cluster, sightings)

    def _held(self, seen: Observation) -> Held | None:
        """Return why no rebalance may go on beside others who act."""
        if taken_back(seen, self._policy):
            text = "the cluster's built-in balancer could not be switched off, or is on again"
            return Held(Cause(Why.INTERLOCK, text), "")
        return held_back(seen, self._policy)

    def _admitted(
        self, ready: list[Move], cluster: Cluster, others: Iterable[InFlight]
    ) -> list[Move]:
        """Return the moves for which there are slots, besides ours and others' in flight."""
        ends: list[Ends] = [(m.migration.source, m.migration.target) for m in self.in_flight]
        ends += [(flight.source, flight.target) for flight in others]
        caps = caps_in_force(cluster, self._policy)
        chosen = {each.id for each in admitted([m.migration for m in ready], ends, caps)}
        return [move for move in ready if move.id in chosen]

    def _ready(self) -> list[Move]:
        now_s = self._context.now_s
        states = {move.id: move.state for move in self.moves}
        found = [
            move
            for move in self.moves
            if move.state is MigrationState.PLANNED
            and move.not_before_s <= now_s
            and not any(blocked_by(move.migration, states))
            and all(
                self._is_settled(host) for host in (move.migration.source, move.migration.target)
            )
        ]
        return sorted(found, key=lambda move: (move.migration.start_s, move.id))

    def _is_settled(self, host: str) -> bool:
        if self._over is not None and not self._over.settled:
            return False
        setting = self._setting_of.get(host)
        return setting is None or setting.settled

    def _begin_if_safe(
        self, move: Move, cluster: Cluster, sightings: Mapping[str, Sighting]
    ) -> None:
        sighting = sightings.get(move.migration.vm)
        if is_there(sighting, move.migration.target):
            self._mover.found_there(move)
            return
        why, is_final = why_not_at_rest(sighting, move.migration.source)
        if why is not None and is_final:
            self._mover.skip(move, why)
            return
        if not self._by_hand and (aside := why_aside(self._asides(), move)) is not None:
            self._mover.skip(move, aside)
            return
        if late := self._context.may_start(self._context.now, move.expected_s):
            self._mover.skip(move, Cause(Why.WINDOW, late))
            return
        why = why or self._judged(move, cluster)
        if why is not None:
            self._hold(move, why)
            return
        move.heartbeat = sighting.heartbeat if sighting is not None else None
        self._mover.begin(move)
        if move.state.is_final:
            self._ended(move)

    def _asides(self) -> tuple[Aside, ...]:
        return self._context.store.asides.active(self._context.lease.cluster, self._context.now)

    def _judged(self, move: Move, cluster: Cluster) -> Cause | None:
        """Return what the judge has against starting this move now; None when nothing."""
        findings = judge_start(
            cluster,
            self._policy,
            self.plan,
            move.id,
            done=[each.id for each in self.moves if each.state is MigrationState.DONE],
            running=[each.id for each in self.in_flight],
            dropped=[
                each.id
                for each in self.moves
                if each.state.is_final and each.state is not MigrationState.DONE
            ],
            foreign=[
                (flight.vm, flight.source, flight.target)
                for flight in self._readings.foreign(self.moves)
            ],
            at=self._context.now,
        )
        return verdict(findings)

    def _hold(self, move: Move, why: Cause) -> None:
        now_s = self._context.now_s
        move.held_since_s = now_s if move.held_since_s is None else move.held_since_s
        move.not_before_s, move.why, move.reason = now_s + HOLD_S, why.why, why.text
        if now_s - move.held_since_s >= HOLD_MAX_S:
            self._mover.skip(move, why)

    def _give_up_setting(self, host: str) -> None:
        """Take a setting that could not be written out of the plan; what is set is read anew."""
        settings = tuple(change for change in self.plan.settings if change.host != host)
        self.plan = dataclasses.replace(self.plan, settings=settings)
        self._readings.forget()

    def _go_by_what_is_set(self, cluster: Cluster) -> None:
        """Follow what hosts really are set to: it decides how fast a migration is, no more."""
        now = {host.name: host.migration.transport for host in cluster.hosts}
        now |= {change.host: Transport(change.during) for change in self.plan.settings}
        changed = False
        for move in self.moves:
            ends = (now.get(move.migration.source), now.get(move.migration.target))
            if move.state is not MigrationState.PLANNED or ends[0] is None or ends[1] is None:
                continue
            if not {move.migration.source, move.migration.target} <= cluster.host_by_name.keys():
                continue  # evicted meanwhile: the judge does not let it start
            transport = effective_transport(ends[0], ends[1])
            if transport is not move.transport:
                move.transport, changed = transport, True
                move.migration = dataclasses.replace(move.migration, transport=transport)
                move.expected_s = max(move.expected_s, _alone_s(cluster, move))
        if changed:
            migrations = tuple(move.migration for move in self.moves)
            self.plan = dataclasses.replace(self.plan, migrations=migrations)


def _wait_for_slots(moves: Iterable[Move]) -> None:
    """Forget how long they were held: whoever waits for a slot is not held any more."""
    for move in moves:
        move.held_since_s = None


def _alone_s(cluster: Cluster, move: Move) -> float:
    """Return how long a move takes by its present transport with the links to itself."""
    migration = move.migration
    source, target = (cluster.host_by_name[h] for h in (migration.source, migration.target))
    demand = flow(source, target, move.transport)
    vm = cluster.vm_by_id.get(migration.vm)
    if demand is None or vm is None:
        return move.expected_s
    memory = vm.memory_assigned_bytes
    dirty = dirty_rate(memory, vm.dirty_bytes_per_s)
    return forecast(memory, dirty, demand.cap_bytes_per_s).duration_s
