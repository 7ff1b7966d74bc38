"""`together`: these VMs run on the same host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, Rule, Unit
from balancer.policy.rules.domains import each_host
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(Rule):
    """Keeps VMs on one host, for instance an application and the database it talks to.

    They move one after another, so by default the rule holds at the end of a plan only; with
    `during: true` a set that is together stays where it is.
    """

    kind: ClassVar[str] = "together"

    during: bool = False

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that the VMs are one unit over single hosts."""
        vms = select_vms(cluster, self.vms)
        return (Unit(vms, each_host(cluster)),) if len(vms) > 1 else ()
