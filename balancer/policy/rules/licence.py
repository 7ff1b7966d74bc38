"""`licence`: these VMs run on licensed hosts and nowhere else, not even in passing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Selector
from balancer.policy.select import select_hosts, select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence(Rule):
    """Keeps VMs on the hosts that software in them is licensed for.

    Like `allow`, but it cannot be made soft and holds at every instant: a stop-over on a host
    without a licence would have to be paid for as well.

    Args:
        hosts: The licensed hosts.
    """

    kind: ClassVar[str] = "licence"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    hosts: tuple[Selector, ...]

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the licensed hosts."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say which hosts the VMs may be on."""
        vms = select_vms(cluster, self.vms)
        return (AllowedHosts(vms, select_hosts(cluster, self.hosts)),) if vms else ()
