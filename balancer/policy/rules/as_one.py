"""`as_one`: these VMs are on one host and leave it together or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, InTurn, Rule, Turn, Unit
from balancer.policy.rules.domains import each_host
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOne(Rule):
    """Keeps VMs on one host and moves them as one: all of them, at once, to the same host.

    More than `together`: no migration of the set begins before there is room for all of it, and
    nothing else is waited for in between. A cluster's SameNode affinity rules are read as this,
    because the cluster moves such a set as a whole. Also for VMs that share a clustered disk
    which is no shared volume.
    """

    kind: ClassVar[str] = "as_one"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    during: bool = False  # the set is on two hosts while it moves

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that all of the VMs are on the same host and take their turn together."""
        vms = select_vms(cluster, self.vms)
        if len(vms) < 2:  # noqa: PLR2004 -- one is always with itself
            return ()
        return (Unit(vms, each_host(cluster)), InTurn(vms, Turn.AS_ONE))
