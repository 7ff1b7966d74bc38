"""The drill on every placement of four VMs on three hosts: planner, judge and words agree.

What a drill is (decision 10) is said here a third time, as plainly as can be.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge.drill import Drill
from balancer.model.cluster import Cluster, HostState, Priority, Vm
from balancer.model.rule import AllowedHosts, Cap, Rule, SelectBy, Selector, Unit
from balancer.planner.problem import build
from balancer.policy.capacity import usable, why_unfit
from balancer.policy.policy import Policy, Reserve
from balancer.policy.rules import (
    Allow,
    Apart,
    AsOne,
    MaxVms,
    NeverMove,
    Pin,
    Spread,
    Together,
    Within,
)
from balancer.policy.said import Said, what_is_said
from balancer.policy.select import select_hosts
from tests.notation import GIB, cluster
from tests.properties.planner_clusters import among, clusters, policies

HOSTS = ("h1", "h2", "h3")
VMS = ("a", "b", "c", "d")
SIZES = {"a": 6, "b": 4, "c": 4, "d": 3}
PRIORITIES = {"b": Priority.LOW, "d": Priority.HIGH}


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


ALL = pick(*VMS)
RULES: dict[str, tuple[Rule, ...]] = {
    "none": (),
    "allow": (Allow(vms=pick("a", "d"), hosts=pick("h1", "h2")),),
    "apart": (Apart(vms=pick("a", "b", "c")),),
    "apart, said twice": (Apart(vms=pick("a", "b", "c")), Apart(vms=pick("c", "a", "b"))),
    "apart by two": (Apart(vms=ALL, max_per_host=2),),
    "as one": (AsOne(vms=pick("b", "c")),),
    "crowd": (MaxVms(hosts=pick("h1", "h3"), limit=2),),
    "never move": (NeverMove(vms=ALL),),
    "pin": (Pin(vms=pick("a"), hosts=pick("h1", "h3")),),
    "soft": (Apart(vms=ALL, hard=False),),
    "spread": (Spread(vms=ALL, domain="site"),),
    "spread over hosts": (Spread(vms=pick("a", "b", "c"), domain="host"),),
    "spread, at most one": (Spread(vms=pick("a", "b"), domain="site", max_per_domain=1),),
    "together": (Together(vms=pick("a", "b")),),
    "together and apart": (Together(vms=pick("a", "b")), Apart(vms=pick("b", "c"))),
    "together, each with a list": (
        Together(vms=pick("b", "c")),
        Allow(vms=pick("b"), hosts=pick("h1", "h2")),
        Allow(vms=pick("c"), hosts=pick("h2", "h3")),
    ),
    "within": (Within(vms=pick("a", "b", "c"), domain="site"),),
}


def placed(at: Mapping[str, str], rules: tuple[Rule, ...]) -> Cluster:
    lines = [
        f"{host} 9G @Site={'B' if host == 'h3' else 'A'}: "
        + ", ".join(f"{vm} {SIZES[vm]}G" for vm in VMS if at[vm] == host)
        for host in HOSTS
    ]
    return prioritised(cluster("\n".join(lines), rules=rules), PRIORITIES)


def prioritised(seen: Cluster, priorities: Mapping[str, Priority]) -> Cluster:
    vms = (dataclasses.replace(vm, priority=priorities.get(vm.id, vm.priority)) for vm in seen.vms)
    return dataclasses.replace(seen, vms=tuple(vms))


def failing(seen: Cluster, policy: Policy) -> list[frozenset[str]]:
    running = (HostState.UP, HostState.PAUSED, HostState.DRAINING)
    names = [host.name for host in seen.hosts if host.state in running]
    most = min(policy.reserve.host_failures, len(names))
    sets = {frozenset(some) for some in combinations(names, most)}
    if policy.reserve.domain_failure == "site":
        domains = {host.fault_domain[:1] for host in seen.hosts} - {()}
        sets |= {
            frozenset(h.name for h in seen.hosts if h.fault_domain[:1] == one) & set(names)
            for one in domains
        }
    return [some for some in sets if some]


def lost(seen: Cluster, policy: Policy, at: Mapping[str, str], failed: frozenset[str]) -> set[str]:
    """The VMs that find no host, in so many words."""
    down = dataclasses.replace(
        seen,
        hosts=tuple(
            dataclasses.replace(host, state=HostState.DOWN) if host.name in failed else host
            for host in seen.hosts
        ),
    )
    where = {vm: host for vm, host in at.items() if host not in failed}
    held = dict.fromkeys(seen.host_by_name, 0)
    for vm in seen.vms:
        for host in (where.get(vm.id), vm.migrating_to if vm.migrating_to != vm.host else None):
            if host in held and vm.is_load:
                held[host] += vm.memory_assigned_bytes
    waiting = [
        vm
        for vm in seen.vms
        if at[vm.id] in failed and vm.is_load and vm.clustered and vm.priority is not Priority.NONE
    ]
    gone = set[str]()
    counted = priorities_counted(seen, policy, failed)
    for piece in pieces(down, policy, [vm for vm in waiting if not is_stuck(seen, policy, vm)]):
        if min(["high", "medium", "low"].index(vm.priority) for vm in piece) >= counted:
            continue
        size = sum(start_bytes(vm) for vm in piece)
        rooms = {
            host.name: int(usable(host, policy).memory_bytes) - held[host.name]
            for host in seen.hosts
            if host.state is HostState.UP and host.name not in failed
        }
        able = [
            (room, name)
            for name, room in rooms.items()
            if room >= size
            and not any(why_unfit(vm, seen.host_by_name[name]) for vm in piece)
            and all_may((seen, down), policy, where, piece, name)
        ]
        if not able:
            helped = ["high", "medium", "low"][:counted]
            gone |= {vm.id for vm in piece if vm.priority in helped}
            continue
        for vm in piece:
            where[vm.id] = min(able)[1]
        held[min(able)[1]] += size
    return gone


def pieces(seen: Cluster, policy: Policy, waiting: list[Vm]) -> list[list[Vm]]:
    """What a hard rule keeps on one host restarts as one."""
    sets: list[set[str]] = []
    for said in what_is_said(seen, policy):
        form = said.form
        if said.hard and isinstance(form, Unit) and all(len(d) == 1 for d in form.domains):
            linked = [one for one in sets if one & form.vms]
            sets = [one for one in sets if one not in linked] + [set(form.vms).union(*linked)]
    sets += [{vm.id} for vm in waiting if not any(vm.id in one for one in sets)]
    found = [[vm for vm in waiting if vm.id in one] for one in sets]
    found = [piece for piece in found if piece]

    def turn(vms: list[Vm]) -> tuple[int, int, str]:
        first = min(["high", "medium", "low"].index(vm.priority) for vm in vms)
        return first, -sum(map(start_bytes, vms)), min(vm.id for vm in vms)

    return sorted(found, key=turn)


def weight(seen: Cluster, lost: list[str]) -> tuple[int, ...]:
    """The bytes of these VMs, by priority."""
    return tuple(
        sum(start_bytes(seen.vm_by_id[vm]) for vm in lost if seen.vm_by_id[vm].priority == one)
        for one in ("high", "medium", "low")
    )


def all_may(
    views: tuple[Cluster, Cluster],
    policy: Policy,
    where: Mapping[str, str],
    piece: list[Vm],
    host: str,
) -> bool:
    """Whether each may start there once those before it have."""
    there = dict(where)
    for vm in piece:
        if not (
            keeps_processors(views[1], there, vm.id, host)
            and keeps_rules(views, policy, there, vm.id, host)
        ):
            return False
        there[vm.id] = host
    return True


def start_bytes(vm: Vm) -> int:
    return vm.memory_startup_bytes or vm.memory_assigned_bytes


def keeps_processors(seen: Cluster, where: Mapping[str, str], vm: str, host: str) -> bool:
    mine = seen.vm_by_id[vm].cpu_reserved_cores or 0
    others = sum(
        one.cpu_reserved_cores or 0 for one in seen.vms if where.get(one.id) == host and one.is_load
    )
    return not mine or others + mine <= seen.host_by_name[host].cpu_cores


def keeps_rules(
    views: tuple[Cluster, Cluster], policy: Policy, where: Mapping[str, str], vm: str, host: str
) -> bool:
    about = [one for one in what_is_said(views[1], policy) if one.hard and vm in one.form.vms]
    return all(allows(views, one, where, host) for one in about)


def allows(views: tuple[Cluster, Cluster], said: Said, where: Mapping[str, str], host: str) -> bool:
    form, (seen, down) = said.form, views
    if isinstance(said.rule, NeverMove):
        return True
    if isinstance(said.rule, Pin):
        return host in select_hosts(down, said.rule.hosts)
    if isinstance(form, AllowedHosts):
        return host in form.hosts
    if isinstance(form, Cap):
        counts = [sum(where.get(vm) in domain for vm in form.vms) for domain in form.domains]
        pairs = zip(counts, form.domains, strict=True)
        limit = limit_kept(seen, form, names_failed(seen, down), names_up(down))
        return all(count < limit for count, domain in pairs if host in domain)
    if isinstance(form, Unit):
        held = [any(where.get(vm) in domain for vm in form.vms) for domain in form.domains]
        mine = [one for one, domain in zip(held, form.domains, strict=True) if host in domain]
        return not any(held) or all(mine)
    return True


def names_up(seen: Cluster) -> frozenset[str]:
    return frozenset(host.name for host in seen.hosts if host.state is HostState.UP)


def names_failed(seen: Cluster, down: Cluster) -> frozenset[str]:
    pairs = zip(seen.hosts, down.hosts, strict=True)
    return frozenset(was.name for was, now in pairs if was.state is not now.state)


def names_not_up(seen: Cluster) -> frozenset[str]:
    return frozenset(host.name for host in seen.hosts) - names_up(seen)


def limit_kept(seen: Cluster, cap: Cap, failed: frozenset[str], left: frozenset[str]) -> int:
    """What a cap is kept to: more than it says where its VMs outnumber the places left."""
    places = sum(not left.isdisjoint(domain) for domain in cap.domains)
    may_stay = names_not_up(seen) - failed
    need = [vm for vm in cap.vms if starts(seen.vm_by_id[vm]) and home(seen, vm) not in may_stay]
    everywhere = left <= frozenset[str]().union(*cap.domains)
    if is_drained(seen) or not everywhere or not places or len(need) <= cap.limit * places:
        return cap.limit
    return max(cap.limit, -(-len(cap.vms) // places))


def home(seen: Cluster, vm: str) -> str:
    return seen.vm_by_id[vm].host


def starts(vm: Vm) -> bool:
    return vm.is_load and vm.clustered and vm.priority is not Priority.NONE


def is_drained(seen: Cluster) -> bool:
    return any(host.state is HostState.DRAINING for host in seen.hosts)


def is_stuck(seen: Cluster, policy: Policy, vm: Vm) -> bool:
    """Whether no second host could take it, and none of those that restart with it."""
    together = [one for one in pieces(seen, policy, list(filter(starts, seen.vms))) if vm in one]
    return not is_drained(seen) and all(
        set(hosts_for(seen, policy, one)) <= {one.host} for piece in together for one in piece
    )


def hosts_for(seen: Cluster, policy: Policy, vm: Vm) -> list[str]:
    least = min(start_bytes(vm), vm.memory_assigned_bytes)
    lists: list[frozenset[str]] = []
    for said in what_is_said(seen, policy):
        if not said.hard or vm.id not in said.form.vms or isinstance(said.rule, NeverMove):
            continue
        if isinstance(said.rule, Pin):
            lists.append(frozenset(select_hosts(seen, said.rule.hosts)))
        elif isinstance(said.form, AllowedHosts):
            lists.append(said.form.hosts)
    return [
        host.name
        for host in seen.hosts
        if host.state is HostState.UP and int(usable(host, policy).memory_bytes) >= least
        if not why_unfit(vm, host) and all(host.name in hosts for hosts in lists)
    ]


def priorities_counted(seen: Cluster, policy: Policy, failed: frozenset[str]) -> int:
    """How many priorities some placement may have room for, by places of any size."""
    vms = [vm for vm in seen.vms if starts(vm)]
    may_stay = names_not_up(seen) - failed
    counted = 3
    for size in {1, *(min(start_bytes(vm), vm.memory_assigned_bytes) for vm in vms)} - {0}:
        has = sum(room_kept(seen, policy, name) // size for name in names_up(seen) - failed)
        for most in (0, 1, 2):
            ranked = [vm for vm in vms if ["high", "medium", "low"].index(vm.priority) <= most]
            of = [vm for vm in ranked if vm.host not in may_stay]
            need = sum(min(start_bytes(vm), vm.memory_assigned_bytes) // size for vm in of)
            if need > has and not is_drained(seen):
                before = [vm for vm in vms if ["high", "medium", "low"].index(vm.priority) < most]
                counted = min(counted, most if before else 0)
    return counted


def room_kept(seen: Cluster, policy: Policy, name: str) -> int:
    held = sum(vm.memory_assigned_bytes for vm in seen.vms_on[name] if vm.is_load)
    return max(held, int(usable(seen.host_by_name[name], policy).memory_bytes))


def agree(seen: Cluster, policy: Policy, places: list[dict[str, str]]) -> int:
    """Compare the three on placements of the VMs; return how much is lost in all."""
    problem = build(seen, policy)
    judge = Drill(seen, policy)
    total = 0
    for at in places:
        wanted = {
            (failed, vm)
            for failed in failing(seen, policy)
            for vm in lost(seen, policy, at, failed)
        }
        assert {(one.failed, one.vm) for one in judge.losses(at)} == wanted, at
        names = [host.name for host in problem.hosts]
        place = np.array([names.index(at[vm.id]) for vm in problem.vms], dtype=np.int64)
        mine = {
            (frozenset(names[h] for h in one.failed), problem.vms[one.vm].id)
            for one in problem.drill.losses(place)
        }
        assert mine == wanted, at
        assert problem.drill.lost(place) == weight(seen, [vm for _, vm in wanted])
        total += len(wanted)
    return total


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "reserve",
    [Reserve(host_failures=1), Reserve(host_failures=2), Reserve(domain_failure="site")],
    ids=["one host", "two hosts", "one site"],
)
def test_planner_and_judge_rehearse_the_same_on_every_placement(
    name: str, reserve: Reserve
) -> None:
    places = [dict(zip(VMS, hosts, strict=True)) for hosts in product(HOSTS, repeat=4)]
    total = 0
    for start in places[::40]:
        seen = placed(start, RULES[name])
        total += agree(seen, Policy(reserve=reserve), places[::2])
    assert total > 0


@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(clusters(hosts_max=5, vms_max=9), policies(), st.data())
def test_planner_and_judge_rehearse_the_same_on_random_clusters(
    seen: Cluster, policy: Policy, data: st.DataObject
) -> None:
    startup = st.sampled_from([None, None, 1 * GIB, 5 * GIB])
    vms = tuple(
        dataclasses.replace(
            vm,
            memory_startup_bytes=data.draw(startup),
            clustered=data.draw(among(*[True] * 5, False)),
            priority=data.draw(among(*Priority)),
        )
        for vm in seen.vms
    )
    seen = dataclasses.replace(seen, vms=vms)
    reserve = dataclasses.replace(
        policy.reserve,
        host_failures=data.draw(st.integers(0, 3)),
        domain_failure=data.draw(among("", "site")),
    )
    names = [host.name for host in seen.hosts]
    at = {vm.id: vm.host if vm.migrating_to else data.draw(among(*names)) for vm in seen.vms}
    try:
        agree(seen, dataclasses.replace(policy, reserve=reserve), [at])
    except InputError:
        assume(condition=False)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.sampled_from([40, 56, 72]))
def test_what_is_seen_at_a_glance_is_so_on_larger_clusters(
    seed: int, failed: int, room: int
) -> None:
    """Eight hosts with eight VMs each, rules about some: the screen of either sees no loss away."""
    chance = random.Random(seed)  # noqa: S311 -- a seed, no secret
    names = [f"h{at}" for at in range(8)]
    vms = [f"v{at}" for at in range(64)]
    sizes = {vm: chance.choice([1, 2, 2, 4, 4, 6, 11]) for vm in vms}
    at = {vm: chance.choice(names) for vm in vms}
    lines = [
        f"{name} {room}G @Site={'A' if number < 4 else 'B'}: "
        + ", ".join(f"{vm} {sizes[vm]}G" for vm in vms if at[vm] == name)
        for number, name in enumerate(names)
    ]
    few = [pick(*chance.sample(vms, 5)) for _ in range(6)]
    rules: list[Rule] = [
        Apart(vms=few[0]),
        Apart(vms=few[1], max_per_host=2),
        Together(vms=few[2][:2]),
        Within(vms=few[3], domain="site"),
        Spread(vms=few[4], domain="site"),
        Allow(vms=few[5], hosts=pick(*names[:5])),
        MaxVms(hosts=pick(*names), limit=chance.choice([9, 12, 20])),
    ]
    chosen = tuple(rule for rule in rules if chance.random() < 0.4)
    priorities = [Priority.MEDIUM, chance.choice([*Priority])]
    seen = prioritised(
        cluster("\n".join(lines), rules=chosen), {vm: chance.choice(priorities) for vm in vms}
    )
    reserve = Reserve(host_failures=failed, domain_failure=chance.choice(["", "site"]))
    try:
        agree(seen, Policy(reserve=reserve), [at])
    except InputError:
        assume(condition=False)
