"""The decision record read a second time, in plain Python: what a plan must be, by brute force."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import product

from balancer.migration.rates import common_network, effective_transport
from balancer.model.cluster import Cluster, HostState, Transport, VmState
from balancer.model.plan import Migration, Plan
from balancer.model.rule import (
    AllowedHosts,
    Cap,
    Form,
    InTurn,
    OnlyWhen,
    StayPut,
    TieBreak,
    Turn,
    Unit,
)
from balancer.policy.capacity import (
    caps_in_force,
    cores_on,
    fixed_cores,
    in_play,
    usable,
    why_immovable,
    why_no_target,
    why_unfit,
)
from balancer.policy.policy import Goal, Policy
from balancer.policy.said import what_is_said

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GIB = 2**30
TINY = 1e-9
Place = Mapping[str, str]


def start_of(cluster: Cluster) -> dict[str, str]:
    return {vm.id: vm.host for vm in cluster.vms}


def end_of(cluster: Cluster, plan: Plan) -> dict[str, str]:
    place = start_of(cluster)
    for one in sorted(plan.migrations, key=lambda m: m.start_s):
        place[one.vm] = one.target
    return place


def moved_to(cluster: Cluster, place: Place) -> Cluster:
    """The snapshot that a reading after the plan would give."""
    by_name = cluster.host_by_name
    vms = tuple(
        dataclasses.replace(
            vm,
            host=place[vm.id],
            cpu_used_cores=cores_on(vm, by_name[vm.host], by_name[place[vm.id]]),
        )
        for vm in cluster.vms
    )
    return dataclasses.replace(cluster, vms=vms)


def loads(cluster: Cluster, place: Place) -> dict[str, tuple[float, float]]:
    of = {host.name: [fixed_cores(cluster, host), 0.0] for host in cluster.hosts}
    for vm in cluster.vms:
        if vm.is_load:
            by_name = cluster.host_by_name
            # It stays at home till it is where somebody brings it.
            for at in {place[vm.id], vm.migrating_to or place[vm.id]} & by_name.keys():
                of[at][0] += cores_on(vm, by_name[vm.host], by_name[at])
                of[at][1] += vm.memory_assigned_bytes
    return {name: (cpu, memory) for name, (cpu, memory) in of.items()}


def utilisations(cluster: Cluster, policy: Policy, place: Place) -> dict[str, tuple[float, float]]:
    able = {host.name: usable(host, policy) for host in cluster.hosts}
    return {
        name: (cpu / able[name].cpu_cores, memory / able[name].memory_bytes)
        for name, (cpu, memory) in loads(cluster, place).items()
    }


def phi(d: float) -> float:
    return max(2 * t * abs(d) - t * t for t in (0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64))


def broken(form: Form, place: Place) -> float:
    if isinstance(form, AllowedHosts):
        return sum(place[vm] not in form.hosts for vm in form.vms)
    if isinstance(form, StayPut | InTurn | OnlyWhen | TieBreak):
        return 0.0
    counts = [sum(place[vm] in domain for vm in form.vms) for domain in form.domains]
    if isinstance(form, Cap):
        return sum(max(0, count - form.limit) for count in counts)
    return max(0, sum(count > 0 for count in counts) - 1)


def tiers(cluster: Cluster, policy: Policy, place: Place) -> tuple[float, ...]:
    """Drain, rules, overload, last resort, soft, J."""
    by_name = cluster.host_by_name
    used = utilisations(cluster, policy, place)
    limits = (policy.thresholds.cpu, policy.thresholds.memory)
    over = sum(
        max(0.0, used[host.name][r] - limits[r])
        for host in cluster.hosts
        if in_play(host)
        for r in (0, 1)
    )
    drain = sum(
        vm.is_load and by_name[place[vm.id]].state is HostState.DRAINING for vm in cluster.vms
    )
    hard = soft = 0.0
    for said in what_is_said(cluster, policy):
        count = broken(said.form, place)
        if not said.hard:
            soft += count
        else:
            hard += count
    forms = [said.form for said in what_is_said(cluster, policy)]
    put = {vm for form in forms if isinstance(form, StayPut) for vm in form.vms}
    resort = sum(place[vm] != cluster.vm_by_id[vm].host for vm in put)
    return drain, hard, over, resort, soft, balance(cluster, policy, place) + 10 * over


def balance(cluster: Cluster, policy: Policy, place: Place) -> float:
    used = utilisations(cluster, policy, place)
    up = [host for host in cluster.hosts if host.state is HostState.UP]
    total = 0.0
    for r in (0, 1):
        middle = mean(cluster, policy, place, r)
        total += sum(phi(used[host.name][r] - middle) for host in up)
    return total + price(cluster, place)


def mean(cluster: Cluster, policy: Policy, place: Place, r: int) -> float:
    load = loads(cluster, place)
    up = [host for host in cluster.hosts if host.state is HostState.UP]
    room = [usable(host, policy) for host in up]
    capacity = sum(u.cpu_cores if r == 0 else u.memory_bytes for u in room)
    return sum(load[host.name][r] for host in up) / capacity if capacity else 0.0


def price(cluster: Cluster, place: Place) -> float:
    """The cost of moving of decision 1."""
    mean_gib = sum(host.memory_bytes for host in cluster.hosts) / len(cluster.hosts) / GIB
    return sum(
        0.04 * (vm.memory_assigned_bytes / GIB + 2) / mean_gib
        for vm in cluster.vms
        if place[vm.id] != vm.host
    )


def awake(cluster: Cluster, policy: Policy, place: Place) -> int:
    """Hosts that are up and carry something that needs them; no fewer than the policy keeps."""
    needs = {
        place[vm.id]
        for vm in cluster.vms
        if not vm.clustered or vm.state not in (VmState.OFF, VmState.SAVED)
    }
    needs |= {vm.migrating_to for vm in cluster.vms if vm.is_load and vm.migrating_to}
    least = policy.consolidation.awake_at_least
    if policy.consolidation.majority:
        least = max(least, len(cluster.hosts) // 2 + 1)
    up = [host.name for host in cluster.hosts if host.state is HostState.UP]
    return max(min(least, len(up)), len(needs & set(up)))


def crowding(cluster: Cluster, policy: Policy, place: Place) -> float:
    """By how much hosts end above the ceiling of consolidation, or above what they were."""
    start, end = (utilisations(cluster, policy, at) for at in (start_of(cluster), place))
    limits, margin = policy.thresholds, policy.consolidation.margin
    return sum(
        max(0.0, end[host.name][r] - max(limit - margin, start[host.name][r]))
        for host in cluster.hosts
        if in_play(host)
        for r, limit in enumerate((limits.cpu, limits.memory))
    )


def key(cluster: Cluster, policy: Policy, place: Place) -> tuple[float, ...]:
    """The strict order of the goal, rounded so that noise does not decide."""
    drain, hard, over, resort, soft, j = tiers(cluster, policy, place)
    if policy.goal is Goal.CONSOLIDATE:
        upper = drain, hard, round(over, 7), resort, round(soft, 7)
        crowded, asleep = crowding(cluster, policy, place), float(awake(cluster, policy, place))
        return *upper, round(crowded, 7), asleep, round(price(cluster, place), 7), j
    must = drain, hard, round(over, 7), resort
    if policy.goal is Goal.RELIEVE:
        return *must, round(price(cluster, place), 7), round(soft, 7), j
    assert policy.goal is Goal.BALANCE
    return *must, round(soft, 7), j


def is_even(cluster: Cluster, policy: Policy) -> bool:
    """The dead band of decision 1: nothing moves for balance alone."""
    start = start_of(cluster)
    by_name, used = cluster.host_by_name, utilisations(cluster, policy, start)
    if any(vm.is_load and by_name[vm.host].state is HostState.DRAINING for vm in cluster.vms):
        return False
    up = [host.name for host in cluster.hosts if host.state is HostState.UP]
    off = [abs(used[host][r] - mean(cluster, policy, start, r)) for host in up for r in (0, 1)]
    broken_softly = tiers(cluster, policy, start)[4] > 0
    return not broken_softly and max(off, default=0.0) <= policy.thresholds.imbalance


def end_faults(cluster: Cluster, policy: Policy, place: Place) -> list[str]:
    """Clauses 1 (as far as ends go) and 5 to 7."""
    found: list[str] = []
    by_name, start = cluster.host_by_name, start_of(cluster)
    before, after = (utilisations(cluster, policy, at) for at in (start, place))
    moved = [vm for vm in cluster.vms if place[vm.id] != vm.host]
    for vm in moved:
        target = by_name[place[vm.id]]
        if why_immovable(cluster, vm) or why_no_target(target) or why_unfit(vm, target):
            found.append(f"{vm.id} cannot move to {target.name}")
        if common_network(by_name[vm.host], target) is None:
            found.append(f"{vm.id}: no network")
    limits = (policy.thresholds.cpu, policy.thresholds.memory)
    for host in cluster.hosts:
        arrived = [vm for vm in moved if place[vm.id] == host.name]
        drained = any(by_name[vm.host].state is HostState.DRAINING for vm in arrived)
        if arrived and after[host.name][1] > 1 + 1e-12:
            found.append(f"{host.name} is full")
        found.extend(
            f"{host.name} newly overloaded"
            for r in (0, 1)
            if not drained and after[host.name][r] > max(limits[r], before[host.name][r]) + TINY
        )
    found += reserve_faults(cluster, start, place)
    for said in what_is_said(cluster, policy):
        if said.hard:
            found.extend(worse(said.form, start, place, {vm.id for vm in moved}))
    return found


def worse(form: Form, start: Place, place: Place, moved: set[str]) -> Iterator[str]:
    if isinstance(form, AllowedHosts):
        for vm in form.vms & moved:
            if place[vm] not in form.hosts:
                yield f"{vm} is not allowed there"
    elif isinstance(form, Cap):
        for domain in form.domains:
            was, now = (sum(at[vm] in domain for vm in form.vms) for at in (start, place))
            if now > max(form.limit, was):
                yield f"cap {was} -> {now}"
    elif isinstance(form, Unit) and broken(form, place) > broken(form, start):
        yield "unit torn apart"


def best_placements(
    cluster: Cluster,
    policy: Policy,
    max_migrations: int | None,
    max_bytes: int | None = None,
) -> tuple[tuple[float, ...], dict[str, str]]:
    """The best key over all legal ends, and one placement that has it; memory is copied once."""
    names = [host.name for host in cluster.hosts]
    ids = [vm.id for vm in cluster.vms]
    start = start_of(cluster)
    best, best_place = key(cluster, policy, start), start
    for hosts in product(names, repeat=len(ids)):
        place = dict(zip(ids, hosts, strict=True))
        moves = sum(place[vm] != start[vm] for vm in ids)
        if max_migrations is not None and moves > max_migrations:
            continue
        copied = sum(vm.memory_assigned_bytes for vm in cluster.vms if place[vm.id] != vm.host)
        if max_bytes is not None and copied > max_bytes:
            continue
        if not end_faults(cluster, policy, place):
            value = key(cluster, policy, place)
            if value < best:
                best, best_place = value, place
    return best, best_place


def states(migrations: tuple[Migration, ...]) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Every reachable (started, completed)."""
    seen = {(frozenset[str](), frozenset[str]())}
    fringe = list(seen)
    while fringe:
        started, completed = fringe.pop()
        yield started, completed
        following = [
            (started | {one.id}, completed)
            for one in migrations
            if one.id not in started and completed.issuperset(one.after)
        ]
        following += [(started, completed | {one}) for one in started - completed]
        for state in following:
            if state not in seen:
                seen.add(state)
                fringe.append(state)


