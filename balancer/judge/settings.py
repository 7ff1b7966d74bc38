"""Host settings that a plan would write, and the transport they give: clause 3."""

from __future__ import annotations

from collections.abc import Iterator

from balancer.judge.finding import Code, Finding
from balancer.migration.rates import effective_transport
from balancer.model.cluster import Cluster, ManagedBy, Transport
from balancer.model.plan import Migration, Plan, SettingChange
from balancer.policy.policy import Policy


def settings_faults(cluster: Cluster, policy: Policy, plan: Plan) -> Iterator[Finding]:
    """Find settings that must not, or cannot, be written and restored."""
    seen: set[str] = set()
    for change in plan.settings:
        if not policy.transport.write_settings:
            text = f"the policy does not allow writing settings, here {change.setting}"
            yield Finding(Code.SETTINGS, change.host, f"{change.host}: {text}")
        if change.host in seen:
            text = f"{change.host} is named twice; a host has one transport in a plan"
            yield Finding(Code.SETTINGS, change.host, text)
        seen.add(change.host)
        if why := _why_not_written(cluster, change):
            yield Finding(Code.SETTINGS, change.host, f"{change.host}: {why}")


def _why_not_written(cluster: Cluster, change: SettingChange) -> str:
    host = cluster.host_by_name.get(change.host)
    if host is None:
        return "there is no such host"
    if change.setting != "transport":
        return f"the setting {change.setting!r} is none that a plan may change"
    if change.during not in list(Transport):
        return f"{change.during!r} is no transport"
    if change.before != host.migration.transport.value:
        return f"its transport is {host.migration.transport.value}, not {change.before!r}"
    if host.migration.managed_by is ManagedBy.NETWORK_ATC:
        return "Network ATC manages its migration settings"
    return ""


def transports_in_plan(cluster: Cluster, plan: Plan) -> dict[str, Transport]:
    """Return the transport of each host while the plan runs: as set now, with its changes."""
    found = {host.name: host.migration.transport for host in cluster.hosts}
    for change in plan.settings:
        if change.host in found and change.during in list(Transport):
            found[change.host] = Transport(change.during)
    return found


def transport_fault(transports: dict[str, Transport], migration: Migration) -> Finding | None:
    """Find a transport that is not the one that the two hosts' settings really give."""
    gives = effective_transport(transports[migration.source], transports[migration.target])
    if migration.transport is gives:
        return None
    text = (
        f"{migration.id} says {migration.transport.value}, but {migration.source} and "
        f"{migration.target} are set so that it will be {gives.value}"
    )
    return Finding(Code.TRANSPORT, migration.id, text)
