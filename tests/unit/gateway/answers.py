"""Answers of hosts and clusters as the platform would give them, to be changed where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from balancer.gateway import assemble as of_heard
from balancer.gateway.heard import hear
from balancer.gateway.port import Observation
from balancer.gateway.wire import (
    AtcPart,
    ClusterAnswer,
    ClusterPart,
    ControlPart,
    CpuPart,
    DiskRow,
    Fault,
    GroupRow,
    HostAnswer,
    HostPart,
    JobRow,
    MemoryPart,
    MigrationServicePart,
    NetworkRow,
    NicRow,
    NodeRow,
    OsPart,
    Section,
    SmbLimitPart,
    StoragePart,
    VmResourceTypePart,
    VmRow,
    VpRow,
)
from balancer.model.cluster import Cluster

GIB = 2**30
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GERMAN = Fault(
    hresult=0x80041001,
    fqid="HRESULT 0x80041001,Microsoft.Management",
    category="NotSpecified",
    message="Allgemeiner Fehler. Zugriff für „Prüfer“ verweigert",
)


def ok(data: Any) -> Section[Any]:
    return Section[Any](ok=True, data=data)


def failed() -> Section[Any]:
    return Section[Any](ok=False, fault=GERMAN)


def vm(identifier: str, name: str | None = None, **values: Any) -> VmRow:
    document: dict[str, Any] = {
        "id": identifier,
        "name": name or identifier,
        "state": 2,
        "status": [2],
        "clustered": True,
        "vcpus": 2,
        "cpu_percent_of_host": 5.0,
        "memory_assigned_bytes": 4 * GIB,
        "memory_demand_bytes": 3 * GIB,
        "memory_startup_bytes": 2 * GIB,
        "dynamic_memory": True,
        "version": "10.0",
        "heartbeat": 6,
        "replication_mode": 0,
        "replication_state": 0,
        "checkpoint_type": 3,
        "notes": "",
        "disks": [disk(f"C:\\ClusterStorage\\Volume1\\{identifier}.vhdx")],
        "media": [],
        "switches": ["Production"],
        "assigned_devices": 0,
        "gpu_partitions": 0,
        "gpu_partitions_movable": False,
        "fibre_channel_adapters": 0,
        "sr_iov": False,
        "tpm": False,
        "shielded": False,
        "cpu_compatible": False,
    }
    return VmRow.model_validate(document | values)


def disk(path: str, *, pass_through: bool = False, shared: bool = False) -> DiskRow:
    return DiskRow(path=path, pass_through=pass_through, shared=shared)


def assemble(
    name: str,
    cluster_answer: ClusterAnswer | None,
    hosts: Mapping[str, HostAnswer | None],
    now: datetime,
    last: Cluster | None = None,
    silence: Mapping[str, str] | None = None,
) -> Observation:
    heard = {host: hear(answer) if answer else None for host, answer in hosts.items()}
    return of_heard.assemble(name, cluster_answer, heard, now, last, silence)


def vps(name: str, *percents: float) -> list[VpRow]:
    return [VpRow(name=name, run_percent=sum(percents), count=len(percents), wait_percent=0)]


def job(vm_id: str, target: str, **values: Any) -> JobRow:
    document = {
        "vm": vm_id,
        "job_type": 305,
        "state": 4,
        "percent": 40,
        "error_code": 0,
        "target": target,
    }
    return JobRow.model_validate(document | values)


def nic(name: str, *addresses: str, gbps: float = 10, rdma: bool = False) -> NicRow:
    return NicRow(name=name, link_bps=gbps * 1e9, rdma=rdma, addresses=list(addresses))


def host_part(**values: Any) -> HostPart:
    document = {
        "logical_processors": 16,
        "memory_capacity_bytes": 64 * GIB,
        "migration_enabled": True,
        "migration_option": 1,
        "migrations_max": 2,
        "storage_migrations_max": 2,
        "migration_authentication": 1,
        "any_network": False,
        "numa_spanning": True,
        "vm_versions": ["8.0", "9.0", "10.0"],
    }
    return HostPart.model_validate(document | values)


def os_part(**values: Any) -> OsPart:
    document = {
        "build": 20348,
        "domain": "contoso.com",
        "last_boot_utc": "2026-02-01T00:00:00.0000000Z",
        "free_memory_bytes": GIB,
        "cpu_vendor": "GenuineIntel",
        "now_utc": "2026-03-01T12:00:01.0000000Z",
    }
    return OsPart.model_validate(document | values)


def cpu_part(**values: Any) -> CpuPart:
    document = {"lp_run_percent": 50.0, "lp_count": 16, "root_run_percent": 10.0, "root_count": 8}
    return CpuPart.model_validate(document | values)


def host(name: str, rows: Sequence[VmRow] = (), **sections: Any) -> HostAnswer:
    """Return the answer of a host; sections by name, as data or as a whole section."""
    parts: dict[str, Any] = {
        "os": os_part(),
        "host": host_part(),
        "migration": MigrationServicePart(active=0, active_storage=0, listeners=["10.1.0.1"]),
        "cpu": cpu_part(),
        "vps": [],
        "memory": MemoryPart(available_bytes=32 * GIB),
        "vms": list(rows),
        "switches": ["Production"],
        "nics": [nic("LM", "10.1.0.1/24")],
        "lm_networks": [],
        "smb_limit": SmbLimitPart(live_migration_bytes_per_s=None),
        "jobs": [],
        "atc": AtcPart(managed=False),
    }
    document = {
        key: value if isinstance(value, Section) else ok(value)
        for key, value in (parts | sections).items()
    }
    return HostAnswer.model_validate(
        {"module": 1, "computer": name}
        | {key: section.model_dump() for key, section in document.items()}
    )


def node(name: str, **values: Any) -> NodeRow:
    document = {
        "name": name,
        "state": 0,
        "status": 0,
        "drain": 0,
        "weight": 1,
        "fault_domain": ["Site:A"],
    }
    return NodeRow.model_validate(document | values)


def group(vm_id: str, owner: str, **values: Any) -> GroupRow:
    document: dict[str, Any] = {
        "name": f"role {vm_id}",
        "id": f"g-{vm_id}",
        "owner": owner,
        "state": 0,
        "group_type": 111,
        "status": 0,
        "priority": 2000,
        "locked": False,
        "core": False,
        "anti_affinity": [],
        "vm": vm_id,
        "possible_owners": [],
        "preferred_owners": [],
        "migration_state": 0,
        "migration_progress": 0,
        "migration_failure": 0,
    }
    return GroupRow.model_validate(document | values)


def network(name: str, subnet: str, **values: Any) -> NetworkRow:
    document = {
        "name": name,
        "id": f"net-{name}",
        "role": 1,
        "state": 3,
        "subnets": [subnet],
        "metric": 1000,
    }
    return NetworkRow.model_validate(document | values)


def cluster_part(node_name: str, **values: Any) -> ClusterPart:
    document = {
        "name": "C1",
        "node": node_name,
        "functional_level": 11,
        "migrations_max": 1,
        "auto_balancer_mode": 0,
        "auto_balancer_level": 1,
        "enforced_anti_affinity": False,
        "witness_online": None,
    }
    return ClusterPart.model_validate(document | values)


def cluster(
    members: Sequence[NodeRow], roles: Sequence[GroupRow] = (), **sections: Any
) -> ClusterAnswer:
    parts: dict[str, Any] = {
        "cluster": cluster_part(members[0].name),
        "nodes": list(members),
        "groups": list(roles),
        "affinity": [],
        "volumes": [],
        "networks": [network("LM", "10.1.0.0/24")],
        "vm_resource_type": VmResourceTypePart(
            excluded_networks=[], network_order=[], move_type_threshold=2000
        ),
        "storage": StoragePart(direct=False, jobs=0, unhealthy=[]),
        "control": ControlPart(fence=0, lease="", freeze=""),
    }
    document = {
        key: value if isinstance(value, Section) else ok(value)
        for key, value in (parts | sections).items()
    }
    return ClusterAnswer.model_validate(
        {"module": 1, "computer": members[0].name}
        | {key: section.model_dump() for key, section in document.items()}
    )
