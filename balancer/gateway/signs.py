"""Signs that it is no time to move VMs: what ails a cluster, and who else acts on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from balancer.gateway.states import (
    AUTO_BALANCER,
    NODE_ISOLATED_FLAG,
    NODE_JOINING,
    NODE_QUARANTINED_FLAG,
    node_drains,
)
from balancer.gateway.wire import ClusterAnswer, HostAnswer, NodeRow
from balancer.model.cluster import AutoBalancer

# State of a cluster network. Of one that is unavailable (0) all nodes are down: no trouble of its.
_NETWORK_TROUBLE = {1: "down", 2: "partitioned"}
_ROLE_NONE = 0  # the cluster does not use it


class OtherKind(StrEnum):
    """Who else may act on a cluster."""

    BUILT_IN = "built_in_balancer"
    SCVMM = "scvmm"
    UPDATING = "cluster_aware_updating"
    DRAIN = "node_drain"


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody who acts on the cluster beside us, in a sentence for people."""

    kind: OtherKind
    text: str


def troubles_of(cluster: ClusterAnswer | None) -> tuple[str, ...]:
    """Return what ails a cluster, a sentence each. Hosts that do not answer are not among it."""
    return tuple(_troubles(cluster)) if cluster is not None else ()


def _troubles(cluster: ClusterAnswer) -> Iterator[str]:
    for node in cluster.nodes.data or []:
        if node.status & NODE_ISOLATED_FLAG:
            yield f"node {node.name} is isolated: the other nodes do not hear it"
        if node.status & NODE_QUARANTINED_FLAG:
            yield f"node {node.name} is quarantined: it left the cluster too often"
    if cluster.cluster.data is not None and cluster.cluster.data.witness_online is False:
        yield "the witness is lost: one more failure may cost the quorum"
    for network in cluster.networks.data or []:
        if network.role != _ROLE_NONE and (word := _NETWORK_TROUBLE.get(network.state)):
            yield f"the cluster network {network.name} is {word}"


def others_of(cluster: ClusterAnswer | None, hosts: Mapping[str, HostAnswer]) -> tuple[Other, ...]:
    """Return who else acts, as the cluster and the hosts that are believed show it."""
    return (*_of_cluster(cluster), *_of_hosts(hosts))


def _of_cluster(cluster: ClusterAnswer | None) -> Iterator[Other]:
    if cluster is None:
        return
    nodes = cluster.nodes.data or []
    part = cluster.cluster.data
    mode = part.auto_balancer_mode if part is not None else None
    if text := _built_in(AUTO_BALANCER.get(mode) if mode is not None else None, nodes):
        yield Other(OtherKind.BUILT_IN, text)
    if drained := [node.name for node in nodes if node_drains(node)]:
        yield Other(OtherKind.DRAIN, f"somebody drains {', '.join(drained)}")


def _built_in(mode: AutoBalancer | None, nodes: list[NodeRow]) -> str:
    """Say that the cluster's own balancer acts; one that acts on joins does when a node joins."""
    if mode is AutoBalancer.ALWAYS:
        return "the cluster's built-in balancer is on (AutoBalancerMode 2)"
    joining = [node.name for node in nodes if node.state == NODE_JOINING]
    if mode is AutoBalancer.ON_JOIN and joining:
        return f"the cluster's built-in balancer acts, because {', '.join(joining)} joins"
    return ""


def _of_hosts(hosts: Mapping[str, HostAnswer]) -> Iterator[Other]:
    parts = {
        name: answer.others.data
        for name, answer in hosts.items()
        if answer.others is not None and answer.others.data is not None
    }
    if managed := [name for name, part in parts.items() if part.scvmm_agent]:
        yield Other(OtherKind.SCVMM, f"SCVMM manages {_some(managed)}, and may balance them")
    if any(part.updating for part in parts.values()):
        yield Other(OtherKind.UPDATING, "a run of Cluster-Aware Updating is under way")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more hosts"
