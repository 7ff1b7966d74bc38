"""The one schema of what a host answers: the PowerShell module writes it, we read it.

Every function of the module returns one compressed JSON document. A reading is made of
sections that fail one by one, so that a host whose SMB cmdlets are broken still reports its
VMs. Units: bytes, seconds, bits per second, percent 0..100 where the platform gives percent.
Enums travel as the platform's own integers. Unknown keys are ignored: a newer module may say
more. The same module version +/- 1 is understood (`MODULE_VERSION`).

| function            | parameters                | answers          |
|---------------------|---------------------------|------------------|
| `Get-LbVersion`     |                           | `VersionAnswer`  |
| `Get-LbHost`        |                           | `HostAnswer`     |
| `Get-LbCluster`     |                           | `ClusterAnswer`  |
| `Get-LbMigration`   | VmId (list of GUIDs)      | `MovesAnswer`    |
| `Start-LbMigration` | VmId, Target, Clustered, Fence | `ActAnswer` |
| `Stop-LbMigration`  | VmId, Fence               | `ActAnswer`      |
| `Set-LbTransport`   | Expected, Value, Fence    | `SettingWriteAnswer` |
| `Get-LbControl`     |                           | `ControlAnswer`  |
| `Set-LbControl`     | Name, Expected, Value, Fence | `ControlWriteAnswer` |
| `Set-LbNode`        | Name, State, Fence        | `ActAnswer`      |
| `Move-LbGroup`      | GroupId, Target, Fence    | `ActAnswer`      |
| `Move-LbVolume`     | Name, Target, Fence       | `ActAnswer`      |
| `Set-LbAutoBalancer` | Expected, Value, Fence   | `SettingWriteAnswer` |
"""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

MODULE_VERSION = 1
EVERY_NODE = "*"  # no node can be called so; spares a large cluster a list in each of its groups


class Wire(BaseModel):
    """Base of all wire documents: frozen, tolerant of keys it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Fault(Wire):
    """Why a section or an act failed: the typed parts of a PowerShell error record."""

    hresult: int | None = None  # unsigned 32 bit; the Win32 code is in the low word of 0x8007xxxx
    fqid: str = ""
    category: str = ""
    message: str = ""  # in the host's language: for people, never for decisions


T = TypeVar("T")


class Section(Wire, Generic[T]):
    """One independently failing part of a reading."""

    ok: bool
    data: T | None = None
    fault: Fault | None = None


class VersionAnswer(Wire):
    """Who answers, and which version of our module."""

    module: int
    computer: str
    clustered: bool  # the cluster service is installed and the computer is a node


class OsPart(Wire):
    """Win32_OperatingSystem, Win32_ComputerSystem and Win32_Processor."""

    build: int
    domain: str
    last_boot_utc: str
    free_memory_bytes: int
    cpu_vendor: str  # GenuineIntel, AuthenticAMD, ...
    now_utc: str


class HostPart(Wire):
    """Get-VMHost scalars."""

    logical_processors: int
    memory_capacity_bytes: int
    migration_enabled: bool
    migration_option: int  # TCPIP 0, Compression 1, SMB 2
    migrations_max: int
    storage_migrations_max: int
    migration_authentication: int  # CredSSP 0, Kerberos 1
    any_network: bool
    numa_spanning: bool
    numa_free_mib: list[int] = []  # of each NUMA node, where memory may not span them
    vm_versions: list[str]


class MigrationServicePart(Wire):
    """Msvm_VirtualSystemMigrationService: is live migration usable, and busy, here."""

    active: int
    active_storage: int
    listeners: list[str]  # IP addresses; empty means that no migration can arrive


class CpuPart(Wire):
    """Hypervisor counters: `_Total` of the logical and of the root virtual processors."""

    lp_run_percent: float  # average over logical processors
    lp_count: int
    root_run_percent: float  # average over the root partition's processors
    root_count: int


class VpRow(Wire):
    """The virtual processors of all VMs of one name on the host, summed up there.

    Counters know processors by VM name (`<VM>:Hv VP <n>`), which need not be unique. A row for
    each processor would be a third of the answer of a host.
    """

    name: str  # of the VMs, as counters write it
    run_percent: float  # sum over the processors, 100 for each that is busy all the time
    count: int  # of processors
    wait_percent: float = (
        0.0  # likewise of those that wait: their time per dispatch, times dispatches
    )


class MemoryPart(Wire):
    """Hyper-V Dynamic Memory Balancer, `_Total` or the sum over its instances."""

    available_bytes: int
    average_pressure_percent: float | None = None


class DiskRow(Wire):
    """A VM's disk as far as it decides over moving."""

    path: str  # empty for a pass-through disk
    pass_through: bool
    shared: bool  # persistent reservations: shared VHDX or VHD Set


