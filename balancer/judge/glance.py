"""Which failures are survived for certain, without a rehearsal: the judge's own short cut.

A VM finds no host only where none has as much left as it needs. So it finds one where there is more
than all that comes before it holds, leaving out on each host what the VM itself would just not fit
into; or where there are places for all, were they all as large as the largest. Hosts are counted
that no rule could close even if every VM of the rule came there; of those on which a rule leaves
room for one, each of its other VMs may close one, and the roomiest are left out. What this does not
show may still be survived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from balancer.model.cluster import Vm
from balancer.model.rule import AllowedHosts, Cap
from balancer.policy.capacity import cpu_reservable, cpu_reserve
from balancer.policy.survival import Bound

if TYPE_CHECKING:  # a drill asks this before it rehearses
    from balancer.judge.drill import Drill, Failed


class Glance:
    """Who may be where at some time, and what is free then at the least.

    Args:
        drill: The drill.
        pairs: VMs and hosts: each VM with its host, and with those it may be on besides.
        free: Bytes that are free on each host whoever is where.
    """

    def __init__(
        self, drill: Drill, pairs: Sequence[tuple[str, str]], free: Mapping[str, int]
    ) -> None:
        self.drill, self.pairs, self.free = drill, pairs, free
        self.on: dict[str, list[Vm]] = {name: [] for name in free}
        self.kept: Counter[str] = Counter()  # processors reserved, in thousandths
        self.hosts: dict[str, list[str]] = {}
        for vm, name in pairs:
            one = drill.cluster.vm_by_id[vm]
            if vm in drill.turn:
                self.on[name].append(one)
            if reserve := cpu_reserve(one):
                self.kept[name] += reserve
            if vm in drill.bound:
                self.hosts.setdefault(vm, []).append(name)
        self._counts: dict[frozenset[str], Counter[str]] = {}

    def survives(self, failed: Failed, able: Collection[str]) -> bool:
        """Tell whether everything restarts for certain, on `able` hosts less the failed ones."""
        drill = self.drill
        here = [vm for name in failed for vm in self.on[name]]
        here.sort(key=lambda vm: drill.turn[vm.id])
        pieces = drill.pieces(here, drill.counted[failed])
        largest = max([1, *(size for size, _ in pieces)])
        free = {name: max(0, self.free[name]) for name in able if name not in failed}

        def has_room(names: Collection[str], size: int, before: int, closed: int = 0) -> bool:
            rooms = [free[name] for name in names]
            rooms = sorted(rooms, reverse=True)[closed:] if closed else rooms
            if sum(room // largest for room in rooms) >= len(here):
                return True
            return before < sum(max(0, room - size) for room in rooms)

        # Of a set it is not sure how much restarts, and so when: it may be before all others.
        before = sum(size for size, vms in pieces if vms[0].id in drill.sets)
        total = sum(size for size, _ in pieces)
        ids = {vm.id for vm in here}
        needs: dict[int, int] = {}  # sizes of what nothing binds, and the most that comes before
        for size, vms in pieces:
            if any(vm.id in drill.bound for vm in vms):
                alone = vms[0].id not in drill.sets
                every = [self._open(vm, failed, free, ids, alone=alone) for vm in vms]
                names = set.intersection(*(set(found) for found, _ in every))
                if not has_room(names, size, before if alone else total, every[0][1]):
                    return False
            else:
                needs[size] = max(before, needs.get(size, 0))
            if vms[0].id not in drill.sets:
                before += size
        return all(has_room(free, size, comes) for size, comes in needs.items())

    def _open(
        self, vm: Vm, failed: Failed, able: Collection[str], here: set[str], *, alone: bool
    ) -> tuple[list[str], int]:
        """Return the hosts that are open to `vm` even if all that are `here` went there.

        For one that restarts `alone` also those that are open now, and on how many of them others
        may close that.
        """
        cluster, unfit = self.drill.cluster, self.drill.unfit.get(vm.id, frozenset())
        found = [name for name in able if name not in unfit]
        if cpu_reserve(vm):
            reserve = sum(cpu_reserve(self.drill.cluster.vm_by_id[one]) for one in here)
            found = [
                name
                for name in found
                if self.kept[name] + reserve <= cpu_reservable(cluster.host_by_name[name])
            ]
        closed = 0
        for form in self.drill.forms(vm.id, failed):
            if alone and isinstance(form, Cap) and all(len(domain) == 1 for domain in form.domains):
                count = self._count(form.vms)
                capped = frozenset[str]().union(*form.domains)
                found = [name for name in found if name not in capped or count[name] < form.limit]
                closed += max(0, len(form.vms & here) - 1)
            elif found:
                found = self._left(form, found, here)
        return found, closed

    def _left(self, form: Bound, able: list[str], here: set[str]) -> list[str]:
        match form:
            case AllowedHosts(_, hosts):
                return [name for name in able if name in hosts]
            case Cap(vms, domains, limit):
                count, come = self._count(vms), len(vms & here)
                full = [
                    domain
                    for domain in domains
                    if sum(count[name] for name in domain) + come > limit
                ]
                return [name for name in able if not any(name in domain for domain in full)]
            case _:  # together on one host that fails, they may go to any other
                where = [name for vm in form.vms for name in self.hosts[vm]]
                alone = all(len(domain) == 1 for domain in form.domains)
                whole = len(set(where)) == 1 and len(where) == len(form.vms)
                return able if alone and whole else []

    def _count(self, vms: frozenset[str]) -> Counter[str]:
        if vms not in self._counts:
            self._counts[vms] = Counter(name for vm in vms for name in self.hosts[vm])
        return self._counts[vms]
