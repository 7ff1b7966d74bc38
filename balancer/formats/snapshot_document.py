"""The shape of `balancer/snapshot/v1`: what its keys are, what they mean, their defaults.

The defaults are those of the model. Unknown keys are ignored here; the reader warns of them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from balancer.formats.strict import (
    Moment,
    Name,
    PositiveReal,
    PositiveWhole,
    Real,
    Truth,
    Whole,
)
from balancer.model.cluster import (
    AutoBalancer,
    Blocker,
    HostState,
    ManagedBy,
    Priority,
    Transport,
    VmState,
)
from balancer.policy.vocabulary import ClusterRuleEntry

SNAPSHOT_SCHEMA = "balancer/snapshot/v1"


class _Part(BaseModel):
    """Base of a snapshot's parts."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class NetworkPart(_Part):
    """A network that live migration may use on this host, best first."""

    name: Name = Field(
        description="A migration takes a network that both of its hosts have by this name."
    )
    link_bps: PositiveReal = Field(10e9, description="Bits per second of one NIC.")
    nics: PositiveWhole = Field(1, description="NICs of the network on this host.")
    rdma: Truth = Field(False, description="Whether the NICs do RDMA.")


class MigrationPart(_Part):
    """The host's live migration settings; absent, the platform's defaults are assumed."""

    enabled: Truth = Field(True, description="Whether live migration is enabled.")
    transport: Transport = Field(
        Transport.COMPRESSION, description="The performance option as set."
    )
    concurrent: Whole = Field(
        1, description="Live migrations the host takes part in at a time, in and out together."
    )
    managed_by: ManagedBy = Field(
        ManagedBy.NONE, description="Settings under Network ATC are read and never written."
    )
    networks: tuple[NetworkPart, ...] = Field(
        (NetworkPart(name="default"),), description="Absent: one NIC of 10 Gbit/s, no RDMA."
    )
    smb_limit_bytes_per_s: PositiveReal | None = Field(
        None, description="SMB bandwidth limit for live migration."
    )


class HostPart(_Part):
    """A Hyper-V host."""

    name: Name = Field(description="Case does not matter; no two hosts have the same.")
    cpu_cores: PositiveReal = Field(description="Logical processors.")
    memory_bytes: Whole = Field(
        description="What VMs may use: available to the balancer plus assigned. The policy's "
        "reserve comes off that."
    )
    cpu_speed: PositiveReal = Field(1.0, description="Relative speed of one logical processor.")
    state: HostState = Field(
        HostState.UP, description="unknown and down are never source or target."
    )
    cpu_used_cores: Real | None = Field(
        None, description="Measured total; what exceeds the VMs' sum stays on the host."
    )
    root_cpu_cores: PositiveReal | None = Field(
        None, description="Processors of the root partition."
    )
    root_cpu_used_cores: Real | None = Field(
        None, description="Of the root partition's processors, how many are busy."
    )
    fault_domain: tuple[str, ...] = Field(
        (), description="From the widest to the narrowest: Site:A, Rack:1."
    )
    numa_free_bytes: tuple[Whole, ...] = Field(
        (),
        description="Free memory of each NUMA node where none may be spanned; absent: they may.",
    )
    migration: MigrationPart = Field(MigrationPart(), description="Its live migration settings.")


class VmPart(_Part):
    """A virtual machine."""

    id: Name = Field(description="Identifies the VM; kept exactly as given.")
    name: str = Field(description="For people; several VMs may have the same.")
    host: Name = Field(description="Name of the host it is on.")
    cpu_used_cores: Real = Field(description="Logical processors of its host that it uses.")
    memory_assigned_bytes: Whole = Field(description="Memory assigned to it now.")
    state: VmState = Field(VmState.RUNNING, description="Only running and paused VMs are load.")
    clustered: Truth = Field(True, description="Whether it is a role of the failover cluster.")
    vcpus: Whole | None = Field(None, description="Virtual processors.")
    cpu_reserved_cores: Real | None = Field(
        None, description="Logical processors that its host has to keep for it."
    )
    numa_nodes: PositiveWhole | None = Field(
        None, description="Virtual NUMA nodes, over which its memory is spread evenly; absent: 1."
    )
    cpu_wait_cores: Real | None = Field(
        None,
        description="What it would use besides, had it not to wait for processors; counts as load.",
    )
    memory_demand_bytes: Whole | None = Field(
        None, description="What it asks for now; counts where it is more than it has."
    )
    memory_startup_bytes: Whole | None = Field(None, description="What a start needs.")
    dirty_bytes_per_s: Real | None = Field(None, description="Memory it writes to, per second.")
    priority: Priority = Field(Priority.MEDIUM, description="Start priority in the cluster.")
    tags: tuple[str, ...] = Field((), description="Words that selectors pick by.")
    groups: tuple[str, ...] = Field((), description="Cluster groups it belongs to.")
    blocked_by: tuple[str, ...] = Field(
        (),
        description="Why it cannot be live migrated: "
        + ", ".join(Blocker)
        + ". An unknown word blocks as well, with a warning.",
    )
    migrating_to: str | None = Field(
        None, description="The host that a migration under way takes it to, whoever asked for it."
    )


class ClusterNetworkPart(_Part):
    """A network of the cluster, in the order of preference for live migration."""

    name: str = Field(description="For people.")
    id: Name = Field(description="As the cluster identifies it.")
    subnets: tuple[str, ...] = Field((), description="In CIDR notation.")
    up: Truth = Field(True, description="Whether the cluster sees it up.")
    migration: Truth = Field(True, description="Whether live migration may use it.")


class SettingsPart(_Part):
    """Settings of the cluster."""

    concurrent_per_host: Whole | None = Field(
        None, description="The cluster's own cap on live migrations per node."
    )
    auto_balancer: AutoBalancer | None = Field(
        None, description="The cluster's built-in balancing of VMs."
    )
    functional_level: Whole | None = Field(None, description="The cluster's functional level.")


class SnapshotDocument(_Part):
    """A cluster as it was seen at one moment."""

    schema_: Literal["balancer/snapshot/v1"] = Field(
        alias="schema", description="Kind and version of the document."
    )
    cluster: Name = Field(description="The cluster's name.")
    taken_at: Moment | None = Field(None, description="When it was seen, RFC 3339.")
    hosts: tuple[HostPart, ...] = Field(
        min_length=1, description="All hosts, also those that are down; at least one."
    )
    vms: tuple[VmPart, ...] = Field(description="All VMs, running or not.")
    rules: tuple[ClusterRuleEntry, ...] = Field(
        (), description="The cluster's own rules, in the vocabulary of policies."
    )
    networks: tuple[ClusterNetworkPart, ...] = Field(
        (), description="The cluster's networks, in the order of preference for live migration."
    )
    settings: SettingsPart = Field(SettingsPart(), description="What the cluster itself is set to.")