def faults(
    cluster: Cluster, policy: Policy, plan: Plan, *, max_migrations: int | None = None
) -> list[str]:
    """Everything that is wrong with a plan; all orders, so for few migrations only."""
    found = end_faults(cluster, policy, end_of(cluster, plan))
    found += shape_faults(cluster, policy, plan, max_migrations)
    said = [one for one in what_is_said(cluster, policy) if one.hard and one.during]
    start = start_of(cluster)
    room = {
        host.name: max(usable(host, policy).memory_bytes, loads(cluster, start)[host.name][1])
        for host in cluster.hosts
    }
    found += [
        f"{one.id} passes a host that is not allowed"
        for one, each in product(plan.migrations, said)
        if isinstance(each.form, AllowedHosts)
        and one.vm in each.form.vms
        and one.target not in each.form.hosts
    ]
    if len(plan.migrations) > 8:
        return found
    for started, completed in states(plan.migrations):
        at = whereabouts(start, plan.migrations, started, completed)
        found += reserve_faults(cluster, start, at)
        held = dict.fromkeys(room, 0)
        for vm in cluster.vms:
            there = at[vm.id] | ({vm.migrating_to} if vm.migrating_to else set[str]())
            for host in there & held.keys() if vm.is_load else ():
                held[host] += vm.memory_assigned_bytes
        found += [f"{host} overfull on the way" for host in room if held[host] > room[host]]
        for each in said:
            found += in_flight_faults(each.form, start, at)
    return found + turn_faults(cluster, policy, plan)


