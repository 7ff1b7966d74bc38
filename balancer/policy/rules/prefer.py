"""`prefer`: these VMs are better off on these hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Selector, TieBreak
from balancer.policy.select import select_hosts, select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefer(Rule):
    """Brings VMs to hosts as far as nothing more important stands against it.

    It counts above an even load and below ending overload. A cluster's preferred owners are read
    as this rule, and the owner of a volume that a VM reaches by way of it; the owner of any other
    volume breaks ties.

    Args:
        hosts: The hosts the VMs are better off on; each is as good as the other.
        tie_break: Only to choose between targets that are alike in everything else; nothing is
            moved for it.
    """

    kind: ClassVar[str] = "prefer"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    hosts: tuple[Selector, ...]
    hard: bool = False
    during: bool = False
    tie_break: bool = False

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the preferred hosts."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say where the VMs should be; being elsewhere costs."""
        vms, hosts = select_vms(cluster, self.vms), select_hosts(cluster, self.hosts)
        if not vms or not hosts:
            return ()
        return (TieBreak(vms, hosts) if self.tie_break else AllowedHosts(vms, hosts),)
