"""The doors of one daemon to a world's hosts: every act is seen as the host carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from balancer.errors import UnreachableError
from balancer.gateway import wire
from balancer.gateway.simulator.host import Functions, SimulatedHost
from balancer.gateway.simulator.readings import Reader
from balancer.gateway.simulator.things import Machine
from balancer.gateway.simulator.world import World

T = TypeVar("T")

_READS = ("Get-LbHost", "Get-LbCluster", "Get-LbMigration", "Get-LbControl", "Get-LbVersion")


class Eyes(Protocol):
    """Whoever is told of acts, at the instant at which a host carries them out."""

    def started(self, machine: Machine, vm: str, target: str, fence: int) -> None: ...

    def cancelled(self, vm: str) -> None: ...

    def set_to(self, machine: Machine, before: int) -> None: ...

    def paused(self, node: str, *, paused: bool) -> None: ...

    def moved(self, thing: str, target: str) -> None: ...

    def leased(self, text: str) -> None: ...

    def took_over(self) -> None: ...


class WatchedFunctions(Functions):
    """Our functions as a host runs them, also when it runs them late."""

    def __init__(self, world: World, reader: Reader, machine: Machine, eyes: Eyes) -> None:
        super().__init__(world, reader, machine)
        self._eyes = eyes

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> wire.ActAnswer:
        with self._world.present():
            answer = super().start(vm, target, clustered=clustered, fence=fence)
            if answer.accepted:
                self._eyes.started(self.machine, vm, target, fence)
            return answer

    def stop(self, vm: str, fence: int) -> wire.ActAnswer:
        with self._world.present():
            guest = self._world.guests.get(vm)
            moved = guest is not None and self._world.engine.of(guest) is not None
            answer = super().stop(vm, fence)
            if moved and guest is not None and self._world.engine.of(guest) is None:
                self._eyes.cancelled(vm)
            return answer

    def set_transport(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        with self._world.present():
            before = self.machine.option
            answer = super().set_transport(expected, value, fence)
            if self.machine.option != before:
                self._eyes.set_to(self.machine, before)
            return answer

    def set_node(self, name: str, state: str, fence: int) -> wire.ActAnswer:
        with self._world.present():
            before = self._world.machines[name].node_state
            answer = super().set_node(name, state, fence)
            if self._world.machines[name].node_state is not before:
                self._eyes.paused(name, paused=state == "pause")
            return answer

    def move_group(self, group: str, target: str, fence: int) -> wire.ActAnswer:
        with self._world.present():
            answer = super().move_group(group, target, fence)
            if answer.accepted:
                self._eyes.moved(group, target)
            return answer

    def move_volume(self, name: str, target: str, fence: int) -> wire.ActAnswer:
        with self._world.present():
            answer = super().move_volume(name, target, fence)
            if answer.accepted:
                self._eyes.moved(name, target)
            return answer

    def set_control(
        self, name: str, expected: str, value: str, fence: int
    ) -> wire.ControlWriteAnswer:
        with self._world.present():
            answer = super().set_control(name, expected, value, fence)
            if name == "lease" and answer.result == "written":
                self._eyes.leased(value)
            return answer

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        with self._world.present():
            answer = super().set_auto_balancer(expected, value, fence)
            if answer.result == "written" and value != expected:
                self._eyes.took_over()
            return answer


class WatchedHost(SimulatedHost):
    """A host over a way that may be closed, with a point before and after every act."""

    def __init__(
        self,
        functions: Functions,
        world: World,
        point: Callable[[], None],
        logged_in: Callable[[], bool],
    ) -> None:
        super().__init__(functions, world)
        self._point, self._logged_in = point, logged_in

    def _call(self, function: str, run: Callable[[], T]) -> T:
        if not self._logged_in():
            raise UnreachableError(
                f"{self.name} does not accept the account's password",
                remedy="the account may have expired",
            )
        if function in _READS:
            return super()._call(function, run)
        self._point()
        try:
            return super()._call(function, run)
        finally:
            self._point()
