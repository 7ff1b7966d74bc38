"""One failure, rehearsed: which host takes what, one restart after another."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from balancer.model.cluster import Vm
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.capacity import cpu_reservable
from balancer.policy.survival import Bound

if TYPE_CHECKING:  # a drill has rehearsals
    from balancer.judge.drill import Drill, Failed

_NONE: Counter[str] = Counter()


class State:
    """Where VMs are before anything fails.

    Attributes:
        place: The host of every VM; `move` changes it.
        here: What restarts, by host, in the order in which it would.
    """

    def __init__(self, drill: Drill, place: Mapping[str, str]) -> None:
        self.drill, self.place = drill, dict(place)
        self.kept: Counter[str] = Counter()  # processors reserved, in thousandths
        for name, reserve in drill.reserved.items():
            self.kept[place[name]] += reserve
        self.here: dict[str, list[Vm]] = {}
        for vm in drill.order:
            self.here.setdefault(place[vm.id], []).append(vm)
        self._found: dict[frozenset[str], Counter[str]] = {}

    def move(self, vm: str, target: str) -> None:
        """Put a VM on another host."""
        source, one = self.place[vm], self.drill.cluster.vm_by_id[vm]
        self.place[vm] = target
        if reserve := self.drill.reserved.get(vm):
            self.kept[source] -= reserve
            self.kept[target] += reserve
        if vm in self.drill.turn:
            self.here[source].remove(one)
            insort(self.here.setdefault(target, []), one, key=lambda vm: self.drill.turn[vm.id])
        self._found = {vms: count for vms, count in self._found.items() if vm not in vms}

    def fallen(self, failed: Failed) -> list[Vm]:
        """Return what has to restart, in order."""
        found = [vm for name in failed for vm in self.here.get(name, ())]
        if len(failed) > 1:
            found.sort(key=lambda vm: self.drill.turn[vm.id])
        return found

    def count(self, vms: frozenset[str]) -> Counter[str]:
        """Return how many of these VMs each host has."""
        if vms not in self._found:
            self._found[vms] = Counter(self.place[vm] for vm in vms)
        return self._found[vms]


class Rehearsal:
    """One failure: what restarts where, and what of it depended on how much was free.

    Attributes:
        lost: The VMs that find no host.
        takers: The hosts that took any.
        reach: For each size that was looked for, the largest hole (bytes, host) that took it; a
            smaller one on another host, had it been large enough, would have come before it.
        asked: VMs that rules of what restarts count, wherever they are.
        reserves: Whether any of what restarts reserves processors.
    """

    def __init__(self, state: State, failed: Failed, free: Mapping[str, int]) -> None:
        """Restart what ran on the `failed` hosts on those that have this much `free`."""
        self.drill, self.state, self.failed = state.drill, state, failed
        self.rooms = sorted((room, name) for name, room in free.items())
        self.added: dict[frozenset[str], Counter[str]] = {}  # what has restarted, of each set
        self.kept: Counter[str] = Counter()
        self.lost: list[str] = []
        self.takers: set[str] = set()
        self.reach: dict[int, tuple[float, str]] = {}
        self.asked: set[str] = set()
        self.reserves = False
        self.ranks = self.drill.counted[failed]
        for size, vms in self.drill.pieces(state.fallen(failed), self.ranks):
            self._restart(vms, size)

    def would_differ(self, name: str, room: int) -> bool:
        """Tell whether it might, had this host, and no other, another amount free: this much."""
        if name in self.takers:
            return True
        return any(size <= room and (room, name) < hole for size, hole in self.reach.items())

    def heeds(self, vm: str) -> bool:
        """Tell whether it might, had a VM another host that is not among the failed."""
        return vm in self.asked or (self.reserves and vm in self.drill.reserved)

    def _restart(self, vms: Sequence[Vm], size: int) -> None:
        """Start what restarts as one on the host with the least room that takes it."""
        rooms = self.rooms
        bound = vms[0].id in self.drill.bound  # what restarts as one is, all of it
        at = bisect_left(rooms, (size, ""))
        if bound:
            # Two rules may say the same of a VM: it counts once.
            forms = Counter(
                form for vm in vms for form in set(self.drill.forms(vm.id, self.failed))
            )
            for form in forms:
                if not isinstance(form, AllowedHosts):
                    self.asked |= form.vms
            reserve = self._reserve(vms)
            self.reserves = self.reserves or reserve > 0
            while at < len(rooms) and not self._may(vms, forms, rooms[at][1]):
                at += 1
        if at == len(rooms):
            self.lost += [vm.id for vm in vms if self.drill.turn[vm.id][0] < self.ranks]
            self.reach[size] = (inf, "")
            return
        hole = rooms.pop(at)
        room, name = hole
        insort(rooms, (room - size, name))
        self.takers.add(name)
        if hole > self.reach.get(size, (-1, "")):
            self.reach[size] = hole
        if bound:
            self.kept[name] += reserve
            for group in {form.vms for form in forms}:
                new = sum(vm.id in group for vm in vms)
                self.added.setdefault(group, Counter())[name] += new

    def _reserve(self, vms: Sequence[Vm]) -> int:
        """Return the thousandths of processors that VMs reserve."""
        return sum(self.drill.reserved.get(vm.id, 0) for vm in vms)

    def _may(self, vms: Sequence[Vm], forms: Mapping[Bound, int], name: str) -> bool:
        """Tell whether VMs may start on a host; `forms` is what binds them, and how many each."""
        if any(name in self.drill.unfit.get(vm.id, ()) for vm in vms):
            return False
        if reserve := self._reserve(vms):
            kept = self.state.kept[name] + self.kept[name]
            if kept + reserve > cpu_reservable(self.drill.cluster.host_by_name[name]):
                return False
        return all(self._allows(form, count, name) for form, count in forms.items())

    def _allows(self, form: Bound, more: int, name: str) -> bool:
        """Tell whether so many more of the VMs of a rule may start on a host."""
        match form:
            case AllowedHosts(_, hosts):
                return name in hosts
            case Cap(vms, domains, limit):
                return all(
                    self._count(vms, domain) + more <= limit for domain in domains if name in domain
                )
            case Unit(vms, domains):  # no further domain, once any holds one
                there = self._hosts(vms)
                mine = [domain for domain in domains if name in domain]
                return all(not there.isdisjoint(domain) for domain in mine) or all(
                    there.isdisjoint(domain) for domain in domains
                )

    def _hosts(self, vms: frozenset[str]) -> set[str]:
        """Return the hosts that did not fail and have any of `vms`."""
        hosts = self.state.count(vms).keys() | self.added.get(vms, {}).keys()
        return hosts - self.failed

    def _count(self, vms: frozenset[str], domain: frozenset[str]) -> int:
        """Return how many of `vms` are on a host of `domain` that did not fail."""
        stay, added = self.state.count(vms), self.added.get(vms, _NONE)
        return sum(stay[host] + added[host] for host in domain if host not in self.failed)
