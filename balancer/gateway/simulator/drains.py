"""The platform's own drain of a node, as an operator or Cluster-Aware Updating asks for it.

The node is paused at once. What runs leaves by priority, the highest first: live by
`MoveTypeThreshold` and above, below it saved, moved and started again while the others migrate.
What stands still, other roles and volumes are given to other nodes. Whatever then is still there
makes it a failed drain; the node stays paused either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from balancer.gateway.simulator.admission import refusal_of_node
from balancer.gateway.simulator.cluster_acts import GROUP_MOVE_S, arrival
from balancer.gateway.simulator.things import Guest, Machine, Role, Volume
from balancer.gateway.simulator.windows import NodeState, NodeStatus, VmStateCode
from balancer.gateway.simulator.world import World

LOOK_S = 5.0
SAVED_BYTES_PER_S = 500e6  # of memory, to storage and back
IN_PROGRESS, COMPLETED, FAILED = 1, 2, 3  # ClusterNode.DrainStatus


@dataclass(frozen=True, slots=True)
class OperatorDrain:
    """Somebody's `Suspend-ClusterNode -Drain`, and perhaps his `Resume-ClusterNode` later."""

    host: str
    at_s: float
    resume_after_s: float | None = None

    def enter(self, world: World) -> None:
        """Wait for the moment."""
        machine = world.machines[self.host]
        world.at(self.at_s, partial(_begin, world, machine))
        if self.resume_after_s is not None:
            world.at(self.at_s + self.resume_after_s, lambda _: resume(machine))


@dataclass(frozen=True, slots=True)
class Updating:
    """A run of Cluster-Aware Updating: each node in turn is drained, worked on and resumed."""

    at_s: float
    each_s: float

    def enter(self, world: World) -> None:
        """Wait for the moment."""
        world.at(self.at_s, lambda now_s: self._next(world, list(world.machines.values()), now_s))

    def _next(self, world: World, left: list[Machine], now_s: float) -> None:
        if world.cluster is not None:
            world.cluster.updating = bool(left)
        if left:
            _begin(world, left[0], now_s)
            self._look(world, left, now_s)

    def _look(self, world: World, left: list[Machine], now_s: float) -> None:
        if left[0].drain == IN_PROGRESS:
            world.at(now_s + LOOK_S, partial(self._look, world, left))
        else:
            world.at(now_s + self.each_s, partial(self._worked, world, left))

    def _worked(self, world: World, left: list[Machine], now_s: float) -> None:
        resume(left[0])
        self._next(world, left[1:], now_s)


def resume(machine: Machine) -> None:
    """Let guests land on a paused node again; nothing comes back by itself."""
    if machine.node_state is NodeState.PAUSED:
        machine.node_state, machine.node_status, machine.drain = NodeState.UP, NodeStatus.NORMAL, 0


def _begin(world: World, machine: Machine, now_s: float) -> None:
    if world.cluster is None or machine.node_state not in (NodeState.UP, NodeState.PAUSED):
        return
    machine.node_state = NodeState.PAUSED
    machine.node_status = NodeStatus.DRAIN_IN_PROGRESS
    machine.drain = IN_PROGRESS
    _Drain(world, machine).begin(now_s)


@dataclass
class _Drain:
    """One drain at work."""

    world: World
    machine: Machine
    promised: dict[str, int] = field(default_factory=dict)  # bytes, by node
    saved: set[str] = field(default_factory=set)  # guests on their way by saved state

    def begin(self, now_s: float) -> None:
        cluster = self.world.cluster
        threshold = cluster.move_type_threshold if cluster is not None else 0
        on = self.world.guests_on[self.machine.name].values()
        for guest in sorted(on, key=lambda one: (-one.priority, -one.assigned_bytes, one.id)):
            if not guest.clustered:
                continue
            target = self._target(guest)
            if target is None:
                continue
            if not guest.is_load:
                self.world.at(now_s + GROUP_MOVE_S, arrival(self.world, guest, target))
            elif guest.priority >= threshold:
                if self.world.engine.refusal(guest, target, clustered=True) is None:
                    self.world.engine.ask(guest, self.machine, target, now_s, clustered=True)
            elif guest.state is VmStateCode.RUNNING and guest.operation is None:
                self._save(guest, target, now_s)
        self._clear(now_s)
        self.world.at(now_s + LOOK_S, self._look)

    def _target(self, guest: Guest) -> Machine | None:
        """Return the node with most memory left that may own the guest."""
        able = [
            node
            for node in self._others()
            if not guest.possible_owners or node.name in guest.possible_owners
        ]
        best = max(able, key=lambda node: (self._left(node), node.name), default=None)
        if best is None or (guest.is_load and self._left(best) < guest.assigned_bytes):
            return None
        if guest.is_load:
            self.promised[best.name] = self.promised.get(best.name, 0) + guest.assigned_bytes
        return best

    def _left(self, node: Machine) -> int:
        return self.world.engine.available(node) - self.promised.get(node.name, 0)

    def _others(self) -> list[Machine]:
        return [node for node in self.world.machines.values() if refusal_of_node(node) is None]

    def _save(self, guest: Guest, target: Machine, now_s: float) -> None:
        """Quick migration: the guest stands still for as long as its memory is written and read."""
        self.saved.add(guest.id)
        guest.state = VmStateCode.SAVING
        seconds = guest.assigned_bytes / SAVED_BYTES_PER_S

        def moved(at_s: float) -> None:
            if guest.state is not VmStateCode.SAVING:  # its machine died
                self.saved.discard(guest.id)
                return
            guest.state = VmStateCode.SAVED
            arrival(self.world, guest, target)(at_s)
            guest.state = VmStateCode.STARTING
            self.world.at(at_s + seconds, started)

        def started(_at_s: float) -> None:
            self.saved.discard(guest.id)
            if guest.state is VmStateCode.STARTING:
                guest.state = VmStateCode.RUNNING

        self.world.at(now_s + seconds, moved)

    def _clear(self, now_s: float) -> None:
        """Give roles and volumes to the other nodes, in turn."""
        cluster, others = self.world.cluster, self._others()
        things: tuple[Role | Volume, ...] = (
            (*cluster.roles, *cluster.volumes) if cluster is not None else ()
        )
        for number, thing in enumerate(one for one in things if one.owner == self.machine.name):
            nodes = thing.nodes if isinstance(thing, Role) else ()
            able = [node for node in others if not nodes or node.name in nodes]
            if able:
                act: Callable[[float], None] = arrival(self.world, thing, able[number % len(able)])
                self.world.at(now_s + GROUP_MOVE_S, act)

    def _look(self, now_s: float) -> None:
        machine = self.machine
        if machine.drain != IN_PROGRESS:  # somebody resumed the node
            return
        if machine.powered and (self.saved or self.world.engine.engaged(machine)):
            self.world.at(now_s + LOOK_S, self._look)
            return
        is_empty = machine.powered and not self._holds()
        machine.drain = COMPLETED if is_empty else FAILED
        if machine.node_state is NodeState.PAUSED:
            machine.node_status = (
                NodeStatus.DRAIN_COMPLETED if is_empty else NodeStatus.DRAIN_FAILED
            )

    def _holds(self) -> bool:
        cluster, name = self.world.cluster, self.machine.name
        things: tuple[Role | Volume, ...] = (
            (*cluster.roles, *cluster.volumes) if cluster is not None else ()
        )
        guests = self.world.guests_on[name].values()
        return any(one.clustered for one in guests) or any(one.owner == name for one in things)
