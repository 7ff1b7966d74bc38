"""`within`: these VMs stay within one site or rack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Unit
from balancer.policy.rules.domains import each_host, named, of_level
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Within(Rule):
    """Keeps VMs within one fault domain: all of them in the same one, or all in the one named.

    `domain: site` keeps them on one site, whichever it is, for instance tiers of an application
    that talk all the time. `domain: Site:A` keeps them on that site.

    Args:
        domain: A level (site, rack, chassis) or one domain as the hosts name it, such as Site:A.
    """

    kind: ClassVar[str] = "within"

    domain: str

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that the VMs are in one domain, or on the hosts of the one named."""
        vms = select_vms(cluster, self.vms)
        if ":" in self.domain:
            return (AllowedHosts(vms, named(cluster, self.domain)),) if vms else ()
        domains = of_level(cluster, self.domain)
        placed = frozenset().union(*domains)
        # Of a host that is in none nobody knows where it is: it is no part of any of these.
        strays = tuple(hosts for hosts in each_host(cluster) if not hosts & placed)
        return (Unit(vms, domains + strays),) if len(vms) > 1 and domains else ()

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Say that there is no such domain."""
        if ":" in self.domain:
            return () if named(cluster, self.domain) else (f"no host is in {self.domain}",)
        return () if of_level(cluster, self.domain) else (f"no host is in a {self.domain}",)
