"""Who else acts on a cluster while we do: people, backups, the built-in balancer.

An actor enters a world and acts on its timeline from then on. It is nobody's executor: it
carries no fencing number and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from balancer.gateway.simulator.things import Guest, Machine
from balancer.gateway.simulator.windows import NodeState, Operation
from balancer.gateway.simulator.world import World

AUTO_BALANCER_INTERVAL_S = 1800.0
_LEVELS = {1: 0.8, 2: 0.7, 3: 0.6}  # AutoBalancerLevel: from which load a node is relieved


class Actor(Protocol):
    """Somebody who acts on a world by himself."""

    def enter(self, world: World) -> None:
        """Begin to act."""
        ...


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who live migrates one VM by hand, if the platform lets him."""

    at_s: float
    vm: str
    target: str

    def enter(self, world: World) -> None:
        """Wait for the moment."""

        def act(now_s: float) -> None:
            move_by_hand(world, self.vm, self.target, now_s)

        world.at(self.at_s, act)


@dataclass(frozen=True, slots=True)
class BackupWindow:
    """A backup that locks VMs of one host, one after the other, in rounds."""

    host: str
    begins_s: float
    each_s: float
    every_s: float = 86_400.0

    def enter(self, world: World) -> None:
        """Wait for the first round."""
        world.at(self.begins_s, lambda now_s: self._round(world, now_s))

    def _round(self, world: World, now_s: float) -> None:
        guests = sorted(world.guests_on[self.host].values(), key=lambda guest: guest.id)
        self._next(world, guests, now_s)
        world.at(now_s + self.every_s, lambda later_s: self._round(world, later_s))

    def _next(self, world: World, left: list[Guest], now_s: float) -> None:
        """Lock the next guest that can be; what migrates or has left is passed over."""
        while left:
            guest, *left = left
            if guest.host == self.host and guest.operation is None and guest.is_load:
                guest.operation = Operation.BACKING_UP
                world.at(now_s + self.each_s, partial(self._done, world, guest, left))
                return

    def _done(self, world: World, guest: Guest, left: list[Guest], now_s: float) -> None:
        if guest.operation == Operation.BACKING_UP:
            guest.operation = None
        self._next(world, left, now_s)


@dataclass(frozen=True, slots=True)
class StorageRepair:
    """Storage Spaces Direct makes missing copies anew, for a while."""

    at_s: float
    lasts_s: float

    def enter(self, world: World) -> None:
        """Wait for the moment."""

        def change(by: int) -> None:
            if world.cluster is not None:
                world.cluster.storage_jobs = max(0, world.cluster.storage_jobs + by)

        world.at(self.at_s, lambda _: change(1))
        world.at(self.at_s + self.lasts_s, lambda _: change(-1))


@dataclass(frozen=True, slots=True)
class AutoBalancer:
    """The cluster's built-in balancing: every half hour, from loaded nodes to the idlest one."""

    moves_max: int = 3

    def enter(self, world: World) -> None:
        """Wait for the first half hour."""
        world.at(world.now_s + AUTO_BALANCER_INTERVAL_S, lambda now_s: self._tick(world, now_s))

    def _tick(self, world: World, now_s: float) -> None:
        cluster = world.cluster
        if cluster is not None and cluster.auto_balancer_mode == 2:  # noqa: PLR2004 -- always
            level = _LEVELS.get(cluster.auto_balancer_level, _LEVELS[1])
            for machine in world.machines.values():
                if machine.node_state is NodeState.UP and _load(world, machine, now_s) > level:
                    self._relieve(world, machine, level, now_s)
        world.at(now_s + AUTO_BALANCER_INTERVAL_S, lambda later_s: self._tick(world, later_s))

    def _relieve(self, world: World, machine: Machine, level: float, now_s: float) -> None:
        """Move the busiest guests until what is left is below the level."""
        others = [
            other
            for other in world.machines.values()
            if other is not machine and other.node_state is NodeState.UP
        ]
        if not others:
            return
        target = min(others, key=lambda other: (_load(world, other, now_s), other.name))
        on = world.guests_on[machine.name].values()
        wanted = sorted(on, key=lambda guest: (-guest.load.cores(now_s), guest.id))
        load, moved = _load(world, machine, now_s), 0
        for guest in wanted:
            if moved == self.moves_max or load <= level:
                break
            fits = guest.clustered and guest.assigned_bytes <= world.engine.available(target)
            if fits and move_by_hand(world, guest.id, target.name, now_s):
                moved += 1
                load -= max(
                    guest.load.cores(now_s) / machine.logical_processors,
                    guest.assigned_bytes / machine.memory_bytes,
                )


def move_by_hand(world: World, vm: str, target: str, now_s: float) -> bool:
    """Ask for a migration as an administrator would; return whether it was accepted."""
    guest, to = world.guests[vm], world.machines[target]
    source = world.machines[guest.host]
    if to is source or not source.powered:
        return False
    if world.engine.refusal(guest, to, clustered=guest.clustered) is not None:
        return False
    if not guest.clustered and not world.engine.has_slot(source, to):
        return False
    world.engine.ask(guest, source, to, now_s, clustered=guest.clustered)
    return True


def _load(world: World, machine: Machine, now_s: float) -> float:
    """Return the larger of a node's shares of CPU and memory in use."""
    guests, root = world.wanted_cores(machine, now_s)
    cpu = (guests + root) / machine.logical_processors
    memory = 1.0 - world.engine.available(machine) / machine.memory_bytes
    return max(cpu, memory)
