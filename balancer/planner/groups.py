"""Rules that count VMs over domains of hosts: caps and units, as arrays.

A cap limits how many members each domain holds; a unit wants all members in one domain. Both
need only the number of members in each domain, so both are kept as such counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from balancer.model.cluster import Cluster, Host, Vm
from balancer.model.rule import Cap, Form, Rule, Unit
from balancer.policy.capacity import (
    cpu_reservable,
    cpu_reserve,
    virtual_processors,
    virtual_processors_most,
)
from balancer.policy.policy import Policy
from balancer.policy.said import Said

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Rule):
    """A capacity of hosts, said like a rule of its own: a cap on what VMs take of it.

    Attributes:
        takes: How much each VM takes.
        claim: What it says of hosts, in words.
        lacks: What a host lacks for a VM that does not fit, in words that follow its name.
    """

    kind: ClassVar[str] = "fact"

    takes: Callable[[Vm], int]
    claim: str
    lacks: str

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say nothing: it comes from snapshot and thresholds."""
        del cluster
        return ()


def facts_of(
    hosts: Sequence[Host], vms: Sequence[Vm], policy: Policy, arriving: Mapping[str, Sequence[Vm]]
) -> tuple[Said, ...]:
    """Return what hosts have of processors for all their VMs together: a cap for each size of host.

    Those that VMs reserve, and virtual ones where the policy has a threshold for them; less what
    those take that others migrate there (`arriving`, by host).
    """
    reserves = Fact(
        vms=(),
        name="room for CPU reserves",
        takes=cpu_reserve,
        claim="hosts have only so many processors for CPU reserves",
        lacks="has no processors left for its CPU reserve",
    )
    reserving = frozenset(vm.id for vm in vms if cpu_reserve(vm))
    most = {host.name: cpu_reservable(host) for host in hosts}
    found = list(_capped(reserves, reserving, most, arriving))
    ratios = {host.name: virtual_processors_most(host, policy) for host in hosts}
    known = {name: limit for name, limit in ratios.items() if limit is not None}
    if known and any(map(virtual_processors, vms)):
        ratio = f"{policy.thresholds.vcpus_per_core:g} virtual processors for each logical one"
        virtual = Fact(
            vms=(),
            name="virtual processors",
            takes=virtual_processors,
            claim=f"hosts have no more than {ratio}",
            lacks=f"would have more than {ratio}",
        )
        found += _capped(virtual, frozenset(vm.id for vm in vms), known, arriving)
    return tuple(found)


def _capped(
    fact: Fact,
    vms: frozenset[str],
    most: Mapping[str, int],
    arriving: Mapping[str, Sequence[Vm]],
) -> Iterator[Said]:
    alike: dict[int, list[frozenset[str]]] = {}
    for name, limit in most.items() if vms else ():
        left = max(0, limit - sum(map(fact.takes, arriving.get(name, ()))))
        alike.setdefault(left, []).append(frozenset({name}))
    for limit, names in sorted(alike.items()):
        yield Said(fact, Cap(vms, tuple(names), limit))


def _size(one: Said, vm: Vm) -> int:
    return one.rule.takes(vm) if isinstance(one.rule, Fact) else 1


