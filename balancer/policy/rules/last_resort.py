"""`last_resort`: these VMs move only if nothing else helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, Rule, StayPut
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class LastResort(Rule):
    """Leaves VMs alone as long as others will do, for instance those that suffer from a blackout.

    They move to empty a host, to repair a hard rule or to end an overload, if no other VM can, and
    never for an even load or a soft rule.
    """

    kind: ClassVar[str] = "last_resort"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say which VMs stay put."""
        vms = select_vms(cluster, self.vms)
        return (StayPut(vms),) if vms else ()
