"""One host and one VM of the snapshot, from answers or from what was known before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from balancer.gateway.blockers import blocked_by
from balancer.gateway.cluster_rules import Seen
from balancer.gateway.load import usable_memory_bytes
from balancer.gateway.names import host_key, id_key
from balancer.gateway.networks import Offered, migration_settings
from balancer.gateway.states import GROUP_ONLINE, priority, vm_state
from balancer.gateway.whereabouts import Whereabouts
from balancer.gateway.wire import GroupRow, HostAnswer, HostPart, VmRow
from balancer.model.cluster import (
    Blocker,
    Cluster,
    Host,
    HostState,
    Priority,
    Vm,
    VmState,
)

MIB = 2**20


def host_of(
    name: str,
    answer: HostAnswer,
    state: HostState,
    fault_domain: tuple[str, ...],
    offered: Offered,
    before: Host | None,
) -> Host:
    """Return a host as its believed answer shows it."""
    part, cpu, memory = answer.host.data, answer.cpu.data, answer.memory.data
    if part is None or cpu is None or memory is None:
        return lost_host(name, HostState.UNKNOWN, fault_domain, before)
    return Host(
        name=name,
        cpu_cores=float(part.logical_processors),
        memory_bytes=usable_memory_bytes(memory.available_bytes, answer.vms.data or []),
        state=state,
        cpu_used_cores=cpu.lp_run_percent / 100.0 * cpu.lp_count,
        root_cpu_cores=float(cpu.root_count),
        root_cpu_used_cores=cpu.root_run_percent / 100.0 * cpu.root_count,
        fault_domain=fault_domain,
        numa_free_bytes=_numa_free(part),
        migration=migration_settings(answer, offered, before.migration if before else None),
    )


def _numa_free(part: HostPart) -> tuple[int, ...]:
    """Return what is free in each NUMA node where none may be spanned; nothing if nobody tells."""
    return () if part.numa_spanning else (tuple(free * MIB for free in part.numa_free_mib) or (0,))


def lost_host(
    name: str, state: HostState, fault_domain: tuple[str, ...], before: Host | None
) -> Host:
    """Return a host that did not answer, as it was; one never seen has the least there can be."""
    if before is None:
        return Host(name, cpu_cores=1.0, memory_bytes=0, state=state, fault_domain=fault_domain)
    return replace(before, name=name, state=state, fault_domain=fault_domain or before.fault_domain)


def vm_of(
    seen: Seen,
    *,
    csv_paths: Sequence[str],
    node_of_cluster: bool,
    moving: bool,
    locked: bool,
) -> Vm:
    """Return a VM as its host shows it.

    Args:
        seen: The VM, its host and its group.
        csv_paths: Mount points of the cluster's shared volumes.
        node_of_cluster: Whether the host is read as a node of a cluster.
        moving: Its place may have changed while we read.
        locked: No clustered VM is to be moved.
    """
    row, group = seen.vm.row, seen.group
    state = vm_state(row.state)
    blocked = blocked_by(
        row, seen.vm.standing, group, csv_paths=csv_paths, node_of_cluster=node_of_cluster
    )
    if moving:
        blocked = (*blocked, Blocker.MIGRATING.value)
    if locked and row.clustered:
        blocked = (*blocked, Blocker.LOCKED.value)
    return Vm(
        id=row.id,
        name=row.name,
        host=seen.host,
        cpu_used_cores=seen.vm.cores.used,
        memory_assigned_bytes=row.memory_assigned_bytes,
        state=state,
        clustered=row.clustered,
        vcpus=row.vcpus or None,
        cpu_reserved_cores=row.vcpus * row.cpu_reserve_percent / 100 or None,
        numa_nodes=row.numa_nodes if row.numa_nodes > 1 else None,
        cpu_wait_cores=seen.vm.cores.waited or None,
        memory_demand_bytes=_demand_bytes(row) if state.is_load else None,
        memory_startup_bytes=row.memory_startup_bytes or None,
        priority=priority(group.priority) if group else Priority.MEDIUM,
        tags=seen.vm.tags,
        groups=(group.name,) if group else (),
        blocked_by=tuple(sorted(set(blocked))) if blocked else (),
    )


def _demand_bytes(row: VmRow) -> int | None:
    """Return the memory that a VM asks for and may be given: only of dynamic memory is there any.

    Guests may want more than their maximum, which no host ends.
    """
    if not row.dynamic_memory or not row.memory_demand_bytes:
        return None
    return min(row.memory_demand_bytes, row.memory_maximum_bytes or row.memory_demand_bytes)


def lost_vms(
    where: Whereabouts,
    names: Mapping[str, str],
    last: Cluster | None,
    seen: AbstractSet[str],
) -> Iterator[Vm]:
    """Yield the VMs no believed host shows: those the cluster knows, and those known before.

    Args:
        where: What was settled about VMs.
        names: Host names of the snapshot by folded name.
        last: The snapshot before.
        seen: Folded ids of the VMs already in the snapshot.
    """
    before = {id_key(vm.id): vm for vm in last.vms} if last else {}
    for key, group in where.groups.items():
        if key in seen:
            continue
        host = names.get(host_key(group.owner))
        if host is not None:
            yield _from_group(group, host, before.get(key), where, names)
    for key, vm in before.items():
        if key in seen or key in where.groups:
            continue
        host = names.get(host_key(vm.host))
        if host is None:
            continue
        if vm.clustered and where.groups:
            continue  # the cluster has no group for it any more: it was removed
        if host not in where.answered:
            yield replace(vm, host=host)
        elif key in where.trails:
            # It left its host before that was read, for one that was read before it came.
            target = names.get(host_key(where.trails[key]), host)
            words = {Blocker.MIGRATING.value, *vm.blocked_by}
            yield replace(vm, host=target, blocked_by=tuple(sorted(words)))


def _from_group(
    group: GroupRow,
    owner: str,
    before: Vm | None,
    where: Whereabouts,
    names: Mapping[str, str],
) -> Vm:
    """Return a clustered VM that no believed host shows, with the load it had.

    Where its owner answered and does not show it, it is on its way, and most likely still
    where it was if that host is one that cannot tell.
    """
    denied = owner in where.answered
    words = {Blocker.MIGRATING.value} if denied else set()
    if before is not None:
        home = names.get(host_key(before.host), owner) if denied else owner
        return replace(
            before,
            host=owner if home in where.answered else home,
            groups=(group.name,),
            blocked_by=tuple(sorted(words.union(before.blocked_by))),
        )
    return Vm(
        id=group.vm,
        name=group.name,
        host=owner,
        cpu_used_cores=0.0,
        memory_assigned_bytes=0,
        state=VmState.RUNNING if group.state == GROUP_ONLINE else VmState.OFF,
        priority=priority(group.priority),
        groups=(group.name,),
        blocked_by=tuple(sorted(words)),
    )