@dataclass(frozen=True)
class Group:
    """One cap or unit over disjoint domains.

    Attributes:
        said: The rule and form behind it.
        members: (M,) indices of its VMs, sorted.
        domain: (H,) domain of each host, -1 for none.
        before: (D,) members in each domain as they are.
        limit: Of a cap; None for a unit.
        fixed: A unit that cannot be counted over disjoint domains: its VMs stay.
        size: (M,) what each member counts; of a fact also other than one.
        crowd: A cap on all VMs, host by host. Every move changes its counts, so it is looked at
            like a capacity: host by host, and not VM by VM.
    """

    said: Said
    members: Ints
    domain: Ints
    before: Ints
    limit: int | None
    size: Ints
    fixed: bool = False
    crowd: bool = False

    @property
    def is_fact(self) -> bool:
        """Tell whether it is a capacity of hosts: legality, and no goal."""
        return isinstance(self.said.rule, Fact)

    @property
    def lacks(self) -> str:
        """Return what a host lacks where it does not take a VM, in words that follow its name."""
        rule = self.said.rule
        return rule.lacks if isinstance(rule, Fact) else ""

    @property
    def hard(self) -> bool:
        """Tell whether it binds."""
        return self.said.hard

    def counts(self, place: Ints) -> Ints:
        """Return the (D,) members in each domain when VMs are at `place`."""
        domains = self.domain[place[self.members]]
        known = domains >= 0
        counts = np.bincount(domains[known], self.size[known], minlength=len(self.before))
        return counts.astype(np.int64)

    @property
    def is_whole_on_one_host(self) -> bool:
        """Tell whether it is a unit over single hosts, each its own domain, and all on one."""
        alone = bool((self.domain >= 0).all()) and len(set(self.domain.tolist())) == len(
            self.domain
        )
        return self.limit is None and alone and int((self.before > 0).sum()) == 1

    def count(self, vm: int) -> int:
        """Return what `vm` counts, one of its members."""
        return int(self.size[np.searchsorted(self.members, vm)])

    def broken(self, counts: Ints) -> int:
        """Return how broken it is: the excess over a cap, or the extra domains of a unit."""
        if self.is_fact:
            return 0
        if self.limit is None:
            return max(0, int((counts > 0).sum()) - 1)
        return int(np.maximum(0, counts - self.limit).sum())

    def legal(self, counts: Ints) -> bool:
        """Tell whether a hard group ends no worse than it began, domain by domain."""
        if not self.hard:
            return True
        if self.limit is None:
            return bool((counts > 0).sum() <= (self.before > 0).sum())
        return bool((counts <= np.maximum(self.limit, self.before)).all())

    def change(self, vm: int, counts: Ints, source: int) -> tuple[Ints, Bools]:
        """Return for each target host the change in `broken`, and whether it stays legal.

        Args:
            vm: One of its members.
            counts: (D,) members in each domain now, the VM among them.
            source: Host the VM is on now.
        """
        here = int(self.domain[source])
        known = self.domain >= 0
        there = np.where(known, self.domain, 0)
        same = self.domain == here
        if self.limit is None:
            gain = (known & (counts[there] == 0)).astype(np.int64)
            gain -= int(here >= 0 and counts[here] == 1)
            occupied = int((counts > 0).sum())
            after = np.where(same, occupied, occupied + gain)
            change = np.maximum(0, after - 1) - max(0, occupied - 1)
            return change, same | (after <= int((self.before > 0).sum())) | (not self.hard)
        if self.is_fact:
            least = np.maximum(self.limit, self.before[there])
            fits = ~known | (counts[there] + self.count(vm) <= least)
            return np.zeros(len(known), dtype=np.int64), same | fits
        arrive = (known & (counts[there] >= self.limit)).astype(np.int64)
        arrive -= int(here >= 0 and counts[here] > self.limit)
        room = ~known | (counts[there] < np.maximum(self.limit, self.before[there]))
        return np.where(same, 0, arrive), same | room | (not self.hard)

    def room(self, counts: Ints, host: int) -> int:
        """Return how many more members a cap lets come to `host` before it is broken more.

        Of a fact that many of its largest members.
        """
        domain = int(self.domain[host])
        if domain < 0 or self.limit is None:
            return len(self.members)
        return max(0, self.limit - int(counts[domain])) // max(1, int(self.size.max(initial=1)))

    def guilty(self, counts: Ints, place: Ints) -> Ints:
        """Return the members whose move could make it less broken."""
        if not self.broken(counts):
            return self.members[:0]
        if self.limit is None:
            return self.members
        domain = self.domain[place[self.members]]
        return self.members[(domain >= 0) & (counts[domain] > self.limit)]

    def is_news(self, counts: Ints, source: int, target: int) -> bool:
        """Tell whether a member's move from `source` to `target` concerns the other members.

        Args:
            counts: (D,) after the move.
            source: Host it was on.
            target: Host it is on.
        """
        left, entered = int(self.domain[source]), int(self.domain[target])
        if left == entered:
            return False
        return (left >= 0 and self._turns(int(counts[left]), left)) or (
            entered >= 0 and self._turns(int(counts[entered]) - 1, entered)
        )

    def _turns(self, count: int, domain: int) -> bool:
        """Tell whether `count` members in a domain and one more are different things to others."""
        if self.limit is None:
            return count <= 1
        if self.is_fact:
            return True
        edges = {self.limit - 1, self.limit, max(self.limit, int(self.before[domain])) - 1}
        return count in edges

    def restrict(self, allowed: Bools, home: Ints) -> None:
        """Take out of `allowed` (N, H), in place, what this group rules out from the start.

        A hard unit that holds during the moves may only gather where it is already: any other
        domain would be one more while the VM is in flight.
        """
        if self.limit is not None or not self.hard:
            return
        if self.fixed:
            allowed[self.members] = False
        elif self.said.during:
            occupied = np.append(self.before > 0, False)
            allowed[self.members] &= occupied[self.domain]
        allowed[self.members, home[self.members]] = True


def groups_of(
    said: Sequence[Said], hosts: Sequence[Host], vms: Sequence[Vm], home: Ints
) -> tuple[Group, ...]:
    """Return the caps and units among `said`, over disjoint domains each."""
    index = {vm.id: at for at, vm in enumerate(vms)}
    found: list[Group] = []
    for one in said:
        form = one.form
        if not isinstance(form, (Cap, Unit)):
            continue
        members = np.array(sorted(index[vm] for vm in form.vms), dtype=np.int64)
        limit = form.limit if isinstance(form, Cap) else None
        disjoint = len(frozenset().union(*form.domains)) == sum(map(len, form.domains))
        # A cap speaks of each domain by itself, so overlapping ones are as many caps.
        parts = [form.domains] if disjoint or limit is None else [(d,) for d in form.domains]
        for domains in parts:
            domain = np.full(len(hosts), -1, dtype=np.int64)
            for at, host in enumerate(hosts):
                for number, names in enumerate(domains):
                    if host.name in names:
                        domain[at] = number
            size = np.array(
                [_size(one, vms[member]) for member in members.tolist()], dtype=np.int64
            )
            there = domain[home[members]]
            known = there >= 0
            before = np.bincount(there[known], size[known], minlength=len(domains))
            before = before.astype(np.int64)
            crowd = limit is not None and len(members) == len(vms)
            crowd &= all(len(names) == 1 for names in domains)
            fixed = not disjoint
            found.append(Group(one, members, domain, before, limit, size, fixed, crowd))
    return tuple(found)
