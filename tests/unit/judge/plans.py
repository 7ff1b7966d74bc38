"""Plans written by hand, with every number right unless a test says otherwise."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from balancer.migration.rates import effective_transport
from balancer.model.cluster import Cluster, Transport
from balancer.model.plan import Migration, Plan, Score, SettingChange, Status, StoppedBy

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def leg(route: str, *after: str, **changes: Any) -> Migration:
    """A migration from `a: h1 > h2`; its id is the VM's unless said otherwise."""
    vm, _, hosts = route.partition(":")
    source, _, target = hosts.partition(">")
    made = Migration(
        id=vm,
        vm=vm,
        name=vm,
        source=source.strip(),
        target=target.strip(),
        transport=Transport.COMPRESSION,
        bytes=0,
        start_s=0.0,
        duration_s=10.0,
        reason="a test wants it",
        after=after,
    )
    return dataclasses.replace(made, **changes)


def plan_of(cluster: Cluster, *legs: Migration, settings: tuple[SettingChange, ...] = ()) -> Plan:
    """A plan of `legs`, which are listed after what they wait for; fills in the numbers."""
    transports = {host.name: host.migration.transport for host in cluster.hosts}
    transports |= {change.host: Transport(change.during) for change in settings}
    made: dict[str, Migration] = {}
    for one in legs:
        starts = max((made[name].start_s + made[name].duration_s for name in one.after), default=0)
        made[one.id] = dataclasses.replace(
            one,
            transport=effective_transport(transports[one.source], transports[one.target]),
            bytes=cluster.vm_by_id[one.vm].memory_assigned_bytes,
            start_s=float(starts),
        )
    ends = [one.start_s + one.duration_s for one in made.values()]
    return Plan(
        cluster=cluster.name,
        id="plan",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=15),
        snapshot_sha256="",
        policy_sha256="",
        status=Status.FEASIBLE,
        stopped_by=StoppedBy.WORK,
        score=Score(0.0, 0.0, 0.0, "none", 1.0),
        makespan_s=max(ends, default=0.0),
        makespan_bound_s=0.0,
        migrations=tuple(made.values()),
        settings=settings,
    )


def with_changed(plan: Plan, name: str, **changes: Any) -> Plan:
    """The plan with one migration changed."""
    return dataclasses.replace(
        plan,
        migrations=tuple(
            dataclasses.replace(one, **changes) if one.id == name else one
            for one in plan.migrations
        ),
    )
