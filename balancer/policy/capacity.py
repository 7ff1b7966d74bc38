"""What counts as capacity, load and movable: definitions that planner and judge both go by.

Definitions, not decisions: everything here follows from the snapshot and the policy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from balancer.model.cluster import Cluster, Host, HostState, Vm, VmState
from balancer.policy.policy import Policy
from balancer.policy.rules import HostReserve


@dataclass(frozen=True, slots=True)
class Usable:
    """What VMs may use of a host once the policy's reserve is taken off."""

    cpu_cores: float
    memory_bytes: float


def usable(host: Host, policy: Policy) -> Usable:
    """Return the usable capacity of `host`; never negative."""
    reserve = policy.reserve
    memory = max(reserve.memory_bytes, host.memory_bytes * reserve.memory_fraction)
    cpu_fraction = reserve.cpu_fraction
    for rule in policy.rules:
        if isinstance(rule, HostReserve):
            memory = max(memory, rule.memory_bytes(host))
            cpu_fraction = max(cpu_fraction, rule.cpu_fraction(host))
    return Usable(
        cpu_cores=host.cpu_cores * (1.0 - cpu_fraction),
        memory_bytes=max(0.0, host.memory_bytes - memory),
    )


def cores_on(vm: Vm, source: Host, target: Host) -> float:
    """Return the cores that `vm`, measured on `source`, would use on `target`."""
    return vm.cpu_demand_cores * source.cpu_speed / target.cpu_speed


def fixed_cores(cluster: Cluster, host: Host) -> float:
    """Return the cores that stay on `host` whatever moves: measured total less its VMs' sum."""
    if host.cpu_used_cores is None:
        return 0.0
    vms = sum(vm.cpu_used_cores for vm in cluster.vms_on[host.name] if vm.is_load)
    return max(0.0, host.cpu_used_cores - vms)


def arriving_bytes(cluster: Cluster, host: str) -> int:
    """Return the memory that migrations of others, while under way, bring to `host`."""
    return sum(vm.memory_needed_bytes for vm in cluster.arriving_on.get(host, ()))


def in_play(host: Host) -> bool:
    """Tell whether the host takes part in balancing: it answers and nobody took it out."""
    return host.state in (HostState.UP, HostState.DRAINING)


def keeps_awake(vm: Vm) -> bool:
    """Tell whether `vm` needs its host to be on.

    Roles that are off or saved do not: the cluster gives them to another node. A VM that is not
    clustered lives on its host alone, whatever its state; and one whose state nobody knows may run.
    """
    return not (vm.clustered and vm.state in (VmState.OFF, VmState.SAVED))


def filled_up_to(policy: Policy) -> tuple[float, float]:
    """Return the shares of usable CPU and memory up to which consolidation fills hosts."""
    margin, limits = policy.consolidation.margin, policy.thresholds
    return max(0.0, limits.cpu - margin), max(0.0, limits.memory - margin)


def awake_at_least(cluster: Cluster, policy: Policy) -> int:
    """Return how many of the hosts that are up have to stay awake; one at least, if one is up.

    More than are up cannot be kept awake, whatever a policy asks for. A majority is asked of nodes
    of a failover cluster only, those that are down included.
    """
    least = policy.consolidation.awake_at_least
    if policy.consolidation.majority and any(vm.clustered for vm in cluster.vms):
        least = max(least, len(cluster.hosts) // 2 + 1)
    up = sum(host.state is HostState.UP for host in cluster.hosts)
    return min(max(1, least), up)


def why_immovable(cluster: Cluster, vm: Vm) -> str | None:
    """Return why `vm` cannot be live migrated off its host now, or None when it can.

    Only facts about the VM and its own host; rules and targets are judged elsewhere.
    """
    host = cluster.host_by_name[vm.host]
    if not vm.is_load:
        return f"it is {vm.state.value}, not running"
    if vm.migrating_to is not None or vm.blocked_by:
        elsewhere = vm.migrating_to and f"being migrated to {vm.migrating_to}"
        return f"it is {elsewhere or 'blocked by ' + ', '.join(sorted(vm.blocked_by))}"
    if host.state not in (HostState.UP, HostState.DRAINING):
        return f"its host {host.name} is {host.state.value}"
    if not host.migration.enabled:
        return f"live migration is disabled on its host {host.name}"
    if host.migration.concurrent < 1:
        return f"its host {host.name} allows no migration at all"
    return None


def why_no_target(host: Host) -> str | None:
    """Return why `host` cannot receive any VM now, or None when it can."""
    if host.state is not HostState.UP:
        return f"{host.name} is {host.state.value}"
    if not host.migration.enabled:
        return f"live migration is disabled on {host.name}"
    if host.migration.concurrent < 1:
        return f"{host.name} allows no migration at all"
    return None


def why_unfit(vm: Vm, host: Host) -> str | None:
    """Return why `vm` can never run on `host` as it is, whatever else leaves it, or None.

    Memory of NUMA nodes is what is free at present: two VMs that would share a node are told apart
    when the second is about to start.
    """
    if vm.vcpus is not None and vm.vcpus > host.cpu_cores:
        return (
            f"it has {vm.vcpus} virtual processors, {host.name} has {host.cpu_cores:g} logical ones"
        )
    if host.numa_free_bytes:
        count = vm.numa_nodes or 1
        each = max(1, -(-vm.memory_assigned_bytes // count))
        if sum(free // each for free in host.numa_free_bytes) < count:
            return f"no NUMA node of {host.name} has room for it, and memory may not span them"
    return None


def cpu_reserve(vm: Vm) -> int:
    """Return thousandths of logical processors that a host has to keep for `vm` while it runs."""
    return ceil(1000 * (vm.cpu_reserved_cores or 0.0)) if vm.is_load else 0


def cpu_reservable(host: Host) -> int:
    """Return thousandths of logical processors that VMs on `host` may reserve together."""
    return int(1000 * host.cpu_cores)


def virtual_processors(vm: Vm) -> int:
    """Return the virtual processors of `vm` that want logical ones; none where nobody knows."""
    return (vm.vcpus or 0) if vm.is_load else 0


def virtual_processors_most(host: Host, policy: Policy) -> int | None:
    """Return how many virtual processors may come together on `host`; None: any number."""
    ratio = policy.thresholds.vcpus_per_core
    return None if ratio is None else int(ratio * host.cpu_cores + 1e-9)


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps in force: for each, the lowest of command line, policy, host and cluster."""

    migrations: int | None
    concurrent_per_host: dict[str, int]
    concurrent_per_cluster: int | None
    bytes: int | None
    duration_s: float | None


def caps_in_force(cluster: Cluster, policy: Policy, max_migrations: int | None = None) -> Caps:
    """Return the caps for one run; `max_migrations` is the command line's."""
    limits = policy.limits
    counts = [n for n in (max_migrations, limits.migrations_per_run) if n is not None]
    wide = [
        n
        for n in (limits.concurrent_per_host, cluster.settings.concurrent_per_host)
        if n is not None
    ]
    return Caps(
        migrations=min(counts, default=None),
        concurrent_per_host={
            host.name: min([host.migration.concurrent, *wide]) for host in cluster.hosts
        },
        concurrent_per_cluster=limits.concurrent_per_cluster,
        bytes=limits.bytes_per_run,
        duration_s=limits.duration_per_run_s,
    )
