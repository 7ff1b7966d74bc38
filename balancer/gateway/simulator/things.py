"""What a simulated world is made of: machines, guests and the cluster they form.

These are the only mutable things of the simulator; `world.World` owns them behind one lock.
Units are in the names; memory in bytes, time in seconds since the world began.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field

from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.windows import (
    CLUSTER_GROUP,
    COMPRESSION_OPTION,
    HEARTBEAT_HEALTHY,
    HEARTBEAT_LOST,
    STATUS_OK,
    AffinityRuleType,
    MigrationState,
    NodeState,
    NodeStatus,
    VmStateCode,
)

# What is being saved or started has its memory already, or still.
_LOAD = frozenset(
    {
        VmStateCode.RUNNING,
        VmStateCode.PAUSED,
        VmStateCode.RUNNING_CRITICAL,
        VmStateCode.SAVING,
        VmStateCode.STARTING,
    }
)
_NAMESPACE = uuid.UUID("6f2a0b8e-54c7-4a63-9a35-3d1c0c8e2f10")


def identity(*words: object) -> str:
    """Return a GUID that depends on the words alone, so that the same world has the same ids."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, words))))


@dataclass(frozen=True, slots=True)
class Nic:
    """A physical adapter with an address, such as 10.0.1.11/24."""

    name: str
    link_bps: float
    address: str
    rdma: bool = False


@dataclass(slots=True, eq=False)
class Machine:
    """A Hyper-V host.

    Attributes:
        memory_bytes: Physical memory.
        reserve_bytes: What the root partition keeps for itself.
        migrations_max: The host's own limit; a cluster that has one overrides it.
        option: Performance option of live migration (TCPIP 0, Compression 1, SMB 2).
        scvmm: The agent of System Center Virtual Machine Manager runs here.
        migration_cores: What migrations took here, averaged over the last counter interval.
        migration_core_s: The same summed up in the interval that is going on.
    """

    name: str
    logical_processors: int
    memory_bytes: int
    nics: tuple[Nic, ...]
    reserve_bytes: int = 4 * 2**30
    root_processors: int = 8
    root_load: Load = field(default_factory=lambda: Load(base_cores=0.3))
    migration_enabled: bool = True
    migrations_max: int = 2
    storage_migrations_max: int = 2
    option: int = COMPRESSION_OPTION
    smb_limit_bytes_per_s: int | None = None
    atc: bool = False
    scvmm: bool = False
    build: int = 20348
    cpu_vendor: str = "GenuineIntel"
    domain: str = "contoso.example"
    switches: tuple[str, ...] = ("vSwitch",)
    vm_versions: tuple[str, ...] = ("8.0", "9.0", "9.1", "9.2", "9.3", "10.0")
    lm_subnets: tuple[str, ...] = ()
    fault_domain: tuple[str, ...] = ()
    numa_nodes: int = 2
    numa_spanning: bool = True
    weight: int = 1
    powered: bool = True
    booted_s: float = -86_400.0 * 9
    node_state: NodeState = NodeState.UP
    node_status: NodeStatus = NodeStatus.NORMAL
    drain: int = 0
    migration_cores: float = 0.0
    migration_core_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtual disk; an empty path is a pass-through disk."""

    path: str
    shared: bool = False


@dataclass(slots=True, eq=False)
class Guest:
    """A virtual machine, realised on exactly one machine at any time.

    Attributes:
        heartbeat: VMHeartbeatStatus while it runs; None without integration services.
        ails_s: For how long after each switch its heartbeat is lost.
        switched_s: When it last switched machines.
    """

    id: str
    name: str
    host: str
    vcpus: int
    assigned_bytes: int
    load: Load = field(default_factory=Load)
    startup_bytes: int = 0
    maximum_bytes: int = 0  # of dynamic memory; 0 means that memory is static
    state: VmStateCode = VmStateCode.RUNNING
    operation: int | None = None
    crashed: bool = False  # it stopped with its machine and starts again where it can
    clustered: bool = True
    version: str = "10.0"
    notes: str = ""
    disks: tuple[Disk, ...] = ()
    media: tuple[str, ...] = ()
    switches: tuple[str, ...] = ("vSwitch",)
    assigned_devices: int = 0
    gpu_partitions: int = 0
    gpu_partitions_movable: bool = False
    fibre_channel_adapters: int = 0
    sr_iov: bool = False
    tpm: bool = False
    shielded: bool = False
    cpu_compatible: bool = True
    cpu_reserve_percent: int = 0
    numa_nodes: int = 1
    replication_mode: int = 0
    replication_state: int = 0
    checkpoint_type: int = 3
    heartbeat: int | None = HEARTBEAT_HEALTHY
    ails_s: float = 0.0
    switched_s: float = -math.inf
    group: str = ""
    priority: int = 2000
    locked: bool = False
    anti_affinity: tuple[str, ...] = ()
    possible_owners: tuple[str, ...] = ()  # empty: every node
    preferred_owners: tuple[str, ...] = ()
    migration_state: MigrationState = MigrationState.NONE
    failure: int = 0
    failure_text: str = ""
    blackout_s: float | None = None
    seen_on: frozenset[str] = frozenset()  # machines whose event log has the last switch

    @property
    def is_load(self) -> bool:
        """Tell whether the guest takes CPU and memory now."""
        return self.state in _LOAD

    @property
    def dynamic(self) -> bool:
        """Tell whether the guest's memory is dynamic."""
        return self.maximum_bytes > 0

    def heartbeat_at(self, now_s: float) -> int | None:
        """Return VMHeartbeatStatus as its host shows it; None while it does not run."""
        if self.state is not VmStateCode.RUNNING or self.heartbeat is None:
            return None
        return HEARTBEAT_LOST if now_s < self.switched_s + self.ails_s else self.heartbeat

    @property
    def status(self) -> list[int]:
        """VMOperationalStatus, health first."""
        return [STATUS_OK] if self.operation is None else [STATUS_OK, self.operation]


