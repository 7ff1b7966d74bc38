"""The drill: what restarts where when hosts fail, and what finds no host (decision 10).

The VMs that have to restart go one after another, by priority, then the largest first, each to the
host with the least free memory that still takes it. What finds no host is not survived. Most
failures are seen at a glance to be survived, and not rehearsed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from balancer.judge.glance import Glance
from balancer.model.cluster import Cluster, HostState, Vm
from balancer.model.rule import AllowedHosts, Cap, Rule, Unit
from balancer.policy.capacity import arriving_bytes, cpu_reservable, cpu_reserve, why_unfit
from balancer.policy.policy import Policy
from balancer.policy.survival import (
    Bound,
    even_spreads,
    failures,
    restart_as_one,
    restart_bytes,
    restart_rank,
    restart_rules,
    restarts,
    room_bytes,
    spread_cap,
)

Place = Mapping[str, str]
Failed = frozenset[str]


@dataclass(frozen=True, slots=True)
class Loss:
    """A VM that finds no host when `failed` fail at once."""

    failed: Failed
    vm: str


@dataclass(frozen=True)
class Drill:
    """The failures of one cluster under one policy, to be rehearsed on any placement of its VMs."""

    cluster: Cluster
    policy: Policy

    @cached_property
    def failures(self) -> tuple[Failed, ...]:
        """The sets of hosts that fail."""
        return failures(self.cluster, self.policy)

    @cached_property
    def up(self) -> frozenset[str]:
        """Hosts that take restarts."""
        return frozenset(h.name for h in self.cluster.hosts if h.state is HostState.UP)

    @cached_property
    def order(self) -> tuple[Vm, ...]:
        """The VMs that restart, in the order in which they do."""
        able = (vm for vm in self.cluster.vms if restarts(vm))
        return tuple(sorted(able, key=lambda vm: (restart_rank(vm), -restart_bytes(vm), vm.id)))

    @cached_property
    def room(self) -> Mapping[str, int]:
        """Memory for VMs on each host, less what migrations of others bring; by name, sorted."""
        hosts = sorted(self.cluster.hosts, key=lambda host: host.name)
        return {
            host.name: room_bytes(host, self.policy) - arriving_bytes(self.cluster, host.name)
            for host in hosts
        }

    @cached_property
    def unfit(self) -> Mapping[str, frozenset[str]]:
        """Hosts on which a VM can never run, of those VMs for which there are any."""
        known: dict[object, frozenset[str]] = {}
        found: dict[str, frozenset[str]] = {}
        for vm in self.order:
            kind = (vm.vcpus, vm.numa_nodes, vm.memory_assigned_bytes)
            if kind not in known:
                hosts = self.cluster.hosts
                known[kind] = frozenset(host.name for host in hosts if why_unfit(vm, host))
            if known[kind]:
                found[vm.id] = known[kind]
        return found

    @cached_property
    def said(self) -> tuple[Bound, ...]:
        """What binds restarts whatever has failed."""
        return restart_rules(self.cluster, self.policy)

    @cached_property
    def sets(self) -> Mapping[str, int]:
        """Numbers of the sets of VMs that restart as one, by VM."""
        sets = restart_as_one(self.said)
        return {vm: number for number, vms in enumerate(sets) for vm in vms}

    @cached_property
    def bound(self) -> frozenset[str]:
        """VMs that any rule or fact keeps from any host."""
        spread = (spread_cap(rule, self.cluster, frozenset()) for rule in self._spreads)
        forms = [*self.said, *(form for form in spread if form is not None)]
        found = frozenset[str]().union(*(form.vms for form in forms))
        return found | self.unfit.keys() | {vm.id for vm in self.order if cpu_reserve(vm)}

    @cached_property
    def _spreads(self) -> Sequence[Rule]:
        return even_spreads(self.cluster, self.policy)

    @cached_property
    def _forms(self) -> Mapping[str, Sequence[Bound]]:
        """What binds each VM whatever has failed."""
        found: dict[str, list[Bound]] = {}
        for form in self.said:
            for vm in form.vms:
                found.setdefault(vm, []).append(form)
        return found

    @cached_property
    def _caps_when(self) -> dict[Failed, list[Cap]]:
        return {}

    def forms(self, vm: str, failed: Failed) -> list[Bound]:
        """Return what binds the restart of a VM when `failed` are down."""
        if self._spreads and failed not in self._caps_when:
            caps = (spread_cap(rule, self.cluster, failed) for rule in self._spreads)
            self._caps_when[failed] = [cap for cap in caps if cap is not None]
        even = (cap for cap in self._caps_when.get(failed, ()) if vm in cap.vms)
        return [*self._forms.get(vm, ()), *even]

    def losses(
        self,
        place: Place,
        takers: Collection[str] | None = None,
        flying: Sequence[tuple[str, str]] = (),
        among: Sequence[Failed] | None = None,
    ) -> Iterator[Loss]:
        """Yield what is not survived, failure by failure.

        Args:
            place: The host of every VM.
            takers: The hosts that take restarts; all that are up unless given.
            flying: VMs in flight, and the hosts on which they hold memory besides.
            among: The failures to rehearse; all unless given.
        """
        pairs = [*place.items(), *flying]
        free, state = self._free(pairs), _State(self.cluster, place)
        glance = Glance(self, pairs, free)
        able = [name for name in free if name in self.up and (takers is None or name in takers)]
        for failed in self.failures if among is None else among:
            if glance.survives(failed, able):
                continue
            broken_off = [(vm, name) for vm, name in flying if place[vm] in failed]
            freed = self._free(broken_off) if broken_off else self.room
            left = (name for name in able if name not in failed)
            room = {name: free[name] + self.room[name] - freed[name] for name in left}
            rehearsal = _Rehearsal(self, state, failed, room)
            fallen = [vm for vm in self.order if place[vm.id] in failed]
            yield from (Loss(failed, vm.id) for vm in rehearsal.lost(self.pieces(fallen)))

    def pieces(self, vms: Sequence[Vm]) -> Sequence[list[Vm]]:
        """Return what restarts as one, in order: by the highest priority, size, and first id."""
        if not self.sets:
            return [[vm] for vm in vms]
        found: dict[object, list[Vm]] = {}
        for vm in vms:
            found.setdefault(self.sets.get(vm.id, vm.id), []).append(vm)
        return sorted(
            found.values(),
            key=lambda vms: (
                min(map(restart_rank, vms)),
                -sum(map(restart_bytes, vms)),
                min(vm.id for vm in vms),
            ),
        )

    def _free(self, held: Iterable[tuple[str, str]]) -> dict[str, int]:
        """Return what is free on each host where VMs are held as said: (VM, host) each."""
        free = dict(self.room)
        for vm, name in held:
            one = self.cluster.vm_by_id[vm]
            free[name] -= one.memory_assigned_bytes if one.is_load else 0
        return free

    def in_doubt(self, place: Place, moves: Sequence[tuple[str, str]]) -> list[Failed]:
        """Return the failures that may lose something at some instant on the way from `place`.

        Args:
            place: The host of every VM at the start.
            moves: VMs and the hosts that they go to, in whatever order.
        """
        pairs = [*place.items(), *moves]
        glance = Glance(self, pairs, self._free(pairs))
        return [failed for failed in self.failures if not glance.survives(failed, self.up)]


_NONE: Counter[str] = Counter()


class _State:
    """How many VMs of a set each host has, counted when it is first asked."""

    def __init__(self, cluster: Cluster, place: Place) -> None:
        self.place = place
        self.kept: Counter[str] = Counter()  # processors reserved, in thousandths
        for vm in cluster.vms:
            if cpu_reserve(vm):
                self.kept[place[vm.id]] += cpu_reserve(vm)
        self._found: dict[frozenset[str], Counter[str]] = {}

    def count(self, vms: frozenset[str]) -> Counter[str]:
        if vms not in self._found:
            self._found[vms] = Counter(self.place[vm] for vm in vms)
        return self._found[vms]


class _Rehearsal:
    """One failure: what is free where, and what rules count, restart by restart."""

    def __init__(
        self, drill: Drill, state: _State, failed: Failed, free: Mapping[str, int]
    ) -> None:
        self.drill, self.state, self.failed = drill, state, failed
        self.names = list(free)  # in the order of names
        self.rooms = sorted((room, at) for at, room in enumerate(free.values()))
        self.added: dict[frozenset[str], Counter[str]] = {}  # what has restarted, of each set
        self.kept: Counter[str] = Counter()

    def lost(self, pieces: Sequence[list[Vm]]) -> Iterator[Vm]:
        """Restart what restarts as one, in this order; yield the VMs that find no host."""
        for vms in pieces:
            size = sum(restart_bytes(vm) for vm in vms)
            bound = any(vm.id in self.drill.bound for vm in vms)
            at = bisect_left(self.rooms, (size, -1))
            if bound:
                # Two rules may say the same of a VM: it counts once.
                forms = Counter(
                    form for vm in vms for form in set(self.drill.forms(vm.id, self.failed))
                )
                while at < len(self.rooms) and not self._may(vms, forms, self.rooms[at][1]):
                    at += 1
            if at == len(self.rooms):
                yield from vms
                continue
            room, host = self.rooms.pop(at)
            insort(self.rooms, (room - size, host))
            if bound:
                name = self.names[host]
                self.kept[name] += sum(cpu_reserve(vm) for vm in vms)
                for group in {form.vms for form in forms}:
                    new = sum(vm.id in group for vm in vms)
                    self.added.setdefault(group, Counter())[name] += new

    def _may(self, vms: Sequence[Vm], forms: Mapping[Bound, int], at: int) -> bool:
        """Tell whether VMs may start on a host; `forms` is what binds them, and how many each."""
        name = self.names[at]
        if any(name in self.drill.unfit.get(vm.id, ()) for vm in vms):
            return False
        if reserve := sum(cpu_reserve(vm) for vm in vms):
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
