"""`max_vms`: these hosts have no more than so many VMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Cap, Form, Rule, Selector
from balancer.policy.select import select_hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxVms(Rule):
    """Limits how many VMs a host has, so that its failure is not felt by too many.

    All VMs count, also those that are off: they may be started.

    Args:
        hosts: The hosts it is about, each for itself.
        limit: How many VMs one of them may have.
    """

    kind: ClassVar[str] = "max_vms"
    withheld: ClassVar[frozenset[str]] = frozenset({"vms"})

    vms: tuple[Selector, ...] = ()
    hosts: tuple[Selector, ...]
    limit: int

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the hosts."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say how many of all the VMs each host may have."""
        hosts = tuple(frozenset({name}) for name in sorted(select_hosts(cluster, self.hosts)))
        everyone = frozenset(cluster.vm_by_id)
        return (Cap(everyone, hosts, self.limit),) if hosts else ()