def reserve_faults(
    cluster: Cluster, start: Place, at: Mapping[str, Collection[str] | str]
) -> list[str]:
    return [
        f"{host.name} cannot keep what its VMs reserve"
        for host in cluster.hosts
        for was, now in [(reserved(cluster, host.name, start), reserved(cluster, host.name, at))]
        if now > max(1000 * host.cpu_cores, was)
    ]


def reserved(cluster: Cluster, host: str, at: Mapping[str, Collection[str] | str]) -> int:
    there = [vm for vm in cluster.vms if host == at[vm.id] or host in set(at[vm.id])]
    return sum(int(1000 * (vm.cpu_reserved_cores or 0)) for vm in there if vm.is_load)


def turn_faults(cluster: Cluster, policy: Policy, plan: Plan) -> list[str]:
    """Everything that may be under way out of its turn."""
    found: list[str] = []
    said = what_is_said(cluster, policy)
    forms = [one.form for one in said if isinstance(one.form, InTurn)]
    last = {vm for form in forms if form.turn is Turn.LAST for vm in form.vms}
    for started, completed in states(plan.migrations):
        flying = [one for one in plan.migrations if one.id in started - completed]
        for form in forms:
            mine = [leg for leg in flying if leg.vm in form.vms]
            if form.turn is Turn.ONE_AT_A_TIME and len(mine) > 1:
                found.append("two at a time")
            if form.turn is Turn.AS_ONE and held_up(form.vms, plan.migrations, started, completed):
                found.append("torn apart on the way")
        if any(one.vm in last for one in plan.migrations if one.id in started) and any(
            one.vm not in last for one in plan.migrations if one.id not in completed
        ):
            found.append("not last")
    return found