class VmRow(Wire):
    """One VM on this host, from Get-VM and its parts; integers are the platform's enums."""

    id: str
    name: str
    state: int  # VMState
    status: list[int]  # VMOperationalStatus; index 1 is the operation in progress
    clustered: bool
    vcpus: int
    cpu_percent_of_host: float
    memory_assigned_bytes: int
    memory_demand_bytes: int
    memory_startup_bytes: int
    dynamic_memory: bool
    memory_maximum_bytes: int = 0  # that dynamic memory may come to; 0 where nobody said
    version: str
    heartbeat: int | None
    replication_mode: int
    replication_state: int
    checkpoint_type: int
    notes: str
    disks: list[DiskRow]
    media: list[str]  # paths of mounted ISO images
    switches: list[str]  # names of connected virtual switches
    assigned_devices: int
    gpu_partitions: int
    gpu_partitions_movable: bool
    fibre_channel_adapters: int
    sr_iov: bool
    tpm: bool
    shielded: bool
    cpu_compatible: bool  # CompatibilityForMigrationEnabled
    cpu_reserve_percent: int = 0  # of its virtual processors
    numa_nodes: int = 1  # virtual ones


class NicRow(Wire):
    """A physical or team adapter that carries an address."""

    name: str
    link_bps: float
    rdma: bool  # enabled and operational
    addresses: list[str]  # "10.0.0.11/24"


class JobRow(Wire):
    """A Msvm_MigrationJob still listed on this host (running, or ended minutes ago)."""

    vm: str
    job_type: int
    state: int  # JobState
    percent: int
    error_code: int
    target: str


class LmNetworkRow(Wire):
    """A user-managed migration network of the host (Get-VMMigrationNetwork)."""

    subnet: str
    priority: int | None


class SmbLimitPart(Wire):
    """Get-SmbBandwidthLimit -Category LiveMigration; None when there is no limit."""

    live_migration_bytes_per_s: int | None


class AtcPart(Wire):
    """Whether Network ATC owns the host's migration settings."""

    managed: bool


class OthersPart(Wire):
    """Who else may move VMs of this host."""

    scvmm_agent: bool  # System Center Virtual Machine Manager manages it
    updating: bool  # a run of Cluster-Aware Updating is under way


class HostAnswer(Wire):
    """Everything one host knows of itself."""

    module: int
    computer: str
    os: Section[OsPart]
    host: Section[HostPart]
    migration: Section[MigrationServicePart]
    cpu: Section[CpuPart]
    vps: Section[list[VpRow]]
    memory: Section[MemoryPart]
    vms: Section[list[VmRow]]
    switches: Section[list[str]]
    nics: Section[list[NicRow]]
    lm_networks: Section[list[LmNetworkRow]]
    smb_limit: Section[SmbLimitPart]
    jobs: Section[list[JobRow]]
    atc: Section[AtcPart]
    others: Section[OthersPart] | None = None  # an older module does not say


class ClusterPart(Wire):
    """Get-Cluster, and whether this node is in a cluster that has quorum."""

    name: str
    node: str  # who answers
    functional_level: int
    migrations_max: int | None  # MaximumParallelMigrations, WS2022 and later
    auto_balancer_mode: int | None
    auto_balancer_level: int | None
    enforced_anti_affinity: bool
    witness_online: bool | None  # None when no witness is configured


class NodeRow(Wire):
    """A cluster node as the answering node sees it."""

    name: str
    state: int  # Up 0, Down 1, Paused 2, Joining 3, Unknown -1
    status: int  # StatusInformation flags
    drain: int  # DrainStatus
    weight: int  # DynamicWeight
    fault_domain: list[str]  # "Site:A", "Rack:1"


