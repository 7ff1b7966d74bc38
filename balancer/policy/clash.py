"""Where rules leave each other no room, and which of them it takes for that.

Each VM has the hosts that all lists leave it. Sets that have to be in one domain pass on what
they leave to each other, until nothing changes; those that share a VM are one set. Then caps are
asked whether what is confined to a few places can be counted in.

A check tells where it fails, not by whose fault: two rules that it happened to compare may well
hold together without a third. So rules are taken away as long as it still fails; of what remains
none can be spared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, Form, InTurn, OnlyWhen, Rule, Turn, Unit
from balancer.policy.rules import NeverMove, Pin
from balancer.policy.select import select_hosts, select_vms
from balancer.policy.windows import Calendar, never_meet

Names = frozenset[str]
CHECKS_MAX = 1000  # to find out who it takes; where more were needed, some may be named for nothing


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rule demands wherever VMs are at present."""

    rule: Rule
    forms: tuple[Form, ...]

    def about(self, vms: Names) -> Claim:
        """Return what it demands of these VMs alone, which is never more."""
        forms = (replace(form, vms=form.vms & vms) for form in self.forms if form.vms & vms)
        return replace(self, forms=tuple(forms))


@dataclass(frozen=True, slots=True)
class Clash:
    """What cannot be.

    Attributes:
        vms: The VMs at which it shows.
        moving: Whether these rules can hold after all, as long as none of the VMs moves.
    """

    vms: Names
    moving: bool = False


def claim(cluster: Cluster, rule: Rule) -> Claim:
    """Return what `rule` demands on `cluster`."""
    if isinstance(rule, NeverMove):
        return Claim(rule, ())  # it holds a VM wherever it is: not a statement about hosts
    if isinstance(rule, Pin):
        vms, hosts = select_vms(cluster, rule.vms), select_hosts(cluster, rule.hosts)
        return Claim(rule, (AllowedHosts(vms, hosts),))
    return Claim(rule, rule.says(cluster))


def find_clash(claims: Iterable[Claim], everywhere: Names) -> Clash | None:
    """Return the first thing that cannot be, or None if nothing is found.

    Args:
        claims: What is demanded.
        everywhere: All hosts.
    """
    forms = [form for one in claims for form in one.forms]
    left = _Left(everywhere)
    for form in forms:
        if isinstance(form, AllowedHosts) and form.hosts:  # hosts that are not there bind none
            for vm in sorted(form.vms):
                if not left.narrow(vm, form.hosts):
                    return Clash(frozenset({vm}))
    units = list(_merged([form for form in forms if isinstance(form, Unit)]))
    caps = [form for form in forms if isinstance(form, Cap)]
    turns = [form for form in forms if isinstance(form, InTurn)]
    found = _gather(units, left) or _crowd(caps, left) or _crowded_unit(units, caps, left)
    if found:
        return Clash(found)
    as_one = _joined(form.vms for form in turns if form.turn is Turn.AS_ONE)
    found = _torn(as_one, turns) or _never_open(as_one, forms)
    return Clash(found, moving=True) if found else None


def culprits(claims: Sequence[Claim], everywhere: Names, found: Clash) -> Sequence[Claim]:
    """Return those of the claims that cannot hold together, none of which can be spared.

    Args:
        claims: What is demanded.
        everywhere: All hosts.
        found: Where it fails.
    """
    few = {id(one.rule) for one in _shrunk(_near(claims, everywhere, found.vms), everywhere)}
    # Of few VMs it may take more rules than of all that these rules are about.
    return _shrunk([one for one in claims if id(one.rule) in few], everywhere)


def _shrunk(claims: Sequence[Claim], everywhere: Names) -> Sequence[Claim]:
    """Return as few of the claims as still fail: without any one of them nothing would."""
    kept, size, checks = claims, (len(claims) + 1) // 2, 0
    while size:  # halves first: most rules have nothing to do with it
        at = 0
        while at < len(kept) and checks < CHECKS_MAX:
            rest = [*kept[:at], *kept[at + size :]]
            checks += 1
            if find_clash(rest, everywhere):
                kept = rest
            else:
                at += size
        size //= 2
    return kept


def _near(claims: Sequence[Claim], everywhere: Names, vms: Names) -> Sequence[Claim]:
    """Return what is demanded of `vms`, and of as many others as make that fail."""
    while True:
        near = [part for one in claims if (part := one.about(vms)).forms]
        if find_clash(near, everywhere):
            return near
        forms = (form for one in claims for form in one.forms if isinstance(form, Unit))
        wider = vms.union(*(form.vms for form in forms if form.vms & vms))
        if wider == vms:
            return claims
        vms = wider


@dataclass
class _Left:
    """The hosts that are left to each VM; of those that nothing binds it knows nothing."""

    everywhere: Names
    hosts: dict[str, Names] = field(default_factory=dict)

    def of(self, vm: str) -> Names:
        return self.hosts.get(vm, self.everywhere)

    def narrow(self, vm: str, hosts: Names) -> bool:
        """Leave `vm` no more than `hosts`; tell whether any is left."""
        before = self.of(vm)
        if not before <= hosts:
            self.hosts[vm] = before & hosts
        return not before.isdisjoint(hosts)


