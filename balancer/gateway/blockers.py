"""What stops a VM from being live migrated at all, one word for each condition. Pure.

Conditions that only slow a migration down (standard checkpoints, SR-IOV, which falls back to
the synthetic path, a heartbeat that is not well) are no blockers. Those that hold for some
targets only are rules: `balancer.gateway.cluster_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from balancer.gateway.states import (
    GROUP_LOCKED_FLAG,
    GROUP_PENDING,
    GROUP_QUEUED_FLAG,
    MIGRATING_STATUS,
    MIGRATION_STATES_MOVING,
    is_busy,
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
    if vm is not None and not MIGRATING_STATUS.isdisjoint(vm.status):
        return True
    if group is None:
        return False
    queued = group.status & GROUP_QUEUED_FLAG or group.state == GROUP_PENDING
    return bool(queued) or group.migration_state in MIGRATION_STATES_MOVING


class Standing(NamedTuple):
    """What a VM's own host shows to block it.

    Attributes:
        words: What blocks it in any case.
        local: Paths that only a cluster's volume mounted there can make reachable elsewhere, each
            with the word for one that is not.
    """

    words: tuple[Blocker, ...]
    local: tuple[tuple[Blocker, str], ...]


def standing(vm: VmRow) -> Standing:
    """Return what blocks `vm` as its host shows it."""
    return Standing((*_devices(vm), *_state(vm)), tuple(_local_paths(vm)))


def blocked_by(
    vm: VmRow,
    alone: Standing,
    group: GroupRow | None,
    *,
    csv_paths: Sequence[str],
    node_of_cluster: bool,
) -> tuple[str, ...]:
    """Return the words of all that blocks `vm`, sorted.

    Args:
        vm: As its host shows it.
        alone: What that host shows to block it.
        group: Its cluster group; None when it has none, or none is known.
        csv_paths: Where the cluster's shared volumes are mounted.
        node_of_cluster: The host is read as a node of a cluster, not as one that stands alone.
    """
    found = [*alone.words, *_ownership(vm, group, node_of_cluster=node_of_cluster)]
    for word, path in alone.local:
        if not (vm.clustered and any(below(path, mount) for mount in csv_paths)):
            found.append(word)
    if is_moving(None, group):
        found.append(Blocker.MIGRATING)
    return tuple(sorted({word.value for word in found})) if found else ()


def _devices(vm: VmRow) -> Iterator[Blocker]:
    for disk in vm.disks:
        if disk.pass_through:
            yield Blocker.PASS_THROUGH_DISK
        if disk.shared:
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


def _state(vm: VmRow) -> Iterator[Blocker]:
    if is_changing(vm.state):
        yield Blocker.NOT_RUNNING
    if is_busy(vm):
        yield Blocker.OPERATION_RUNNING
    if is_moving(vm, None):
        yield Blocker.MIGRATING
    if is_replica(vm):
        yield Blocker.REPLICA


def _local_paths(vm: VmRow) -> Iterator[tuple[Blocker, str]]:
    def everywhere(path: str) -> bool:
        return is_share(path) or (vm.clustered and bool(_CSV.match(path)))

    for disk in vm.disks:
        if disk.path and not disk.pass_through and not everywhere(disk.path):
            yield Blocker.LOCAL_STORAGE, disk.path
    for path in vm.media:
        if path and not everywhere(path):
            yield Blocker.LOCAL_MEDIA, path


def _ownership(vm: VmRow, group: GroupRow | None, *, node_of_cluster: bool) -> Iterator[Blocker]:
    """A clustered VM may be moved by its cluster only, so one whose group we lack stays."""
    if vm.clustered and (group is None or not node_of_cluster):
        yield Blocker.LOCKED
    if group is not None and (group.locked or group.status & GROUP_LOCKED_FLAG):
        yield Blocker.LOCKED


def is_share(path: str) -> bool:
    r"""Tell whether a path is on a file share; `\\?\` and `\\.\` name local devices."""
    return path.startswith("\\\\") and not path.startswith(("\\\\?\\", "\\\\.\\"))


def below(path: str, mount: str) -> bool:
    """Tell whether a path is below a volume's mount point."""
    return bool(mount) and path.casefold().startswith(mount.casefold().rstrip("\\") + "\\")
