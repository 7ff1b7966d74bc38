"""How a reading is put together: sections that are there, or failed, without validation.

What the simulator builds is right by construction and checked by tests, so documents are made
without pydantic's validation: worlds of thousands of VMs are read thousands of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from balancer.gateway import wire
from balancer.gateway.simulator.windows import text

T = TypeVar("T")

OS = wire.Section[wire.OsPart]
HOST = wire.Section[wire.HostPart]
MIGRATION = wire.Section[wire.MigrationServicePart]
CPU = wire.Section[wire.CpuPart]
VPS = wire.Section[list[wire.VpRow]]
MEMORY = wire.Section[wire.MemoryPart]
VMS = wire.Section[list[wire.VmRow]]
WORDS = wire.Section[list[str]]
NICS = wire.Section[list[wire.NicRow]]
LM_NETWORKS = wire.Section[list[wire.LmNetworkRow]]
SMB_LIMIT = wire.Section[wire.SmbLimitPart]
JOBS = wire.Section[list[wire.JobRow]]
ATC = wire.Section[wire.AtcPart]
OTHERS = wire.Section[wire.OthersPart]
CLUSTER = wire.Section[wire.ClusterPart]
NODES = wire.Section[list[wire.NodeRow]]
GROUPS = wire.Section[list[wire.GroupRow]]
AFFINITY = wire.Section[list[wire.AffinityRow]]
VOLUMES = wire.Section[list[wire.VolumeRow]]
NETWORKS = wire.Section[list[wire.NetworkRow]]
VM_RESOURCE_TYPE = wire.Section[wire.VmResourceTypePart]
STORAGE = wire.Section[wire.StoragePart]
CONTROL = wire.Section[wire.ControlPart]

CIM_FQID = (
    "HRESULT 0x{code:08x},Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstanceCommand"
)


class Sections:
    """Makes the sections of one reading, some of which are to fail."""

    def __init__(self, failing: Mapping[str, int]) -> None:
        self._failing = failing

    def __call__(self, kind: type[wire.Section[T]], name: str, data: T) -> wire.Section[T]:
        """Return a section: its data, or the fault that it is to have."""
        code = self._failing.get(name)
        if code is None:
            return kind.model_construct(ok=True, data=data, fault=None)
        return failed(kind, code)


def failed(kind: type[wire.Section[T]], code: int, fqid: str = "") -> wire.Section[T]:
    """Return a section that failed with an HRESULT."""
    fault = wire.Fault(
        hresult=code,
        fqid=fqid or CIM_FQID.format(code=code),
        category="NotSpecified",
        message=text(code),
    )
    return kind.model_construct(ok=False, data=None, fault=fault)
