"""The policy's `interlock`, as it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from balancer.policy.fields import Document
from balancer.policy.interlock import Heed, Interlock

_Heed = Literal[Heed.REFUSE, Heed.WAIT, Heed.IGNORE]


class InterlockDocument(Document):
    """What happens to a rebalance while somebody else acts on the cluster.

    refuse: nothing is carried out, plans are made and shown. wait: it is put off until they are
    done. ignore: it goes on beside them; what they move counts. Drains, returns and single moves
    that a person asks for are not held up.
    """

    built_in_balancer: Heed = Field(
        Heed.REFUSE,
        description="The cluster's own balancing (AutoBalancerMode 2, or 1 while a node joins). "
        "take_over switches it off for the time of a run, and back afterwards, also after a "
        "crash.",
    )
    scvmm: _Heed = Field(
        Heed.REFUSE,
        description="System Center Virtual Machine Manager manages hosts. Whether its Dynamic "
        "Optimization is on cannot be seen from them: ignore says that it is not.",
    )
    cluster_aware_updating: _Heed = Field(
        Heed.WAIT,
        description="A run of Cluster-Aware Updating is under way.",
    )
    node_drain: _Heed = Field(
        Heed.WAIT, description="Somebody drains a node by the platform's own means."
    )

    def interlock(self) -> Interlock:
        """Return what was written."""
        return Interlock(
            self.built_in_balancer, self.scvmm, self.cluster_aware_updating, self.node_drain
        )
