"""Planning around what has been set aside.

What a plan may not use is told to the planner as facts and rules, so that its explanations name it
like any other reason. A VM, or all VMs of a source, are blocked. A target is closed to a VM by a
rule, which is hard unless it would contradict what the administrator says: then a plan may go
against it, and the start is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from balancer.errors import InputError
from balancer.model.aside import About, Aside
from balancer.model.cluster import Cluster, Vm
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.consistency import refuse_contradictions
from balancer.policy.policy import Policy
from balancer.policy.rules import Avoid

QUARANTINE, TRIED = "quarantine", "failed in this drain"  # origins of rules about migrations only


def heeding(cluster: Cluster, policy: Policy, asides: Sequence[Aside]) -> tuple[Cluster, Policy]:
    """Return cluster and policy as a plan is to see them that leaves alone what is set aside."""
    if not asides:
        return cluster, policy
    blocking = [one for one in asides if one.about in (About.VM, About.SOURCE)]
    seen = replace(cluster, vms=tuple(_blocked(vm, blocking) for vm in cluster.vms))
    rules = [rule for one in asides for rule in _rules(one, cluster)]
    heeded = replace(policy, rules=(*policy.rules, *rules))
    try:
        refuse_contradictions(seen, heeded)
    except InputError:
        soft = (replace(rule, hard=False) for rule in rules)
        heeded = replace(policy, rules=(*policy.rules, *soft))
    return seen, heeded


def _blocked(vm: Vm, blocking: Sequence[Aside]) -> Vm:
    words = tuple(f"being {one}" for one in blocking if one.vm == vm.id or one.source == vm.host)
    return replace(vm, blocked_by=(*vm.blocked_by, *words)) if words else vm


def _rules(one: Aside, cluster: Cluster) -> list[Rule]:
    """Return what closes a target: to one VM, or to all that are not there already."""
    if not one.target:
        return []
    vms = [
        vm.id
        for vm in cluster.vms
        if vm.is_load
        and vm.host != one.target
        and one.vm in ("", vm.id)
        and one.source in ("", vm.host)
    ]
    if not vms or one.target not in cluster.host_by_name:
        return []
    selectors = tuple(Selector(SelectBy.EXACT, vm) for vm in vms)
    hosts = (Selector(SelectBy.EXACT, one.target),)
    return [Avoid(vms=selectors, hosts=hosts, origin=QUARANTINE, name=f"{one.label} {one}")]
