"""`priority`: these VMs are served first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, InTurn, Rule, Turn
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority(Rule):
    """Serves VMs first: of migrations that could begin, theirs do, and they are given up last.

    What ends an overload, repairs a rule or empties a host still comes before what evens out.
    """

    kind: ClassVar[str] = "priority"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say which VMs come first."""
        vms = select_vms(cluster, self.vms)
        return (InTurn(vms, Turn.FIRST),) if vms else ()
