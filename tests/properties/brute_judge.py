"""The judge once more, by going through every state one after another; for tiny plans only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum, isfinite

from balancer.migration.rates import common_network
from balancer.model.cluster import Cluster, HostState, ManagedBy, Transport, Vm
from balancer.model.plan import Migration, Plan
from balancer.model.rule import AllowedHosts, Cap, Form, InTurn, Turn, Unit
from balancer.policy.capacity import (
    caps_in_force,
    cores_on,
    fixed_cores,
    usable,
    why_immovable,
    why_no_target,
    why_unfit,
)
from balancer.policy.policy import Policy
from balancer.policy.said import what_is_said

State = tuple[frozenset[int], frozenset[int]]  # started, completed: positions in the plan
Whereabouts = Mapping[str, frozenset[str]]
SENSELESS = {
    "duplicate-id", "unknown-vm", "unknown-host", "unknown-after", "cycle", "not-on-source",
    "stopover",
}  # fmt: skip


def reachable(migrations: tuple[Migration, ...]) -> set[State]:
    nothing: frozenset[int] = frozenset()
    seen = {(nothing, nothing)}
    fringe = list(seen)
    while fringe:
        started, completed = fringe.pop()
        ids = {migrations[at].id for at in completed}
        nexts = [(started, completed | {at}) for at in started - completed]
        nexts += [
            (started | {at}, completed)
            for at, one in enumerate(migrations)
            if at not in started and ids.issuperset(one.after)
        ]
        for state in nexts:
            if state not in seen:
                seen.add(state)
                fringe.append(state)
    return seen


def whereabouts(cluster: Cluster, migrations: tuple[Migration, ...], state: State) -> Whereabouts:
    started, completed = state
    places = {}
    for vm in cluster.vms:
        at = vm.host
        legs = [number for number, one in enumerate(migrations) if one.vm == vm.id]
        legs.sort(key=lambda number: not migrations[number].stopover)
        for number in legs:
            if number in completed:
                at = migrations[number].target
        flying = {migrations[number].target for number in legs if number in started - completed}
        places[vm.id] = frozenset({at} | flying)
    return places


def senseless(cluster: Cluster, plan: Plan) -> set[str]:
    ids = [one.id for one in plan.migrations]
    found: set[str] = set()
    if len(set(ids)) < len(ids):
        found.add("duplicate-id")
    if any(one.vm not in cluster.vm_by_id for one in plan.migrations):
        found.add("unknown-vm")
    if any(not {one.source, one.target} <= cluster.host_by_name.keys() for one in plan.migrations):
        found.add("unknown-host")
    if any(other not in ids for one in plan.migrations for other in one.after):
        found.add("unknown-after")
    if not found & {"duplicate-id", "unknown-after"}:
        everything = frozenset(range(len(ids)))
        if (everything, everything) not in reachable(plan.migrations):
            found.add("cycle")
    if found:
        return found
    return {
        fault
        for vm in {one.vm for one in plan.migrations}
        for fault in chain(cluster.vm_by_id[vm].host, plan, vm)
    }


def chain(host: str, plan: Plan, vm: str) -> Iterator[str]:
    legs = [one for one in plan.migrations if one.vm == vm]
    over = [one for one in legs if one.stopover]
    last = [one for one in legs if not one.stopover]
    if (len(over), len(last)) not in {(0, 1), (1, 1)} or (
        over and not (over[0].target == last[0].source and over[0].id in last[0].after)
    ):
        yield "stopover"
    if (over + last)[0].source != host:
        yield "not-on-source"


def faults(cluster: Cluster, policy: Policy, plan: Plan) -> set[str]:
    """The codes of all that is wrong."""
    found = set(caps(cluster, policy, plan)) | set(settings(cluster, policy, plan))
    if bad := senseless(cluster, plan):
        return found | bad
    for one in plan.migrations:
        found.update(single(cluster, plan, one))
    states = reachable(plan.migrations)
    views = [whereabouts(cluster, plan.migrations, state) for state in states]
    everything = frozenset(range(len(plan.migrations)))
    start = whereabouts(cluster, plan.migrations, (frozenset(), frozenset()))
    end = whereabouts(cluster, plan.migrations, (everything, everything))
    found.update(at_the_end(cluster, policy, start, end))
    for host in cluster.hosts:
        most = max(usable(host, policy).memory_bytes, held(cluster, host.name, start))
        if any(held(cluster, host.name, view) > most for view in views):
            found.add("memory-during")
        kept = [reserved(cluster, host.name, view) for view in views]
        if max(kept) > max(1000 * host.cpu_cores, reserved(cluster, host.name, start)):
            found.add("cpu-reserve")
    return found | set(rules(cluster, policy, plan))


def rules(cluster: Cluster, policy: Policy, plan: Plan) -> set[str]:
    """The codes of what is wrong with hard rules."""
    found: set[str] = set()
    states = reachable(plan.migrations)
    views = [whereabouts(cluster, plan.migrations, state) for state in states]
    everything = frozenset(range(len(plan.migrations)))
    start = whereabouts(cluster, plan.migrations, (frozenset(), frozenset()))
    end = whereabouts(cluster, plan.migrations, (everything, everything))
    for said in what_is_said(cluster, policy):
        if said.hard:
            mine = [one for one in plan.migrations if one.vm in said.form.vms]
            if obeys_worse(said.form, start, end) or strays(said.form, end, mine):
                found.add("rule-end")
            if said.during and (
                any(obeys_worse(said.form, start, view) for view in views)
                or any(strays(said.form, {one.vm: frozenset({one.target})}, [one]) for one in mine)
            ):
                found.add("rule-during")
            if isinstance(said.form, InTurn) and any(
                out_of_turn(said.form, last_of(cluster, policy), plan.migrations, state)
                for state in states
            ):
                found.add("rule-during")
    return found


def last_of(cluster: Cluster, policy: Policy) -> set[str]:
    forms = [said.form for said in what_is_said(cluster, policy)]
    return {
        vm for form in forms if isinstance(form, InTurn) and form.turn is Turn.LAST
        for vm in form.vms
    }  # fmt: skip


def out_of_turn(
    form: InTurn, last: set[str], migrations: tuple[Migration, ...], state: State
) -> bool:
    """In plain words: is something under way in this state whose turn it is not?"""
    started, completed = state
    mine = {at for at, one in enumerate(migrations) if one.vm in form.vms}
    match form.turn:
        case Turn.ONE_AT_A_TIME:
            return len(mine & (started - completed)) > 1
        case Turn.LAST:
            others = {at for at, one in enumerate(migrations) if one.vm not in last}
            return bool(mine & started) and not others <= completed
        case Turn.AS_ONE:
            position = {one.id: at for at, one in enumerate(migrations)}
            waits = {position[name] for at in mine - started for name in migrations[at].after}
            torn = bool(mine & started) and not waits - mine <= completed
            return torn or any(migrations[at].stopover for at in mine)
        case Turn.FIRST:
            return False


def strays(form: Form, view: Whereabouts, moves: list[Migration]) -> bool:
    """Does one of the VMs that are moved get where it is not allowed, even if it was so before?"""
    return isinstance(form, AllowedHosts) and any(not view[one.vm] <= form.hosts for one in moves)


def held(cluster: Cluster, host: str, view: Whereabouts) -> int:
    load = (vm for vm in cluster.vms if vm.is_load)
    return sum(times_on(vm, host, view) * vm.memory_assigned_bytes for vm in load)


def times_on(vm: Vm, host: str, view: Whereabouts) -> int:
    """In plain words: is it there, and does somebody else bring it there from elsewhere besides?

    No plan may move a VM that somebody else migrates; in one that does it counts for both.
    """
    return (host in view[vm.id]) + (vm.migrating_to == host != vm.host)


def reserved(cluster: Cluster, host: str, view: Whereabouts) -> int:
    there = (vm for vm in cluster.vms if vm.is_load and host in view[vm.id])
    return sum(int(1000 * (vm.cpu_reserved_cores or 0)) for vm in there)


def obeys_worse(form: Form, start: Whereabouts, view: Whereabouts) -> bool:
    """In plain words: does the view break the form more than the start did?"""
    if isinstance(form, AllowedHosts):
        return any(start[vm] <= form.hosts and not view[vm] <= form.hosts for vm in form.vms)
    if isinstance(form, Cap):
        for domain in form.domains:
            was = len([vm for vm in form.vms if start[vm] & domain])
            now = len([vm for vm in form.vms if view[vm] & domain])
            if now > form.limit and now > was:
                return True
    if isinstance(form, Unit):
        was, now = (
            len([domain for domain in form.domains if any(at[vm] & domain for vm in form.vms)])
            for at in (start, view)
        )
        return now > was
    return False


def at_the_end(
    cluster: Cluster, policy: Policy, start: Whereabouts, end: Whereabouts
) -> Iterator[str]:
    by_name = cluster.host_by_name
    for host in cluster.hosts:
        came = [
            vm for vm in cluster.vms if host.name in end[vm.id] and host.name not in start[vm.id]
        ]
        room = usable(host, policy)
        before, after = (
            (
                fixed_cores(cluster, host)
                + fsum(
                    times_on(vm, host.name, view) * cores_on(vm, by_name[vm.host], host)
                    for vm in cluster.vms
                    if vm.is_load
                ),
                held(cluster, host.name, view),
            )
            for view in (start, end)
        )
        if came and after[1] > room.memory_bytes:
            yield "memory-end"
        if any(by_name[vm.host].state is HostState.DRAINING for vm in came):
            continue
        limits = (
            policy.thresholds.cpu * room.cpu_cores,
            policy.thresholds.memory * room.memory_bytes,
        )
        for was, now, limit in zip(before, after, limits, strict=True):
            if now > was * (1 + 1e-9) and now > limit * (1 + 1e-9):
                yield "overload"


def single(cluster: Cluster, plan: Plan, one: Migration) -> Iterator[str]:
    source, target = cluster.host_by_name[one.source], cluster.host_by_name[one.target]
    if one.kind.value != "live":
        yield "kind"
    if why_immovable(cluster, cluster.vm_by_id[one.vm]):
        yield "immovable"
    if source == target or why_no_target(target) or why_unfit(cluster.vm_by_id[one.vm], target):
        yield "target"
    if common_network(source, target) is None:
        yield "network"
    during = {change.host: change.during for change in plan.settings if change.during in TRANSPORTS}
    here, there = (
        during.get(host.name, host.migration.transport.value) for host in (source, target)
    )
    if one.transport.value != ("tcp" if here == "smb" and there != "smb" else here):
        yield "transport"
    if not one.reason.strip():
        yield "reason"
    if one.bytes < 1:
        yield "bytes"
    ends = {other.id: other.start_s + other.duration_s for other in plan.migrations}
    good = isfinite(one.start_s) and isfinite(one.duration_s)
    good = good and min(one.start_s, one.duration_s) >= 0
    if not good or any(one.start_s < ends[other] - 1e-3 for other in one.after):
        yield "forecast"


TRANSPORTS = [transport.value for transport in Transport]


def settings(cluster: Cluster, policy: Policy, plan: Plan) -> Iterator[str]:
    hosts = [change.host for change in plan.settings]
    by_name = cluster.host_by_name
    good = (
        (not hosts or policy.transport.write_settings)
        and len(set(hosts)) == len(hosts)
        and all(
            change.host in by_name
            and change.setting == "transport"
            and change.before == by_name[change.host].migration.transport
            and change.during in TRANSPORTS
            and by_name[change.host].migration.managed_by is ManagedBy.NONE
            for change in plan.settings
        )
    )
    if not good:
        yield "settings"


def caps(cluster: Cluster, policy: Policy, plan: Plan) -> Iterator[str]:
    limit = caps_in_force(cluster, policy)
    least = {vm.id: vm.memory_assigned_bytes for vm in cluster.vms}
    total = sum(max(one.bytes, least.get(one.vm, 0)) for one in plan.migrations)
    longest = max((one.start_s + one.duration_s for one in plan.migrations), default=0)
    if limit.migrations is not None and len(plan.migrations) > limit.migrations:
        yield "cap-migrations"
    if limit.bytes is not None and total > limit.bytes:
        yield "cap-bytes"
    if limit.duration_s is not None and longest > limit.duration_s + 1e-3:
        yield "cap-duration"
    if plan.makespan_s < longest - 1e-3:
        yield "forecast"
