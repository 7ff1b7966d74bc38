"""The rows of a reading about one guest, as its host and its cluster show it.

A row is built once and copied with what changed since; most stay the same from one reading to
the next, and the same row is given again.
"""

from __future__ import annotations

from balancer.gateway import wire
from balancer.gateway.simulator.physics import Migration, Phase
from balancer.gateway.simulator.things import Guest, identity
from balancer.gateway.simulator.windows import (
    VIRTUAL_MACHINE_GROUP,
    GroupState,
    GroupStatus,
)

_MIB = 2**20
_VP_ROWS_KEPT = 16  # as many as loads that go up and down within minutes take

# Performance counters allow none of ()#/\ in an instance name.
_IN_COUNTERS = str.maketrans({"(": "[", ")": "]", "#": "_", "/": "_", "\\": "_"})


class GuestRows:
    """The rows of one guest, with what was given last."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._instance = guest.name.translate(_IN_COUNTERS)
        self._vps: dict[tuple[int, int], wire.VpRow] = {}
        self._vm_key: tuple[object, ...] = ()
        self._vm: wire.VmRow | None = None
        self._group_key: tuple[object, ...] = ()
        self._group: wire.GroupRow | None = None

    def vps(self, percent: int, wait_percent: int) -> wire.VpRow:
        """Return the virtual processors' counters, in percent of one processor."""
        key = (percent, wait_percent)
        found = self._vps.get(key)
        if found is None:
            if len(self._vps) >= _VP_ROWS_KEPT:
                self._vps.clear()
            found = self._vps[key] = wire.VpRow.model_construct(
                name=self._instance,
                run_percent=float(percent),
                count=self._guest.vcpus,
                wait_percent=float(wait_percent),
            )
        return found

    def vm(self, percent_of_host: float, demand_bytes: int, now_s: float) -> wire.VmRow:
        """Return what Get-VM says; memory in whole MB."""
        guest = self._guest
        load = guest.is_load
        fixed = (guest.disks, guest.media, guest.switches, guest.notes, guest.version)
        devices = (guest.assigned_devices, guest.gpu_partitions)
        replica = (guest.replication_mode, guest.replication_state)
        heartbeat = guest.heartbeat_at(now_s)
        assigned = guest.assigned_bytes if load else 0
        demand = demand_bytes // _MIB * _MIB if load else 0
        changing = (guest.state, guest.operation, percent_of_host, assigned, demand, heartbeat)
        key = (*changing, fixed, devices, replica)
        steady = len(changing)
        if self._vm is None or self._vm_key[steady:] != key[steady:]:
            self._vm = _vm_row(guest)
        if self._vm_key != key:
            self._vm = self._vm.model_copy(
                update={
                    "state": int(guest.state),
                    "status": guest.status,
                    "cpu_percent_of_host": percent_of_host,
                    "memory_assigned_bytes": assigned,
                    "memory_demand_bytes": demand,
                    "heartbeat": heartbeat,
                }
            )
            self._vm_key = key
        return self._vm

    def group(self, migration: Migration | None, now_s: float) -> wire.GroupRow:
        """Return what the cluster says of the guest's group."""
        guest = self._guest
        percent = migration.percent(now_s) if migration is not None else 0
        key = (
            guest.host,
            group_state(guest, migration),
            group_status(guest, migration),
            guest.priority,
            guest.locked,
            guest.migration_state,
            percent,
            guest.failure,
            guest.possible_owners,
            guest.preferred_owners,
            guest.anti_affinity,
        )
        if self._group is None or self._group_key != key:
            self._group = wire.GroupRow.model_construct(
                name=guest.group,
                id=group_id(guest),
                owner=guest.host,
                state=int(key[1]),
                group_type=VIRTUAL_MACHINE_GROUP,
                status=int(key[2]),
                priority=guest.priority,
                locked=guest.locked,
                core=False,
                anti_affinity=list(guest.anti_affinity),
                vm=guest.id,
                possible_owners=list(guest.possible_owners or (wire.EVERY_NODE,)),
                preferred_owners=list(guest.preferred_owners),
                migration_state=int(guest.migration_state),
                migration_progress=percent,
                migration_failure=int(guest.failure),
            )
            self._group_key = key
        return self._group


def group_id(guest: Guest) -> str:
    """Return the GUID of a guest's group."""
    return identity("group", guest.id)


def group_state(guest: Guest, migration: Migration | None) -> GroupState:
    """Return the state of a guest's group; it is pending while the owner changes."""
    if migration is not None and migration.phase is Phase.SWITCH:
        return GroupState.PENDING
    if guest.crashed:
        return GroupState.FAILED
    return GroupState.ONLINE if guest.is_load else GroupState.OFFLINE


def group_status(guest: Guest, migration: Migration | None) -> GroupStatus:
    """Return the flags of a guest's group."""
    status = GroupStatus.LOCKED if guest.locked else GroupStatus.NORMAL
    if migration is not None and migration.phase is Phase.QUEUED:
        status |= GroupStatus.QUEUED
    return status


def _vm_row(guest: Guest) -> wire.VmRow:
    """Return the row with everything that seldom changes."""
    return wire.VmRow.model_construct(
        id=guest.id,
        name=guest.name,
        state=int(guest.state),
        status=guest.status,
        clustered=guest.clustered,
        vcpus=guest.vcpus,
        cpu_percent_of_host=0.0,
        memory_assigned_bytes=0,
        memory_demand_bytes=0,
        memory_startup_bytes=guest.startup_bytes,
        memory_maximum_bytes=guest.maximum_bytes,
        dynamic_memory=guest.dynamic,
        version=guest.version,
        heartbeat=None,
        replication_mode=guest.replication_mode,
        replication_state=guest.replication_state,
        checkpoint_type=guest.checkpoint_type,
        notes=guest.notes,
        disks=[
            wire.DiskRow(path=disk.path, pass_through=not disk.path, shared=disk.shared)
            for disk in guest.disks
        ],
        media=list(guest.media),
        switches=list(guest.switches),
        assigned_devices=guest.assigned_devices,
        gpu_partitions=guest.gpu_partitions,
        gpu_partitions_movable=guest.gpu_partitions_movable,
        fibre_channel_adapters=guest.fibre_channel_adapters,
        sr_iov=guest.sr_iov,
        tpm=guest.tpm,
        shielded=guest.shielded,
        cpu_compatible=guest.cpu_compatible,
        cpu_reserve_percent=guest.cpu_reserve_percent,
        numa_nodes=guest.numa_nodes,
    )
