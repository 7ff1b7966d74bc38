"""A simulated host in process: the same functions, answers and failures as over the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from balancer.errors import UnreachableError
from balancer.gateway import wire
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator import acts, cluster_acts
from balancer.gateway.simulator.faults import FaultKind
from balancer.gateway.simulator.readings import Reader
from balancer.gateway.simulator.things import Machine
from balancer.gateway.simulator.winrm import CommandFailed
from balancer.gateway.simulator.winrm.commands import RUNTIME_HRESULT
from balancer.gateway.simulator.world import World

INVALID_DATA = 6  # ErrorCategory

T = TypeVar("T")


class Functions:
    """Our functions as the host itself runs them, before anything is lost on the way."""

    def __init__(self, world: World, reader: Reader, machine: Machine) -> None:
        self.machine = machine
        self._world = world
        self._reader = reader

    def version(self) -> wire.VersionAnswer:
        """Answer `Get-LbVersion`."""
        with self._world.present():
            return self._reader.version(self.machine)

    def read_host(self) -> wire.HostAnswer:
        """Answer `Get-LbHost`."""
        with self._world.present() as now_s:
            return self._reader.host(self.machine, now_s)

    def read_cluster(self) -> wire.ClusterAnswer:
        """Answer `Get-LbCluster`."""
        with self._world.present() as now_s:
            return self._reader.cluster(self.machine, now_s)

    def read_moves(self, vms: Sequence[str]) -> wire.MovesAnswer:
        """Answer `Get-LbMigration`."""
        ids = [_guid("Get-LbMigration", vm) for vm in vms]
        with self._world.present() as now_s:
            return wire.MovesAnswer(
                module=wire.MODULE_VERSION,
                computer=self.machine.name,
                moves=[self._reader.move(self.machine, id_, now_s) for id_ in ids],
            )

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> wire.ActAnswer:
        """Answer `Start-LbMigration`."""
        id_ = _guid("Start-LbMigration", vm)
        with self._world.present():
            return acts.start(
                self._world, self.machine, id_, target, clustered=clustered, fence=fence
            )

    def stop(self, vm: str, fence: int) -> wire.ActAnswer:
        """Answer `Stop-LbMigration`."""
        id_ = _guid("Stop-LbMigration", vm)
        with self._world.present():
            return acts.stop(self._world, self.machine, id_, fence)

    def set_transport(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        """Answer `Set-LbTransport`."""
        with self._world.present():
            return acts.set_transport(self._world, self.machine, expected, value, fence)

    def read_control(self) -> wire.ControlAnswer:
        """Answer `Get-LbControl`."""
        with self._world.present():
            return self._reader.control(self.machine)

    def set_control(
        self, name: str, expected: str, value: str, fence: int
    ) -> wire.ControlWriteAnswer:
        """Answer `Set-LbControl`."""
        with self._world.present():
            return cluster_acts.set_control(self._world, self.machine, name, expected, value, fence)

    def set_node(self, name: str, state: str, fence: int) -> wire.ActAnswer:
        """Answer `Set-LbNode`."""
        with self._world.present():
            return cluster_acts.set_node(self._world, self.machine, name, state, fence)

    def move_group(self, group: str, target: str, fence: int) -> wire.ActAnswer:
        """Answer `Move-LbGroup`."""
        id_ = _guid("Move-LbGroup", group)
        with self._world.present():
            return cluster_acts.move_group(self._world, self.machine, id_, target, fence)

    def move_volume(self, name: str, target: str, fence: int) -> wire.ActAnswer:
        """Answer `Move-LbVolume`."""
        with self._world.present():
            return cluster_acts.move_volume(self._world, self.machine, name, target, fence)

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        """Answer `Set-LbAutoBalancer`."""
        with self._world.present():
            return cluster_acts.set_auto_balancer(self._world, self.machine, expected, value, fence)


class SimulatedHost:
    """Implements `balancer.gateway.host.HostFunctions` without a network between."""

    def __init__(self, functions: Functions, world: World) -> None:
        self._functions = functions
        self._world = world

    @property
    def name(self) -> str:
        """The host's name."""
        return self._functions.machine.name

    def version(self) -> wire.VersionAnswer:
        """Say which module answers, on which computer."""
        return self._call("Get-LbVersion", self._functions.version)

    def read_host(self) -> wire.HostAnswer:
        """Read everything the host knows of itself."""
        return self._call("Get-LbHost", self._functions.read_host)

    def read_cluster(self) -> wire.ClusterAnswer:
        """Read everything this node says of its cluster."""
        return self._call("Get-LbCluster", self._functions.read_cluster)

    def read_moves(self, vms: Sequence[str]) -> wire.MovesAnswer:
        """Look at single VMs (ids)."""
        return self._call("Get-LbMigration", lambda: self._functions.read_moves(vms))

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> wire.ActAnswer:
        """Start a live migration of the one VM with this id."""
        return self._call(
            "Start-LbMigration",
            lambda: self._functions.start(vm, target, clustered=clustered, fence=fence),
        )

    def stop(self, vm: str, fence: int) -> wire.ActAnswer:
        """Cancel a VM's migration."""
        return self._call("Stop-LbMigration", lambda: self._functions.stop(vm, fence))

    def set_transport(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        """Write the performance option if it is `expected`."""
        return self._call(
            "Set-LbTransport", lambda: self._functions.set_transport(expected, value, fence)
        )

    def read_control(self) -> wire.ControlAnswer:
        """Read lease, freeze and fence."""
        return self._call("Get-LbControl", self._functions.read_control)

    def set_control(
        self, name: str, expected: str, value: str, fence: int
    ) -> wire.ControlWriteAnswer:
        """Write the "lease" or "freeze" text if it is `expected`."""
        return self._call(
            "Set-LbControl", lambda: self._functions.set_control(name, expected, value, fence)
        )

    def set_node(self, name: str, state: str, fence: int) -> wire.ActAnswer:
        """Pause or resume a node."""
        return self._call("Set-LbNode", lambda: self._functions.set_node(name, state, fence))

    def move_group(self, group: str, target: str, fence: int) -> wire.ActAnswer:
        """Move a cluster group (id) that holds no running VM."""
        return self._call("Move-LbGroup", lambda: self._functions.move_group(group, target, fence))

    def move_volume(self, name: str, target: str, fence: int) -> wire.ActAnswer:
        """Move the ownership of a cluster shared volume."""
        return self._call("Move-LbVolume", lambda: self._functions.move_volume(name, target, fence))

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> wire.SettingWriteAnswer:
        """Write the cluster's AutoBalancerMode if it is `expected`."""
        return self._call(
            "Set-LbAutoBalancer",
            lambda: self._functions.set_auto_balancer(expected, value, fence),
        )

    def close(self) -> None:
        """There is nothing to let go of."""

    def _call(self, function: str, run: Callable[[], T]) -> T:
        """Run a function unless something is the matter with the host or the way to it."""
        with self._world.present():
            fault = self._world.faults.strike(self.name, function)
            struck = fault.kind if fault else None
            if struck is FaultKind.UNREACHABLE or not self._functions.machine.powered:
                raise UnreachableError(
                    f"{self.name} cannot be reached: nobody listens",
                    remedy="see whether the host runs and its network is up",
                )
            if struck in (None, FaultKind.REPLY_LOST):
                answer = self._run(run)
                if struck is None:
                    return answer
            if fault is not None and struck is FaultKind.LATE:
                run_late(self._world, self._functions.machine, fault.delay_s, run)
            raise ReplyLostError(
                f"{self.name} was sent {function} and gave no answer that can be understood",
                remedy="look again before sending anything else",
            )

    def _run(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except CommandFailed as error:
            raise ReplyLostError(f"{self.name} answered with an error: {error.message}") from error


def run_late(world: World, machine: Machine, delay_s: float, run: Callable[[], object]) -> None:
    """Let a request lie at a host and be carried out later; it ends together with the host."""
    sent_s = world.now_s

    def act(_now_s: float) -> None:
        if machine.powered and machine.booted_s <= sent_s:
            with suppress(CommandFailed):  # nobody waits for its answer any more
                run()

    world.at(sent_s + delay_s, act)


def _guid(function: str, text: str) -> str:
    """Return a GUID as .NET writes it, however it was written."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise CommandFailed(
            f"ParameterArgumentTransformationError,{function}",
            INVALID_DATA,
            RUNTIME_HRESULT,
            f"Cannot process argument transformation on parameter 'VmId'. {text} is no GUID.",
            exception="ParameterBindingException",
            target=function,
        ) from error


def hosts_of(world: World) -> dict[str, SimulatedHost]:
    """Return the ways to all hosts of a world, by name."""
    reader = Reader(world)
    return {
        name: SimulatedHost(Functions(world, reader, machine), world)
        for name, machine in world.machines.items()
    }
