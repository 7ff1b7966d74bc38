"""Where every VM was, is and will be, seen from the middle of a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from balancer.judge.counts import Where
from balancer.judge.order import Order, order_of
from balancer.model.cluster import Cluster, HostState, Vm
from balancer.model.plan import Migration, Plan

Foreign: TypeAlias = tuple[str, str, str | None]  # VM, source, target of somebody's migration


@dataclass(frozen=True)
class Moment:
    """A fresh reading of a cluster in the middle of a plan, with one more migration to start.

    Attributes:
        cluster: The reading.
        start: The same with the VMs that the plan has moved put back: what rules mean by before.
        migration: The one to start.
        arriving: For VMs in flight, the one to start included, the hosts they may arrive at.
        endings: For VMs of the plan and of others' migrations, the hosts they may end on.
        brought: For VMs in others' migrations, the hosts they may arrive at: whatever we do.
        moved_by_others: Whether somebody else is migrating the VM.
        unmeasured: VMs that are not in the reading and may be arriving at the target.
    """

    cluster: Cluster
    start: Cluster
    migration: Migration
    arriving: Mapping[str, frozenset[str]]
    endings: Mapping[str, frozenset[str]]
    brought: Mapping[str, frozenset[str]]
    moved_by_others: bool
    unmeasured: tuple[str, ...]

    @property
    def vm(self) -> Vm:
        """Return the VM to start moving."""
        return self.cluster.vm_by_id[self.migration.vm]

    @property
    def stays(self) -> bool:
        """Tell whether the target is where the VM ends."""
        return self.migration.target in self.ends(self.migration.vm)

    def was(self, vm: str) -> frozenset[str]:
        """Return where `vm` was before the plan, or others bring it."""
        return frozenset({self.start.vm_by_id[vm].host}) | self.brought.get(vm, frozenset())

    def here(self, vm: str) -> frozenset[str]:
        """Return the host that `vm` runs on now, and where others bring it."""
        return frozenset({self.cluster.vm_by_id[vm].host}) | self.brought.get(vm, frozenset())

    def started(self, vm: str) -> frozenset[str]:
        """Return where `vm` is or is arriving once the migration has started."""
        return self.here(vm) | self.arriving.get(vm, frozenset())

    def ends(self, vm: str) -> frozenset[str]:
        """Return where `vm` will be, or may be where nobody knows."""
        return self.endings.get(vm) or self.here(vm)

    def left_alone(self, where: Where) -> Where:
        """Return `where` as it would be if the VM were left alone."""
        return lambda vm: self.here(vm) if vm == self.migration.vm else where(vm)

    def on_target(self, where: Where) -> list[Vm]:
        """Return the load that is on the target according to `where`."""
        target = self.migration.target
        return [
            vm
            for vm in self.cluster.vms
            if (vm.is_load or vm.id in self.arriving) and target in where(vm.id)
        ]

    @property
    def is_refuge(self) -> bool:
        """Tell whether the target receives VMs of a draining host, so that overload is allowed."""
        target = self.migration.target
        return any(target in hosts and home != target for home, hosts in self._evacuated)

    @property
    def evacuates(self) -> bool:
        """Tell whether anything leaves a draining host."""
        return any(home not in hosts for home, hosts in self._evacuated)

    @property
    def _evacuated(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield the draining hosts of VMs that are moved, and where these may end."""
        for vm, hosts in self.endings.items():
            home = self.start.host_by_name[self.start.vm_by_id[vm].host]
            if home.state is HostState.DRAINING:
                yield home.name, hosts


def moment_of(
    cluster: Cluster,
    plan: Plan,
    migration: Migration,
    done: Collection[str],
    running: Collection[str],
    dropped: Collection[str],
    foreign: Collection[Foreign],
) -> Moment:
    """Work out where everything was, is and will be; names are as in `judge_start`."""
    order = order_of(plan.migrations)
    gone = sum(1 << at for at, each in enumerate(order.migrations) if each.id in dropped)
    homes: dict[str, str] = {}
    arriving: dict[str, set[str]] = {migration.vm: {migration.target}}
    endings: dict[str, set[str]] = {}
    brought: dict[str, frozenset[str]] = {}
    unmeasured: list[str] = []
    for vm, legs in order.legs.items():
        to = {order.migrations[at].target for at in legs if order.migrations[at].id in running}
        if vm not in cluster.vm_by_id:
            unmeasured += [vm] * (migration.target in to)
            continue
        homes[vm] = _home(order, legs, cluster.vm_by_id[vm].host, done)
        endings[vm] = {_end(order, legs, cluster.vm_by_id[vm].host, done, gone)}
        if to:
            arriving.setdefault(vm, set()).update(to)
    for vm, source, target in foreign:
        may_be = {migration.target if target is None else target}
        if vm in cluster.vm_by_id:
            arriving.setdefault(vm, set()).update(may_be)
            brought[vm] = brought.get(vm, frozenset()) | may_be
            endings.setdefault(vm, set()).update(may_be, {source, cluster.vm_by_id[vm].host})
        elif migration.target in may_be:
            unmeasured.append(vm)
    return Moment(
        cluster,
        _put_back(cluster, homes),
        migration,
        {vm: frozenset(hosts) for vm, hosts in arriving.items()},
        {vm: frozenset(hosts) for vm, hosts in endings.items()},
        brought=brought,
        moved_by_others=any(vm == migration.vm for vm, _, _ in foreign),
        unmeasured=tuple(unmeasured),
    )


def _home(order: Order, legs: tuple[int, ...], here: str, done: Collection[str]) -> str:
    """Return where a VM was before the plan, if the plan is what brought it here."""
    over = [order.migrations[at] for at in legs if order.migrations[at].id in done]
    return over[0].source if over and over[-1].target == here else here


def _end(order: Order, legs: tuple[int, ...], here: str, done: Collection[str], gone: int) -> str:
    """Return where what is left of the plan takes a VM that is here now."""
    for at in legs:
        leg = order.migrations[at]
        if leg.id in done:
            continue
        if (order.before[at] | 1 << at) & gone or leg.source != here:
            break
        here = leg.target
    return here


def _put_back(cluster: Cluster, homes: Mapping[str, str]) -> Cluster:
    """Return the cluster with VMs on their hosts of before the plan."""
    moved = {
        vm: home
        for vm, home in homes.items()
        if home != cluster.vm_by_id[vm].host and home in cluster.host_by_name
    }
    if not moved:
        return cluster
    vms = tuple(
        dataclasses.replace(vm, host=moved[vm.id]) if vm.id in moved else vm for vm in cluster.vms
    )
    return dataclasses.replace(cluster, vms=vms)
