"""A cluster as it was seen at one moment: the frozen snapshot that everything works on.

Units are in the names; CPU is counted in logical processors of the host at hand, memory
in bytes, rates in bytes or bits per second. `None` means "not measured", never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from balancer.model.rule import Rule


class HostState(StrEnum):
    """What a host can be used for. Only `UP` hosts receive VMs."""

    UP = "up"
    PAUSED = "paused"
    DRAINING = "draining"  # must be evacuated
    DOWN = "down"
    UNKNOWN = "unknown"  # did not answer: never source or target, its known load counts


class VmState(StrEnum):
    """The states that matter for placement; only running and paused VMs are load."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    SAVED = "saved"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def is_load(self) -> bool:
        """Tell whether a VM in this state takes CPU and memory of its host."""
        return self in (VmState.RUNNING, VmState.PAUSED)


class Transport(StrEnum):
    """How a live migration's memory travels: a setting of the host on Hyper-V."""

    TCP = "tcp"
    COMPRESSION = "compression"
    SMB = "smb"


class Priority(StrEnum):
    """Start priority of a clustered VM (3000, 2000, 1000, 0)."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


class ManagedBy(StrEnum):
    """Who owns a host's migration settings; what Network ATC manages is never written."""

    NONE = "none"
    NETWORK_ATC = "network_atc"


