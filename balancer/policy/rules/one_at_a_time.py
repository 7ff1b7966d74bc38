"""`one_at_a_time`: of these VMs never two are under way at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, InTurn, Rule, Turn
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class OneAtATime(Rule):
    """Moves VMs one after another, for instance the nodes of a guest cluster or domain controllers.

    The blackouts of two nodes at once would cost a guest cluster its quorum. If one migration
    fails, those of the others that come after it are not begun.

    Args:
        shared_disks: Whether VMs with shared disks (VHD sets, shared VHDX) move as well. By default
            they stay: it is known to work within one cluster's shared volumes only.
    """

    kind: ClassVar[str] = "one_at_a_time"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    shared_disks: bool = False

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say which VMs take turns."""
        vms = select_vms(cluster, self.vms)
        return (InTurn(vms, Turn.ONE_AT_A_TIME),) if len(vms) > 1 else ()
