"""What holds for every explanation: effects, conflicts and prices of random small clusters."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache, partial
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster, Host, HostState, Vm
from balancer.model.plan import Plan
from balancer.model.rule import Rule
from balancer.planner import plan, prices
from balancer.planner.conflict import subjects
from balancer.planner.problem import Ints, Problem, build, utilisation
from balancer.planner.quarrel import Subject, quarrel
from balancer.planner.score import measure
from balancer.planner.smallest import minimal, smallest
from balancer.planner.whynot import Inquiry, place_of
from balancer.policy.policy import Limits, Policy
from balancer.policy.rules import (
    Allow,
    Apart,
    Avoid,
    MaxVms,
    NeverMove,
    Pin,
    Spread,
    Together,
    Within,
)
from tests.properties.brute_conflict import can_hold
from tests.properties.planner_clusters import GIB, among, clusters, pick, policies
from tests.unit.planner.oracle import NOW

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TRIED_MAX = 60  # sets of claims that are compared with every placement


@st.composite
def quarrels(draw: st.DrawFn) -> tuple[Cluster, Policy]:
    """Draw a cluster too narrow, and with too many rules, for all that must be."""
    states = [HostState.UP] * 3 + [HostState.DRAINING] * 2 + [HostState.DOWN, HostState.PAUSED]
    names = [f"h{at}" for at in range(draw(st.integers(2, 3)))]
    hosts = tuple(
        Host(
            name=name,
            cpu_cores=8.0,
            memory_bytes=draw(among(8, 12, 16)) * GIB,
            state=draw(among(*states)),
            fault_domain=draw(among((), ("Site:A",), ("Site:B",))),
        )
        for name in names
    )
    ids = [f"v{at}" for at in range(draw(st.integers(2, 5)))]
    vms = tuple(
        Vm(
            id=name,
            name=name,
            host=draw(among(*names)),
            cpu_used_cores=draw(among(0.5, 3.0)),
            memory_assigned_bytes=draw(among(2, 4, 6)) * GIB,
            blocked_by=draw(among(*[()] * 6, ("assigned_device",))),
        )
        for name in ids
    )
    rules = draw(st.lists(rules_about(tuple(ids), tuple(names)), min_size=1, max_size=4))
    cap = draw(among(None, None, 1, 2))
    limits = Limits(migrations_per_run=cap)
    return Cluster(name="narrow", hosts=hosts, vms=vms, rules=tuple(rules)), Policy(limits=limits)


@cache  # to make it takes longer than all that it draws
def rules_about(vms: tuple[str, ...], hosts: tuple[str, ...]) -> st.SearchStrategy[Rule]:
    some = st.lists(among(*vms), min_size=2, max_size=4, unique=True).map(pick)
    where = st.lists(among(*hosts), min_size=1, max_size=2, unique=True).map(pick)
    during, site = st.booleans(), st.sampled_from(["site", "host"])
    return st.one_of(
        st.builds(Apart, vms=some, during=during),
        st.builds(Together, vms=some, during=during),
        st.builds(Avoid, vms=some, hosts=where),
        st.builds(Allow, vms=some, hosts=where),
        st.builds(Pin, vms=some, hosts=where),
        st.builds(NeverMove, vms=some),
        st.builds(MaxVms, hosts=where, limit=st.integers(1, 2), during=during),
        st.builds(Spread, vms=some, domain=site, max_per_domain=st.just(1), during=during),
        st.builds(Within, vms=some, domain=site, during=during),
    )


def planned(seen: Cluster, policy: Policy) -> tuple[Problem, Plan]:
    try:
        return build(seen, policy, now=NOW), plan(seen, policy, now=NOW)
    except InputError:
        assume(condition=False)
        raise


@FEW
@given(clusters(), policies())
def test_a_gain_is_what_would_be_worse_without_the_migration(seen: Cluster, policy: Policy) -> None:
    problem, made = planned(seen, policy)
    place = place_of(problem, made)
    index = {vm.id: at for at, vm in enumerate(problem.vms)}
    last = {one.vm: one for one in made.migrations}
    for one in last.values():
        assert one.effect is not None
        without = place.copy()
        without[index[one.vm]] = problem.home[index[one.vm]]
        with_it, left = measure(problem, place), measure(problem, without)
        told = {gain.tier: gain.by for gain in one.effect.gains}
        expected = {
            "drain": left.drain - with_it.drain,
            "rules": left.rules - with_it.rules,
            "overload": left.overload - with_it.overload,
            "last resort": left.resort - with_it.resort,
            "soft rules": left.soft - with_it.soft,
            "balance": (left.balance - left.cost) - (with_it.balance - with_it.cost),
        }
        for tier, by in expected.items():
            assert np.isclose(told.get(tier, 0.0), by, atol=1e-8), tier
        assert np.isclose(one.effect.score_cost, with_it.cost - left.cost, atol=1e-8)
        after, before = utilisation(problem, place), utilisation(problem, without)
        hosts = {host.name: at for at, host in enumerate(problem.hosts)}
        for end in one.effect.ends:
            row, host = ("CPU", "memory").index(end.resource), hosts[end.host]
            assert np.isclose(end.after, after[row, host], atol=1e-5)
            assert np.isclose(end.without, before[row, host], atol=1e-5)


def _can_hold(
    problem: Problem,
    end: Ints,
    subject: Subject,
    keys: tuple[Hashable, ...],
    claims: frozenset[int] | set[int],
) -> bool:
    return can_hold(problem, end, subject, [keys[at] for at in sorted(claims)])


TASKS = st.one_of(quarrels(), st.tuples(clusters(hosts_max=3, vms_max=5), policies()))


@settings(FEW, max_examples=150)
@given(TASKS, st.booleans(), st.booleans())
def test_a_conflict_is_one_and_nothing_of_it_can_be_left_out(
    task: tuple[Cluster, Policy],
    at_the_end: bool,  # noqa: FBT001 -- drawn
    stay: bool,  # noqa: FBT001 -- drawn
) -> None:
    problem, made = planned(*task)
    end = place_of(problem, made) if at_the_end else problem.home
    for subject in subjects(problem, end):
        oracle = quarrel(problem, end, subject, others_stay=stay, solver="auto")
        everything = frozenset(range(len(oracle.claims)))
        held = partial(_can_hold, problem, end, subject, oracle.keys)
        assert oracle.fails(everything) is not held(everything)
        if not oracle.fails(everything):
            continue
        found, proven = smallest(minimal(sorted(everything), oracle), oracle, 40)
        assert not held(found), "it is a conflict"
        for one in found:
            assert held(found - {one}), "without any one of it the others can hold"
        if proven and comb(len(everything), len(found) - 1) <= TRIED_MAX:
            for fewer in combinations(sorted(everything), len(found) - 1):
                assert held(frozenset(fewer)), "no smaller set is in conflict"


# On one host there are too many, and others may stay on one that takes no more.
MAY_STAY = Cluster(
    name="narrow",
    hosts=(Host("h0", 8.0, 8 * GIB, state=HostState.DRAINING), Host("h1", 8.0, 8 * GIB)),
    vms=tuple(
        Vm(f"v{at}", f"v{at}", host, 0.5, 2 * GIB)
        for at, host in enumerate(["h0", "h0", "h1", "h1"])
    ),
    rules=(MaxVms(hosts=pick(["h1"]), limit=1),),
)


@settings(FEW, max_examples=150)
@given(TASKS, st.booleans())
@example((MAY_STAY, Policy()), False)
def test_a_conflict_that_is_seen_without_telling_all_vms_apart_is_one(
    task: tuple[Cluster, Policy],
    stay: bool,  # noqa: FBT001 -- drawn
) -> None:
    problem, _ = planned(*task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("balancer.planner.quarrel.COLUMNS_MAX", 0)
        for subject in subjects(problem, problem.home):
            oracle = quarrel(problem, problem.home, subject, others_stay=stay, solver="auto")
            everything = frozenset(range(len(oracle.claims)))
            if oracle.fails(everything):
                found = minimal(sorted(everything), oracle)
                assert not _can_hold(problem, problem.home, subject, oracle.keys, found)


@settings(FEW, max_examples=25)
@given(clusters(), policies())
def test_no_price_is_below_zero(seen: Cluster, policy: Policy) -> None:
    planned(seen, policy)
    found = prices(seen, policy, now=NOW)
    assert not found.untried
    for price in found.prices:
        assert price.faster_s >= 0
        if price.gains:
            assert price.gains[0].by > 0, price
            assert not price.proven


@FEW
@given(clusters(), policies())
def test_what_a_vm_would_change_elsewhere_is_measured(seen: Cluster, policy: Policy) -> None:
    _, made = planned(seen, policy)
    asked = Inquiry(seen, policy, made)
    for vm in asked.problem.vms:
        answer = asked.vm(vm.id)
        assert [one.host for one in answer.instead] == sorted(
            {host.name for host in seen.hosts} - {answer.target}
        )
        for one in answer.instead:
            assert one.says
            trial = asked.place.copy()
            trial[asked.vms[vm.id]] = asked.hosts[one.host]
            if not one.against:
                worse = measure(asked.problem, trial).key(asked.problem.policy.goal)
                now = asked.after.key(asked.problem.policy.goal)
                differs = any(abs(a - b) > 1e-6 for a, b in zip(worse, now, strict=True))
                assert bool(one.changes) or not differs