@dataclass(frozen=True, slots=True)
class Network:
    """A cluster network, one for each subnet."""

    name: str
    subnet: str
    role: int = 1
    state: int = 3
    metric: int = 30_000

    @property
    def id(self) -> str:
        """The network's GUID."""
        return identity("network", self.name)


@dataclass(frozen=True, slots=True)
class AffinityRule:
    """A cluster affinity rule over groups."""

    name: str
    kind: AffinityRuleType
    groups: tuple[str, ...]
    enabled: bool = True


@dataclass(slots=True, eq=False)
class Volume:
    """A cluster shared volume; any node may own it.

    `access` holds the StateInfo of the nodes that do not reach it directly.
    """

    name: str
    owner: str
    path: str
    access: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Role:
    """A cluster group that holds no VM: the core group, a file server, a broker.

    Attributes:
        kind: Its GroupType.
        owner: The node it is on; empty for the first one.
        nodes: Its possible owners; empty for every node.
    """

    name: str
    kind: int
    owner: str = ""
    core: bool = False
    nodes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The group's GUID."""
        return identity("core group") if self.core else identity("role", self.name)


def _core_group() -> tuple[Role, ...]:
    return (Role("Clustergruppe", CLUSTER_GROUP, core=True),)


@dataclass(slots=True)
class FailoverCluster:
    """What the machines of a world form together; stand-alone machines have none.

    Attributes:
        roles: Groups without a VM, the core group among them.
        storage_direct: Storage Spaces Direct is on.
        storage_jobs: Repairs and the like that run.
        unhealthy_disks: Names of virtual disks that miss copies.
        updating: A run of Cluster-Aware Updating is under way.
    """

    name: str
    networks: tuple[Network, ...] = ()
    migrations_max: int | None = 1
    functional_level: int = 11
    auto_balancer_mode: int = 2
    auto_balancer_level: int = 1
    enforced_anti_affinity: bool = False
    witness_online: bool | None = True
    rules: tuple[AffinityRule, ...] = ()
    volumes: tuple[Volume, ...] = ()
    excluded_networks: tuple[str, ...] = ()  # names
    move_type_threshold: int = 2000
    roles: tuple[Role, ...] = field(default_factory=_core_group)
    storage_direct: bool = False
    storage_jobs: int = 0
    unhealthy_disks: tuple[str, ...] = ()
    updating: bool = False
