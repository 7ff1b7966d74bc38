"""`avoid`: these VMs stay off these hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Selector
from balancer.policy.select import select_hosts, select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoid(Rule):
    """Keeps VMs off hosts, for instance off the oldest ones; often used with `hard: false`.

    Args:
        hosts: The hosts the VMs stay off.
    """

    kind: ClassVar[str] = "avoid"

    hosts: tuple[Selector, ...]

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the hosts to avoid."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that the VMs may be on all the other hosts."""
        vms = select_vms(cluster, self.vms)
        others = frozenset(host.name for host in cluster.hosts)
        others -= select_hosts(cluster, self.hosts)
        return (AllowedHosts(vms, others),) if vms else ()

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Say that no host is left."""
        left = len(cluster.hosts) - len(select_hosts(cluster, self.hosts))
        return () if left else ("it leaves the VMs no host at all",)
