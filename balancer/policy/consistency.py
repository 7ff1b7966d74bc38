"""Whether rules can hold together: contradictions are refused before anything is planned.

Each VM has the hosts that all lists leave it. Sets that have to be in one domain pass on what
they leave to each other, until nothing changes; then caps are asked whether what is confined to a
few places can be counted in. What depends on where VMs happen to be is no contradiction: a VM that
must not move and should be elsewhere is warned of, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, InTurn, Rule, Turn, Unit
from balancer.policy.policy import Policy
from balancer.policy.rules import NeverMove, Pin
from balancer.policy.rules.domains import of_level
from balancer.policy.said import rules_in_force
from balancer.policy.select import select_hosts, select_vms, warnings

Hosts = frozenset[str]


@dataclass
class _Left:
    """The hosts that rules leave to each VM, and the rule that last took some away."""

    cluster: Cluster
    everywhere: Hosts
    hosts: dict[str, Hosts] = field(default_factory=dict)
    by: dict[str, Rule] = field(default_factory=dict)

    def of(self, vm: str) -> Hosts:
        return self.hosts.get(vm, self.everywhere)

    def narrow(self, vm: str, hosts: Hosts, rule: Rule) -> bool:
        """Leave `vm` no more than `hosts`; tell whether that took anything away.

        Raises:
            InputError: Nothing is left.
        """
        before = self.of(vm)
        if before <= hosts:
            return False
        if not before & hosts:
            raise contradiction(self.by.get(vm, rule), rule, self.cluster, vm)
        self.hosts[vm], self.by[vm] = before & hosts, rule
        return True


def refuse_contradictions(cluster: Cluster, policy: Policy) -> None:
    """Raise if hard rules cannot hold together.

    Raises:
        InputError: Names two of them, where they were written, and a VM they disagree on.
    """
    hard = [rule for rule in rules_in_force(cluster, policy) if rule.hard]
    left = _Left(cluster, frozenset(host.name for host in cluster.hosts))
    for rule in hard:
        for vms, hosts in _lists(cluster, rule):
            for vm in sorted(vms) if hosts else ():  # a list of hosts that are not there binds none
                left.narrow(vm, hosts, rule)
    forms = [(rule, form) for rule in hard for form in rule.says(cluster)]
    units = [(rule, form) for rule, form in forms if isinstance(form, Unit)]
    caps = [(rule, form) for rule, form in forms if isinstance(form, Cap)]
    _gather(cluster, units, left)
    for rule, cap in caps:
        _refuse_crowd(cluster, rule, cap, left)
    for unit_rule, unit in units:
        for cap_rule, cap in caps:
            shared = unit.vms & cap.vms
            if len(shared) <= cap.limit:
                continue
            able = frozenset[str]().union(*(left.of(vm) for vm in shared))
            parts = (domain & able for domain in unit.domains)
            if not any(_room(cap, part) >= len(shared) for part in parts if part):
                raise contradiction(unit_rule, cap_rule, cluster, min(shared))
    _refuse_turns(cluster, [(rule, form) for rule, form in forms if isinstance(form, InTurn)])


def _refuse_turns(cluster: Cluster, turns: Sequence[tuple[Rule, InTurn]]) -> None:
    """Refuse that VMs move at once and one after another, or that part of a set moves last."""
    for rule, one in turns:
        for other_rule, other in turns if one.turn is Turn.AS_ONE else ():
            shared = one.vms & other.vms
            in_a_row = other.turn is Turn.ONE_AT_A_TIME and len(shared) > 1
            torn = other.turn is Turn.LAST and shared and not one.vms <= other.vms
            if in_a_row or torn:
                raise contradiction(rule, other_rule, cluster, min(shared))


def rule_warnings(cluster: Cluster, policy: Policy) -> tuple[str, ...]:
    """Return a sentence for each rule that says or does less than its writer may think."""
    selected = (
        text for rule in rules_in_force(cluster, policy) for text in warnings(cluster, rule)
    )
    level = policy.reserve.domain_failure
    nowhere = level and not of_level(cluster, level)
    missing = f"reserve.domain_failure: no host is in a {level}, so none can fail"
    return (*selected, *_standstills(cluster, policy), *([missing] if nowhere else []))


def _standstills(cluster: Cluster, policy: Policy) -> Iterator[str]:
    """Yield a sentence for each rule that wants a VM elsewhere which another never lets move."""
    hard = [rule for rule in rules_in_force(cluster, policy) if rule.hard]
    held: dict[str, Rule] = {}
    for rule in hard:
        if isinstance(rule, NeverMove):
            held |= dict.fromkeys(select_vms(cluster, rule.vms), rule)
    for rule in hard if held else ():
        for vms, hosts in _lists(cluster, rule):
            for vm in sorted(vms & held.keys()):
                one = cluster.vm_by_id[vm]
                if hosts and one.host not in hosts:
                    yield (
                        f"{_at(rule)} wants {one.name} away from {one.host}, and "
                        f"{_at(held[vm])} keeps it there"
                    )


def _lists(cluster: Cluster, rule: Rule) -> list[tuple[Hosts, Hosts]]:
    """Return (vms, hosts) that a rule demands wherever the VMs are at present."""
    if isinstance(rule, NeverMove):
        return []  # it holds a VM wherever it is, right or wrong: not a statement about hosts
    if isinstance(rule, Pin):
        return [(select_vms(cluster, rule.vms), select_hosts(cluster, rule.hosts))]
    return [(form.vms, form.hosts) for form in rule.says(cluster) if isinstance(form, AllowedHosts)]


def _gather(cluster: Cluster, units: Sequence[tuple[Rule, Unit]], left: _Left) -> None:
    """Leave the VMs of each unit no more than the domains that all of them can be in."""
    changed = True
    while changed:
        changed = False
        for rule, unit in units:
            members = sorted(unit.vms)
            able = [d for d in unit.domains if all(left.of(vm) & d for vm in members)]
            common = frozenset[str]().union(*able)
            for vm in members:
                if not left.of(vm) & common:
                    other = next((left.by[one] for one in members if one in left.by), rule)
                    raise contradiction(rule, left.by.get(vm, other), cluster, vm)
                changed |= left.narrow(vm, common, rule)


def _refuse_crowd(cluster: Cluster, rule: Rule, cap: Cap, left: _Left) -> None:
    """Refuse a cap on VMs that other rules confine to fewer places than they need."""
    confined: Mapping[str, Hosts] = {vm: left.of(vm) for vm in sorted(cap.vms) if vm in left.by}
    for hosts in dict.fromkeys(confined.values()):
        crowd = [vm for vm, where in confined.items() if where <= hosts]
        if len(crowd) > _room(cap, hosts):
            raise contradiction(rule, left.by[crowd[-1]], cluster, crowd[-1])


def _room(cap: Cap, hosts: Hosts) -> float:
    """Return how many of the VMs of a cap `hosts` can have; domains may overlap."""
    if not hosts <= frozenset[str]().union(*cap.domains):
        return float("inf")
    return float(cap.limit * sum(1 for domain in cap.domains if domain & hosts))


def contradiction(one: Rule, other: Rule, cluster: Cluster, vm: str) -> InputError:
    """Return the error that names both rules."""
    name = cluster.vm_by_id[vm].name
    return InputError(
        f"rules contradict each other: {_at(one)} and {_at(other)} cannot both hold for VM "
        f"{name!r} ({vm})",
        remedy="change or remove one of them, or make one soft with hard: false",
    )


def _at(rule: Rule) -> str:
    return f"{rule} ({rule.origin})" if rule.origin else str(rule)
