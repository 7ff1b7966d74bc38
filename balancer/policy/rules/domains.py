"""Sets of hosts that rules count over."""

from __future__ import annotations

from balancer.model.cluster import Cluster


def each_host(cluster: Cluster) -> tuple[frozenset[str], ...]:
    """Return one domain for each host, by name."""
    return tuple(frozenset({name}) for name in sorted(host.name for host in cluster.hosts))