def _merged(units: Sequence[Unit]) -> Iterator[Unit]:
    """Yield sets that have to be in one domain; those that share a VM are one set.

    So are those over larger domains with those over parts of them: what is on one host is on one
    site.
    """
    for domains in dict.fromkeys(unit.domains for unit in units):
        own = [unit for unit in units if unit.domains == domains]
        if sum(map(len, domains)) > len(frozenset().union(*domains)):
            yield from own  # domains that overlap: two such sets need not be in the same one
            continue
        levels = {unit.domains for unit in units}
        finer = {level for level in levels if _is_finer(level, domains)}
        set_of = _joined(unit.vms for unit in units if unit.domains in finer)
        for vms in dict.fromkeys(set_of[min(unit.vms)] for unit in own):
            yield Unit(vms, domains)


def _is_finer(fine: Iterable[Names], coarse: Sequence[Names]) -> bool:
    """Tell whether each domain of the one level, or the same, is part of one of the other."""
    domain_of = {host: domain for domain in coarse for host in domain}
    return all(part <= domain_of.get(next(iter(part), ""), frozenset()) for part in fine)


def _joined(sets: Iterable[Names]) -> Mapping[str, Names]:
    """Return for each VM the union of all sets that hang together with those it is in."""
    found: dict[str, set[str]] = {}
    for vms in sets:
        parts = {id(found[vm]): found[vm] for vm in vms if vm in found}.values()
        whole = max(parts, key=len, default=set[str]())  # others join it: long chains stay cheap
        for part in (*parts, vms):
            if part is not whole:
                whole |= part
                found.update(dict.fromkeys(part, whole))
    distinct = {id(part): part for part in found.values()}
    frozen = {key: frozenset(part) for key, part in distinct.items()}
    return {vm: frozen[id(part)] for vm, part in found.items()}


def _gather(units: Sequence[Unit], left: _Left) -> Names:
    """Leave each set no more than the domains that all of it can be in; return VMs without any."""
    changed = True
    while changed:
        changed = False
        for unit in units:
            bound = {vm: hosts for vm in unit.vms if (hosts := left.hosts.get(vm)) is not None}
            able = [
                domain for domain in unit.domains if not any(map(domain.isdisjoint, bound.values()))
            ]
            if not able:
                return _without_domain(unit, bound)
            common = frozenset[str]().union(*able)
            for vm in unit.vms if common < left.everywhere else ():
                changed |= not left.of(vm) <= common
                left.narrow(vm, common)
    return frozenset()


def _without_domain(unit: Unit, bound: Mapping[str, Names]) -> Names:
    """Return few VMs of a set that leave it no domain."""
    found: set[str] = set()
    closed = {vm: [d for d in unit.domains if d.isdisjoint(bound[vm])] for vm in sorted(bound)}
    still = set(unit.domains)
    while still:
        vm = max(closed, key=lambda one: len(still.intersection(closed[one])))
        found.add(vm)
        still.difference_update(closed[vm])
    return frozenset(found)


def _crowd(caps: Sequence[Cap], left: _Left) -> Names:
    """Return VMs that are confined to fewer places of a cap than they need."""
    for cap in caps:
        confined = {vm: left.hosts[vm] for vm in sorted(cap.vms & left.hosts.keys())}
        for hosts in dict.fromkeys(confined.values()):
            room = _room(cap, hosts)
            if len(confined) <= room:
                continue
            crowd = [vm for vm, where in confined.items() if where <= hosts]
            if len(crowd) > room:
                return frozenset(crowd[: int(room) + 1])
    return frozenset()


def _crowded_unit(units: Sequence[Unit], caps: Sequence[Cap], left: _Left) -> Names:
    """Return VMs that have to be in one domain, where a cap takes fewer of them."""
    for unit in units:
        for cap in caps:
            if len(unit.vms) <= cap.limit or len(shared := unit.vms & cap.vms) <= cap.limit:
                continue
            able = frozenset[str]().union(*(left.of(vm) for vm in shared))
            parts = (domain & able for domain in unit.domains)
            room = max((_room(cap, part) for part in parts if part), default=0.0)
            if room < len(shared):
                return frozenset(sorted(shared)[: max(int(room), cap.limit) + 1])
    return frozenset()


def _room(cap: Cap, hosts: Names) -> float:
    """Return how many of the VMs of a cap `hosts` can have; domains may overlap."""
    if not hosts <= frozenset[str]().union(*cap.domains):
        return float("inf")
    return float(cap.limit * sum(1 for domain in cap.domains if domain & hosts))


def _torn(as_one: Mapping[str, Names], turns: Sequence[InTurn]) -> Names:
    """Return VMs that move at once and one after another, or of which a part moves last."""
    for other in turns:
        for vms in dict.fromkeys(as_one[vm] for vm in sorted(other.vms & as_one.keys())):
            shared = sorted(vms & other.vms)
            if other.turn is Turn.ONE_AT_A_TIME and len(shared) > 1:
                return frozenset(shared[:2])
            if other.turn is Turn.LAST and not vms <= other.vms:
                return frozenset({shared[0], min(vms - other.vms)})
    return frozenset()


def _never_open(as_one: Mapping[str, Names], forms: Sequence[Form]) -> Names:
    """Return VMs that move at once, or one, whose hours never meet."""
    hours_of: dict[Names, dict[Calendar, str]] = {}
    for form in forms:
        if isinstance(form, OnlyWhen) and isinstance(form.hours, Calendar):
            for vm in sorted(form.vms):
                group = as_one.get(vm, frozenset({vm}))
                hours_of.setdefault(group, {}).setdefault(form.hours, vm)
    for hours in hours_of.values():
        for (one, vm), (other, another) in combinations(hours.items(), 2):
            if never_meet(one, other):
                return frozenset({vm, another})
    return frozenset()
