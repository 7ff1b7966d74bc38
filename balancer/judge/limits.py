"""The caps of one run: migrations, bytes and time."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from balancer.judge.finding import Code, Finding, gib
from balancer.judge.migrations import FORECAST_TOLERANCE_S, ends_s
from balancer.model.cluster import Cluster
from balancer.model.plan import Migration, Plan
from balancer.policy.capacity import caps_in_force
from balancer.policy.policy import Policy


def limit_faults(
    cluster: Cluster, policy: Policy, plan: Plan, max_migrations: int | None
) -> Iterator[Finding]:
    """Find caps that are passed; totals are added up here, not taken from the plan."""
    caps = caps_in_force(cluster, policy, max_migrations)
    count = len(plan.migrations)
    if caps.migrations is not None and count > caps.migrations:
        text = f"{count} migrations, {caps.migrations} are allowed in one run"
        yield Finding(Code.CAP_MIGRATIONS, plan.id, text)
    total = sum(bytes_of(cluster, migration) for migration in plan.migrations)
    if caps.bytes is not None and total > caps.bytes:
        text = f"{gib(total)} would be copied, {gib(caps.bytes)} are allowed in one run"
        yield Finding(Code.CAP_BYTES, plan.id, text)
    ends = max((ends_s(migration) for migration in plan.migrations), default=0.0)
    if not isfinite(plan.makespan_s) or plan.makespan_s < ends - FORECAST_TOLERANCE_S:
        text = f"the plan says {plan.makespan_s:.1f} s, but its last migration ends at {ends:.1f} s"
        yield Finding(Code.FORECAST, plan.id, text)
    if caps.duration_s is not None and ends > caps.duration_s + FORECAST_TOLERANCE_S:
        text = f"it would take {ends:.1f} s, {caps.duration_s:.1f} s are allowed for one run"
        yield Finding(Code.CAP_DURATION, plan.id, text)


def bytes_of(cluster: Cluster, migration: Migration) -> int:
    """Return what travels: never less than the VM's memory, whatever the plan says."""
    vm = cluster.vm_by_id.get(migration.vm)
    return max(migration.bytes, vm.memory_assigned_bytes if vm else 0)
