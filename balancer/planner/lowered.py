"""What facts and rules say of single VMs, as arrays: where each may be, and what moving costs.

Shapes as in `balancer.planner.problem`: N VMs, H hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from balancer.model.cluster import Cluster, Host, Vm
from balancer.model.rule import AllowedHosts, InTurn, OnlyWhen, StayPut, Turn
from balancer.policy.capacity import Caps, why_immovable, why_no_target, why_unfit
from balancer.policy.said import Said

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def receivers(caps: Caps, hosts: Sequence[Host]) -> Bools:
    """Return the (H,) hosts that may receive VMs at all."""
    if caps.concurrent_per_cluster is not None and caps.concurrent_per_cluster < 1:
        return np.zeros(len(hosts), dtype=bool)
    return np.array(
        [why_no_target(host) is None and caps.concurrent_per_host[host.name] > 0 for host in hosts],
        dtype=bool,
    )


def allowed_hosts(
    cluster: Cluster,
    caps: Caps,
    hosts: Sequence[Host],
    vms: Sequence[Vm],
    said: Sequence[Said],
    home: Ints,
    connected: Bools,
) -> tuple[Bools, Ints]:
    """Return where each VM may end by facts and hard lists, (N, H), and how many lists it breaks.

    Home is always allowed.
    """
    able = np.array(
        [
            why_immovable(cluster, vm) is None and caps.concurrent_per_host[vm.host] > 0
            for vm in vms
        ],
        dtype=bool,
    )
    allowed = connected[home] & receivers(caps, hosts)[None, :] & able[:, None]
    _rule_out_unfit(allowed, hosts, vms)
    astray = np.zeros(len(vms), dtype=np.int64)
    index = {vm.id: at for at, vm in enumerate(vms)}
    for one in said:
        if one.hard and isinstance(one.form, AllowedHosts):
            listed = np.array([host.name in one.form.hosts for host in hosts], dtype=bool)
            rows = np.array(sorted(index[vm] for vm in one.form.vms), dtype=np.int64)
            allowed[rows] &= listed
            astray[rows] += ~listed[home[rows]]
    allowed[np.arange(len(vms)), home] = True
    return allowed, astray


def _rule_out_unfit(allowed: Bools, hosts: Sequence[Host], vms: Sequence[Vm]) -> None:
    """Take out of `allowed`, in place, the hosts that a VM can never run on."""
    vcpus = np.array([vm.vcpus or 0 for vm in vms], dtype=np.int64)
    for at, host in enumerate(hosts):
        suspects = vcpus > host.cpu_cores if not host.numa_free_bytes else allowed[:, at]
        for vm in np.flatnonzero(suspects).tolist():
            allowed[vm, at] &= why_unfit(vms[vm], host) is None


def reluctant_vms(vms: Sequence[Vm], said: Sequence[Said]) -> Bools:
    """Return the (N,) VMs that move as a last resort only."""
    names = {vm for one in said if isinstance(one.form, StayPut) for vm in one.form.vms}
    return np.array([vm.id in names for vm in vms], dtype=bool)


def turns_of(vms: Sequence[Vm], said: Sequence[Said]) -> Mapping[Turn, tuple[frozenset[int], ...]]:
    """Return who takes turns; sets that move as one and share a VM are one set."""
    index = {vm.id: at for at, vm in enumerate(vms)}
    found: dict[Turn, list[frozenset[int]]] = {turn: [] for turn in Turn}
    for one in said:
        if isinstance(one.form, InTurn):
            members = frozenset(index[vm] for vm in one.form.vms)
            sets = found[one.form.turn]
            if one.form.turn is Turn.AS_ONE:
                members = members.union(*(other for other in sets if other & members))
                sets[:] = [other for other in sets if not other & members]
            sets.append(members)
    return {turn: tuple(sets) for turn, sets in found.items()}


def closed_vms(
    vms: Sequence[Vm], said: Sequence[Said], now: datetime | None, *, hard: bool = True
) -> set[int]:
    """Return the VMs that may not move at `now`, or had better not."""
    index = {vm.id: at for at, vm in enumerate(vms)}
    return {
        index[vm]
        for one in said
        if now is not None and one.hard is hard and isinstance(one.form, OnlyWhen)
        if not one.form.hours.may_start(now, 0.0)
        for vm in one.form.vms
    }


def soft_costs(
    hosts: Sequence[Host], vms: Sequence[Vm], said: Sequence[Said], now: datetime | None
) -> tuple[Ints, Floats]:
    """Return the distinct rows of soft cost by host, and which one each VM has."""
    index = {vm.id: at for at, vm in enumerate(vms)}
    rows: dict[int, Floats] = {}
    for one in said:
        form = one.form
        if one.hard or not isinstance(form, AllowedHosts):
            continue
        cost = np.array([float(host.name not in form.hosts) for host in hosts])
        for name in sorted(form.vms):
            rows[index[name]] = rows.get(index[name], np.zeros(len(hosts))) + cost
    for at in sorted(closed_vms(vms, said, now, hard=False)):
        elsewhere = np.array([float(host.name != vms[at].host) for host in hosts])
        rows[at] = rows.get(at, np.zeros(len(hosts))) + elsewhere
    table = [np.zeros(len(hosts))]
    known: dict[bytes, int] = {}
    of = np.zeros(len(vms), dtype=np.int64)
    for vm, row in sorted(rows.items()):
        key = row.tobytes()
        if key not in known:
            known[key] = len(table)
            table.append(row)
        of[vm] = known[key]
    return of, np.array(table)
