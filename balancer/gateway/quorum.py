"""When a node is believed about its cluster. Pure."""

from __future__ import annotations

from balancer.gateway.doubt import fault_text
from balancer.gateway.names import host_key
from balancer.gateway.states import NODE_PAUSED, NODE_UP
from balancer.gateway.wire import ClusterAnswer, NodeRow


def why_not_believed(answer: ClusterAnswer) -> str | None:
    """Return why a node does not speak for its cluster, or None when it does.

    It does when it is in the cluster's membership itself and the votes it counts are a
    majority: a node cut off from the rest sees them down.
    """
    cluster, nodes = answer.cluster, answer.nodes
    if cluster.data is None:
        return f"its cluster service does not answer: {fault_text(cluster.fault)}"
    if nodes.data is None:
        return f"it does not say which nodes there are: {fault_text(nodes.fault)}"
    own = [row for row in nodes.data if host_key(row.name) == host_key(cluster.data.node)]
    if not own or not is_member(own[0]):
        return "it is not up in its own view of the cluster"
    have, total = votes(nodes.data, witness_online=cluster.data.witness_online)
    if 2 * have <= total:
        return f"it sees {have} of {total} votes, no majority"
    return None


def is_member(node: NodeRow) -> bool:
    """Tell whether a node takes part in the cluster; a paused one does, and votes."""
    return node.state in (NODE_UP, NODE_PAUSED)


def votes(nodes: list[NodeRow], *, witness_online: bool | None) -> tuple[int, int]:
    """Return the votes present and all there are.

    Weights are dynamic: the cluster takes votes of nodes that went down orderly, and counts
    its witness only to make an even number of node votes odd.
    """
    weights = [max(0, row.weight) for row in nodes]
    have = sum(weight for row, weight in zip(nodes, weights, strict=True) if is_member(row))
    total = sum(weights)
    if witness_online is not None and total % 2 == 0:
        have, total = have + witness_online, total + 1
    return have, total
