"""`balancer_vm`: the VM that the balancer itself runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, InTurn, Rule, StayPut, Turn
from balancer.policy.select import select_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerVm(Rule):
    """Moves the balancer's own VM last and deliberately.

    Only where a drain, a hard rule or an overload asks for it and no other VM will do but those
    with `last_resort`, which count alike; once every other migration of the plan has ended well,
    and with nothing else under way.
    """

    kind: ClassVar[str] = "balancer_vm"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say that it stays put, and moves last."""
        vms = select_vms(cluster, self.vms)
        return (StayPut(vms), InTurn(vms, Turn.LAST)) if vms else ()
