"""`never_move`: these VMs are not live migrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Form, Rule
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverMove(Rule):
    """Leaves VMs where they are; their load still counts, and a drain names them."""

    kind: ClassVar[str] = "never_move"

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say for each VM that its present host is the only one allowed."""
        return tuple(
            AllowedHosts(frozenset({vm}), frozenset({cluster.vm_by_id[vm].host}))
            for vm in sorted(select_vms(cluster, self.vms))
        )
