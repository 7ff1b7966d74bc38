"""Each migration by itself, and the chain of each VM: clauses 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from balancer.judge.finding import Code, Finding
from balancer.migration.rates import common_network
from balancer.model.cluster import Cluster
from balancer.model.plan import Kind, Migration, Plan
from balancer.policy.capacity import why_immovable, why_no_target, why_unfit

FORECAST_TOLERANCE_S = 1e-3  # documents round seconds; a schedule is not wrong by a millisecond


def unknown_names(cluster: Cluster, plan: Plan) -> Iterator[Finding]:
    """Find VMs and hosts that are not in the snapshot; nothing more can be said of those."""
    for migration in plan.migrations:
        if migration.vm not in cluster.vm_by_id:
            text = f"{migration.id}: there is no VM {migration.vm}"
            yield Finding(Code.UNKNOWN_VM, migration.id, text)
        for host in (migration.source, migration.target):
            if host not in cluster.host_by_name:
                text = f"{migration.id}: there is no host {host}"
                yield Finding(Code.UNKNOWN_HOST, migration.id, text)


def chain_faults(cluster: Cluster, plan: Plan) -> Iterator[Finding]:
    """Find VMs that are not where a migration starts, and stop-overs that lead nowhere."""
    legs: dict[str, list[Migration]] = {}
    for migration in plan.migrations:
        legs.setdefault(migration.vm, []).append(migration)
    for vm, found in legs.items():
        first, *others = sorted(found, key=lambda leg: not leg.stopover)
        at = cluster.vm_by_id[vm].host
        if first.source != at:
            text = f"{first.id} takes {first.name} from {first.source}, but it is on {at}"
            yield Finding(Code.NOT_ON_SOURCE, first.id, text)
        text = _stopover_fault(first, others)
        if text:
            yield Finding(Code.STOPOVER, first.id, f"{first.name}: {text}")


def _stopover_fault(first: Migration, others: list[Migration]) -> str:
    if not others:
        return f"{first.id} is a stop-over and nothing follows it" if first.stopover else ""
    second, *more = others
    if more:
        return f"it has {1 + len(others)} migrations; two are the most"
    if not first.stopover or second.stopover:
        return "of its two migrations the first, and only that, must be a stop-over"
    if second.source != first.target:
        return f"{second.id} starts on {second.source}, but {first.id} ends on {first.target}"
    if first.id not in second.after:
        return f"{second.id} must come after {first.id}"
    return ""


def migration_faults(cluster: Cluster, plan: Plan) -> Iterator[Finding]:
    """Find migrations that cannot be made, or whose numbers cannot be."""
    by_id = plan.migration_by_id
    for migration in plan.migrations:
        yield from place_faults(cluster, migration)
        if not migration.reason.strip():
            yield Finding(Code.REASON, migration.id, f"{migration.id} gives no reason")
        if migration.bytes <= 0:
            text = f"{migration.id} would copy {migration.bytes} bytes"
            yield Finding(Code.BYTES, migration.id, text)
        seconds = (migration.start_s, migration.duration_s)
        if not all(isfinite(value) and value >= 0 for value in seconds):
            text = f"{migration.id} starts at {seconds[0]} s and takes {seconds[1]} s"
            yield Finding(Code.FORECAST, migration.id, text)
        for name in migration.after:
            other = by_id.get(name)
            if other and migration.start_s < ends_s(other) - FORECAST_TOLERANCE_S:
                text = (
                    f"{migration.id} comes after {name}, which ends at {ends_s(other):.1f} s, "
                    f"but would start at {migration.start_s:.1f} s"
                )
                yield Finding(Code.FORECAST, migration.id, text)


def place_faults(cluster: Cluster, migration: Migration) -> Iterator[Finding]:
    """Find why this VM cannot go from this source to this target now (clause 1)."""
    vm = cluster.vm_by_id[migration.vm]
    source = cluster.host_by_name[migration.source]
    target = cluster.host_by_name[migration.target]
    if migration.kind is not Kind.LIVE:
        text = f"{migration.id} is of kind {migration.kind.value}; only live migrations are judged"
        yield Finding(Code.KIND, migration.id, text)
    if why := why_immovable(cluster, vm):
        yield Finding(Code.IMMOVABLE, migration.id, f"{vm.name} cannot be moved: {why}")
    if source is target:
        yield Finding(Code.TARGET, migration.id, f"{vm.name} would move to where it is")
    if why := why_no_target(target):
        yield Finding(Code.TARGET, migration.id, f"{vm.name} cannot go there: {why}")
    if why := why_unfit(vm, target):
        yield Finding(Code.TARGET, migration.id, f"{vm.name} cannot go there: {why}")
    if common_network(source, target) is None:
        text = f"{source.name} and {target.name} share no migration network"
        yield Finding(Code.NETWORK, migration.id, text)


def ends_s(migration: Migration) -> float:
    """Return when the migration is expected to end, in seconds from the plan's start."""
    return migration.start_s + migration.duration_s
