"""From what a node says of its cluster to its `Estate`. Pure."""

from __future__ import annotations

from balancer.gateway.estate import Estate, Node, Role, Storage, Volume
from balancer.gateway.names import id_key
from balancer.gateway.quorum import is_member
from balancer.gateway.states import NODE_PAUSED, node_drains
from balancer.gateway.wire import EVERY_NODE, ClusterAnswer, GroupRow, NodeRow

_VM_GROUPS = frozenset({111, 126, 127})  # VirtualMachine, HcsVirtualMachine, MetaVirtualMachine
_NEVER_MOVED = frozenset({4, 5})  # ClusterSharedVolume, ClusterStoragePool
_OFFLINE, _FAILED, _PARTLY = 1, 2, 3


def estate_of(answer: ClusterAnswer, standing: frozenset[str]) -> Estate | None:
    """Return what the cluster holds, or None when it does not say enough.

    Args:
        answer: Of a node that is believed.
        standing: Ids (folded) of the VMs that their hosts show not running.
    """
    part, nodes = answer.cluster.data, answer.nodes.data
    groups, volumes = answer.groups.data, answer.volumes.data
    if part is None or nodes is None or groups is None or volumes is None:
        return None
    owners: dict[str, str] = {}
    roles: list[Role] = []
    for row in groups:
        if row.group_type in _VM_GROUPS and not _stands(row, standing):
            owners[id_key(row.vm) or row.id] = row.owner
        elif row.group_type not in _NEVER_MOVED:
            roles.append(_role(row))
    names = dict.fromkeys((row.name, row.owner) for row in volumes)
    return Estate(
        nodes=tuple(_node(row) for row in nodes),
        roles=tuple(roles),
        volumes=tuple(Volume(name, owner) for name, owner in names),
        witness_online=part.witness_online,
        storage=_storage(answer),
        vm_owners=owners,
    )


def _stands(row: GroupRow, standing: frozenset[str]) -> bool:
    """Tell whether a VM's group can be moved as it is: its host says so, or nobody runs it."""
    if row.vm and id_key(row.vm) in standing:
        return row.state in (_OFFLINE, _FAILED, _PARTLY)
    return row.state in (_OFFLINE, _FAILED)


def _role(row: GroupRow) -> Role:
    return Role(
        id=row.id,
        name=row.name,
        owner=row.owner,
        vm=row.vm,
        core=row.core,
        locked=row.locked,
        owners=() if EVERY_NODE in row.possible_owners else tuple(row.possible_owners),
    )


def _node(row: NodeRow) -> Node:
    member = is_member(row)
    return Node(
        name=row.name,
        votes=max(0, row.weight),
        member=member,
        paused=row.state == NODE_PAUSED,
        draining=node_drains(row),
    )


def _storage(answer: ClusterAnswer) -> Storage:
    part = answer.storage.data
    if part is None:
        return Storage(known=False)
    return Storage(direct=part.direct, jobs=part.jobs, unhealthy=tuple(part.unhealthy))
