"""What a node answers when its cluster is read, as that node sees it."""

from __future__ import annotations

from balancer.gateway import wire
from balancer.gateway.simulator import sections as part
from balancer.gateway.simulator.cluster_acts import read_control
from balancer.gateway.simulator.physics import Phase
from balancer.gateway.simulator.rows import GuestRows
from balancer.gateway.simulator.sections import Sections
from balancer.gateway.simulator.things import FailoverCluster, Machine, Role
from balancer.gateway.simulator.windows import (
    GroupState,
    Hresult,
    NodeState,
    NodeStatus,
)
from balancer.gateway.simulator.world import World

_FQID = "Get-Cluster,Microsoft.FailoverClusters.PowerShell.GetClusterCommand"
_DIRECT_ACCESS = 2  # StateInfo of a shared volume


class ClusterReader:
    """Answers `Get-LbCluster`. Its methods are called with the world's lock held."""

    def __init__(self, world: World, rows: dict[str, GuestRows]) -> None:
        self._world = world
        self._rows = rows

    def read(self, machine: Machine, now_s: float) -> wire.ClusterAnswer:
        """Answer for one node: what it sees, or that its cluster service does not run."""
        cluster = self._world.cluster
        if cluster is None or not self._world.service_up:
            return _no_cluster(machine)
        section = Sections(self._world.faults.failing(machine.name))
        return wire.ClusterAnswer.model_construct(
            module=wire.MODULE_VERSION,
            computer=machine.name,
            cluster=section(part.CLUSTER, "cluster", _cluster_part(cluster, machine)),
            nodes=section(part.NODES, "nodes", self._nodes(machine)),
            groups=section(part.GROUPS, "groups", self._groups(now_s)),
            affinity=section(part.AFFINITY, "affinity", _affinity(cluster)),
            volumes=section(part.VOLUMES, "volumes", self._volumes(cluster)),
            networks=section(part.NETWORKS, "networks", _networks(cluster)),
            vm_resource_type=section(
                part.VM_RESOURCE_TYPE, "vm_resource_type", _vm_resource_type(cluster)
            ),
            storage=section(part.STORAGE, "storage", _storage(cluster)),
            control=self.control(machine),
        )

    def control(self, machine: Machine) -> wire.Section[wire.ControlPart]:
        """Return the `control` section: of the cluster, or of a host that stands alone."""
        if self._world.cluster is not None and not self._world.has_quorum(machine):
            return part.failed(part.CONTROL, Hresult.NO_QUORUM, _FQID)
        section = Sections(self._world.faults.failing(machine.name))
        return section(part.CONTROL, "control", read_control(self._world, machine))

    def _nodes(self, machine: Machine) -> list[wire.NodeRow]:
        """Nodes as seen from here: who is cut off takes all others for down."""
        alone = bool(machine.node_status & NodeStatus.ISOLATED)

        def seen(node: Machine) -> tuple[NodeState, NodeStatus]:
            if not alone:
                return node.node_state, node.node_status
            up = NodeState.UP if node is machine else NodeState.DOWN
            return up, NodeStatus.NORMAL

        return [
            wire.NodeRow.model_construct(
                name=node.name,
                state=int(seen(node)[0]),
                status=int(seen(node)[1]),
                drain=node.drain,
                weight=node.weight,
                fault_domain=list(node.fault_domain),
            )
            for node in self._world.machines.values()
        ]

    def _groups(self, now_s: float) -> list[wire.GroupRow]:
        moving = {m.guest.id: m for m in self._world.engine.migrations if m.phase is not Phase.OVER}
        roles = self._world.cluster.roles if self._world.cluster is not None else ()
        rows = [_role(role) for role in roles]
        rows += [
            self._rows[guest.id].group(moving.get(guest.id), now_s)
            for guest in self._world.groups.values()
        ]
        return rows

    def _volumes(self, cluster: FailoverCluster) -> list[wire.VolumeRow]:
        return [
            wire.VolumeRow.model_construct(
                name=volume.name,
                owner=volume.owner,
                path=volume.path,
                access=dict.fromkeys(self._world.machines, _DIRECT_ACCESS) | volume.access,
            )
            for volume in cluster.volumes
        ]


def _cluster_part(cluster: FailoverCluster, machine: Machine) -> wire.ClusterPart:
    witness = cluster.witness_online
    if witness is not None and machine.node_status & NodeStatus.ISOLATED:
        witness = False
    return wire.ClusterPart.model_construct(
        name=cluster.name,
        node=machine.name,
        functional_level=cluster.functional_level,
        migrations_max=cluster.migrations_max,
        auto_balancer_mode=cluster.auto_balancer_mode,
        auto_balancer_level=cluster.auto_balancer_level,
        enforced_anti_affinity=cluster.enforced_anti_affinity,
        witness_online=witness,
    )


def _affinity(cluster: FailoverCluster) -> list[wire.AffinityRow]:
    return [
        wire.AffinityRow.model_construct(
            name=rule.name,
            rule_type=int(rule.kind),
            groups=list(rule.groups),
            enabled=rule.enabled,
        )
        for rule in cluster.rules
    ]


def _networks(cluster: FailoverCluster) -> list[wire.NetworkRow]:
    return [
        wire.NetworkRow.model_construct(
            name=network.name,
            id=network.id,
            role=network.role,
            state=network.state,
            subnets=[network.subnet],
            metric=network.metric,
        )
        for network in cluster.networks
    ]


def _vm_resource_type(cluster: FailoverCluster) -> wire.VmResourceTypePart:
    out = cluster.excluded_networks
    return wire.VmResourceTypePart.model_construct(
        excluded_networks=[n.id for n in cluster.networks if n.name in out],
        network_order=[n.id for n in cluster.networks if n.name not in out],
        move_type_threshold=cluster.move_type_threshold,
    )


def _storage(cluster: FailoverCluster) -> wire.StoragePart:
    direct = cluster.storage_direct
    return wire.StoragePart.model_construct(
        direct=direct,
        jobs=cluster.storage_jobs if direct else 0,
        unhealthy=list(cluster.unhealthy_disks) if direct else [],
    )


def _role(role: Role) -> wire.GroupRow:
    return wire.GroupRow.model_construct(
        name=role.name,
        id=role.id,
        owner=role.owner,
        state=int(GroupState.ONLINE),
        group_type=role.kind,
        status=0,
        priority=2000,
        locked=False,
        core=role.core,
        anti_affinity=[],
        vm="",
        possible_owners=list(role.nodes or (wire.EVERY_NODE,)),
        preferred_owners=[],
        migration_state=None,
        migration_progress=None,
        migration_failure=None,
    )


def _no_cluster(machine: Machine) -> wire.ClusterAnswer:
    code = Hresult.SERVICE_NOT_ACTIVE
    return wire.ClusterAnswer.model_construct(
        module=wire.MODULE_VERSION,
        computer=machine.name,
        cluster=part.failed(part.CLUSTER, code, _FQID),
        nodes=part.failed(part.NODES, code, _FQID),
        groups=part.failed(part.GROUPS, code, _FQID),
        affinity=part.failed(part.AFFINITY, code, _FQID),
        volumes=part.failed(part.VOLUMES, code, _FQID),
        networks=part.failed(part.NETWORKS, code, _FQID),
        vm_resource_type=part.failed(part.VM_RESOURCE_TYPE, code, _FQID),
        storage=part.failed(part.STORAGE, code, _FQID),
        control=part.failed(part.CONTROL, code, _FQID),
    )
