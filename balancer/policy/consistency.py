"""Whether rules can hold together: contradictions are refused before anything is planned.

How they are looked for is in `clash`. What depends on where VMs happen to be is no contradiction:
a VM that must not move and should be elsewhere is warned of, and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, Form, Rule, Unit
from balancer.policy.clash import Claim, Clash, claim, culprits, find_clash
from balancer.policy.policy import Policy
from balancer.policy.rules import NeverMove, OnlyDuring, Prefer
from balancer.policy.rules.domains import of_level
from balancer.policy.said import rules_in_force
from balancer.policy.select import select_vms, warnings
from balancer.policy.windows import HORIZON, Calendar, never_meet

SHOWN_MAX = 12  # rules that one contradiction names; nobody reads a hundred
NAMES_MAX = 5  # of VMs or hosts in one sentence


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
    idle = (*_standstills(cluster, policy), *_in_vain(cluster, policy))
    return (*selected, *idle, *_elsewhere(cluster, policy))


def _elsewhere(cluster: Cluster, policy: Policy) -> Iterator[str]:
    """Yield sentences about what a policy says outside of its rules."""
    reserve, calendar, at = policy.reserve, policy.calendar, cluster.taken_at
    if (level := reserve.domain_failure) and not of_level(cluster, level):
        yield f"reserve.domain_failure: no host is in a {level}, so none can fail"
    full = [h.name for h in cluster.hosts if 0 < h.memory_bytes <= reserve.memory_bytes]
    if full:
        yield f"reserve: it leaves no memory on {_some(full)}"
    if at is not None and calendar.next_opening(at) is None:
        yield f"windows and blackouts: no migration may run within {HORIZON.days} days"
    for rule in policy.rules:
        if isinstance(rule, OnlyDuring) and never_meet(calendar, Calendar(windows=rule.windows)):
            yield f"{_at(rule)} has no window that is open when one of the policy's is"


def _standstills(cluster: Cluster, policy: Policy) -> Iterator[str]:
    """Yield a sentence for each rule that wants a VM elsewhere which another never lets move."""
    hard = [rule for rule in rules_in_force(cluster, policy) if rule.hard]
    held: dict[str, Rule] = {}
    for rule in hard:
        if isinstance(rule, NeverMove):
            held |= dict.fromkeys(select_vms(cluster, rule.vms), rule)
    for rule in hard if held else ():
        for form in claim(cluster, rule).forms:
            for vms, wish in _stuck(cluster, form, sorted(form.vms & held.keys())):
                by = " and ".join(dict.fromkeys(_at(held[vm]) for vm in vms))
                keeps = "keeps" if by == _at(held[vms[0]]) else "keep"
                them = "it" if len(vms) == 1 else "them"
                yield f"{_at(rule)} wants {wish}, and {by} {keeps} {them} there"


def _stuck(cluster: Cluster, form: Form, held: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yield those of the held VMs that make it impossible to keep `form`, and what it wants."""
    home = {vm: cluster.vm_by_id[vm].host for vm in held}
    name = {vm: cluster.vm_by_id[vm].name for vm in held}
    match form:
        case AllowedHosts(_, hosts):
            for vm in held if hosts else ():
                if home[vm] not in hosts:
                    yield [vm], f"{name[vm]} away from {home[vm]}"
        case Cap(_, domains, limit):
            for domain in domains if len(held) > limit else ():
                if len(there := [vm for vm in held if home[vm] in domain]) > limit:
                    yield (
                        there,
                        (
                            f"no more than {limit} of {_some([name[vm] for vm in there])} on "
                            f"{_some(sorted(domain))}"
                        ),
                    )
        case Unit(_, domains):
            if held and not any(domain.issuperset(home.values()) for domain in domains):
                where = [f"{name[vm]} (on {home[vm]})" for vm in held]
                yield list(held), f"{_some(where)} together"


def _in_vain(cluster: Cluster, policy: Policy) -> Iterator[str]:
    """Yield a sentence for each soft list that hard ones leave no host."""
    rules = rules_in_force(cluster, policy)
    # What is only preferred is not expected to be had in any case.
    soft = [rule for rule in rules if not rule.hard and not isinstance(rule, Prefer)]
    left: dict[str, frozenset[str]] = {}
    for rule in rules if soft else ():
        for form in claim(cluster, rule).forms if rule.hard else ():
            if isinstance(form, AllowedHosts) and form.hosts:
                left |= {vm: left.get(vm, form.hosts) & form.hosts for vm in form.vms}
    for rule in soft:
        for form in claim(cluster, rule).forms:
            if isinstance(form, AllowedHosts):
                vms = [vm for vm in sorted(form.vms) if not left.get(vm, form.hosts) & form.hosts]
                if vms and form.hosts:
                    names = _some([cluster.vm_by_id[vm].name for vm in vms])
                    yield f"{_at(rule)} allows no host that hard rules leave {names}"


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMES_MAX} more"] if len(names) > NAMES_MAX else []
    *others, last = [*names[:NAMES_MAX], *more]
    return f"{', '.join(others)} and {last}" if others else last


def _at(rule: Rule) -> str:
    return f"{rule} ({rule.origin})" if rule.origin else str(rule)
