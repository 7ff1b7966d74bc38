"""Sets of hosts that rules count over."""

from __future__ import annotations

from balancer.model.cluster import Cluster

HOST = "host"  # the level below all fault domains: each host for itself


def each_host(cluster: Cluster) -> tuple[frozenset[str], ...]:
    """Return one domain for each host, by name."""
    return tuple(frozenset({name}) for name in sorted(host.name for host in cluster.hosts))


def of_level(cluster: Cluster, level: str) -> tuple[frozenset[str], ...]:
    """Return the fault domains of a level (`site`, `rack`, `chassis`, `host`), in order.

    Two racks of the same name on different sites are two. A host that is in no domain of the
    level is in none of these either.
    """
    if level.casefold() == HOST:
        return each_host(cluster)
    found: dict[tuple[str, ...], set[str]] = {}
    for host in cluster.hosts:
        path = tuple(part.casefold() for part in host.fault_domain)
        for depth, part in enumerate(path, start=1):
            if part.partition(":")[0].strip() == level.casefold():
                found.setdefault(path[:depth], set()).add(host.name)
                break
    return tuple(frozenset(hosts) for _, hosts in sorted(found.items()))


def named(cluster: Cluster, domain: str) -> frozenset[str]:
    """Return the hosts of the fault domain that is called `domain`, such as `Site:A`."""
    return frozenset(
        host.name
        for host in cluster.hosts
        if domain.casefold() in (part.casefold() for part in host.fault_domain)
    )
