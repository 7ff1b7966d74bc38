"""All rules in force on a cluster, as the forms they resolve to.

The cluster's own rules and the policy's bind alike; where both speak of a VM, both hold, so
the stricter wins. Two that cannot both hold are an error that names both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, Form, Rule, Unit
from balancer.policy.policy import Policy
from balancer.policy.rules import NeverMove, Pin
from balancer.policy.select import select_hosts, select_vms, warnings

_Allowed = tuple[frozenset[str], Rule | None]


@dataclass(frozen=True, slots=True)
class Said:
    """One form, and the rule that said it."""

    rule: Rule
    form: Form

    @property
    def hard(self) -> bool:
        """Tell whether it binds."""
        return self.rule.hard

    @property
    def during(self) -> bool:
        """Tell whether it holds at every instant."""
        return self.rule.during


def rules_in_force(cluster: Cluster, policy: Policy) -> tuple[Rule, ...]:
    """Return the cluster's own rules and the policy's, in that order."""
    return (*cluster.rules, *policy.rules)


def what_is_said(cluster: Cluster, policy: Policy) -> tuple[Said, ...]:
    """Resolve every rule in force on `cluster`, in the order they were written."""
    return tuple(
        Said(rule, form) for rule in rules_in_force(cluster, policy) for form in rule.says(cluster)
    )


def rule_warnings(cluster: Cluster, policy: Policy) -> tuple[str, ...]:
    """Return a sentence for each selector that picks nothing, or more than its writer may think."""
    return tuple(
        text for rule in rules_in_force(cluster, policy) for text in warnings(cluster, rule)
    )


def refuse_contradictions(cluster: Cluster, policy: Policy) -> None:
    """Raise if two hard rules cannot both hold, whatever is moved where.

    Raises:
        InputError: Names both rules, where they were written, and a VM they disagree on.
    """
    hard = [rule for rule in rules_in_force(cluster, policy) if rule.hard]
    allowed = _refuse_disjoint_hosts(cluster, hard)
    said = [(rule, form) for rule in hard for form in rule.says(cluster)]
    for rule, form in said:
        if isinstance(form, Cap):
            _refuse_crowds(cluster, rule, form, allowed)
    for unit_rule, unit in said:
        if not isinstance(unit, Unit):
            continue
        for cap_rule, cap in said:
            if isinstance(cap, Cap) and len(unit.vms & cap.vms) > cap.limit:
                both = sorted(unit.vms & cap.vms)
                raise _contradiction(unit_rule, cap_rule, cluster, both[0])


def _refuse_crowds(cluster: Cluster, rule: Rule, cap: Cap, allowed: Mapping[str, _Allowed]) -> None:
    """Refuse a cap on VMs that other rules confine to fewer places than they need."""
    confined = {vm: allowed[vm] for vm in sorted(cap.vms) if vm in allowed}
    for hosts in dict.fromkeys(hosts for hosts, other in confined.values() if other and hosts):
        crowd = [vm for vm, (where, other) in confined.items() if other and where <= hosts]
        meeting = [domain for domain in cap.domains if domain & hosts]
        counted = hosts <= frozenset().union(*meeting)
        other = confined[crowd[-1]][1]
        if counted and other is not None and len(crowd) > cap.limit * len(meeting):
            raise _contradiction(rule, other, cluster, crowd[-1])


def _refuse_disjoint_hosts(cluster: Cluster, hard: Iterable[Rule]) -> dict[str, _Allowed]:
    """Refuse a VM, or a unit of VMs, whose allowed hosts have none in common.

    Returns:
        For each VM under a list of hosts, which all lists allow, and the last of those rules.
    """
    all_hosts = frozenset(host.name for host in cluster.hosts)
    allowed: dict[str, _Allowed] = {}
    units: list[tuple[Rule, frozenset[str]]] = []
    for rule in hard:
        if isinstance(rule, NeverMove):
            continue  # it holds a VM wherever it is, right or wrong: not a statement about hosts
        for vms, hosts in _standing(cluster, rule):
            for vm in sorted(vms):
                before, other = allowed.get(vm, (all_hosts, None))
                if hosts and before and not hosts & before and other is not None:
                    raise _contradiction(other, rule, cluster, vm)
                allowed[vm] = (hosts & before, rule) if hosts else (before, other)
        units.extend((rule, form.vms) for form in rule.says(cluster) if isinstance(form, Unit))
    for rule, vms in units:
        common, last = all_hosts, rule
        for vm in sorted(vms):
            hosts, other = allowed.get(vm, (all_hosts, None))
            if not common & hosts:
                raise _contradiction(rule, other or last, cluster, vm)
            common, last = common & hosts, other or last
    return allowed


def _standing(cluster: Cluster, rule: Rule) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Return (vms, hosts) that a rule demands wherever the VMs are at present."""
    if isinstance(rule, Pin):
        return [(select_vms(cluster, rule.vms), select_hosts(cluster, rule.hosts))]
    return [(form.vms, form.hosts) for form in rule.says(cluster) if isinstance(form, AllowedHosts)]


def _contradiction(one: Rule, other: Rule, cluster: Cluster, vm: str) -> InputError:
    def at(rule: Rule) -> str:
        return f"{rule} ({rule.origin})" if rule.origin else str(rule)

    name = cluster.vm_by_id[vm].name
    return InputError(
        f"rules contradict each other: {at(one)} and {at(other)} cannot both hold for VM "
        f"{name!r} ({vm})",
        remedy="change or remove one of them, or make one soft with hard: false",
    )
