"""The way to one host: the functions of our module, typed, wherever the host is.

`balancer.gateway.hyperv` reaches real hosts over PowerShell remoting, `balancer.gateway.simulator`
answers in process; everything above (reading a cluster, quorum, deadlines, fencing) is written
once on top of this protocol, so that both behave alike by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from balancer.gateway.wire import (
    ActAnswer,
    ClusterAnswer,
    ControlAnswer,
    ControlWriteAnswer,
    HostAnswer,
    MovesAnswer,
    SettingWriteAnswer,
    VersionAnswer,
)


class HostFunctions(Protocol):
    """One host. Calls block and keep their own deadline; one thread at a time calls a host.

    Every method raises `UnreachableError` when nothing was sent (no route, no login, not our
    module) and `ReplyLostError` when it was sent and no answer that can be understood came.
    For a reading the two mean the same; for an act the second means "perhaps".
    """

    @property
    def name(self) -> str:
        """The host's name as configured or as its cluster calls it."""
        ...

    def version(self) -> VersionAnswer:
        """Say which module answers, on which computer."""
        ...

    def read_host(self) -> HostAnswer:
        """Read everything the host knows of itself."""
        ...

    def read_cluster(self) -> ClusterAnswer:
        """Read everything this node says of its cluster."""
        ...

    def read_moves(self, vms: Sequence[str]) -> MovesAnswer:
        """Look at single VMs (ids), cheaply, while they move."""
        ...

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> ActAnswer:
        """Start a live migration of the one VM with this id and return once it is accepted."""
        ...

    def stop(self, vm: str, fence: int) -> ActAnswer:
        """Cancel a VM's migration; nothing to cancel counts as accepted."""
        ...

    def set_transport(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        """Write the performance option (TCPIP 0, Compression 1, SMB 2) if it is `expected`."""
        ...

    def read_control(self) -> ControlAnswer:
        """Read lease, freeze and fence, as the cluster (or a host that stands alone) keeps them."""
        ...

    def set_control(self, name: str, expected: str, value: str, fence: int) -> ControlWriteAnswer:
        """Write the "lease" or "freeze" text if it is `expected`; a freeze is never fenced."""
        ...

    def set_node(self, name: str, state: str, fence: int) -> ActAnswer:
        """Let nothing land on a node any more ("pause"), or again ("resume"); moves nothing."""
        ...

    def move_group(self, group: str, target: str, fence: int) -> ActAnswer:
        """Move a cluster group (id) that holds no running VM, without waiting for it."""
        ...

    def move_volume(self, name: str, target: str, fence: int) -> ActAnswer:
        """Move the ownership of a cluster shared volume, without waiting for it."""
        ...

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        """Write the cluster's AutoBalancerMode (0, 1, 2) if it is `expected`."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
