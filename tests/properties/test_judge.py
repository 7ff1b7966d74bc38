"""The judge finds exactly what going through all states finds, and nothing in our own plans."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from math import nan

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge import judge, judge_start
from balancer.judge.closure import worst
from balancer.model.cluster import Cluster, Host, HostState, Transport, Vm
from balancer.model.plan import Migration, Plan
from balancer.planner import plan
from balancer.policy.capacity import cores_on
from balancer.policy.policy import Policy
from balancer.policy.rules import Apart, Together
from tests.properties import brute_judge
from tests.properties.planner_clusters import among, clusters, pick, policies, rules
from tests.unit.judge.plans import NOW, leg, plan_of
from tests.unit.planner import oracle

GIB = 2**30
some = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
many = settings(some, max_examples=600)


def planned(cluster: Cluster, policy: Policy) -> Plan:
    try:
        return plan(cluster, policy, now=NOW)
    except InputError:
        assume(condition=False)
        raise


@st.composite
def tight_clusters(draw: st.DrawFn) -> Cluster:
    """Three or four hosts, all but one able to take part, with little memory to spare."""
    count = draw(st.integers(3, 4))
    last = draw(among(*[HostState.UP] * 3, HostState.DRAINING, HostState.PAUSED))
    hosts = tuple(
        Host(f"h{at}", 8.0, 16 * GIB, state=last if at == count - 1 else HostState.UP)
        for at in range(count)
    )
    names = [host.name for host in hosts]
    vms = tuple(
        Vm(
            id=f"v{at}",
            name=f"v{at}",
            host=draw(among(*names)),
            cpu_used_cores=draw(among(0.5, 1.5)),
            memory_assigned_bytes=draw(among(3, 4, 6)) * GIB,
            migrating_to=draw(among(*[None] * 12, *names)) if at else None,
        )
        for at in range(draw(st.integers(3, 8)))
    )
    made = draw(rules([vm.id for vm in vms], names))
    return Cluster(name="tight", hosts=hosts, vms=vms, rules=made)


@st.composite
def sensible_plans(draw: st.DrawFn, cluster: Cluster) -> Plan:
    """Plans whose migrations make sense together, legal or not."""
    names = [host.name for host in cluster.hosts]
    vms = [vm for vm in cluster.vms if vm.migrating_to is None]
    some_vms = st.lists(st.sampled_from(vms), min_size=1, max_size=4, unique=True)
    pending: list[list[Migration]] = []
    for vm in draw(some_vms):
        first, *others = draw(st.permutations([name for name in names if name != vm.host]))
        if draw(st.integers(0, 4)):
            pending.append([leg(f"{vm.id}: {vm.host} > {first}")])
        else:
            end = draw(among(*others, vm.host))
            over = leg(f"{vm.id}: {vm.host} > {first}", id=f"{vm.id}a", stopover=True)
            pending.append([over, leg(f"{vm.id}: {first} > {end}", over.id, id=f"{vm.id}b")])
    legs: list[Migration] = []
    while pending:
        chain = draw(st.sampled_from(pending))
        one = chain.pop(0)
        pending = [chain for chain in pending if chain]
        ids = [other.id for other in legs]
        after = draw(st.lists(among(*ids), max_size=2, unique=True)) if ids else []
        legs.append(dataclasses.replace(one, after=tuple(dict.fromkeys([*one.after, *after]))))
    return plan_of(cluster, *legs)


@st.composite
def mutated(draw: st.DrawFn, cluster: Cluster, made: Plan) -> Plan:
    """The plan with one thing changed."""
    one = draw(st.sampled_from(made.migrations))
    others = [other for other in made.migrations if other is not one]
    ids = [other.id for other in made.migrations]
    host = draw(among(*(host.name for host in cluster.hosts), "nowhere"))
    name = draw(among(*ids, "nothing"))
    change = draw(
        st.sampled_from(
            [
                {"target": host},
                {"target": host},
                {"source": host},
                {"transport": draw(among(*Transport))},
                {"after": ()},
                {"after": one.after[1:]},
                {"after": (*one.after, name)},
                {"bytes": draw(among(-1, 0, 1, 40 * GIB))},
                {"id": name},
                {"vm": draw(among(*(vm.id for vm in cluster.vms), "nobody"))},
                {"stopover": not one.stopover},
                {"start_s": draw(among(-1.0, 0.0, 7.0, nan))},
                {"reason": " "},
                None,
            ]
        )
    )
    kept = [dataclasses.replace(one, **change)] if change else []
    return dataclasses.replace(made, migrations=tuple(draw(st.permutations([*others, *kept]))))


def codes(cluster: Cluster, policy: Policy, made: Plan) -> set[str]:
    return {finding.code.value for finding in judge(cluster, policy, made)}


@some
@given(clusters(), policies())
def test_what_the_planner_makes_is_legal(cluster: Cluster, policy: Policy) -> None:
    made = planned(cluster, policy)
    event(f"{len(made.migrations)} migrations")
    assert judge(cluster, policy, made) == ()


@many
@given(tight_clusters(), st.data())
def test_random_plans_are_judged_as_by_going_through_all_states(
    cluster: Cluster, data: st.DataObject
) -> None:
    made = data.draw(sensible_plans(cluster))
    found = codes(cluster, Policy(), made)
    event(", ".join(sorted(found & {"memory-during", "rule-during"})) or "legal on the way")
    assert found == brute_judge.faults(cluster, Policy(), made)


@many
@given(tight_clusters(), st.integers(1, 2), st.data())
def test_sets_of_vms_on_the_way_are_judged_as_by_going_through_all_states(
    cluster: Cluster, limit: int, data: st.DataObject
) -> None:
    roomy = tuple(dataclasses.replace(host, memory_bytes=99 * GIB) for host in cluster.hosts)
    some_vms = st.lists(st.sampled_from(cluster.vms), min_size=2, unique=True)
    one, other = (pick([vm.id for vm in data.draw(some_vms)]) for _ in range(2))
    made_rules = (Together(vms=one, during=True), Apart(vms=other, max_per_host=limit))
    cluster = dataclasses.replace(cluster, hosts=roomy, rules=made_rules)
    made = data.draw(sensible_plans(cluster))
    found = codes(cluster, Policy(), made)
    event("rule-during" if "rule-during" in found else f"{len(made.migrations)} legal on the way")
    assert found == brute_judge.faults(cluster, Policy(), made)


@many
@given(clusters(hosts_max=4, vms_max=6), policies(), st.data())
def test_mutated_plans_are_judged_as_by_going_through_all_states(
    cluster: Cluster, policy: Policy, data: st.DataObject
) -> None:
    made = data.draw(sensible_plans(cluster))
    assume(made.migrations)
    for _ in range(data.draw(st.integers(1, 2))):
        if made.migrations:
            made = data.draw(mutated(cluster, made))
    assert codes(cluster, policy, made) == brute_judge.faults(cluster, policy, made)


@pytest.mark.parametrize("target", ["h0", "h2"])
@pytest.mark.parametrize("towards", ["h0", "h1", "h2", "elsewhere"])
def test_a_vm_that_somebody_migrates_counts_for_them_and_for_a_plan_that_moves_it(
    towards: str, target: str
) -> None:
    hosts = tuple(Host(f"h{at}", 8.0, 16 * GIB) for at in range(3))
    vms = (
        Vm("v0", "v0", "h1", 0.5, 7 * GIB, migrating_to=towards),
        Vm("v1", "v1", "h0", 0.5, 4 * GIB),
        Vm("v2", "v2", "h2", 0.5, 6 * GIB),
        Vm("v3", "v3", "h1", 0.5, 6 * GIB),
    )
    cluster = Cluster(name="taken", hosts=hosts, vms=vms)
    made = plan_of(cluster, leg(f"v0: h1 > {target}"), leg("v1: h0 > h1"))
    found = codes(cluster, Policy(), made)
    assert "immovable" in found
    assert found == brute_judge.faults(cluster, Policy(), made)


@some
@given(clusters(), policies(), st.data())
def test_mutations_of_our_own_plans_are_judged_as_by_going_through_all_states(
    cluster: Cluster, policy: Policy, data: st.DataObject
) -> None:
    made = planned(cluster, policy)
    assume(made.migrations)
    made = data.draw(mutated(cluster, made))
    assert codes(cluster, policy, made) == brute_judge.faults(cluster, policy, made)


@many
@given(tight_clusters(), st.data())
def test_judge_and_the_planners_oracle_agree(cluster: Cluster, data: st.DataObject) -> None:
    made = data.draw(sensible_plans(cluster))
    # For the oracle a VM that comes back from a stop-over has not moved, so no list minds it.
    homes = {vm.id: vm.host for vm in cluster.vms}
    assume(all(one.target != homes[one.vm] for one in made.migrations))
    assert (judge(cluster, Policy(), made) == ()) == (oracle.faults(cluster, Policy(), made) == [])


@some
@given(st.data())
def test_the_worst_state_is_the_worst_of_all_sets_of_arrivals(data: st.DataObject) -> None:
    weights = st.integers(0, 6)
    losses = dict(enumerate(data.draw(st.lists(weights, max_size=6)), start=10))
    gains = dict(enumerate(data.draw(st.lists(weights, max_size=6))))
    subsets = st.sets(st.sampled_from(sorted(losses))) if losses else st.just(set[int]())
    wants = {arrival: data.draw(subsets) for arrival in gains}
    needs = {arrival: sum(1 << at for at in wanted) for arrival, wanted in wants.items()}
    best = 0
    for count in range(len(gains) + 1):
        for chosen in combinations(gains, count):
            needed = set().union(*(wants[one] for one in chosen))
            value = sum(gains[one] for one in chosen) - sum(losses[one] for one in needed)
            best = max(best, value)
    found = worst(gains, needs, losses)
    needed = set().union(*(wants[one] for one in found.arrivals))
    value = sum(gains[one] for one in found.arrivals) - sum(losses[one] for one in needed)
    assert found.added == best == value


def reading(cluster: Cluster, made: Plan, completed: frozenset[int]) -> Cluster:
    """What a look at the cluster shows when these are complete; those in flight still at home."""
    places = brute_judge.whereabouts(cluster, made.migrations, (completed, completed))
    at = cluster.host_by_name
    vms = []
    for vm in cluster.vms:
        (host,) = places[vm.id]
        cores = cores_on(vm, at[vm.host], at[host])
        vms.append(dataclasses.replace(vm, host=host, cpu_used_cores=cores))
    return dataclasses.replace(cluster, vms=tuple(vms))


@some
@given(tight_clusters(), st.data())
def test_on_an_unchanged_cluster_a_legal_plan_may_start_whatever_comes_next(
    cluster: Cluster, data: st.DataObject
) -> None:
    made = data.draw(sensible_plans(cluster))
    assume(judge(cluster, Policy(), made) == ())
    _every_start_passes(cluster, Policy(), made)


@some
@given(clusters(), policies())
def test_on_an_unchanged_cluster_our_own_plan_may_start_whatever_comes_next(
    cluster: Cluster, policy: Policy
) -> None:
    _every_start_passes(cluster, policy, planned(cluster, policy))


def _every_start_passes(cluster: Cluster, policy: Policy, made: Plan) -> None:
    ids = [one.id for one in made.migrations]
    assume(len(ids) <= 6)
    for started, completed in brute_judge.reachable(made.migrations):
        done = {ids[at] for at in completed}
        now = reading(cluster, made, completed)
        for at, one in enumerate(made.migrations):
            if at not in started:
                running = {ids[other] for other in started - completed}
                found = judge_start(now, policy, made, one.id, done=done, running=running)
                assert (found == ()) == done.issuperset(one.after), found
