"""The nouns as arrays: what every part of the planner computes on.

Hosts are sorted by name and VMs by id, so that the order of a document changes nothing. Rows
of the two-row arrays are CPU and memory. CPU is counted as work (cores x speed of the host it
was measured on), which is what stays the same when a VM moves between unequal hosts; a load
times `scale` is a utilisation of the usable capacity. Shapes: N VMs, H hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt

from balancer.errors import InputError
from balancer.migration.rates import common_network
from balancer.model.cluster import Cluster, Host, HostState, Vm
from balancer.model.rule import AllowedHosts, Hours, OnlyWhen, Rule, TieBreak, Turn
from balancer.planner.awake import Sleepers
from balancer.planner.budgets import Budgets, budgets_of, least_copied
from balancer.planner.calm import FREE, Calm
from balancer.planner.drill import Drill
from balancer.planner.groups import Group, facts_of, groups_of
from balancer.planner.lowered import (
    allowed_hosts,
    closed_vms,
    reluctant_vms,
    soft_costs,
    turns_of,
)
from balancer.policy.capacity import (
    Caps,
    caps_in_force,
    fixed_cores,
    in_play,
    usable,
)
from balancer.policy.consistency import refuse_contradictions
from balancer.policy.lifted import lifted
from balancer.policy.policy import Goal, Policy
from balancer.policy.said import Said, what_is_said
from balancer.policy.stability import DAY_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CPU, MEMORY = 0, 1
GIB = 2**30
MOVE_COST = 0.04  # of J for each (GiB + 2) over the mean host's GiB, if the gain lasts a day
# A reserve may leave a host nothing; its load must still be a finite utilisation.
CAPACITY_FLOOR = 1e-3
# Loads and utilisations beyond this overflow once they are weighted and summed.
COMPUTABLE_MAX = 1e304


@dataclass(frozen=True)
class Problem:
    """One planning task.

    Attributes:
        home: (N,) host of each VM.
        weight: (2, N) work in cores x speed, and bytes; zero for VMs that are not load.
        fixed: (2, H) load that stays, or arrives, whatever moves.
        scale: (2, H) utilisation per unit of weight.
        up, draining, play: (H,) states; `play` hosts count for overload.
        threshold: (2, 1) overload thresholds.
        before: (2, H) utilisations as they are.
        allowed: (N, H) where a VM may end: home always, elsewhere if facts and hard rules agree.
        astray: (N,) hard host lists that the VM breaks at home; any legal move mends them all.
        reluctant: (N,) VMs that move as a last resort only.
        soft_row: (N,) row of `soft` for each VM; row 0 is free of cost.
        soft: (S, H) broken soft host lists on each host.
        move_cost: (N,) what moving costs in J.
        groups: caps and units over VMs.
        turns: sets of VMs whose migrations take turns, by how.
        connected: (H, H) hosts that share a migration network.
        packs: Whether the policy wants hosts asleep, however far this plan goes.
        now: When VMs would be moved; None asks what is possible at some time.
        calm: What of the recent past binds; see `restrain`.
        copied_gib: (N,) what moving each VM copies, as a schedule has it; None: the least there is.
    """

    cluster: Cluster
    policy: Policy
    caps: Caps
    hosts: tuple[Host, ...]
    vms: tuple[Vm, ...]
    said: tuple[Said, ...]
    home: Ints
    weight: Floats
    fixed: Floats
    scale: Floats
    up: Bools
    draining: Bools
    play: Bools
    threshold: Floats
    before: Floats
    allowed: Bools
    astray: Ints
    reluctant: Bools
    soft_row: Ints
    soft: Floats
    move_cost: Floats
    groups: tuple[Group, ...]
    turns: Mapping[Turn, tuple[frozenset[int], ...]]
    connected: Bools
    packs: bool = False
    now: datetime | None = None
    calm: Calm = FREE
    copied_gib: Floats | None = None

    @cached_property
    def movable(self) -> Ints:
        """Indices of the VMs that have somewhere to go."""
        return np.flatnonzero(self.allowed.sum(axis=1) > 1)

    @cached_property
    def groups_of_vm(self) -> dict[int, tuple[int, ...]]:
        """Map each VM that is in any group but a crowd to the indices of its groups."""
        found: dict[int, list[int]] = {}
        for index, group in enumerate(self.groups):
            for vm in () if group.crowd else group.members.tolist():
                found.setdefault(vm, []).append(index)
        return {vm: tuple(groups) for vm, groups in found.items()}

    @cached_property
    def crowds(self) -> tuple[int, ...]:
        """Indices of the groups that every VM is in."""
        return tuple(index for index, group in enumerate(self.groups) if group.crowd)

    def groups_about(self, vm: int) -> tuple[int, ...]:
        """Return the indices of all groups that `vm` is in."""
        return (*self.groups_of_vm.get(vm, ()), *self.crowds)

    @cached_property
    def lists_of_vm(self) -> dict[str, tuple[Said, ...]]:
        """Map the id of each VM under a host list, hard or soft, to what is said about it."""
        found: dict[str, list[Said]] = {}
        for one in self.said:
            if isinstance(one.form, AllowedHosts):
                for vm in sorted(one.form.vms):
                    found.setdefault(vm, []).append(one)
        return {vm: tuple(said) for vm, said in found.items()}

    @cached_property
    def hours_of_vm(self) -> dict[int, tuple[tuple[Rule, Hours], ...]]:
        """Map each VM that moves in hours of its own only to those, and who says so."""
        index = {vm.id: at for at, vm in enumerate(self.vms)}
        found: dict[int, list[tuple[Rule, Hours]]] = {}
        for one in self.said:
            if one.hard and isinstance(one.form, OnlyWhen):
                for vm in sorted(one.form.vms):
                    found.setdefault(index[vm], []).append((one.rule, one.form.hours))
        return {vm: tuple(hours) for vm, hours in found.items()}

    @cached_property
    def nearer(self) -> dict[int, frozenset[int]]:
        """Map VMs to the hosts that are better for them where everything else is the same."""
        vms = {vm.id: at for at, vm in enumerate(self.vms)}
        hosts = {host.name: at for at, host in enumerate(self.hosts)}
        found: dict[int, frozenset[int]] = {}
        for one in self.said:
            if isinstance(one.form, TieBreak):
                near = frozenset(hosts[name] for name in one.form.hosts)
                for vm in one.form.vms:
                    found[vms[vm]] = found.get(vms[vm], near) | near
        return found

    @cached_property
    def ruled(self) -> Bools:
        """(N,) VMs whose moves change a count of broken rules, hard or soft."""
        ruled = (self.astray > 0) | (self.soft_row > 0) | self.reluctant
        ruled[list(self.groups_of_vm)] = True
        return ruled

    @cached_property
    def limit(self) -> Floats:
        """(2, H) the end utilisation no host may pass: its threshold, or what it was."""
        return np.maximum(self.threshold, self.before)

    @cached_property
    def from_drain(self) -> Bools:
        """(N,) load that sits on a draining host and so must leave."""
        return self.draining[self.home] & self.is_load

    @cached_property
    def is_load(self) -> Bools:
        """(N,) VMs that take capacity."""
        return np.array([vm.is_load for vm in self.vms], dtype=bool)

    @cached_property
    def mean_is_constant(self) -> bool:
        """Tell whether no move changes a mean utilisation: it leads from up host to up host."""
        speeds = {host.cpu_speed for host in self.hosts if in_play(host)}
        return len(speeds) <= 1 and bool(self.up[self.home[self.movable]].all())

    @cached_property
    def sleepers(self) -> Sleepers:
        """What decides which hosts may sleep; for the goal of consolidation."""
        return Sleepers(self)

    @cached_property
    def drill(self) -> Drill:
        """The failures to survive; to be asked only where the policy does."""
        return Drill(self)

    @cached_property
    def copied(self) -> Floats:
        """(N,) GiB that moving each VM copies; asked only where that is capped."""
        return least_copied(self) if self.copied_gib is None else self.copied_gib

    @cached_property
    def budgets(self) -> Budgets:
        """What moves may take together, besides their number."""
        return budgets_of(self)

    @property
    def cap(self) -> int:
        """The most migrations allowed; without a cap each VM may still move but twice."""
        cap = self.caps.migrations
        return 2 * len(self.vms) if cap is None else cap

    def at(self, place: Ints) -> Problem:
        """Return the same task seen from `place`, as if every VM were there already.

        Thresholds are the policy's again, whatever they were replaced by.
        """
        vms = tuple(
            vm
            if vm.host == self.hosts[at].name and not vm.cpu_wait_cores
            else _moved(vm, self, int(at))
            for vm, at in zip(self.vms, place.tolist(), strict=True)
        )
        hosts = tuple(
            host
            if host.cpu_used_cores is None
            else replace(host, cpu_used_cores=_measured(self, place, index))
            for index, host in enumerate(self.hosts)
        )
        cluster = replace(self.cluster, hosts=hosts, vms=vms)
        return build(cluster, self.policy, self.caps.migrations, now=self.now)


def _moved(vm: Vm, problem: Problem, at: int) -> Vm:
    source, target = problem.cluster.host_by_name[vm.host], problem.hosts[at]
    cores = vm.cpu_demand_cores * source.cpu_speed / target.cpu_speed
    return replace(vm, host=target.name, cpu_used_cores=cores, cpu_wait_cores=None)


def _measured(problem: Problem, place: Ints, host: int) -> float:
    work = problem.fixed[CPU, host] + problem.weight[CPU, place == host].sum()
    return float(work / problem.hosts[host].cpu_speed)


def utilisation(problem: Problem, place: Ints) -> Floats:
    """Return the (2, H) utilisations when each VM is at `place`."""
    count = len(problem.hosts)
    load = np.stack([np.bincount(place, row, minlength=count) for row in problem.weight])
    scaled: Floats = (load + problem.fixed) * problem.scale
    return scaled


def build(
    cluster: Cluster,
    policy: Policy,
    max_migrations: int | None = None,
    *,
    now: datetime | None = None,
) -> Problem:
    """Read a snapshot and a policy into arrays.

    Args:
        cluster: The snapshot.
        policy: The policy in force.
        max_migrations: The command line's cap, where one was given.
        now: When VMs would be moved; None asks what is possible at some time.

    Raises:
        InputError: Rules contradict each other.
    """
    refuse_contradictions(cluster, policy)
    cluster = lifted(cluster, policy)
    hosts = tuple(sorted(cluster.hosts, key=lambda host: host.name))
    vms = tuple(sorted(cluster.vms, key=lambda vm: vm.id))
    index = {host.name: at for at, host in enumerate(hosts)}
    home = np.array([index[vm.host] for vm in vms], dtype=np.int64)
    caps = caps_in_force(cluster, policy, max_migrations)
    said = tuple(sorted(what_is_said(cluster, policy), key=_said_order))
    speed = np.array([host.cpu_speed for host in hosts])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        weight = _weights(vms, speed, home)
        own = [fixed_cores(cluster, host) for host in hosts]
        fixed = np.stack([speed * own, np.zeros(len(hosts))]) + _arriving(cluster, hosts)
        scale = _scale(hosts, policy)
        _refuse_overflow(weight, fixed, scale)
    count = len(hosts)
    load = fixed + np.stack([np.bincount(home, row, minlength=count) for row in weight])
    groups = groups_of(
        (*said, *facts_of(hosts, vms, policy, cluster.arriving_on)), hosts, vms, home
    )
    connected = _connected(hosts)
    allowed, astray = allowed_hosts(cluster, caps, hosts, vms, said, home, connected)
    closed = closed_vms(vms, said, now)
    allowed[sorted(closed)] = False
    allowed[np.arange(len(vms)), home] = True
    for group in groups:
        group.restrict(allowed, home)
    soft_row, soft = soft_costs(hosts, vms, said, now)
    return Problem(
        cluster=cluster,
        policy=policy,
        caps=caps,
        hosts=hosts,
        vms=vms,
        said=said,
        home=home,
        weight=weight,
        fixed=fixed,
        scale=scale,
        up=np.array([host.state is HostState.UP for host in hosts], dtype=bool),
        draining=np.array([host.state is HostState.DRAINING for host in hosts], dtype=bool),
        play=np.array([in_play(host) for host in hosts], dtype=bool),
        threshold=np.array([[policy.thresholds.cpu], [policy.thresholds.memory]]),
        before=load * scale,
        allowed=allowed,
        astray=astray,
        reluctant=reluctant_vms(vms, said),
        soft_row=soft_row,
        soft=soft,
        move_cost=_move_cost(hosts, vms, policy.costs.lifetime_s),
        groups=groups,
        turns=turns_of(vms, said),
        connected=connected,
        packs=policy.goal is Goal.CONSOLIDATE,
        now=now,
    )


def _said_order(one: Said) -> tuple[str, ...]:
    """Order rules by what they say, so that the order they were written in changes nothing."""
    form = one.form
    return (one.rule.kind, str(one.rule), repr(one.rule), type(form).__name__, *sorted(form.vms))


def _weights(vms: Sequence[Vm], speed: Floats, home: Ints) -> Floats:
    used = np.array([vm.cpu_demand_cores if vm.is_load else 0.0 for vm in vms], dtype=float)
    memory = [float(vm.memory_needed_bytes) if vm.is_load else 0.0 for vm in vms]
    return np.stack([used * speed[home], np.array(memory, dtype=float)])


def _arriving(cluster: Cluster, hosts: Sequence[Host]) -> Floats:
    """Return the (2, H) load that migrations of others bring, as long as they are under way."""
    load = np.zeros((2, len(hosts)))
    for at, host in enumerate(hosts):
        for vm in cluster.arriving_on.get(host.name, ()):
            speed = cluster.host_by_name[vm.host].cpu_speed
            load[:, at] += vm.cpu_demand_cores * speed, vm.memory_needed_bytes
    return load


def _scale(hosts: Sequence[Host], policy: Policy) -> Floats:
    able = [usable(host, policy) for host in hosts]
    cores = [
        max(u.cpu_cores, CAPACITY_FLOOR * h.cpu_cores) for u, h in zip(able, hosts, strict=True)
    ]
    memory = [
        max(u.memory_bytes, CAPACITY_FLOOR * h.memory_bytes, 1.0)
        for u, h in zip(able, hosts, strict=True)
    ]
    speed = np.array([host.cpu_speed for host in hosts])
    return np.stack([1.0 / (speed * np.array(cores)), 1.0 / np.array(memory)])


def _refuse_overflow(weight: Floats, fixed: Floats, scale: Floats) -> None:
    """Refuse loads and capacities so far apart that a utilisation is no finite number."""
    load = weight.sum() + fixed.sum()
    largest = np.array([load, (1.0 / scale).sum(), load * scale.max(initial=0.0), scale.sum()])
    if not (largest < COMPUTABLE_MAX).all() or not (scale > 0).all():
        raise InputError(
            "cores, speeds and loads of this cluster are too far apart to compute with",
            remedy="correct cpu_cores, cpu_speed and cpu_used_cores in the snapshot",
        )


def _move_cost(hosts: Sequence[Host], vms: Sequence[Vm], lifetime_s: float) -> Floats:
    """Return what each VM costs to move, in J: the less, the longer the gain will last."""
    mean_gib = sum(host.memory_bytes for host in hosts) / max(1, len(hosts)) / GIB
    gib = np.array([vm.memory_assigned_bytes / GIB for vm in vms], dtype=float)
    weight = MOVE_COST * DAY_S / lifetime_s
    return weight * (gib + 2.0) / max(mean_gib, CAPACITY_FLOOR)


def _connected(hosts: Sequence[Host]) -> Bools:
    """Return which hosts share a migration network; by sets of names, of which there are few."""
    sets = [frozenset(network.name for network in host.migration.networks) for host in hosts]
    one_of = dict(zip(sets, hosts, strict=True))
    kinds = sorted(one_of, key=sorted)
    at = np.array([kinds.index(names) for names in sets], dtype=np.int64)
    pairs = np.array(
        [[common_network(one_of[a], one_of[b]) is not None for b in kinds] for a in kinds]
    )
    return np.asarray(pairs[np.ix_(at, at)], dtype=bool)
