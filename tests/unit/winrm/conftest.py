"""A simulated host and the unmodified client, ready to be put together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from balancer.gateway.simulator.winrm import Authority, CommandFailed, UnknownCommandError
from balancer.gateway.simulator.winrm.server import WinRmServer

USER, PASSWORD = "CONTOSO\\balancer", "pa:ss w\u00f6rd"  # a colon and an umlaut on purpose
OTHER_USER, OTHER_PASSWORD = "operator", "x"
USERS = {USER: PASSWORD, OTHER_USER: OTHER_PASSWORD}
MODULE = "function global:Get-LbVersion { '{}' }"


@dataclass
class Functions:
    """A handler that answers what it was asked, and remembers it."""

    calls: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=10))

    def __call__(self, function: str, parameters: Mapping[str, object]) -> str:
        self.calls.append((function, dict(parameters)))
        match function:
            case "Get-Echo":
                return json.dumps(parameters, ensure_ascii=False)
            case "Get-Big":
                return "&<_x" + "\u00fc" * int(str(parameters["Length"]))
            case "Wait-Release":
                self.entered.set()
                assert self.release.wait(20)
                return "released"
            case "Wait-Together":
                self.together.wait()
                return "together"
            case "Stop-Badly":
                raise CommandFailed("GroupIsMoving,Stop-Badly", 7, 0x80071714, "it moves")
            case "Break-Handler":
                raise ZeroDivisionError("division by zero")
        raise UnknownCommandError(function)


@dataclass
class Client:
    """One WSMan connection with one open runspace pool."""

    wsman: WSMan
    pool: RunspacePool

    def patience(self, read_timeout_s: float) -> None:
        """Change how long each read of the socket may take."""
        transport: Any = self.wsman.transport
        transport.read_timeout = read_timeout_s

    def begin(self, function: str, **parameters: Any) -> PowerShell:
        shell = PowerShell(self.pool)
        shell.add_cmdlet(function).add_parameters(parameters)
        shell.begin_invoke()
        return shell

    def run(self, function: str, **parameters: Any) -> PowerShell:
        shell = self.begin(function, **parameters)
        shell.end_invoke()
        return shell

    def call(self, function: str, **parameters: Any) -> str:
        shell = self.run(function, **parameters)
        assert not shell.had_errors, shell.streams.error
        (output,) = shell.output
        shell.close()
        return str(output)

    def script(self, text: str) -> PowerShell:
        shell = PowerShell(self.pool)
        shell.add_script(text)
        shell.invoke()
        return shell


@pytest.fixture
def functions() -> Iterator[Functions]:
    made = Functions()
    yield made
    made.release.set()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "ca.pem")


@pytest.fixture
def make_server(authority: Authority, functions: Functions) -> Iterator[Callable[..., WinRmServer]]:
    started: list[WinRmServer] = []

    def make(*, tls: bool = True, **options: Any) -> WinRmServer:
        users: Mapping[str, str] = options.pop("users", USERS)
        options.setdefault("kind", "jea")
        address: str = options.get("address", "127.0.0.1")
        identity = authority.issue(["hv01"], [address]) if tls else None
        server = WinRmServer("HV01", functions, users, tls=identity, **options)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def server(make_server: Callable[..., WinRmServer]) -> WinRmServer:
    return make_server()


@pytest.fixture
def connect(authority: Authority) -> Iterator[Callable[..., Client]]:
    opened: list[Client] = []

    def make(server: WinRmServer, *, max_runspaces: int = 1, **options: Any) -> Client:
        wsman = new_wsman(server, authority.ca_file, **options)
        pool = RunspacePool(
            wsman, max_runspaces=max_runspaces, configuration_name=server.configuration
        )
        client = Client(wsman, pool)
        opened.append(client)
        pool.open()
        return client

    yield make
    for client in opened:
        client.wsman.close()


@pytest.fixture
def client(server: WinRmServer, connect: Callable[..., Client]) -> Client:
    return connect(server)


def new_wsman(server: WinRmServer, ca_file: Path, **options: Any) -> WSMan:
    https = server.url.startswith("https")
    defaults = {
        "ssl": https,
        "auth": "basic" if https else "ntlm",
        "username": USER,
        "password": PASSWORD,
        "cert_validation": str(ca_file),
        "no_proxy": True,
        "operation_timeout": 5,
        "read_timeout": 8,
        "reconnection_backoff": 0.0,
    }
    address = options.pop("address", server.address)
    return WSMan(address, port=server.port, **(defaults | options))