class Blocker(StrEnum):
    """Why a VM cannot be live migrated at all, one word per condition of the platform.

    Conditions that only rule out some targets (a missing switch, another processor) reach
    the planner as rules of the cluster instead; the words exist for tools that know no better.
    """

    PASS_THROUGH_DISK = "pass_through_disk"
    ASSIGNED_DEVICE = "assigned_device"
    GPU_PARTITION = "gpu_partition"
    FIBRE_CHANNEL = "fibre_channel"
    SR_IOV = "sr_iov"
    KEY_PROTECTOR = "key_protector"
    CPU_VENDOR = "cpu_vendor"
    CPU_FEATURES = "cpu_features"
    CPU_MODE = "cpu_mode"
    CONFIGURATION_VERSION = "configuration_version"
    LOCAL_MEDIA = "local_media"
    MISSING_SWITCH = "missing_switch"
    NOT_RUNNING = "not_running"
    OPERATION_RUNNING = (
        "operation_running"  # backup, checkpoint, merge, export or first replication
    )
    MIGRATING = "migrating"
    REPLICA = "replica"
    LOCAL_STORAGE = "local_storage"
    SHARED_DISK = "shared_disk"
    LOCKED = "locked"  # LockedFromMoving, no possible owner
    NO_AUTO_START = "no_auto_start"
    MEMORY = "memory"
    DOMAIN = "domain"
    MAC_POOL = "mac_pool"
    CHECKPOINT_TYPE = "checkpoint_type"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class MigrationNetwork:
    """A network that live migration may use, as one host sees it."""

    name: str
    link_bps: float = 10e9  # of one NIC
    nics: int = 1
    rdma: bool = False


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """A host's live migration settings, as set; absent in a snapshot means these defaults."""

    enabled: bool = True
    transport: Transport = Transport.COMPRESSION
    concurrent: int = 1  # migrations the host takes part in at a time, in and out together
    managed_by: ManagedBy = ManagedBy.NONE
    networks: tuple[MigrationNetwork, ...] = (MigrationNetwork("default"),)
    smb_limit_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A Hyper-V host.

    `memory_bytes` is what VMs may use (available to the balancer plus assigned), before the
    policy's reserve. `cpu_used_cores` is the measured total; what exceeds the sum of the VMs
    belongs to the host and stays where it is.
    """

    name: str
    cpu_cores: float
    memory_bytes: int
    cpu_speed: float = 1.0
    state: HostState = HostState.UP
    cpu_used_cores: float | None = None
    root_cpu_cores: float | None = None  # processors of the root partition
    root_cpu_used_cores: float | None = None
    fault_domain: tuple[str, ...] = ()
    numa_free_bytes: tuple[int, ...] = ()  # of each NUMA node; empty where memory may span them
    migration: MigrationSettings = MigrationSettings()


@dataclass(frozen=True, slots=True)
class Vm:
    """A virtual machine and what it uses. `id` identifies it; names repeat."""

    id: str
    name: str
    host: str
    cpu_used_cores: float
    memory_assigned_bytes: int
    state: VmState = VmState.RUNNING
    clustered: bool = True
    vcpus: int | None = None
    cpu_reserved_cores: float | None = None  # logical processors that its host has to keep for it
    numa_nodes: int | None = None  # virtual ones, over which its memory is spread evenly
    cpu_wait_cores: float | None = None  # what it would have used had it not waited for processors
    memory_demand_bytes: int | None = None
    memory_startup_bytes: int | None = None
    dirty_bytes_per_s: float | None = None
    priority: Priority = Priority.MEDIUM
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()  # words of `Blocker`; an unknown word blocks as well
    migrating_to: str | None = None  # the host that somebody is migrating it to, where known

    @property
    def is_load(self) -> bool:
        """Tell whether the VM takes CPU and memory of its host."""
        return self.state.is_load

    @property
    def cpu_demand_cores(self) -> float:
        """Return the logical processors of its host that it would use if it never had to wait."""
        return self.cpu_used_cores + (self.cpu_wait_cores or 0.0)

    @property
    def memory_needed_bytes(self) -> int:
        """Return the memory that it holds, or asks for where that is more (dynamic memory)."""
        return max(self.memory_assigned_bytes, self.memory_demand_bytes or 0)


class AutoBalancer(StrEnum):
    """The cluster's built-in VM load balancing (AutoBalancerMode 0, 1, 2)."""

    OFF = "off"
    ON_JOIN = "on_join"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ClusterNetwork:
    """A cluster network and whether live migration may use it, in order of preference."""

    name: str
    id: str
    subnets: tuple[str, ...] = ()
    up: bool = True
    migration: bool = True


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Settings of the cluster that bind or warn us."""

    concurrent_per_host: int | None = None  # MaximumParallelMigrations
    auto_balancer: AutoBalancer | None = None
    functional_level: int | None = None


def _by_word(pairs: Iterable[tuple[str, Vm]]) -> dict[str, tuple[Vm, ...]]:
    found: dict[str, list[Vm]] = {}
    for word, vm in pairs:
        found.setdefault(word, []).append(vm)
    return {word: tuple(vms) for word, vms in found.items()}


@dataclass(frozen=True)
class Cluster:
    """A snapshot: hosts, VMs, the cluster's own rules and settings, at one moment.

    Hosts and VMs keep the order they came in; planners sort for themselves, so that the
    order of a document never changes a decision.
    """

    name: str
    hosts: tuple[Host, ...]
    vms: tuple[Vm, ...]
    rules: tuple[Rule, ...] = ()
    settings: ClusterSettings = ClusterSettings()
    networks: tuple[ClusterNetwork, ...] = ()
    taken_at: datetime | None = None

    @cached_property
    def host_by_name(self) -> Mapping[str, Host]:
        """Map host names, exactly as given, to hosts."""
        return {host.name: host for host in self.hosts}

    @cached_property
    def vm_by_id(self) -> Mapping[str, Vm]:
        """Map VM ids, exactly as given, to VMs."""
        return {vm.id: vm for vm in self.vms}

    @cached_property
    def vms_by_folded_id(self) -> Mapping[str, tuple[Vm, ...]]:
        """Map ids without regard to case to VMs: thousands of rules name single VMs."""
        return _by_word((vm.id.casefold(), vm) for vm in self.vms)

    @cached_property
    def vms_by_folded_name(self) -> Mapping[str, tuple[Vm, ...]]:
        """Map names without regard to case to VMs, of which several may share one."""
        return _by_word((vm.name.casefold(), vm) for vm in self.vms)

    @cached_property
    def hosts_by_folded_name(self) -> Mapping[str, tuple[str, ...]]:
        """Map host names without regard to case to the names as given."""
        found: dict[str, list[str]] = {}
        for host in self.hosts:
            found.setdefault(host.name.casefold(), []).append(host.name)
        return {word: tuple(names) for word, names in found.items()}

    @cached_property
    def arriving_on(self) -> Mapping[str, tuple[Vm, ...]]:
        """Map hosts to the load that migrations under way bring them, where any do."""
        found = _by_word((vm.migrating_to, vm) for vm in self.vms if vm.migrating_to and vm.is_load)
        return {
            host: elsewhere
            for host, vms in found.items()
            if host in self.host_by_name and (elsewhere := tuple(v for v in vms if v.host != host))
        }

    @cached_property
    def vms_on(self) -> Mapping[str, tuple[Vm, ...]]:
        """Map each host name to its VMs, running or not, in the order of the snapshot."""
        on: dict[str, list[Vm]] = {host.name: [] for host in self.hosts}
        for vm in self.vms:
            on[vm.host].append(vm)
        return {name: tuple(vms) for name, vms in on.items()}
