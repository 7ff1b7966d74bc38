"""What a policy lets move that is not moved by default."""

from __future__ import annotations

from dataclasses import replace

from balancer.model.cluster import Blocker, Cluster
from balancer.policy.policy import Policy
from balancer.policy.rules import OneAtATime
from balancer.policy.select import select_vms


def lifted(cluster: Cluster, policy: Policy) -> Cluster:
    """Return `cluster` with VMs free of shared disks' block where the policy moves them in turn."""
    allowed = frozenset[str]().union(
        *(
            select_vms(cluster, rule.vms)
            for rule in policy.rules
            if isinstance(rule, OneAtATime) and rule.shared_disks
        )
    )
    if not allowed:
        return cluster
    return replace(
        cluster,
        vms=tuple(
            replace(vm, blocked_by=tuple(w for w in vm.blocked_by if w != Blocker.SHARED_DISK))
            if vm.id in allowed and Blocker.SHARED_DISK in vm.blocked_by
            else vm
            for vm in cluster.vms
        ),
    )
