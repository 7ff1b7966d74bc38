"""Whether a plan for consolidation is one: it empties hosts, and fills none beyond its ceiling.

What makes any plan illegal is judged elsewhere and holds here too. This is about what a plan of the
goal consolidate is for, and so about plans that were made for it, not about moves that a person
asked for under the same policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from balancer.judge.counts import count_in, occupied
from balancer.judge.drill import Drill
from balancer.judge.end import vm_cores
from balancer.judge.finding import Code, Finding
from balancer.judge.losses import awake, lost, weight
from balancer.judge.order import order_of
from balancer.model.cluster import Cluster, HostState, Vm
from balancer.model.plan import Plan
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.capacity import (
    awake_at_least,
    filled_up_to,
    fixed_cores,
    in_play,
    usable,
)
from balancer.policy.lifted import lifted
from balancer.policy.policy import Goal, Policy
from balancer.policy.said import what_is_said

Place = Mapping[str, str]
ROUNDING = 1e-9
CROWDED = 1e-6  # of a share: what solvers hold their rows to, and far below a VM


def goal_faults(cluster: Cluster, policy: Policy, plan: Plan) -> Iterator[Finding]:
    """Find what a plan for consolidation does against its own goal; nothing for other goals.

    Args:
        cluster: The snapshot that the plan was made for.
        policy: The policy in force.
        plan: A plan with which the judge finds nothing else.
    """
    if policy.goal is not Goal.CONSOLIDATE or not plan.migrations:
        return
    cluster = lifted(cluster, policy)
    order = order_of(plan.migrations)
    before = {vm.id: vm.host for vm in cluster.vms}
    after = {vm: order.end(vm, host) for vm, host in before.items()}
    was, ends = (len(awake(cluster, place)) for place in (before, after))
    if _serves_more(cluster, policy, before, after):
        return  # for that hosts may be woken or left, and filled up to their thresholds
    floor = awake_at_least(cluster, policy)
    if ends < floor and ends < was:
        text = f"{ends} hosts would stay awake, {floor} have to"
        yield Finding(Code.AWAKE, plan.id, text)
    if ends >= was:
        text = f"it moves VMs, and {ends} hosts stay awake where {was} are"
        yield Finding(Code.AWAKE, plan.id, text)
    yield from _crowded(cluster, policy, before, after)


def _serves_more(cluster: Cluster, policy: Policy, before: Place, after: Place) -> bool:
    """Tell whether a plan evacuates, repairs a rule, hard or soft, relieves, or loses less."""
    if stranded(cluster, after) < stranded(cluster, before):
        return True
    for one in what_is_said(cluster, policy):
        if broken(one.form, after) < broken(one.form, before):
            return True
    if overload(cluster, policy, after) < overload(cluster, policy, before) - ROUNDING:
        return True
    if not policy.reserve.for_failures:
        return False
    # What fails while others sleep finds no host: for that one is woken (decision 10).
    drill = Drill(cluster, policy)
    was, ends = (weight(cluster, lost(drill, place)) for place in (before, after))
    return ends < was


def stranded(cluster: Cluster, place: Place) -> int:
    """Return how many VMs are on hosts that have to be emptied."""
    draining = {host.name for host in cluster.hosts if host.state is HostState.DRAINING}
    return sum(vm.is_load and place[vm.id] in draining for vm in cluster.vms)


def broken(form: object, place: Place) -> int:
    """Return how broken what a rule says is, for comparison with another placement."""

    def where(vm: str) -> tuple[str]:
        return (place[vm],)

    match form:
        case AllowedHosts(vms, hosts):
            return sum(place[vm] not in hosts for vm in vms)
        case Cap(vms, domains, limit):
            return sum(max(0, count_in(domain, vms, where) - limit) for domain in domains)
        case Unit() as unit:
            return len(occupied(unit, where))
        case _:
            return 0


def overload(cluster: Cluster, policy: Policy, place: Place) -> float:
    """Return by how much hosts in play are above the thresholds, CPU and memory summed up."""
    limits, total = policy.thresholds, 0.0
    on = _by_host(cluster, place)
    for host in cluster.hosts:
        if in_play(host):
            cpu, memory = _used(cluster, policy, host.name, on[host.name])
            total += max(0.0, cpu - limits.cpu) + max(0.0, memory - limits.memory)
    return total


def _by_host(cluster: Cluster, place: Place) -> dict[str, list[Vm]]:
    coming = cluster.arriving_on  # by migrations of others
    on: dict[str, list[Vm]] = {host.name: [*coming.get(host.name, ())] for host in cluster.hosts}
    for vm in cluster.vms:
        if vm.is_load:
            on[place[vm.id]].append(vm)
    return on


def _used(cluster: Cluster, policy: Policy, name: str, vms: list[Vm]) -> tuple[float, float]:
    """Return the shares of usable CPU and memory that a host's own load and `vms` take."""
    host = cluster.host_by_name[name]
    room = usable(host, policy)
    cores = fixed_cores(cluster, host) + vm_cores(cluster, host, vms)
    held = sum(vm.memory_needed_bytes for vm in vms)
    return cores / max(room.cpu_cores, ROUNDING), held / max(room.memory_bytes, 1.0)


def _crowded(cluster: Cluster, policy: Policy, before: Place, after: Place) -> Iterator[Finding]:
    """Find hosts that end above the ceiling, and above what they were."""
    ceiling = filled_up_to(policy)
    start, end = _by_host(cluster, before), _by_host(cluster, after)
    for name in sorted({after[vm] for vm, host in before.items() if after[vm] != host}):
        was, used = (_used(cluster, policy, name, on[name]) for on in (start, end))
        for word, most, a, b in zip(("CPU", "memory"), ceiling, was, used, strict=True):
            if b > max(most, a) + CROWDED:
                text = f"{name} would end with {b:.1%} of its {word} in use, above {most:.1%}"
                yield Finding(Code.CROWDED, name, text)
