"""`only_during`: these VMs move only in these hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, OnlyWhen, Rule
from balancer.policy.select import select_vms
from balancer.policy.windows import HORIZON, Calendar, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyDuring(Rule):
    """Moves VMs only in windows of their own, within those of the policy.

    A migration has to end, as forecast, in the window it starts in. Drains keep to it as well: a
    VM outside its window is named and stays. With `hard: false` moving outside only costs.

    Args:
        windows: When they may move, written as the policy's own windows are.
    """

    kind: ClassVar[str] = "only_during"
    withheld: ClassVar[frozenset[str]] = frozenset({"during"})
    policy_only: ClassVar[bool] = True

    windows: tuple[Span, ...]

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say when the VMs may move."""
        vms = select_vms(cluster, self.vms)
        return (OnlyWhen(vms, Calendar(windows=self.windows)),) if vms else ()

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Say that the VMs will not move any more."""
        at = cluster.taken_at
        over = at is not None and Calendar(windows=self.windows).next_opening(at) is None
        return (f"none of its windows opens within {HORIZON.days} days",) if over else ()
