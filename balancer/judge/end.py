"""The state in which a plan ends: clauses 5 to 7."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from balancer.judge.counts import count_in, occupied
from balancer.judge.finding import Code, Finding, gib
from balancer.judge.order import Order
from balancer.model.cluster import Cluster, Host, HostState, Vm
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.capacity import cores_on, fixed_cores, usable
from balancer.policy.policy import Policy
from balancer.policy.said import Said

LOAD_TOLERANCE = 1e-9  # of the limit: sums of cores in another order differ in the last digits


def exceeds(load: float, limit: float) -> bool:
    """Tell whether `load` is above `limit` by more than adding up could explain."""
    return load > limit + LOAD_TOLERANCE * max(1.0, abs(limit))


def end_faults(cluster: Cluster, policy: Policy, order: Order) -> Iterator[Finding]:
    """Find hosts that end with too little memory or newly overloaded (5, 6).

    Only hosts that receive can: elsewhere load does nothing but shrink.
    """
    ends = {vm: order.end(vm, cluster.vm_by_id[vm].host) for vm in order.legs}
    received = {host for vm, host in ends.items() if host != cluster.vm_by_id[vm].host}
    on: dict[str, list[Vm]] = {name: [*cluster.arriving_on.get(name, ())] for name in received}
    for vm in cluster.vms:
        if vm.is_load and (end := ends.get(vm.id, vm.host)) in on:
            on[end].append(vm)
    rescued = {
        end
        for vm, end in ends.items()
        for home in [cluster.host_by_name[cluster.vm_by_id[vm].host]]
        if home.state is HostState.DRAINING and home.name != end
    }
    for name in sorted(received):
        host = cluster.host_by_name[name]
        held, room = memory(on[name]), usable(host, policy).memory_bytes
        if held > room:
            text = f"{name} would end with {gib(held)} of VMs, {gib(room)} are usable"
            yield Finding(Code.MEMORY_END, name, text)
        if name not in rescued:
            before = [vm for vm in cluster.vms_on[name] if vm.is_load]
            before.extend(cluster.arriving_on.get(name, ()))
            yield from _overloads(cluster, policy, host, before, on[name])


def _overloads(
    cluster: Cluster, policy: Policy, host: Host, before: list[Vm], after: list[Vm]
) -> Iterator[Finding]:
    room, threshold = usable(host, policy), policy.thresholds
    fixed = fixed_cores(cluster, host)
    limit = max(threshold.cpu * room.cpu_cores, fixed + vm_cores(cluster, host, before))
    load = fixed + vm_cores(cluster, host, after)
    if exceeds(load, limit):
        text = (
            f"{host.name} would end with {load:.2f} cores in use, {limit:.2f} at most are allowed"
        )
        yield Finding(Code.OVERLOAD, host.name, text)
    most = max(threshold.memory * room.memory_bytes, memory(before))
    held = memory(after)
    if exceeds(held, most):
        text = f"{host.name} would end with {gib(held)} of memory in use, {gib(most)} at most"
        yield Finding(Code.OVERLOAD, host.name, f"{text} are allowed")


def memory(vms: list[Vm]) -> int:
    """Return the bytes that `vms` hold or ask for; all of them are load."""
    return sum(vm.memory_needed_bytes for vm in vms)


def vm_cores(cluster: Cluster, host: Host, vms: list[Vm]) -> float:
    """Return the cores that `vms`, all of them load, use when they are on `host`."""
    at = cluster.host_by_name
    return fsum(cores_on(vm, at[vm.host], host) for vm in vms)


def rule_end_faults(cluster: Cluster, said: tuple[Said, ...], order: Order) -> Iterator[Finding]:
    """Find hard rules that the end of the plan breaks, or breaks more than before (7)."""

    def before(vm: str) -> tuple[str]:
        return (cluster.vm_by_id[vm].host,)

    def after(vm: str) -> tuple[str]:
        return (order.end(vm, cluster.vm_by_id[vm].host),)

    for one in said:
        moved = one.form.vms & order.legs.keys()
        if not one.hard or not moved:
            continue
        match one.form:
            case AllowedHosts(_, hosts):
                texts = [
                    f"{cluster.vm_by_id[vm].name} would end on {after(vm)[0]}, which is not allowed"
                    for vm in sorted(moved)
                    if after(vm)[0] not in hosts
                ]
            case Cap(vms, domains, limit):
                counts = [
                    (domain, count_in(domain, vms, before), count_in(domain, vms, after))
                    for domain in domains
                    if any(after(vm)[0] in domain for vm in moved)
                ]
                texts = [
                    f"{', '.join(sorted(domain))} would end with {end} of the VMs, "
                    f"{max(limit, was)} are allowed"
                    for domain, was, end in counts
                    if end > max(limit, was)
                ]
            case Unit() as unit:
                was, end = len(occupied(unit, before)), len(occupied(unit, after))
                texts = [f"its VMs would end in {end} domains, they are in {was}"] * (end > was)
            case _:
                texts = []
        for text in texts:
            yield Finding(Code.RULE_END, str(one.rule), f"{one.rule}: {text}")