class GroupRow(Wire):
    """A cluster group; the parts about a VM are empty for other roles."""

    name: str
    id: str
    owner: str
    state: int
    group_type: int  # VirtualMachine 111
    status: int  # StatusInformation flags
    priority: int
    locked: bool
    core: bool
    anti_affinity: list[str]  # AntiAffinityClassNames
    vm: str  # VM id, or ""
    possible_owners: list[str]  # of both VM resources, or `EVERY_NODE`; empty means unread
    preferred_owners: list[str]
    migration_state: int | None  # private property of the VM resource
    migration_progress: int | None
    migration_failure: int | None  # HRESULT, unsigned


class AffinityRow(Wire):
    """A cluster affinity rule: SameFaultDomain 1, SameNode 2, DifferentFaultDomain 3, ..Node 4."""

    name: str
    rule_type: int
    groups: list[str]
    enabled: bool


class VolumeRow(Wire):
    """A cluster shared volume and how each node reaches it (StateInfo by node)."""

    name: str
    owner: str
    path: str  # C:\ClusterStorage\Volume1
    access: dict[str, int]


class NetworkRow(Wire):
    """A cluster network."""

    name: str
    id: str
    role: int
    state: int
    subnets: list[str]
    metric: int


class VmResourceTypePart(Wire):
    """Parameters of the resource type "Virtual Machine"."""

    excluded_networks: list[str]  # ids
    network_order: list[str]  # ids
    move_type_threshold: int | None


class StoragePart(Wire):
    """Storage Spaces Direct: whether taking a node away now would cost redundancy."""

    direct: bool  # without it the rest is empty
    jobs: int  # repair, regeneration and rebalance jobs that have not ended
    unhealthy: list[str]  # names of virtual disks that are not healthy


class ControlPart(Wire):
    """Who may act: kept in the cluster's core group, or in a stand-alone host's registry."""

    fence: int  # the highest fencing number seen
    lease: str  # written by whoever executes; "" when nobody ever did
    freeze: str  # any text but spaces: nothing may be moved


class ClusterAnswer(Wire):
    """Everything one node says of its cluster."""

    module: int
    computer: str
    cluster: Section[ClusterPart]
    nodes: Section[list[NodeRow]]
    groups: Section[list[GroupRow]]
    affinity: Section[list[AffinityRow]]
    volumes: Section[list[VolumeRow]]
    networks: Section[list[NetworkRow]]
    vm_resource_type: Section[VmResourceTypePart]
    storage: Section[StoragePart]
    control: Section[ControlPart]


class MoveRow(Wire):
    """One VM as this host, and the cluster behind it, see it now."""

    vm: str
    present: bool  # the realised VM is on this host
    state: int | None
    status: list[int]
    owner: str  # owner of the cluster group, "" when not clustered or not known
    group_state: int | None
    group_status: int | None
    migration_state: int | None
    progress: int | None
    failure: int | None  # HRESULT of the last migration, unsigned; None or 0 when it went well
    failure_text: str
    job_state: int | None
    job_percent: int | None
    blackout_s: float | None
    heartbeat: int | None = None  # VMHeartbeatStatus; an older module does not say


class MovesAnswer(Wire):
    """What `Get-LbMigration` saw; a VM this host knows nothing of has `present` false."""

    module: int
    computer: str
    moves: list[MoveRow]


class ActAnswer(Wire):
    """Whether an act was accepted. `fenced` means a newer executor has been here."""

    module: int
    accepted: bool
    fenced: bool = False
    fault: Fault | None = None


class SettingWriteAnswer(Wire):
    """What a write did: written, differs, busy, managed, fenced; and the value now."""

    module: int
    result: str
    value: int  # the option after the call


class ControlAnswer(Wire):
    """What `Get-LbControl` read."""

    module: int
    computer: str
    control: Section[ControlPart]


class ControlWriteAnswer(Wire):
    """What `Set-LbControl` did: written, differs, fenced; and the text now."""

    module: int
    result: str
    value: str
