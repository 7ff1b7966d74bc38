"""The judgement of one migration just before it starts, on a fresh reading of the cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from balancer.judge.counts import Where, count_in, occupied
from balancer.judge.end import exceeds, memory, vm_cores
from balancer.judge.finding import Code, Finding, gib
from balancer.judge.migrations import place_faults
from balancer.judge.moment import Foreign, Moment, moment_of
from balancer.judge.order import order_faults
from balancer.judge.settings import transport_fault, transports_in_plan
from balancer.judge.survive import survival_start_faults
from balancer.judge.turns import turn_texts
from balancer.migration.rates import common_network, cpu_cores
from balancer.model.cluster import Cluster, Host, ManagedBy
from balancer.model.plan import Migration, Plan
from balancer.model.rule import AllowedHosts, Cap, InTurn, OnlyWhen, Unit
from balancer.policy.capacity import (
    cpu_reservable,
    cpu_reserve,
    fixed_cores,
    usable,
    virtual_processors,
    virtual_processors_most,
)
from balancer.policy.lifted import lifted
from balancer.policy.policy import Policy
from balancer.policy.said import what_is_said

GROWTH_MAX = 1.5  # of the bytes forecast: beyond that duration and blackout are another migration's


def judge_start(
    cluster: Cluster,
    policy: Policy,
    plan: Plan,
    starting: str,
    *,
    done: Collection[str],
    running: Collection[str],
    dropped: Collection[str] = (),
    foreign: Collection[Foreign] = (),
    at: datetime | None = None,
) -> tuple[Finding, ...]:
    """Judge whether the migration `starting` is safe to start now; no finding means it is.

    Only what concerns this migration is looked at: its VM, its two hosts, the rules that speak of
    the VM. On an unchanged cluster a legal plan passes in every state it can reach. Where a fact
    is missing, the answer is no.

    Args:
        cluster: A fresh reading. VMs of completed migrations are at their targets, those in
            flight still at their sources.
        policy: The policy that the plan was made for.
        plan: The plan, which `judge` found legal on the reading it was made from.
        starting: The id of the migration to start.
        done: Ids of completed migrations.
        running: Ids of migrations in flight.
        dropped: Ids of migrations that failed or will not be started: what they would have
            freed is not counted on.
        foreign: (VM, source, target) of migrations in flight that are none of the plan's; the
            target is None where nobody knows it, and then it may be any host.
        at: When it would start, for rules on hours; None leaves those to the caller.
    """
    cluster = lifted(cluster, policy)
    faults = tuple(_progress_faults(cluster, plan, starting, done, running, dropped))
    if faults:
        return faults
    migration = plan.migration_by_id[starting]
    now = moment_of(cluster, plan, migration, done, running, dropped, foreign)
    return (
        *_vm_faults(now),
        *place_faults(cluster, migration),
        *_transport_faults(cluster, policy, plan, migration),
        *_memory_faults(now, policy),
        *_reserve_faults(now),
        *_ratio_faults(now, policy),
        *_overload_faults(now, policy, plan, running),
        *_rule_faults(now, policy, at),
        *survival_start_faults(now, policy),
    )


def _progress_faults(
    cluster: Cluster,
    plan: Plan,
    starting: str,
    done: Collection[str],
    running: Collection[str],
    dropped: Collection[str],
) -> Iterator[Finding]:
    """Find what makes the question itself senseless, and migrations whose turn has not come."""
    yield from order_faults(plan.migrations)
    for name in sorted({starting, *done, *running, *dropped} - plan.migration_by_id.keys()):
        yield Finding(Code.UNKNOWN_MIGRATION, name, f"{name} is not in the plan")
    migration = plan.migration_by_id.get(starting)
    if migration is None:
        return
    if migration.vm not in cluster.vm_by_id:
        yield Finding(Code.UNKNOWN_VM, starting, f"the VM {migration.vm} is no longer there")
    for host in sorted({migration.source, migration.target} - cluster.host_by_name.keys()):
        yield Finding(Code.UNKNOWN_HOST, starting, f"the host {host} is no longer there")
    for words, names in (("complete", done), ("running", running), ("given up", dropped)):
        if starting in names:
            yield Finding(Code.NOT_NEXT, starting, f"{starting} is {words} already")
    if waits := [name for name in migration.after if name not in done]:
        text = f"{starting} waits for {', '.join(waits)}"
        yield Finding(Code.NOT_NEXT, starting, text)


def _vm_faults(now: Moment) -> Iterator[Finding]:
    """Find that the VM is not where, or what, the plan thought."""
    vm, migration = now.vm, now.migration
    if vm.host != migration.source:
        text = f"{vm.name} is on {vm.host}, not on {migration.source}"
        yield Finding(Code.NOT_ON_SOURCE, migration.id, text)
    if now.moved_by_others:
        text = f"{vm.name} is being migrated by somebody else"
        yield Finding(Code.IMMOVABLE, migration.id, text)
    if vm.memory_assigned_bytes > GROWTH_MAX * migration.bytes:
        text = f"{vm.name} has grown to {gib(vm.memory_assigned_bytes)} since it was planned"
        yield Finding(Code.GROWN, migration.id, text)
    if migration.stopover and now.stays:
        text = f"{vm.name} would be left on its stop-over {migration.target}"
        yield Finding(Code.STOPOVER, migration.id, text)


def _transport_faults(
    cluster: Cluster, policy: Policy, plan: Plan, migration: Migration
) -> Iterator[Finding]:
    """Find that its hosts are, or will be, set otherwise than the plan thought (3)."""
    for change in plan.settings:
        if change.host not in (migration.source, migration.target):
            continue
        settings = cluster.host_by_name[change.host].migration
        if settings.transport.value not in (change.before, change.during):
            text = f"somebody set {change.host} to {settings.transport.value}"
            yield Finding(Code.SETTINGS, change.host, text)
        elif settings.managed_by is ManagedBy.NETWORK_ATC:
            text = f"Network ATC now manages the migration settings of {change.host}"
            yield Finding(Code.SETTINGS, change.host, text)
        elif not policy.transport.write_settings:
            text = f"the policy does not allow writing the transport of {change.host}"
            yield Finding(Code.SETTINGS, change.host, text)
    fault = transport_fault(transports_in_plan(cluster, plan), migration)
    if fault:
        yield fault


def _memory_faults(now: Moment, policy: Policy) -> Iterator[Finding]:
    """Find that the target cannot hold the VM now, or with all that is still to come (5, 8)."""
    name = now.migration.target
    for vm in now.unmeasured:
        text = f"{vm} may be arriving on {name}, and nobody knows its size"
        yield Finding(Code.MEMORY_DURING, name, text)
    room = usable(now.cluster.host_by_name[name], policy).memory_bytes
    most = max(room, memory(now.on_target(now.was)))
    held = memory(now.on_target(now.started))
    if held > most:
        text = f"{name} would hold {gib(held)} with what is arriving, {gib(most)} are allowed"
        yield Finding(Code.MEMORY_DURING, name, text)
    end = memory(now.on_target(now.ends))
    if name in now.was(now.vm.id):
        room = most  # it comes home from a stop-over: the host has received nothing
    if now.stays and end > room:
        text = f"{name} would end with {gib(end)} of VMs, {gib(room)} are usable"
        yield Finding(Code.MEMORY_END, name, text)


def _reserve_faults(now: Moment) -> Iterator[Finding]:
    """Find that the target cannot keep the processors that its VMs reserve (8)."""
    if not cpu_reserve(now.vm):
        return
    name = now.migration.target
    before, started = (
        sum(cpu_reserve(vm) for vm in now.on_target(where)) for where in (now.was, now.started)
    )
    most = max(cpu_reservable(now.cluster.host_by_name[name]), before)
    if started > most:
        text = f"{name} would have to keep {started / 1000:g} logical processors for VMs"
        yield Finding(Code.CPU_RESERVE, name, f"{text}, {most / 1000:g} are allowed")


def _ratio_faults(now: Moment, policy: Policy) -> Iterator[Finding]:
    """Find that the target would come to too many virtual processors (8)."""
    name = now.migration.target
    limit = virtual_processors_most(now.cluster.host_by_name[name], policy)
    if limit is None:
        return
    before, started = (
        sum(virtual_processors(vm) for vm in now.on_target(where))
        for where in (now.was, now.started)
    )
    if started > max(limit, before):
        text = f"{name} would have {started} virtual processors, {max(limit, before)} are allowed"
        yield Finding(Code.VIRTUAL_PROCESSORS, name, text)


def _overload_faults(
    now: Moment, policy: Policy, plan: Plan, running: Collection[str]
) -> Iterator[Finding]:
    """Find that the target ends overloaded, and more than it is or was before the plan (6)."""
    if not now.stays or now.is_refuge:
        return
    target = now.cluster.host_by_name[now.migration.target]
    room, threshold = usable(target, policy), policy.thresholds
    at_end, *others = (now.on_target(where) for where in (now.ends, now.here, now.was))
    fixed = fixed_cores(now.cluster, target)
    fixed = max(0.0, fixed - _cores_copying(now.cluster, target, plan, running))
    load = fixed + vm_cores(now.cluster, target, at_end)
    known = (fixed + vm_cores(now.cluster, target, vms) for vms in others)
    limit = max(threshold.cpu * room.cpu_cores, *known)
    if exceeds(load, limit):
        text = f"{target.name} would end with {load:.2f} cores in use, {limit:.2f} are allowed"
        yield Finding(Code.OVERLOAD, target.name, text)
    most = max(threshold.memory * room.memory_bytes, *(memory(vms) for vms in others))
    if exceeds(memory(at_end), most):
        text = f"{target.name} would end with {gib(memory(at_end))} in use, {gib(most)} are allowed"
        yield Finding(Code.OVERLOAD, target.name, text)


def _cores_copying(cluster: Cluster, host: Host, plan: Plan, running: Collection[str]) -> float:
    """Return the measured cores that are only the plan's own migrations, gone at its end."""
    total = 0.0
    for name in running:
        migration = plan.migration_by_id[name]
        source = cluster.host_by_name.get(migration.source)
        target = cluster.host_by_name.get(migration.target)
        if source is None or target is None or host not in (source, target):
            continue
        if (ends := common_network(source, target)) and migration.duration_s > 0:
            rate, rdma = migration.bytes / migration.duration_s, ends[0].rdma and ends[1].rdma
            total += cpu_cores(migration.transport, rate, rdma=rdma)
    return total


