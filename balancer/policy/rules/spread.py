"""`spread`: these VMs are spread over sites, racks or hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster, HostState
from balancer.model.rule import Cap, Form, Rule
from balancer.policy.rules.domains import of_level
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread(Rule):
    """Spreads VMs over fault domains, so that losing one site or rack never takes all of them.

    Evenly, unless `max_per_domain` says how many one may have: seven VMs on two sites are at most
    four on each. Domains without a host that is up do not count, so a drained one stands in
    nobody's way.

    Args:
        domain: The level of the hosts' fault domains to spread over: site, rack, chassis, or host.
        max_per_domain: How many of the VMs one domain may have; left out: an even share.
    """

    kind: ClassVar[str] = "spread"

    domain: str
    max_per_domain: int | None = None

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that no domain has more than its share of the VMs."""
        vms, domains = select_vms(cluster, self.vms), of_level(cluster, self.domain)
        up = {host.name for host in cluster.hosts if host.state is HostState.UP}
        open_domains = sum(1 for hosts in domains if hosts & up)
        share = -(-len(vms) // max(1, open_domains))
        limit = self.max_per_domain or share
        if not domains or len(vms) <= limit:
            return ()
        return (Cap(vms, domains, limit),)

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Say that no host is in a domain of the level."""
        return () if of_level(cluster, self.domain) else (f"no host is in a {self.domain}",)