def held_up(
    vms: frozenset[str],
    migrations: tuple[Migration, ...],
    started: frozenset[str],
    completed: frozenset[str],
) -> bool:
    """One of the set has begun, and another waits for what is none of the set's."""
    mine = {one.id: one for one in migrations if one.vm in vms}
    if any(one.stopover for one in mine.values()):
        return True
    waits = {other for name in mine.keys() - started for other in mine[name].after}
    return bool(mine.keys() & started) and not waits - mine.keys() <= completed


def whereabouts(
    start: Place,
    migrations: tuple[Migration, ...],
    started: frozenset[str],
    completed: frozenset[str],
) -> dict[str, set[str]]:
    at = {vm: {host} for vm, host in start.items()}
    for one in sorted(migrations, key=lambda m: m.start_s):
        if one.id in completed:
            at[one.vm] = {one.target}
    for one in migrations:
        if one.id in started - completed:
            at[one.vm] = at[one.vm] | {one.target}
    return at


def in_flight_faults(form: Form, start: Place, at: Mapping[str, set[str]]) -> list[str]:
    if isinstance(form, Cap):
        return [
            "cap broken on the way"
            for domain in form.domains
            if sum(bool(at[vm] & domain) for vm in form.vms)
            > max(form.limit, sum(start[vm] in domain for vm in form.vms))
        ]
    if isinstance(form, Unit):
        was = sum(any(start[vm] in domain for vm in form.vms) for domain in form.domains)
        now = sum(any(at[vm] & domain for vm in form.vms) for domain in form.domains)
        return ["unit torn apart on the way"] if now > was else []
    return []


