"""What failures cost a placement at which nothing moves, as the judge measures it (decision 10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from balancer.judge.drill import Drill, Loss
from balancer.model.cluster import Cluster, HostState
from balancer.policy.capacity import keeps_awake
from balancer.policy.policy import Goal
from balancer.policy.survival import RANKS, restart_bytes, restart_rank

Place = Mapping[str, str]


def awake(cluster: Cluster, place: Place) -> frozenset[str]:
    """Return the hosts that are up and carry something that needs them."""
    carrying = {place[vm.id] for vm in cluster.vms if keeps_awake(vm)}
    carrying |= {name for name, vms in cluster.arriving_on.items() if vms}
    up = (host.name for host in cluster.hosts if host.state is HostState.UP)
    return frozenset(name for name in up if name in carrying)


def lost(drill: Drill, place: Place) -> list[Loss]:
    """Return what is lost once nothing moves; a host that is to sleep takes no restarts."""
    packs = drill.policy.goal is Goal.CONSOLIDATE
    return list(drill.losses(place, takers=awake(drill.cluster, place) if packs else None))


def weight(cluster: Cluster, losses: Iterable[Loss]) -> tuple[int, ...]:
    """Return the bytes of losses by priority, the highest first: what compares as more is worse."""
    total = [0] * len(RANKS)
    for loss in losses:
        vm = cluster.vm_by_id[loss.vm]
        total[restart_rank(vm)] += restart_bytes(vm)
    return tuple(total)
