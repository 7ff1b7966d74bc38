"""Selectors: from what an administrator writes to the VMs and hosts of one cluster."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from balancer.model.cluster import Cluster, Vm
from balancer.model.rule import Rule, SelectBy, Selector


def select_vms(cluster: Cluster, selectors: Iterable[Selector]) -> frozenset[str]:
    """Return the ids of the VMs that any of `selectors` picks."""
    return frozenset(vm.id for selector in selectors for vm in _vms(cluster, selector))


def select_hosts(cluster: Cluster, selectors: Iterable[Selector]) -> frozenset[str]:
    """Return the names of the hosts that any of `selectors` picks."""
    return frozenset(name for selector in selectors for name in _hosts(cluster, selector))


def warnings(cluster: Cluster, rule: Rule) -> tuple[str, ...]:
    """Return a sentence for each selector of `rule` that picks nothing, or several by one name."""
    found: list[str] = []
    where = f"{rule.origin}: " if rule.origin else ""
    for selector in rule.vms:
        vms = _vms(cluster, selector)
        if not vms:
            text = f"no VM matches {selector}; the rule does not bind it{_hint(selector)}"
            found.append(f"{where}rule {rule}: {text}")
        elif selector.by is SelectBy.EXACT and len(vms) > 1:
            ids = ", ".join(sorted(vm.id for vm in vms))
            found.append(
                f"{where}rule {rule}: {selector} is the name of {len(vms)} VMs ({ids}); "
                "the rule binds all of them; use the id to mean one"
            )
    found.extend(
        f"{where}rule {rule}: no host matches {selector}{_hint(selector)}"
        for selector in rule.host_selectors()
        if not _hosts(cluster, selector)
    )
    found.extend(f"{where}rule {rule}: {text}" for text in rule.doubts(cluster))
    return tuple(found)


def _hint(selector: Selector) -> str:
    """Return how to write a pattern, where a plain word looks like one."""
    is_pattern = selector.by is SelectBy.EXACT and any(sign in selector.value for sign in "*?[")
    return f'; to match names write {{glob: "{selector.value}"}}' if is_pattern else ""


def _vms(cluster: Cluster, selector: Selector) -> list[Vm]:
    value = selector.value.casefold()
    match selector.by:
        case SelectBy.EXACT:
            by_id = cluster.vms_by_folded_id.get(value)
            return list(by_id or cluster.vms_by_folded_name.get(value, ()))
        case SelectBy.GLOB:
            return [vm for vm in cluster.vms if fnmatchcase(vm.name.casefold(), value)]
        case SelectBy.TAG:
            return [vm for vm in cluster.vms if value in (tag.casefold() for tag in vm.tags)]
        case SelectBy.GROUP:
            return [
                vm
                for vm in cluster.vms
                if any(fnmatchcase(group.casefold(), value) for group in vm.groups)
            ]
        case SelectBy.PRIORITY:
            return [vm for vm in cluster.vms if vm.priority.value == value]
        case SelectBy.HOST:
            return [vm for vm in cluster.vms if vm.host.casefold() == value]


def _hosts(cluster: Cluster, selector: Selector) -> list[str]:
    if selector.by in (SelectBy.EXACT, SelectBy.HOST):  # fast: thousands of rules name hosts
        return list(cluster.hosts_by_folded_name.get(selector.value.casefold(), ()))
    return [host.name for host in cluster.hosts if means_host(selector, host.name)]


def means_host(selector: Selector, name: str) -> bool:
    """Tell whether `selector` picks the host of this name."""
    value = selector.value.casefold()
    if selector.by is SelectBy.GLOB:
        return fnmatchcase(name.casefold(), value)
    return selector.by in (SelectBy.EXACT, SelectBy.HOST) and name.casefold() == value
