"""What stops a VM from being live migrated at all, one word for each condition. Pure.

Conditions that only slow a migration down (standard checkpoints, SR-IOV, which falls back to
the synthetic path, a heartbeat that is not well) are no blockers. Those that hold for some
targets only are rules: `balancer.gateway.cluster_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from balancer.gateway.states import (
    BUSY_STATUS,
    GROUP_LOCKED_FLAG,
    GROUP_PENDING,
    GROUP_QUEUED_FLAG,
    MIGRATING_STATUS,
    MIGRATION_STATES_MOVING,
    is_changing,
    is_replica,
    version_number,
)
from balancer.gateway.wire import GroupRow, VmRow
from balancer.model.cluster import Blocker

_GPU_MIGRATION_VERSION = (12, 0)  # configuration version from which a GPU partition can move
_CSV = re.compile(r"[a-z]:\\clusterstorage\\", re.IGNORECASE)


def is_moving(vm: VmRow | None, group: GroupRow | None) -> bool:
    """Tell whether a migration of the VM is queued or running, as host or cluster show it."""
    if vm is not None and MIGRATING_STATUS.intersection(vm.status):
        return True
    if group is None:
        return False
    queued = group.status & GROUP_QUEUED_FLAG or group.state == GROUP_PENDING
    return bool(queued) or group.migration_state in MIGRATION_STATES_MOVING


def blocked_by(
    vm: VmRow, group: GroupRow | None, *, csv_paths: Sequence[str], node_of_cluster: bool
) -> tuple[str, ...]:
    """Return the words of all that blocks `vm`, sorted.

    Args:
        vm: As its host shows it.
        group: Its cluster group; None when it has none, or none is known.
        csv_paths: Where the cluster's shared volumes are mounted.
        node_of_cluster: The host is read as a node of a cluster, not as one that stands alone.
    """
    found = [
        *_devices(vm),
        *_state(vm, group),
        *_storage(vm, csv_paths),
        *_ownership(vm, group, node_of_cluster=node_of_cluster),
    ]
    return tuple(sorted({word.value for word in found}))


def _devices(vm: VmRow) -> Iterator[Blocker]:
    if any(disk.pass_through for disk in vm.disks):
        yield Blocker.PASS_THROUGH_DISK
    if any(disk.shared for disk in vm.disks):
        yield Blocker.SHARED_DISK
    if vm.assigned_devices:
        yield Blocker.ASSIGNED_DEVICE
    if vm.gpu_partitions:
        version = version_number(vm.version) or (0, 0)
        if not vm.gpu_partitions_movable or version < _GPU_MIGRATION_VERSION:
            yield Blocker.GPU_PARTITION
    if vm.fibre_channel_adapters:
        yield Blocker.FIBRE_CHANNEL  # works only where the fabric zones both sets of names
    if vm.tpm or vm.shielded:
        yield Blocker.KEY_PROTECTOR  # works only where the target holds the guardian's keys


def _state(vm: VmRow, group: GroupRow | None) -> Iterator[Blocker]:
    if is_changing(vm.state):
        yield Blocker.NOT_RUNNING
    if BUSY_STATUS.intersection(vm.status):
        yield Blocker.OPERATION_RUNNING
    if is_moving(vm, group):
        yield Blocker.MIGRATING
    if is_replica(vm):
        yield Blocker.REPLICA


def _storage(vm: VmRow, csv_paths: Sequence[str]) -> Iterator[Blocker]:
    def reachable(path: str) -> bool:
        return is_share(path) or (vm.clustered and on_volume(path, csv_paths))

    if any(disk.path and not disk.pass_through and not reachable(disk.path) for disk in vm.disks):
        yield Blocker.LOCAL_STORAGE
    if any(not reachable(path) for path in vm.media if path):
        yield Blocker.LOCAL_MEDIA


def _ownership(vm: VmRow, group: GroupRow | None, *, node_of_cluster: bool) -> Iterator[Blocker]:
    """A clustered VM may be moved by its cluster only, so one whose group we lack stays."""
    if vm.clustered and (group is None or not node_of_cluster):
        yield Blocker.LOCKED
    if group is not None and (group.locked or group.status & GROUP_LOCKED_FLAG):
        yield Blocker.LOCKED


def is_share(path: str) -> bool:
    r"""Tell whether a path is on a file share; `\\?\` and `\\.\` name local devices."""
    return path.startswith("\\\\") and not path.startswith(("\\\\?\\", "\\\\.\\"))


def on_volume(path: str, csv_paths: Sequence[str]) -> bool:
    """Tell whether a path is on a cluster shared volume, all of which every node mounts alike."""
    return bool(_CSV.match(path)) or any(below(path, mount) for mount in csv_paths)


def below(path: str, mount: str) -> bool:
    """Tell whether a path is below a volume's mount point."""
    return bool(mount) and path.casefold().startswith(mount.casefold().rstrip("\\") + "\\")
