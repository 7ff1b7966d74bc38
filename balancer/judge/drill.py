"""The drill: what restarts where when hosts fail, and what finds no host (decision 10).

The VMs that have to restart go one after another, by priority, then the largest first, each to the
host with the least free memory that still takes it. What finds no host is not survived. Most
failures are seen at a glance to be survived, and not rehearsed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from balancer.judge.glance import Glance
from balancer.judge.rehearsal import Rehearsal, State
from balancer.model.cluster import Cluster, HostState, Vm
from balancer.model.rule import Cap, Rule
from balancer.policy.beyond import Crowd, crowds, shortages, stuck
from balancer.policy.capacity import arriving_bytes, cpu_reserve, why_unfit
from balancer.policy.policy import Policy
from balancer.policy.survival import (
    RANKS,
    SETS_MAX_ON_THE_WAY,
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
    def counted(self) -> Mapping[Failed, int]:
        """How many priorities count at each failure, from high on: the rest is beyond help."""
        every = failures(self.cluster, self.policy)
        short = shortages(self.cluster, self.policy, every)
        return {one: short[one].rank if one in short else len(RANKS) for one in every}

    @cached_property
    def failures(self) -> tuple[Failed, ...]:
        """The sets of hosts that fail, of which anything is counted."""
        return tuple(failed for failed, ranks in self.counted.items() if ranks)

    @property
    def on_the_way(self) -> tuple[Failed, ...]:
        """Those of them that are looked at on the way of a plan, not at its ends only."""
        return self.failures[:SETS_MAX_ON_THE_WAY]

    @property
    def sees_all(self) -> bool:
        """Tell whether all failures are looked at on the way; what counts of each is not asked."""
        return len(failures(self.cluster, self.policy)) <= SETS_MAX_ON_THE_WAY

    @cached_property
    def up(self) -> frozenset[str]:
        """Hosts that take restarts."""
        return frozenset(h.name for h in self.cluster.hosts if h.state is HostState.UP)

    @cached_property
    def turn(self) -> Mapping[str, tuple[int, int, str]]:
        """Keys of the VMs that restart: in their order each restarts after those below it."""
        alone = stuck(self.cluster, self.policy)
        able = (vm for vm in self.cluster.vms if restarts(vm) and vm.id not in alone)
        return {vm.id: (restart_rank(vm), -restart_bytes(vm), vm.id) for vm in able}

    @cached_property
    def order(self) -> tuple[Vm, ...]:
        """The VMs that restart, in the order in which they do."""
        return tuple(self.cluster.vm_by_id[vm] for *_, vm in sorted(self.turn.values()))

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
    def reserved(self) -> Mapping[str, int]:
        """Thousandths of processors that VMs reserve, of those that reserve any."""
        return {vm.id: size for vm in self.cluster.vms if (size := cpu_reserve(vm))}

    @cached_property
    def bound(self) -> frozenset[str]:
        """VMs that any rule or fact keeps from any host."""
        spread = (spread_cap(rule, self.cluster, frozenset()) for rule in self._spreads)
        forms = [*self.said, *(form for form in spread if form is not None)]
        found = frozenset[str]().union(*(form.vms for form in forms))
        return found | self.unfit.keys() | self.reserved.keys()

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
    def _crowds(self) -> Mapping[Cap, Crowd]:
        """Caps that no placement keeps once hosts have failed."""
        return crowds(self.cluster, self.said, max(map(len, self.counted), default=0))

    @cached_property
    def _when(self) -> dict[Failed, tuple[list[Cap], dict[Bound, Cap]]]:
        return {}

    def forms(self, vm: str, failed: Failed) -> list[Bound]:
        """Return what binds the restart of a VM when `failed` are down."""
        own = self._forms.get(vm, ())
        if not self._spreads and not self._crowds:
            return [*own]
        if failed not in self._when:
            caps = (spread_cap(rule, self.cluster, failed) for rule in self._spreads)
            kept: dict[Bound, Cap] = {cap: one.when(failed) for cap, one in self._crowds.items()}
            self._when[failed] = [cap for cap in caps if cap is not None], kept
        evens, instead = self._when[failed]
        own = [instead.get(form, form) for form in own]
        return [*own, *(cap for cap in evens if vm in cap.vms)]

    def losses(
        self,
        place: Place,
        takers: Collection[str] | None = None,
        flying: Sequence[tuple[str, str]] | None = None,
    ) -> Iterator[Loss]:
        """Yield what is not survived, failure by failure.

        Args:
            place: The host of every VM.
            takers: The hosts that take restarts; all that are up unless given.
            flying: VMs in flight, and the hosts on which they hold memory besides; None at the
                ends of a plan, where more failures are looked at.
        """
        looked_at = self.failures if flying is None else self.on_the_way
        flying = flying or ()
        pairs = [*place.items(), *flying]
        free, state = self.free(pairs), State(self, place)
        glance = Glance(self, pairs, free)
        able = [name for name in free if name in self.up and (takers is None or name in takers)]
        for failed in looked_at:
            if glance.survives(failed, able):
                continue
            room = {name: free[name] for name in able if name not in failed}
            for vm, name in flying:
                if place[vm] in failed and name in room:  # that has broken off
                    room[name] += self.held(vm)
            yield from (Loss(failed, vm) for vm in Rehearsal(state, failed, room).lost)

    def pieces(self, vms: Sequence[Vm], counted: int) -> list[tuple[int, list[Vm]]]:
        """Return what restarts as one, and its bytes, by the highest priority, size, first id.

        Only of the first `counted` priorities: what comes later takes nothing from these.
        """
        turn, sets = self.turn, self.sets
        found = [(turn[vm.id], [vm]) for vm in vms if vm.id not in sets]
        joined: dict[int, list[Vm]] = {}
        for vm in vms if len(found) < len(vms) else ():
            if vm.id in sets:
                joined.setdefault(sets[vm.id], []).append(vm)
        for one in joined.values():
            ranks, sizes, ids = zip(*(turn[vm.id] for vm in one), strict=True)
            found.append(((min(ranks), sum(sizes), min(ids)), one))
        found.sort(key=itemgetter(0))
        return [(-size, one) for (rank, size, _), one in found if rank < counted]

    def held(self, vm: str) -> int:
        """Return the memory that a VM holds where it is, and where it is on its way to."""
        one = self.cluster.vm_by_id[vm]
        return one.memory_assigned_bytes if one.is_load else 0

    def free(self, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
        """Return what is free on each host where VMs hold memory as said: (VM, host) each."""
        free = dict(self.room)
        for vm, name in pairs:
            free[name] -= self.held(vm)
        return free

    def in_doubt(
        self, place: Place, moves: Sequence[tuple[str, str]], *, beyond: bool = False
    ) -> list[Failed]:
        """Return the failures that may lose something at some instant on the way from `place`.

        Args:
            place: The host of every VM at the start.
            moves: VMs and the hosts that they go to, in whatever order.
            beyond: Those instead that are not looked at on the way.
        """
        pairs = [*place.items(), *moves]
        glance = Glance(self, pairs, self.free(pairs))
        some = self.failures[len(self.on_the_way) :] if beyond else self.on_the_way
        return [failed for failed in some if not glance.survives(failed, self.up)]
