"""What the platform checks before it lets a live migration begin, and what it finds later.

`refusal` answers at once, when the act is asked for; `breakdown` is found during set-up, after
the act was accepted, and fails the migration below 10 %.
"""

from __future__ import annotations

from collections.abc import Collection

from balancer.gateway.simulator import numa
from balancer.gateway.simulator.physics import Spoiler, as_host
from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine
from balancer.gateway.simulator.windows import (
    AffinityRuleType,
    Hresult,
    NodeState,
    NodeStatus,
    VmStateCode,
)
from balancer.migration.rates import common_network

BREAKS_AT_PERCENT = 6.0  # compatibility and memory are checked late in the set-up
MEDIA_BREAKS_AT_PERCENT = 97.0  # an image that cannot be opened shows when the guest is restored
_REPLICA_MODES = (2, 3)


def refusal_of_node(target: Machine) -> Hresult | None:
    """Return why a cluster node accepts no guest now."""
    if not target.powered or target.node_state in (NodeState.DOWN, NodeState.UNKNOWN):
        return Hresult.NODE_DOWN
    if target.node_status & NodeStatus.DRAIN_IN_PROGRESS:
        return Hresult.DRAIN_IN_PROGRESS
    if target.node_state is NodeState.PAUSED:
        return Hresult.NODE_PAUSED
    if target.node_status & (NodeStatus.ISOLATED | NodeStatus.QUARANTINED):
        return Hresult.NODE_DOWN
    return None


def refusal_of_guest(guest: Guest) -> Hresult | None:
    """Return why a guest cannot be live migrated anywhere now."""
    if guest.operation is not None or guest.locked:
        return Hresult.RESOURCE_LOCKED
    if guest.replication_mode in _REPLICA_MODES:
        return Hresult.REPLICA_VM
    if guest.state not in (VmStateCode.RUNNING, VmStateCode.PAUSED):
        return Hresult.INVALID_STATE
    return None


def refusal_of_owner(
    guest: Guest, target: Machine, cluster: FailoverCluster, there: Collection[Guest]
) -> Hresult | None:
    """Return why the cluster's rules keep a guest from a node.

    Args:
        guest: The guest that is to move.
        target: Where it is to go.
        cluster: Whose rules hold.
        there: Guests that are on the target or on their way to it.
    """
    if guest.possible_owners and target.name not in guest.possible_owners:
        return Hresult.NOT_POSSIBLE_OWNER
    for rule in cluster.rules:
        if not rule.enabled or rule.kind is not AffinityRuleType.DIFFERENT_NODE:
            continue
        if guest.group in rule.groups and any(other.group in rule.groups for other in there):
            return Hresult.AFFINITY_CONFLICT
    if cluster.enforced_anti_affinity and any(
        set(guest.anti_affinity) & set(other.anti_affinity) for other in there
    ):
        return Hresult.AFFINITY_CONFLICT
    return None


def same_node_groups(cluster: FailoverCluster, group: str) -> set[str]:
    """Return the groups that enabled SameNode rules tie to a group, itself among them."""
    tied, grew = {group}, True
    while grew:
        grew = False
        for rule in cluster.rules:
            same = rule.enabled and rule.kind is AffinityRuleType.SAME_NODE
            if same and tied & set(rule.groups) and not set(rule.groups) <= tied:
                tied |= set(rule.groups)
                grew = True
    return tied


def breakdown(
    guest: Guest, source: Machine, target: Machine, available: int, there: Collection[Guest]
) -> Spoiler | None:
    """Return how a migration that was let in will fail, or None when it will not.

    Args:
        guest: The guest on its way.
        source: Its present machine.
        target: Its next machine.
        available: Memory the target has left for guests, in bytes.
        there: Guests that are on the target or on their way to it.
    """
    if available < guest.assigned_bytes or not _has_room(guest, target, there):
        return Spoiler(BREAKS_AT_PERCENT, Hresult.INSUFFICIENT_RESOURCES)
    if not _connected(source, target):
        return Spoiler(1.0, Hresult.NETWORK_NOT_AVAILABLE)
    if not _compatible(guest, source, target):
        return Spoiler(BREAKS_AT_PERCENT, Hresult.INCOMPATIBLE_NODES)
    if _bound_to_host(guest):
        return Spoiler(BREAKS_AT_PERCENT, Hresult.UNSPECIFIED)
    if any(path[1:2] == ":" and "\\ClusterStorage\\" not in path for path in guest.media):
        return Spoiler(MEDIA_BREAKS_AT_PERCENT, Hresult.DISK_PROVIDER_NOT_FOUND)
    return None


def _has_room(guest: Guest, target: Machine, there: Collection[Guest]) -> bool:
    """Tell whether the target has the processors, reserved ones too, and a NUMA node with room."""
    reserved = sum(one.vcpus * one.cpu_reserve_percent for one in (*there, guest))
    return (
        guest.vcpus <= target.logical_processors
        and (not guest.cpu_reserve_percent or reserved <= 100 * target.logical_processors)
        and numa.holds(target, there, guest)
    )


def _connected(source: Machine, target: Machine) -> bool:
    """Tell whether live migration is on at both ends and a network joins them."""
    enabled = source.migration_enabled and target.migration_enabled
    return enabled and common_network(as_host(source), as_host(target)) is not None


def _compatible(guest: Guest, source: Machine, target: Machine) -> bool:
    """Tell whether the guest would run on the target as it is."""
    return (
        source.cpu_vendor == target.cpu_vendor
        and guest.version in target.vm_versions
        and set(guest.switches) <= set(target.switches)
    )


def _bound_to_host(guest: Guest) -> bool:
    """Tell whether the guest hangs on hardware of its machine."""
    return (
        guest.assigned_devices > 0
        or (guest.gpu_partitions > 0 and not guest.gpu_partitions_movable)
        or any(not disk.path for disk in guest.disks)
    )
