"""`allow`: these VMs run only on these hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Selector
from balancer.policy.select import select_hosts, select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow(Rule):
    """Restricts VMs to hosts, for instance to those in one building.

    Args:
        hosts: The only hosts the VMs may be on.
    """

    kind: ClassVar[str] = "allow"

    hosts: tuple[Selector, ...]

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the allowed hosts."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say which hosts the VMs may be on."""
        vms = select_vms(cluster, self.vms)
        return (AllowedHosts(vms, select_hosts(cluster, self.hosts)),) if vms else ()
