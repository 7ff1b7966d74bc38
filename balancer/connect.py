"""From the configuration to a gateway: where each host is, and how to log in to it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from balancer.clock import Clock, SystemClock
from balancer.config import ClusterPart, Config, read_password
from balancer.errors import BalancerError, InputError, Place, UnreachableError
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import InParallel
from balancer.gateway.host import HostFunctions
from balancer.gateway.hyperv.connection import (
    ORDINARY_CONFIGURATION,
    OVERRUN_S,
    Auth,
    Connection,
    Secret,
)
from balancer.gateway.hyperv.remote import HyperVHost
from balancer.gateway.names import host_key
from balancer.gateway.wire import HostAnswer

# More threads than this bring nothing: reading is bound by one interpreter's parsing.
THREADS = 16
PORT_MAX = 65535


def connect(config: Config, part: ClusterPart, clock: Clock) -> ClusterGateway:
    """Return the gateway to a configured cluster; nothing is connected before it is used.

    `clock` stamps the snapshots; deadlines run on the machine's own.

    Raises:
        InputError: An address or the password's file is wrong, or hosts cannot be told apart.
    """
    _refuse_namesakes(part)
    gather = InParallel(THREADS, part.connection.deadline + OVERRUN_S)
    return ClusterGateway(
        part.name, part.hosts, ways(config, part), gather, clock, clustered=not part.standalone
    )


def _refuse_namesakes(part: ClusterPart) -> None:
    """Refuse stand-alone hosts that differ in their domain only: one would be taken for the other.

    Nodes of a cluster cannot share a name; two of those are one node, named twice.
    """
    seen: dict[str, str] = {}
    for host in part.hosts if part.standalone else ():
        other = seen.setdefault(host_key(host), host)
        if other is not host:
            raise InputError(
                f"{part.name}: {other} and {host} have the same computer name",
                remedy="name each host once; hosts of one name go into clusters of their own",
            )


def ways(config: Config, part: ClusterPart) -> Callable[[str], HostFunctions]:
    """Return what makes the way to a host from its name."""
    _check_trust(config, part)
    password = read_password(config, part.connection)
    secret = None if password is None else Secret(password)
    addresses = {name.casefold(): text for name, text in part.addresses.items()}
    clock = SystemClock()
    for host in part.hosts:
        _connection(config, part, addresses, host, secret)  # a wrong address is told at once

    def way(host: str) -> HostFunctions:
        return HyperVHost(host, _connection(config, part, addresses, host, secret), clock)

    return way


def _check_trust(config: Config, part: ClusterPart) -> None:
    """Refuse a file of authorities that cannot be read or holds no certificate."""
    named = part.connection.ca_file
    if named is None:
        return
    file = config.beside(named)
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:
        why = (
            "no certificate in PEM is in it" if isinstance(error, ssl.SSLError) else error.strerror
        )
        raise InputError(
            f"cannot trust anybody by {file}: {why}",
            place=Place(str(config.file), key=f"{part.name}: connection.ca_file"),
            remedy="name the PEM file of the authority that signed the hosts' certificates",
        ) from None


def _connection(
    config: Config,
    part: ClusterPart,
    addresses: Mapping[str, str],
    host: str,
    password: Secret | None,
) -> Connection:
    address, port = _address(part, addresses, host)
    asked = part.connection
    return Connection(
        address=address,
        port=port or asked.port,
        tls=asked.tls,
        ca_file=None if asked.ca_file is None else config.beside(asked.ca_file),
        auth=Auth(asked.auth),
        username=asked.username,
        password=password,
        configuration_name=asked.configuration or ORDINARY_CONFIGURATION,
        connect_timeout_s=asked.connect_timeout,
        deadline_s=asked.deadline,
    )


def _address(part: ClusterPart, addresses: Mapping[str, str], host: str) -> tuple[str, int | None]:
    """Return where a host is: what the configuration says, else its name with the domain."""
    text = addresses.get(host.casefold())
    if text is None:
        dotted = "." in host or part.domain is None
        return (host if dotted else f"{host}.{part.domain}"), None
    name, colon, number = text.rpartition(":")
    if not colon or name.endswith(":") or "]" in number:
        return text.strip("[]"), None  # no port: a name, or a bare IPv6 address
    if not number.isdecimal() or not 1 <= int(number) <= PORT_MAX:
        raise InputError(
            f"the address of {host} has the port {number!r}",
            remedy=f"write ADDRESS or ADDRESS:PORT with a port from 1 to {PORT_MAX}",
        )
    return name.strip("[]"), int(number)


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether one host can be reached, logged in to and read."""

    host: str
    ok: bool
    module: int | None
    text: str


def reach(config: Config, part: ClusterPart) -> tuple[Reached, ...]:
    """Ask every configured host, and every node they name, who it is; change nothing."""
    way = ways(config, part)
    gather = InParallel(THREADS, part.connection.deadline + OVERRUN_S)
    found: dict[str, Reached] = {}
    asked = list(part.hosts)
    while asked:
        hosts = {name: way(name) for name in asked}
        outcomes = gather({name: _Probe(host, part) for name, host in hosts.items()})
        others: list[str] = []
        for name, outcome in outcomes.items():
            if isinstance(outcome, BalancerError):
                found[_short(name)] = Reached(name, ok=False, module=None, text=str(outcome))
            else:
                found[_short(name)] = outcome[0]
                others.extend(outcome[1])
        asked = sorted({node for node in others if _short(node) not in found})
    return tuple(sorted(found.values(), key=lambda one: one.host.casefold()))


def _short(name: str) -> str:
    return name.casefold().split(".")[0]


@dataclass(frozen=True, slots=True)
class _Probe:
    """One host's examination, as a call for the gatherer."""

    host: HostFunctions
    part: ClusterPart

    def __call__(self) -> tuple[Reached, tuple[str, ...]]:
        try:
            return self._examine()
        finally:
            self.host.close()

    def _examine(self) -> tuple[Reached, tuple[str, ...]]:
        version = self.host.version()
        nodes: tuple[str, ...] = ()
        if not self.part.standalone:
            if not version.clustered:
                raise UnreachableError(
                    f"{self.host.name} is no node of a failover cluster",
                    remedy="configure it with standalone: true, or name nodes of the cluster",
                )
            cluster = self.host.read_cluster()
            nodes = tuple(row.name for row in cluster.nodes.data or [])
        faults = _faults(self.host.read_host())
        text = "; ".join(faults) or f"reached {version.computer}, logged in, everything readable"
        reached = Reached(self.host.name, ok=not faults, module=version.module, text=text)
        return reached, nodes


def _faults(answer: HostAnswer) -> list[str]:
    """Return a sentence for each part of the host that cannot be read."""
    found: list[str] = []
    for name in HostAnswer.model_fields:
        section = getattr(answer, name)
        if getattr(section, "ok", True):
            continue
        fault = section.fault
        why = "" if fault is None else fault.message or fault.fqid
        found.append(f"cannot read {name}: {why or 'no reason given'}")
    return found
