"""Recorded days of a cluster as arrays: T moments, N virtual machines, H hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from balancer.errors import InputError
from balancer.model.cluster import Blocker, Cluster, Host, HostState, Vm, VmState
from balancer.policy.capacity import fixed_cores

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
VM_STATES = tuple(VmState)  # what `Recording.vm_states` counts in
UNDER_WAY = frozenset({Blocker.MIGRATING})


@dataclass(frozen=True)
class Recording:
    """What a cluster was like over time, whoever balanced it then.

    A migration under way is none of it: it was decided by whoever balanced then, and a replay
    decides anew. It holds no VM, and keeps no room on a host where the VM never arrives.

    Attributes:
        base: Every host and VM that ever was, set up as they were last; so are rules and settings.
        at_s: (T,) seconds since 1970, ascending.
        work: (T, N) CPU wanted, in cores times speed; NaN where the VM did not run.
        memory: (T, N) bytes held, or asked for where that was more.
        place: (T, N) where the VM was, an index of `base.hosts`; -1 where it was not there.
        vm_states: (T, N) indices of `VM_STATES`; they say nothing where the VM was not there.
        blocked: (T,) what kept VMs from being migrated, words of `Blocker` by id, where anything.
        fixed: (T, H) cores that were the hosts' own.
        states: (T, H) words of `HostState`.
    """

    base: Cluster
    at_s: Floats
    work: Floats
    memory: Floats
    place: Ints
    vm_states: npt.NDArray[np.int8]
    blocked: Sequence[Mapping[str, tuple[str, ...]]]
    fixed: Floats
    states: npt.NDArray[np.str_]

    def cluster(self, at: int, place: Ints) -> Cluster:
        """Return the snapshot of moment `at` with each VM at `place`, those not there left out."""
        hosts = tuple(
            replace(
                host,
                state=HostState(str(self.states[at, number])),
                cpu_used_cores=None,
            )
            for number, host in enumerate(self.base.hosts)
        )
        there_were = np.flatnonzero(self.place[at] >= 0).tolist()
        vms = tuple(self._vm(at, vm, hosts[place[vm]]) for vm in there_were)
        there = replace(
            self.base, hosts=hosts, vms=vms, taken_at=datetime.fromtimestamp(self.at_s[at], UTC)
        )
        return _with_own_load(there, self.fixed[at])

    def _vm(self, at: int, vm: int, host: Host) -> Vm:
        one = self.base.vms[vm]
        return replace(
            one,
            host=host.name,
            cpu_used_cores=float(np.nan_to_num(self.work[at, vm]) / host.cpu_speed),
            cpu_wait_cores=None,  # work and memory are all that was wanted
            memory_assigned_bytes=int(self.memory[at, vm]),
            memory_demand_bytes=None,
            state=VM_STATES[self.vm_states[at, vm]],
            blocked_by=self.blocked[at].get(one.id, ()),
            migrating_to=None,
        )

    def facts(self, at: int) -> bytes:
        """Return all that rules may ask of moment `at` but where VMs are: alike, they say alike."""
        there = self.place[at] >= 0
        known = (there, np.where(there, self.vm_states[at], -1), self.states[at])
        return b"".join(one.tobytes() for one in known)

    @property
    def hours(self) -> Floats:
        """(T,) hours that each moment stands for: until the next, but no longer than usual."""
        gaps = np.diff(self.at_s)
        usual = float(np.median(gaps)) if len(gaps) else 3600.0
        stands: Floats = np.append(np.minimum(gaps, 2 * usual), usual) / 3600.0
        return stands


def _with_own_load(cluster: Cluster, fixed: Floats) -> Cluster:
    """Return the cluster with hosts that measure their VMs and their own load together."""
    totals = [
        float(own) + sum(vm.cpu_used_cores for vm in cluster.vms_on[host.name] if vm.is_load)
        for host, own in zip(cluster.hosts, fixed, strict=True)
    ]
    hosts = tuple(
        replace(host, cpu_used_cores=total)
        for host, total in zip(cluster.hosts, totals, strict=True)
    )
    return replace(cluster, hosts=hosts)


def blocked_in(
    snapshot: Cluster, passing: frozenset[Blocker] = UNDER_WAY
) -> dict[str, tuple[str, ...]]:
    """Return what blocks VMs of a snapshot, by id, without the words in `passing`."""
    words = {
        vm.id: tuple(word for word in vm.blocked_by if word not in passing)
        for vm in snapshot.vms
        if vm.blocked_by
    }
    return {vm: left for vm, left in words.items() if left}


def from_snapshots(snapshots: Sequence[Cluster]) -> Recording:
    """Return snapshots of one cluster as a recording, in the order of their time.

    Raises:
        InputError: One has no time, two have the same, they are of different clusters, or there
            are fewer than two.
    """
    for one in snapshots:
        if one.taken_at is None:
            raise InputError(
                f"a snapshot of {one.name} does not say when it was taken",
                remedy="every snapshot to be replayed needs `taken_at`",
            )
    ordered = sorted(snapshots, key=lambda one: one.taken_at or datetime.min.replace(tzinfo=UTC))
    if len(ordered) < 2:  # noqa: PLR2004 -- a time passes between two
        given = "one snapshot is" if ordered else "no snapshots are"
        raise InputError(f"{given} no history", remedy="give two snapshots or more")
    last = ordered[-1]
    if other := next((one for one in ordered if one.name.casefold() != last.name.casefold()), None):
        raise InputError(
            f"snapshots of different clusters: {other.name!r} and {last.name!r}",
            remedy="replay one cluster at a time",
        )
    at_s = np.array([one.taken_at.timestamp() for one in ordered if one.taken_at is not None])
    if (np.diff(at_s) <= 0).any():
        raise InputError("two snapshots are of the same time", remedy="leave one of them out")
    hosts: dict[str, Host] = {host.name: host for one in ordered for host in one.hosts}
    vms: dict[str, Vm] = {vm.id: vm for one in ordered for vm in one.vms}
    base = replace(last, hosts=tuple(hosts.values()), vms=tuple(vms.values()))
    return _filled(base, at_s, ordered)


def _filled(base: Cluster, at_s: Floats, snapshots: Sequence[Cluster]) -> Recording:
    host_at = {host.name: number for number, host in enumerate(base.hosts)}
    vm_at = {vm.id: number for number, vm in enumerate(base.vms)}
    shape, wide = (len(at_s), len(base.vms)), (len(at_s), len(base.hosts))
    work, memory = np.full(shape, np.nan), np.zeros(shape)
    place, vm_states = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int8)
    fixed, states = np.zeros(wide), np.full(wide, HostState.DOWN.value, dtype="<U16")
    for row, one in enumerate(snapshots):
        for host in one.hosts:
            states[row, host_at[host.name]] = host.state.value
            fixed[row, host_at[host.name]] = fixed_cores(one, host)
        for vm in one.vms:
            column, on = vm_at[vm.id], host_at[vm.host]
            place[row, column] = on
            memory[row, column] = vm.memory_needed_bytes
            vm_states[row, column] = VM_STATES.index(vm.state)
            if vm.is_load:
                work[row, column] = vm.cpu_demand_cores * one.host_by_name[vm.host].cpu_speed
    blocked = [blocked_in(one) for one in snapshots]
    return Recording(base, at_s, work, memory, place, vm_states, blocked, fixed, states)
