"""Whether rules can hold together: contradictions are refused before anything is planned.

How they are looked for is in `clash`. What depends on where VMs happen to be is no contradiction:
a VM that must not move and should be elsewhere is warned of, and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Rule
from balancer.policy.clash import Claim, Clash, claim, culprits, find_clash
from balancer.policy.policy import Policy
from balancer.policy.rules import NeverMove
from balancer.policy.rules.domains import of_level
from balancer.policy.said import rules_in_force
from balancer.policy.select import select_vms, warnings

SHOWN_MAX = 12  # rules that one contradiction names; nobody reads a hundred


def refuse_contradictions(cluster: Cluster, policy: Policy) -> None:
    """Raise if hard rules cannot hold together.

    Raises:
        InputError: Names all of them that it takes, where they were written, and a VM.
    """
    everywhere = frozenset(host.name for host in cluster.hosts)
    claims = [claim(cluster, rule) for rule in rules_in_force(cluster, policy) if rule.hard]
    if found := find_clash(claims, everywhere):
        guilty = culprits(claims, everywhere, found)
        raise _contradiction(cluster, guilty, find_clash(guilty, everywhere) or found)


def _contradiction(cluster: Cluster, guilty: Sequence[Claim], found: Clash) -> InputError:
    """Return the error that names the rules."""
    rules = [one.rule for one in guilty]
    kinds = Counter(rule.kind for rule in rules)  # hundreds of lists and one cap: name the cap
    shown = sorted(range(len(rules)), key=lambda at: (kinds[rules[at].kind], at))[:SHOWN_MAX]
    more = [f"{len(rules) - len(shown)} more"] if len(shown) < len(rules) else []
    *others, last = [_at(rules[at]) for at in sorted(shown)] + more
    both = "both" if len(others) == 1 else "all"
    vm = cluster.vm_by_id[min(found.vms)]
    named = f"VM {vm.name!r} ({vm.id})"
    about = f"when {named} moves" if found.moving else f"for {named}"
    return InputError(
        f"rules contradict each other: {', '.join(others)} and {last} cannot {both} hold {about}",
        remedy="change or remove one of them, or make one soft with hard: false",
    )


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
        for form in claim(cluster, rule).forms:
            if not isinstance(form, AllowedHosts):
                continue
            for vm in sorted(form.vms & held.keys()):
                one = cluster.vm_by_id[vm]
                if form.hosts and one.host not in form.hosts:
                    yield (
                        f"{_at(rule)} wants {one.name} away from {one.host}, and "
                        f"{_at(held[vm])} keeps it there"
                    )


def _at(rule: Rule) -> str:
    return f"{rule} ({rule.origin})" if rule.origin else str(rule)
