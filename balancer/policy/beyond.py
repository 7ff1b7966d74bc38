"""Failures that no placement survives: what of survivability is beyond the help of any plan.

Sums show it. Wherever VMs are, those that run on the hosts left and those that restart there need
memory; where that is more than these hosts have, something finds no host. The same holds of places
of any size: a VM of 16 GiB takes one, and a host of 40 GiB has two. And a VM that no second host
could ever take is lost with the one that it has. None of that is counted against a placement
(docs/decisions/0010): it is said once, and plans go on as if nobody had asked for it.

Nor can VMs that are kept apart be so on fewer hosts than they are: then they share as evenly as can
be, for nobody leaves the second domain controller off because one host of two has failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from balancer.model.cluster import Cluster, Host, HostState, Vm
from balancer.model.rule import AllowedHosts, Cap
from balancer.policy.capacity import why_unfit
from balancer.policy.policy import Policy
from balancer.policy.survival import (
    RANKS,
    Bound,
    restart_as_one,
    restart_bytes,
    restart_rank,
    restart_rules,
    restarts,
    room_bytes,
)

Failed = frozenset[str]
PLACES_MAX = 12  # sizes of places that are looked at, evenly among those of the VMs


@dataclass(frozen=True, slots=True)
class Shortage:
    """What no placement gives the restarts after one failure.

    Attributes:
        rank: The first priority (0 is high) for which, with those before it, there is too little;
            of it and those after it nothing is counted. 0 also where nothing has one before it.
        missing: How many places are missing at the least, for all priorities.
        place_bytes: How large these places are; 1 where it is memory itself that is missing.
    """

    rank: int
    missing: int
    place_bytes: int


def shortages(
    cluster: Cluster, policy: Policy, failures: Iterable[Failed]
) -> Mapping[Failed, Shortage]:
    """Return those of the failures that no placement survives.

    Not looked for while a host is draining: what a drain takes away is to be told host by host.
    """
    if _is_draining(cluster):
        return {}
    vms = [vm for vm in cluster.vms if restarts(vm)]
    views = [_View(cluster, policy, vms, size) for size in (1, *_place_sizes(vms))]
    highest = min(map(restart_rank, vms), default=0)
    found: dict[Failed, Shortage] = {}
    for failed in failures:
        every = [short for view in views if (short := view.shortage(failed)) is not None]
        if every:  # of equal rank the first: memory itself, or else the smallest places
            worst = min(every, key=lambda one: one.rank)
            found[failed] = replace(worst, rank=0) if worst.rank <= highest else worst
    return found


class _View:
    """A cluster as places of one size: what its hosts have, and what its VMs need of them."""

    def __init__(self, cluster: Cluster, policy: Policy, vms: Sequence[Vm], size: int) -> None:
        up = [host.name for host in cluster.hosts if host.state is HostState.UP]
        self.size = size
        self.has = {name: _room_bytes(cluster, policy, name) // size for name in up}
        self.all = sum(self.has.values())
        self.needs = [0] * len(RANKS)  # wherever the VMs are, of each priority
        self.outside: dict[str, list[int]] = {}  # by VMs on hosts that are not up, if these fail
        for vm in vms:
            inside = vm.host in self.has
            needs = self.needs if inside else self.outside.setdefault(vm.host, [0] * len(RANKS))
            needs[restart_rank(vm)] += _least_bytes(vm) // size

    def shortage(self, failed: Failed) -> Shortage | None:
        """Return what the hosts that are left lack."""
        has = self.all - sum(self.has.get(name, 0) for name in failed)
        outside = [self.outside[name] for name in failed if name in self.outside]
        need, first = 0, len(RANKS)
        for rank, own in enumerate(self.needs):
            need += own + sum(needs[rank] for needs in outside)
            if need > has:
                first = min(first, rank)
        return Shortage(first, need - has, self.size) if need > has else None


def _place_sizes(vms: Sequence[Vm]) -> list[int]:
    """Return some sizes of VMs, rising, the largest among them."""
    sizes = sorted({_least_bytes(vm) for vm in vms} - {0, 1})
    step = max(1, -(-len(sizes) // PLACES_MAX))
    return sizes[::-1][::step][::-1]


def _room_bytes(cluster: Cluster, policy: Policy, name: str) -> int:
    """Return what VMs may hold on a host: one that has more may keep it, none may come to that."""
    held = sum(vm.memory_assigned_bytes for vm in cluster.vms_on[name] if vm.is_load)
    return max(held, room_bytes(cluster.host_by_name[name], policy))


@dataclass(frozen=True)
class Crowd:
    """A cap whose VMs may be more than the places that are left once hosts have failed.

    Attributes:
        up: The hosts that are up, by domain.
        free: Those of them that are in no domain.
        inside: How many of its VMs restart and are on hosts that are up.
        outside: And on each host that is not.
    """

    cap: Cap
    up: tuple[Failed, ...]
    free: Failed
    inside: int
    outside: Mapping[str, int]

    def when(self, failed: Failed) -> Cap:
        """Return the cap as it is kept when `failed` are down: with no limit that none could."""
        left = sum(not hosts <= failed for hosts in self.up)
        need = self.inside + sum(self.outside.get(name, 0) for name in failed)
        if not left or need <= left * self.cap.limit or self.free - failed:
            return self.cap
        return replace(self.cap, limit=max(self.cap.limit, -(-len(self.cap.vms) // left)))


def crowds(cluster: Cluster, forms: Iterable[Bound], most: int) -> dict[Cap, Crowd]:
    """Return the caps that no placement keeps once some hosts have failed, `most` at a time.

    None while a host is draining.
    """
    if _is_draining(cluster):
        return {}
    up = frozenset(host.name for host in cluster.hosts if host.state is HostState.UP)
    found: dict[Cap, Crowd] = {}
    for cap in forms:
        if not isinstance(cap, Cap):
            continue
        domains = tuple(hosts & up for hosts in cap.domains if hosts & up)
        free = up.difference(*domains)
        if len(free) > most or len(cap.vms) <= (len(domains) - most) * cap.limit:
            continue
        homes = [vm.host for name in cap.vms if restarts(vm := cluster.vm_by_id[name])]
        outside = Counter(home for home in homes if home not in up)
        found[cap] = Crowd(cap, domains, free, len(homes) - outside.total(), outside)
    return found


def stuck(cluster: Cluster, policy: Policy) -> frozenset[str]:
    """Return the VMs that no second host could take, so that they are lost with the one they have.

    Facts and lists of hosts are looked at, and whether the VM fits into the host as a whole; of
    VMs that restart as one all have to be stuck. None is while a host is draining.
    """
    if _is_draining(cluster):
        return frozenset()
    forms = restart_rules(cluster, policy)
    lists = _lists(forms)
    up = [(host, room_bytes(host, policy)) for host in cluster.hosts if host.state is HostState.UP]
    known: dict[object, frozenset[str]] = {}
    found: set[str] = set()
    for vm in cluster.vms:
        if not restarts(vm):
            continue
        listed, least = lists.get(vm.id, frozenset()), _least_bytes(vm)
        kind = (vm.vcpus, vm.numa_nodes, vm.memory_assigned_bytes, least, listed)
        if kind not in known:
            known[kind] = frozenset(
                host.name for host, room in up if room >= least and _may(vm, host, listed)
            )
        if not known[kind] - {vm.host}:
            found.add(vm.id)
    for together in restart_as_one(forms):
        if not together <= found:
            found -= together
    return frozenset(found)


def _lists(forms: Iterable[Bound]) -> Mapping[str, frozenset[frozenset[str]]]:
    """Return the lists of hosts that bind each VM."""
    found: dict[str, set[frozenset[str]]] = {}
    for form in forms:
        if isinstance(form, AllowedHosts):
            for vm in form.vms:
                found.setdefault(vm, set()).add(form.hosts)
    return {vm: frozenset(hosts) for vm, hosts in found.items()}


def _may(vm: Vm, host: Host, listed: Collection[frozenset[str]]) -> bool:
    return all(host.name in hosts for hosts in listed) and not why_unfit(vm, host)


def _least_bytes(vm: Vm) -> int:
    """Return what a VM needs at the least on the hosts that are left, wherever it was."""
    return min(restart_bytes(vm), vm.memory_assigned_bytes)


def _is_draining(cluster: Cluster) -> bool:
    return any(host.state is HostState.DRAINING for host in cluster.hosts)
