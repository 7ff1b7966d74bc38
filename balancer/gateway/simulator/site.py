"""A whole simulated site on loopback: a WinRM endpoint for each host of a world.

The unmodified production client talks to it. Faults of calls are the wire's own faults here,
kept in step with the world's board; a host that is off listens to nobody.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.handler import HostHandler
from balancer.gateway.simulator.host import Functions
from balancer.gateway.simulator.readings import Reader
from balancer.gateway.simulator.winrm import Authority, EndpointKind, WinRmServer
from balancer.gateway.simulator.winrm import Fault as WireFault
from balancer.gateway.simulator.winrm import FaultKind as Wire
from balancer.gateway.simulator.world import World

PUMP_S = 0.1  # real seconds between two looks at what is due in the world

_WIRE_KIND: Final = {
    FaultKind.UNREACHABLE: Wire.REFUSE_CONNECT,
    FaultKind.SILENT: Wire.SILENT,
    FaultKind.GARBAGE: Wire.GARBAGE,
    FaultKind.REPLY_LOST: Wire.LOST_REPLY,
    FaultKind.REQUEST_LOST: Wire.RESET,
}

_OFF: Final = Fault(FaultKind.UNREACHABLE)


class SimulatedSite:
    """Serves a world. A context manager: endpoints exist while it is entered.

    Attributes:
        endpoints: Address and port by host.
        ca_file: The certificate authority to trust, PEM.
    """

    def __init__(
        self,
        world: World,
        users: Mapping[str, str],
        *,
        accepts_module: Callable[[str], bool] | None = None,
        kind: EndpointKind = "ordinary",
        tls: bool = True,
        address: str = "127.0.0.1",
    ) -> None:
        """Describe the site; nothing listens yet.

        Args:
            world: What is served.
            users: Passwords by user name, the same on every host.
            accepts_module: Tells whether a script's text is our module.
            kind: Of the endpoints, "ordinary" or "jea".
            tls: HTTPS, or HTTP with sealed messages only.
            address: Of all endpoints, in 127.0.0.0/8 or ::1.
        """
        self.world = world
        self.endpoints: dict[str, tuple[str, int]] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="simulated-site-")
        self.ca_file = Path(self._directory.name) / "ca.pem"
        self._address = address
        self._stack = ExitStack()
        self._stopped = threading.Event()
        authority = Authority(self.ca_file)
        reader = Reader(world)
        self._servers = {
            name: WinRmServer(
                name,
                partial(self._run, name, HostHandler(Functions(world, reader, machine))),
                users,
                address=address,
                tls=authority.issue([name.lower()], [address]) if tls else None,
                kind=kind,
                accepts_module=accepts_module,
            )
            for name, machine in world.machines.items()
        }
        self._shown: dict[str, Fault | None] = dict.fromkeys(self._servers)
        self._losing: set[str] = set()  # hosts that go on losing the reply they lost last

    def server(self, host: str) -> WinRmServer:
        """Return a host's endpoint."""
        return self._servers[host]

    def __enter__(self) -> Self:
        try:
            self._stack.callback(self._directory.cleanup)
            for name, server in self._servers.items():
                self._stack.enter_context(server)
                self.endpoints[name] = (self._address, server.port)
            self.world.faults.listen(self._show_faults)
            self._show_faults()
            pump = threading.Thread(target=self._pump, name="simulated world", daemon=True)
            pump.start()
            self._stack.callback(pump.join)
            self._stack.callback(self._stopped.set)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.world.faults.forget(self._show_faults)
        self._stack.close()

    def _run(
        self, name: str, handler: HostHandler, function: str, parameters: Mapping[str, object]
    ) -> str:
        """Run a function, after seeing to it that its reply is lost if it is to be.

        A client reconnects and asks again for output that a broken connection swallowed; so a
        lost reply stays lost on the wire until the next call, whatever its count.
        """
        with self.world.present():
            self._losing.discard(name)
            self._show_faults()
            fault = self.world.faults.of_calls(name)
            if fault is not None and fault.kind is FaultKind.REPLY_LOST:
                self._losing.add(name)
                self.world.faults.strike(name, function)
                if self.world.faults.of_calls(name) is fault:
                    self._losing.discard(name)
        return handler(function, parameters)

    def _pump(self) -> None:
        """Let what is due happen also while nobody calls: a silent host must become silent."""
        while not self._stopped.wait(PUMP_S):
            self.world.advance()
            with self.world.lock:
                self._forget_used()

    def _show_faults(self) -> None:
        """Give each endpoint the fault that its host has now."""
        with self.world.lock:
            self._forget_used()
            for name, server in self._servers.items():
                self._show(name, server)

    def _show(self, name: str, server: WinRmServer) -> None:
        powered = self.world.machines[name].powered
        fault = self.world.faults.of_calls(name) if powered else _OFF
        if fault is self._shown[name] or (name in self._losing and fault is not _OFF):
            return
        self._shown[name] = fault
        if fault is None:
            server.heal()
        else:
            server.inject(_on_the_wire(fault))
        if fault is _OFF:
            server.drop_shells()

    def _forget_used(self) -> None:
        """A fault that has hit as often as it was to on the wire is over in the world as well."""
        for name, fault in self._shown.items():
            used_up = fault is not None and self._servers[name].fault is None
            if fault is not None and used_up:
                self._shown[name] = None
                self.world.faults.clear(fault)


def _on_the_wire(fault: Fault) -> WireFault:
    """Return what a fault of calls is on the wire; requests are known there by their action."""
    kind = _WIRE_KIND[fault.kind]
    if kind is Wire.REFUSE_CONNECT:
        return WireFault(kind)
    if kind is Wire.LOST_REPLY:
        return WireFault(kind, function=fault.function or None)
    return WireFault(kind, action="Command", count=fault.count)
