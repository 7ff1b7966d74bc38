"""Why no migration may begin now, whatever the plan: the cluster is not well, or others act on it.

The cluster's state binds whoever acts. What others do binds rebalances only: a person who drains a
node or moves a VM knows of them, and a drain may be part of what they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from balancer.errors import RefusedError
from balancer.gateway.port import Observation
from balancer.gateway.signs import OtherKind
from balancer.model.cluster import HostState
from balancer.model.outcome import Cause, Why
from balancer.policy.interlock import Heed
from balancer.policy.policy import Policy

# More silence than this is an outage, or our own network, and no time to move anything: what the
# silent hosts hold and do is a guess, and rules and room would be judged by it.
UNKNOWN_SHARE_MAX = 1 / 3

_WELL = "mend that first: `balancer check` and Get-ClusterNode on a node tell more"
_REMEDIES = {
    OtherKind.BUILT_IN: "switch it off ((Get-Cluster).AutoBalancerMode = 0), or let the policy "
    "take over or ignore it: interlock.built_in_balancer",
    OtherKind.SCVMM: "switch its Dynamic Optimization off, then let the policy ignore it: "
    "interlock.scvmm",
    OtherKind.UPDATING: "wait until it is over: Get-CauRun on a node tells where it is",
    OtherKind.DRAIN: "wait until it is over: Get-ClusterNode on a node tells where it is",
}


@dataclass(frozen=True, slots=True)
class Held:
    """Why no rebalance begins.

    `passes` says that it ends by itself and is to be waited for.
    """

    cause: Cause
    remedy: str
    passes: bool = False


def why_unwell(seen: Observation) -> str:
    """Return why a cluster is in no state for migrations; empty when it is well."""
    hosts = seen.cluster.hosts
    silent = sorted(host.name for host in hosts if host.state is HostState.UNKNOWN)
    if len(silent) > UNKNOWN_SHARE_MAX * len(hosts):
        names = ", ".join(silent)
        return f"too little is known: {len(silent)} of {len(hosts)} hosts do not answer ({names})"
    return "; ".join(seen.troubles)


def check_health(seen: Observation) -> None:
    """Refuse to begin while the cluster is not well.

    Raises:
        RefusedError: It is not.
    """
    if why := why_unwell(seen):
        raise RefusedError(f"nothing is moved while the cluster is not well: {why}", remedy=_WELL)


def held_back(seen: Observation, policy: Policy) -> Held | None:
    """Return what keeps a rebalance from beginning; what has to be refused before what passes.

    The built-in balancer is left out where the policy takes it over.
    """
    if why := why_unwell(seen):
        return Held(Cause(Why.UNHEALTHY, f"the cluster is not well: {why}"), _WELL)
    return min(_others(seen, policy), key=lambda one: one.passes, default=None)


def check_alone(seen: Observation, policy: Policy) -> None:
    """Refuse to begin a rebalance beside somebody else who acts, unless they are waited for.

    Raises:
        RefusedError: They are to be left alone.
    """
    held = held_back(seen, policy)
    if held is not None and not held.passes:
        raise RefusedError(f"nothing is moved: {held.cause}", remedy=held.remedy)


def _others(seen: Observation, policy: Policy) -> Iterator[Held]:
    for other in seen.others:
        heed = policy.interlock.of(other.kind.value)
        if heed in (Heed.REFUSE, Heed.WAIT):
            cause = Cause(Why.INTERLOCK, other.text)
            yield Held(cause, _REMEDIES[other.kind], passes=heed is Heed.WAIT)
    storage = seen.estate.storage if seen.estate is not None else None
    if storage is not None and storage.direct and storage.jobs:
        text = f"Storage Spaces Direct is at work on {storage.jobs} repairs or rebalances"
        remedy = "wait until Get-StorageJob shows none"
        yield Held(Cause(Why.BUSY, text), remedy, passes=True)
