"""`pin`: these VMs belong on these hosts and stay where they are once there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule, Selector
from balancer.policy.select import select_hosts, select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin(Rule):
    """Brings VMs to hosts and holds them there: a VM on one of the hosts is not moved off it.

    Args:
        hosts: The hosts the VMs belong on; with several, a VM goes to one and stays there.
    """

    kind: ClassVar[str] = "pin"

    hosts: tuple[Selector, ...]

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the hosts the VMs belong on."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say for each VM: its own host if that is one of them, else any of them."""
        hosts = select_hosts(cluster, self.hosts)
        vms = sorted(select_vms(cluster, self.vms))
        at_home = {vm: cluster.vm_by_id[vm].host for vm in vms}
        held = [
            AllowedHosts(frozenset({vm}), frozenset({at_home[vm]}))
            for vm in vms
            if at_home[vm] in hosts
        ]
        away = frozenset(vm for vm in vms if at_home[vm] not in hosts)
        return (*held, AllowedHosts(away, hosts)) if away else tuple(held)
