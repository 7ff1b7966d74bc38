"""What it means to survive failures: definitions that planner and judge both go by.

Which hosts fail together, which VMs then have to restart, with how much memory, and which rules
bind them where they do. How a restart is rehearsed is said in docs/decisions/0010; planner and
judge each carry that out for themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from balancer.model.cluster import Cluster, Host, HostState, Priority, Vm
from balancer.model.rule import AllowedHosts, Cap, Rule, Unit
from balancer.policy.capacity import usable
from balancer.policy.heed import QUARANTINE, TRIED
from balancer.policy.policy import Policy
from balancer.policy.rules import NeverMove, Pin, Spread
from balancer.policy.rules.domains import of_level
from balancer.policy.said import rules_in_force
from balancer.policy.select import select_hosts, select_vms

Bound = AllowedHosts | Cap | Unit
RANKS = (Priority.HIGH, Priority.MEDIUM, Priority.LOW)  # in the order in which VMs restart
# Sets of hosts that are rehearsed, at most: at the ends of a plan, and of these, the first so many,
# at every instant of it; and those beyond that a planner glances at.
SETS_MAX, SETS_MAX_ON_THE_WAY, GLANCES_MAX = 256, 96, 2000


def failures(cluster: Cluster, policy: Policy) -> tuple[frozenset[str], ...]:
    """Return the sets of hosts that are rehearsed: those that the policy wants able to fail.

    Every set of as many hosts as `reserve.host_failures` says (all of them where there are no
    more), and every fault domain of the level `reserve.domain_failure`. Losing fewer takes away
    less room and restarts fewer VMs, so smaller sets are not listed. Where there are more than
    SETS_MAX, these are every single host, the fault domains, and of the sets those on which the
    most is to restart at present, these first. On the way of a plan only SETS_MAX_ON_THE_WAY are
    looked at, from the first on. A policy that is firm, of a drain that keeps the room for
    failures, leaves out those that no drain of a single host could keep it for, as on two nodes:
    nothing would be left to restart on.
    """
    return _failures(cluster, policy)[0]


def further_failures(cluster: Cluster, policy: Policy) -> tuple[tuple[frozenset[str], ...], int]:
    """Return the sets to glance at that are too many to be rehearsed, and how many more there are.

    Those on which the most is to restart at present come first.
    """
    rest = _failures(cluster, policy)[1]
    return rest[:GLANCES_MAX], max(0, len(rest) - GLANCES_MAX)


def _failures(
    cluster: Cluster, policy: Policy
) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...]]:
    """Return the sets that are rehearsed, and those that are not."""
    reserve = policy.reserve
    alive = sorted(host.name for host in cluster.hosts if may_fail(host))
    count = min(reserve.host_failures, len(alive))
    found = [frozenset(names) for names in combinations(alive, count)] if count else []
    domains: list[frozenset[str]] = []
    if reserve.domain_failure:
        there = frozenset(alive)
        domains = [hosts & there for hosts in of_level(cluster, reserve.domain_failure)]
    rest: list[frozenset[str]] = []
    if len(found) > SETS_MAX_ON_THE_WAY:
        found = _most_first(cluster, found)
    if len(found) > SETS_MAX:
        first = [frozenset({name}) for name in alive]
        most = max(0, SETS_MAX - len(first) - len(domains))
        found, rest = [*first, *found[:most]], found[most:]
    found += domains
    if policy.firm:
        up, drained = (
            {host.name for host in cluster.hosts if host.state is state}
            for state in (HostState.UP, HostState.DRAINING)
        )
        found = [hosts for hosts in found if up - hosts or len(drained - hosts) > 1]
    known = dict.fromkeys(hosts for hosts in found if hosts)
    return tuple(known), tuple(hosts for hosts in rest if hosts not in known)


def _most_first(cluster: Cluster, sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Return the sets in the order of the memory that is to restart, the most first."""
    size: Counter[str] = Counter()
    for vm in filter(restarts, cluster.vms):
        size[vm.host] += restart_bytes(vm)
    return sorted(sets, key=lambda hosts: (-sum(size[name] for name in hosts), sorted(hosts)))


def may_fail(host: Host) -> bool:
    """Tell whether the host runs, as far as anybody knows, so that it could stop to."""
    return host.state in (HostState.UP, HostState.PAUSED, HostState.DRAINING)


def restarts(vm: Vm) -> bool:
    """Tell whether the cluster starts `vm` elsewhere when its host fails.

    Clustered VMs that run, unless their priority is none: those are not started by themselves.
    """
    return vm.is_load and vm.clustered and vm.priority is not Priority.NONE


def restart_rank(vm: Vm) -> int:
    """Return how early the cluster restarts `vm`: 0 for high, 1 for medium, 2 for low priority."""
    return RANKS.index(vm.priority)


def restart_bytes(vm: Vm) -> int:
    """Return the memory that a start of `vm` takes: its startup memory, where that is known."""
    return vm.memory_startup_bytes or vm.memory_assigned_bytes


def room_bytes(host: Host, policy: Policy) -> int:
    """Return the memory that VMs may have on `host`, those that restart there included."""
    return int(usable(host, policy).memory_bytes)


def restart_rules(cluster: Cluster, policy: Policy) -> tuple[Bound, ...]:
    """Return what hard rules say of where a VM may restart, whatever has failed.

    `never_move`, and what failed migrations have taught, is about migrations and says nothing here;
    a pinned VM may restart on any of the hosts it is pinned to.
    """
    found: list[Bound] = []
    for rule in rules_in_force(cluster, policy):
        if not rule.hard or isinstance(rule, NeverMove) or _is_even(rule):
            continue
        if rule.origin in (QUARANTINE, TRIED):
            continue
        if isinstance(rule, Pin):
            vms, hosts = select_vms(cluster, rule.vms), select_hosts(cluster, rule.hosts)
            found.append(AllowedHosts(vms, hosts))
        else:
            found += [form for form in rule.says(cluster) if isinstance(form, Bound)]
    return tuple(found)


def restart_as_one(forms: Iterable[Bound]) -> tuple[frozenset[str], ...]:
    """Return the sets of VMs that hard rules keep on one host, so that they restart as one."""
    sets: list[frozenset[str]] = []
    for form in forms:
        if isinstance(form, Unit) and all(len(domain) == 1 for domain in form.domains):
            joined = form.vms.union(*(one for one in sets if one & form.vms))
            sets = [one for one in sets if not one & form.vms] + [joined]
    return tuple(sets)


def even_spreads(cluster: Cluster, policy: Policy) -> tuple[Rule, ...]:
    """Return the hard rules that depend on what has failed: even shares, of domains still up."""
    return tuple(rule for rule in rules_in_force(cluster, policy) if rule.hard and _is_even(rule))


def spread_cap(rule: Rule, cluster: Cluster, failed: frozenset[str]) -> Cap | None:
    """Return what one of `even_spreads` says once `failed` are down; None if it says nothing."""
    hosts = tuple(
        replace(host, state=HostState.DOWN) if host.name in failed else host
        for host in cluster.hosts
    )
    forms = rule.says(replace(cluster, hosts=hosts) if failed else cluster)
    return next((form for form in forms if isinstance(form, Cap)), None)


def _is_even(rule: Rule) -> bool:
    return isinstance(rule, Spread) and rule.max_per_domain is None
