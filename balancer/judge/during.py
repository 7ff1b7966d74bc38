"""Every state that a plan can pass through, whatever runs when: clauses 8 and 9.

Memory on a host and the count of a `Cap` in a domain are the same question with other weights:
a VM adds its weight as it starts to arrive and takes it away when it has left (`closure`).
The domains of a `Unit` are not a sum, so those states are gone through, as few as will do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from balancer.judge.closure import Worst, worst
from balancer.judge.counts import count_in, occupied
from balancer.judge.finding import Code, Finding, gib
from balancer.judge.order import Order, members
from balancer.model.cluster import Cluster, Vm
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.capacity import (
    arriving_bytes,
    cpu_reservable,
    cpu_reserve,
    usable,
    virtual_processors,
    virtual_processors_most,
)
from balancer.policy.policy import Policy
from balancer.policy.said import Said

# Sets of completed migrations to look at for one unit. The worst spread is a covering problem, so
# there is no short cut for all plans; one that needs more looks than this is refused. A plan only
# comes near if it opens a new domain each time that another empties, ten times over.
UNIT_STATES_MAX = 1024


def memory_faults(cluster: Cluster, policy: Policy, order: Order) -> Iterator[Finding]:
    """Find hosts that could at some instant hold more than they may (8)."""

    def size(vm: Vm) -> int:
        return vm.memory_needed_bytes if vm.is_load else 0

    for name, here, peak in _peaks(cluster, order, size):
        held = here + arriving_bytes(cluster, name)
        most = max(usable(cluster.host_by_name[name], policy).memory_bytes, held)
        if held + peak.added > most:
            text = f"could hold {gib(held + peak.added)}, {gib(most)} at most are allowed"
            when = _when(cluster, order, peak, name)
            yield Finding(Code.MEMORY_DURING, name, f"{name} {text}: {when}")


def reserve_faults(cluster: Cluster, order: Order) -> Iterator[Finding]:
    """Find hosts whose VMs could at some instant reserve more processors than there are (8)."""
    if not any(vm.cpu_reserved_cores for vm in cluster.vms):
        return
    for name, here, peak in _peaks(cluster, order, cpu_reserve):
        held = here + sum(map(cpu_reserve, cluster.arriving_on.get(name, ())))
        most = max(cpu_reservable(cluster.host_by_name[name]), held)
        if held + peak.added > most:
            text = (
                f"could have to keep {(held + peak.added) / 1000:g} logical processors for VMs, "
                f"{most / 1000:g} at most are allowed"
            )
            when = _when(cluster, order, peak, name)
            yield Finding(Code.CPU_RESERVE, name, f"{name} {text}: {when}")


def ratio_faults(cluster: Cluster, policy: Policy, order: Order) -> Iterator[Finding]:
    """Find hosts that could at some instant have too many virtual processors (8)."""
    for name, here, peak in _peaks(cluster, order, virtual_processors):
        held = here + sum(map(virtual_processors, cluster.arriving_on.get(name, ())))
        limit = virtual_processors_most(cluster.host_by_name[name], policy)
        if limit is not None and held + peak.added > max(limit, held):
            text = (
                f"could have {held + peak.added} virtual processors, "
                f"{max(limit, held)} at most are allowed"
            )
            when = _when(cluster, order, peak, name)
            yield Finding(Code.VIRTUAL_PROCESSORS, name, f"{name} {text}: {when}")


def _peaks(
    cluster: Cluster, order: Order, size: Callable[[Vm], int]
) -> Iterator[tuple[str, int, Worst]]:
    """Yield for each host that receives what its VMs take at the start, and the most to come."""
    load = {
        at: size(cluster.vm_by_id[migration.vm]) for at, migration in enumerate(order.migrations)
    }
    touching: dict[str, list[int]] = {}
    for at, migration in enumerate(order.migrations):
        for name in {migration.source, migration.target}:
            touching.setdefault(name, []).append(at)
    for name in sorted({migration.target for migration in order.migrations}):
        held = sum(size(vm) for vm in cluster.vms_on[name])
        yield name, held, _peak(order, frozenset({name}), touching[name], load)


def _peak(
    order: Order, domain: frozenset[str], among: Collection[int], weight: Mapping[int, int]
) -> Worst:
    """Return the worst that migrations `among` can add to `domain`."""
    gains: dict[int, int] = {}
    losses: dict[int, int] = {}
    leaving = 0
    for at in among:
        migration = order.migrations[at]
        if (migration.source in domain) == (migration.target in domain):
            continue  # once there, a VM counts once however often it moves within
        if migration.target in domain:
            gains[at] = weight[at]
        else:
            losses[at] = weight[at]
            leaving |= 1 << at
    return worst(gains, {at: order.before[at] & leaving for at in gains}, losses)


def _when(cluster: Cluster, order: Order, peak: Worst, name: str) -> str:
    def names(indices: Collection[int]) -> str:
        vms = sorted({cluster.vm_by_id[order.migrations[at].vm].name for at in indices})
        return ", ".join(vms)

    done = 0
    for at in peak.arrivals:
        done |= order.before[at]
    left = [at for at, m in enumerate(order.migrations) if m.source == name and not done >> at & 1]
    late = f" while {names(left)} is not gone" if left else ""
    return f"{names(peak.arrivals)} can be there or on the way{late}"


def rule_during_faults(cluster: Cluster, said: tuple[Said, ...], order: Order) -> Iterator[Finding]:
    """Find hard rules that hold at every instant and could at some instant be broken (9)."""
    for one in said:
        moved = sorted(one.form.vms & order.legs.keys())
        if not (one.hard and one.during and moved):
            continue
        legs = [at for vm in moved for at in order.legs[vm]]
        match one.form:
            case AllowedHosts(_, hosts):
                texts = [
                    f"{order.migrations[at].id} takes {order.migrations[at].name} to "
                    f"{order.migrations[at].target}, which is not allowed"
                    for at in legs
                    if order.migrations[at].target not in hosts
                ]
            case Cap() as cap:
                texts = _cap_texts(cluster, cap, order, legs)
            case Unit() as unit:
                text = _unit_text(cluster, unit, order, legs)
                texts = [text] if text else []
            case _:
                texts = []
        for text in texts:
            yield Finding(Code.RULE_DURING, str(one.rule), f"{one.rule}: {text}")


def _cap_texts(cluster: Cluster, cap: Cap, order: Order, legs: list[int]) -> list[str]:
    one_each = dict.fromkeys(legs, 1)
    targets = {order.migrations[at].target for at in legs}
    texts: list[str] = []
    for domain in cap.domains:
        if domain.isdisjoint(targets):
            continue
        was = count_in(domain, cap.vms, lambda vm: (cluster.vm_by_id[vm].host,))
        most = was + _peak(order, domain, legs, one_each).added
        if most > max(cap.limit, was):
            where = ", ".join(sorted(domain))
            texts.append(
                f"{where} could have {most} of the VMs at a time, counting those on the way; "
                f"{max(cap.limit, was)} are allowed"
            )
    return texts


def _unit_text(cluster: Cluster, unit: Unit, order: Order, legs: list[int]) -> str:
    """Say how a unit could be spread over more domains than at the start, or nothing.

    What is complete in a worst state is the union of what some of the migrations wait for, and
    everything that then can start has started. If no migration opens a domain, none can be worse.
    """
    start = occupied(unit, lambda vm: (cluster.vm_by_id[vm].host,))
    homes = [unit.domains[at] for at in start]
    targets = {order.migrations[at].target for at in legs}
    others = [domain for at, domain in enumerate(unit.domains) if at not in start]
    if all(domain.isdisjoint(targets) for domain in others):
        return ""
    own = sum(1 << at for at in legs)
    waits = sorted({order.before[at] & own for at in legs})
    seen, queue = {0}, [0]
    for complete in queue:
        at = {vm: _hosts(cluster, order, vm, complete | ~own) for vm in unit.vms}
        count = len(occupied(unit, at.__getitem__))
        if count > len(homes):
            done = ", ".join(order.migrations[at].id for at in members(complete)) or "nothing"
            return (
                f"its VMs could be in {count} domains at a time, counting those on the way "
                f"(with {done} complete); they are in {len(homes)}"
            )
        for more in waits:
            if (union := complete | more) not in seen:
                seen.add(union)
                queue.append(union)
        if len(seen) > UNIT_STATES_MAX:
            return "its VMs can be spread in too many ways on the way to rule out that it is broken"
    return ""


def _hosts(cluster: Cluster, order: Order, vm: str, complete: int) -> set[str]:
    """Return where `vm` is or is arriving once all that may start has started."""
    at = cluster.vm_by_id[vm].host
    for leg in order.legs.get(vm, ()):
        migration = order.migrations[leg]
        if order.before[leg] & ~complete:
            break
        if not complete >> leg & 1:
            return {at, migration.target}
        at = migration.target
    return {at}