def _rule_faults(now: Moment, policy: Policy, at: datetime | None) -> Iterator[Finding]:
    """Find hard rules that speak of this VM and do not let it start, or end there (7, 9)."""
    for one in what_is_said(now.start, policy):
        if not one.hard or now.vm.id not in one.form.vms:
            continue
        match one.form:
            case AllowedHosts(_, hosts):
                texts = _host_texts(now, hosts, during=one.during)
            case Cap() as cap:
                texts = _cap_texts(now, cap, during=one.during)
            case Unit() as unit:
                texts = _unit_texts(now, unit, during=one.during)
            case InTurn() as turn:
                texts = [(Code.RULE_DURING, text) for text in turn_texts(now, turn, now.cluster)]
            case OnlyWhen(_, hours):
                late = at is not None and not hours.may_start(at, now.migration.duration_s)
                texts = [(Code.WINDOW, "would not be there before its window closes")] * late
            case _:
                texts = []
        for code, text in texts:
            yield Finding(code, str(one.rule), f"{one.rule}: {now.vm.name} {text}")


def _host_texts(now: Moment, hosts: frozenset[str], *, during: bool) -> list[tuple[Code, str]]:
    texts: list[tuple[Code, str]] = []
    if during and now.migration.target not in hosts:
        texts.append((Code.RULE_DURING, f"is not allowed on {now.migration.target}"))
    if not now.ends(now.vm.id) <= hosts:
        ends = ", ".join(sorted(now.ends(now.vm.id)))
        texts.append((Code.RULE_END, f"would end on {ends}, which is not allowed"))
    return texts


def _cap_texts(now: Moment, cap: Cap, *, during: bool) -> list[tuple[Code, str]]:
    states: list[tuple[Code, Where]] = [(Code.RULE_END, now.ends)]
    if during:
        states.append((Code.RULE_DURING, now.started))
    return [
        (code, f"would be one of {count} in {', '.join(sorted(domain))}, {most} are allowed")
        for domain in cap.domains
        if now.migration.target in domain and now.vm.host not in domain
        for most in [max(cap.limit, count_in(domain, cap.vms, now.was))]
        for code, where in states
        if not domain.isdisjoint(where(now.vm.id))
        and (count := count_in(domain, cap.vms, where)) > most
    ]


def _unit_texts(now: Moment, unit: Unit, *, during: bool) -> list[tuple[Code, str]]:
    states: list[tuple[Code, Where]] = [(Code.RULE_END, now.ends)]
    if during:
        states.append((Code.RULE_DURING, now.started))
    was = len(occupied(unit, now.was))
    return [
        (code, f"would spread its set over {count} domains, it was in {was}")
        for code, where in states
        if (count := len(occupied(unit, where))) > was
        and count > len(occupied(unit, now.left_alone(where)))
    ]