def shape_faults(
    cluster: Cluster, policy: Policy, plan: Plan, max_migrations: int | None
) -> list[str]:
    """Clauses 1 to 4 and the caps."""
    return [
        *setting_faults(cluster, policy, plan),
        *migration_faults(cluster, plan),
        *leg_faults(plan),
        *cap_faults(cluster, policy, plan, max_migrations),
    ]


def setting_faults(cluster: Cluster, policy: Policy, plan: Plan) -> list[str]:
    found: list[str] = []
    for change in plan.settings:
        if not policy.transport.write_settings:
            found.append("settings may not be written")
        if cluster.host_by_name[change.host].migration.managed_by != "none":
            found.append("settings are managed by others")
        if not any(change.host in (one.source, one.target) for one in plan.migrations):
            found.append("settings of a host that takes no part")
    return found


def migration_faults(cluster: Cluster, plan: Plan) -> list[str]:
    found: list[str] = []
    settings = {host.name: host.migration.transport for host in cluster.hosts}
    settings |= {change.host: Transport(change.during) for change in plan.settings}
    at = start_of(cluster)
    ends = {one.id: one.start_s + one.duration_s for one in plan.migrations}
    for one in sorted(plan.migrations, key=lambda m: m.start_s):
        if at[one.vm] != one.source or one.source == one.target:
            found.append(f"{one.id} does not start where its VM is")
        if why_no_target(cluster.host_by_name[one.target]):
            found.append(f"{one.id} goes where no VM can go")
        at[one.vm] = one.target
        if one.transport is not effective_transport(settings[one.source], settings[one.target]):
            found.append(f"{one.id}: {one.transport}")
        if any(ends[other] > one.start_s + 1e-6 for other in one.after):
            found.append(f"{one.id} starts too early")
        if one.bytes <= 0 or not one.reason:
            found.append(f"{one.id} without bytes or reason")
    return found


def leg_faults(plan: Plan) -> list[str]:
    found: list[str] = []
    legs: dict[str, list[Migration]] = {}
    for one in sorted(plan.migrations, key=lambda m: m.start_s):
        legs.setdefault(one.vm, []).append(one)
    for vm, mine in legs.items():
        if len(mine) > 2 or mine[-1].stopover:
            found.append(f"{vm}: too many legs")
        if len(mine) == 2 and not (mine[0].stopover and mine[0].id in mine[1].after):
            found.append(f"{vm}: no stop-over")
    return found


def cap_faults(
    cluster: Cluster, policy: Policy, plan: Plan, max_migrations: int | None
) -> list[str]:
    found: list[str] = []
    caps = caps_in_force(cluster, policy, max_migrations)
    ends = {one.id: one.start_s + one.duration_s for one in plan.migrations}
    total = sum(one.bytes for one in plan.migrations)
    if caps.migrations is not None and len(plan.migrations) > caps.migrations:
        found.append("too many migrations")
    if caps.bytes is not None and total > caps.bytes:
        found.append("too many bytes")
    if caps.duration_s is not None and max(ends.values(), default=0) > caps.duration_s + 1e-6:
        found.append("too long")
    return found
