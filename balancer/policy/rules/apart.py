"""`apart`: these VMs run on different hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Cap, Form, Rule
from balancer.policy.rules.domains import each_host
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart(Rule):
    """Keeps VMs off each other's hosts, for instance the nodes of a guest cluster.

    With more VMs than hosts, say `max_per_host`.

    Args:
        max_per_host: How many of the VMs one host may have.
    """

    kind: ClassVar[str] = "apart"

    max_per_host: int = 1

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that no host has more than `max_per_host` of the VMs."""
        vms = select_vms(cluster, self.vms)
        if len(vms) <= self.max_per_host:
            return ()
        return (Cap(vms, each_host(cluster), self.max_per_host),)
