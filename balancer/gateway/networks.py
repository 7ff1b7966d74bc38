"""Which networks live migration may use, and what each host has in them. Pure.

Hosts have a network in common when its name is the same at both, so the names must not depend
on the host: a cluster's network has the cluster's name for it, on stand-alone hosts a network
is called by its subnet.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from enum import Enum

from balancer.gateway.names import id_key
from balancer.gateway.states import TRANSPORTS
from balancer.gateway.wire import ClusterAnswer, HostAnswer, NicRow
from balancer.model.cluster import (
    ClusterNetwork,
    ManagedBy,
    MigrationNetwork,
    MigrationSettings,
    Transport,
)


class Whose(Enum):
    """Where a host's migration networks come from when its cluster does not name them."""

    ALONE = "alone"  # it stands alone: its own settings
    UNREAD = "unread"  # its cluster did not say


ALONE, UNREAD = Whose.ALONE, Whose.UNREAD
Offered = Sequence[ClusterNetwork] | Whose

_NETWORK_UP = 3

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def cluster_networks(answer: ClusterAnswer) -> tuple[ClusterNetwork, ...]:
    """Return the cluster's networks in the order live migration prefers them."""
    rows = answer.networks.data or []
    kind = answer.vm_resource_type.data
    excluded = {id_key(one) for one in kind.excluded_networks} if kind else set()
    order = {id_key(one): at for at, one in enumerate(kind.network_order)} if kind else {}
    # Networks without a place in the order come last, as the cluster's own metric ranks them.
    ranked = sorted(rows, key=lambda row: (order.get(id_key(row.id), len(order)), row.metric))
    return tuple(
        ClusterNetwork(
            name=row.name,
            id=row.id,
            subnets=tuple(row.subnets),
            up=row.state == _NETWORK_UP,
            migration=id_key(row.id) not in excluded,
        )
        for row in ranked
    )


def migration_settings(
    answer: HostAnswer, offered: Offered, before: MigrationSettings | None
) -> MigrationSettings:
    """Return a host's settings.

    Args:
        answer: Of the host; one whose `host` section failed gives `before` or the defaults.
        offered: The networks of its cluster, in order of preference, or why there are none.
        before: The settings last known, for what could not be read this time.
    """
    part = answer.host.data
    if part is None:
        return before or MigrationSettings()
    service = answer.migration.data
    listens = service is None or bool(service.listeners)
    atc = answer.atc.data
    limit = answer.smb_limit.data
    return MigrationSettings(
        # Without an address to listen on no migration arrives, and the module starts none.
        enabled=part.migration_enabled and listens,
        transport=TRANSPORTS.get(part.migration_option, Transport.COMPRESSION),
        concurrent=part.migrations_max,
        # Not knowing who owns the settings is a reason not to write them.
        managed_by=ManagedBy.NETWORK_ATC if atc is None or atc.managed else ManagedBy.NONE,
        networks=_networks(answer, offered, before),
        smb_limit_bytes_per_s=limit.live_migration_bytes_per_s if limit else None,
    )


def _networks(
    answer: HostAnswer, offered: Offered, before: MigrationSettings | None
) -> tuple[MigrationNetwork, ...]:
    nics = answer.nics.data
    if nics is None or offered is UNREAD:
        return before.networks if before else MigrationSettings().networks
    wanted = _alone(answer, nics) if isinstance(offered, Whose) else _clustered(offered)
    found = (_network(name, subnets, nics) for name, subnets in wanted)
    return tuple(one for one in found if one is not None)


def _clustered(networks: Sequence[ClusterNetwork]) -> list[tuple[str, list[_Network]]]:
    return [
        (one.name, _parse_networks(one.subnets)) for one in networks if one.up and one.migration
    ]


def _alone(answer: HostAnswer, nics: Sequence[NicRow]) -> list[tuple[str, list[_Network]]]:
    """Return the networks a stand-alone host offers: those it was told, or any it has."""
    own = list(dict.fromkeys(address.network for nic in nics for address in _addresses(nic)))
    part, rows = answer.host.data, answer.lm_networks.data
    if part is None or part.any_network or rows is None:
        by_speed = sorted(own, key=lambda one: -_speed(one, nics))
        return [(str(one), [one]) for one in by_speed]
    told = sorted(rows, key=lambda row: (row.priority is None, row.priority or 0))
    subnets = _parse_networks(row.subnet for row in told)
    ordered = dict.fromkeys(one for subnet in subnets for one in own if _overlap(one, subnet))
    return [(str(one), [one]) for one in ordered]


def _overlap(one: _Network, other: _Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.overlaps(other)
    return isinstance(other, ipaddress.IPv6Network) and one.overlaps(other)


def _speed(network: _Network, nics: Sequence[NicRow]) -> float:
    return max((nic.link_bps for nic in nics if _within(nic, [network])), default=0.0)


def _network(
    name: str, subnets: Iterable[_Network], nics: Sequence[NicRow]
) -> MigrationNetwork | None:
    """Return what a host has in a network, or None: only its fastest adapters of one kind count.

    SMB multichannel uses adapters of the fastest sort alone, and RDMA before others.
    """
    within = [nic for nic in nics if nic.link_bps > 0 and _within(nic, subnets)]
    if not within:
        return None
    fastest = max(nic.link_bps for nic in within)
    fast = [nic for nic in within if nic.link_bps == fastest]
    rdma = [nic for nic in fast if nic.rdma]
    return MigrationNetwork(name, fastest, len(rdma or fast), rdma=bool(rdma))


def _within(nic: NicRow, subnets: Iterable[_Network]) -> bool:
    return any(
        address.version == subnet.version and address.ip in subnet
        for address in _addresses(nic)
        for subnet in subnets
    )


def _addresses(nic: NicRow) -> list[_Interface]:
    """Return a NIC's addresses; link-local ones connect nothing across hosts."""
    found: list[_Interface] = []
    for text in nic.addresses:
        try:
            address = ipaddress.ip_interface(text.partition("%")[0] if "%" in text else text)
        except ValueError:
            continue
        if not address.ip.is_link_local and not address.ip.is_loopback:
            found.append(address)
    return found


def _parse_networks(texts: Iterable[str]) -> list[_Network]:
    found: list[_Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue  # a network without a subnet that we understand holds no adapter of ours
    return found
