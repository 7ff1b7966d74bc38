"""Caps on bytes, of a run and of a day: kept by every plan, and searched under, not trimmed to."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.past import Past, PastMove
from balancer.planner import plan
from balancer.planner.neighbour import exact
from balancer.planner.problem import Problem, build
from balancer.planner.restrain import restrain
from balancer.planner.score import LOST, legal_end, measure, tier_names
from balancer.planner.search import local
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Limits, Policy, Prefer, TransportPolicy
from tests.properties.planner_clusters import clusters
from tests.properties.test_bounds import idle
from tests.unit.planner.oracle import NOW, best_placements, faults

GIB = 2**30
many = settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
sizes = st.integers(1, 40).map(lambda gib: gib * GIB)
goals = st.sampled_from([Goal.BALANCE, Goal.RELIEVE])


@st.composite
def writing(draw: st.DrawFn) -> Cluster:
    """Clusters whose VMs write little or so much that they are copied many times."""
    made = draw(clusters())
    rates = st.sampled_from([None, 0.0, 5e6, 2e8, 2e9])
    vms = tuple(dataclasses.replace(vm, dirty_bytes_per_s=draw(rates)) for vm in made.vms)
    return dataclasses.replace(made, vms=vms)


def built(cluster: Cluster, policy: Policy) -> Problem:
    try:
        return build(cluster, policy)
    except InputError:
        assume(condition=False)
        raise


@many
@given(writing(), sizes, goals)
def test_no_plan_copies_more_than_a_run_may(cluster: Cluster, most: int, goal: Goal) -> None:
    policy = Policy(goal=goal, limits=Limits(bytes_per_run=most))
    built(cluster, policy)
    made = plan(cluster, policy, now=NOW, effort=3e5)
    assert sum(one.bytes for one in made.migrations) <= most
    assert faults(cluster, policy, made) == []
    assert judge(cluster, policy, made) == ()


@many
@given(writing(), sizes, st.integers(0, 4), st.integers(0, 30))
def test_no_plan_takes_more_than_the_day_has_left(
    cluster: Cluster, most: int, moves: int, spent_gib: int
) -> None:
    policy = Policy(limits=Limits(bytes_per_day=most, migrations_per_day=moves))
    built(cluster, policy)
    earlier = PastMove("x", "h8", "h9", NOW - timedelta(hours=2), spent_gib * GIB)
    past = Past(now=NOW, moves=(earlier,))
    made = plan(cluster, policy, now=NOW, past=past, effort=3e5)
    assert judge(cluster, policy, made, past=past) == ()


@many
@given(clusters(hosts_max=3, vms_max=5), sizes, st.sampled_from([None, 2]), goals)
def test_the_exact_model_finds_the_best_that_bytes_allow(
    cluster: Cluster, most: int, cap: int | None, goal: Goal
) -> None:
    cluster = idle(cluster)
    policy = Policy(goal=goal, limits=Limits(migrations_per_run=cap, bytes_per_run=most))
    problem = built(cluster, policy)
    assume(len(problem.movable))
    best, _ = best_placements(cluster, policy, cap, most)
    found = exact(problem, local(problem, Work(1e9)), Work(1e9), "auto")
    assert legal_end(problem, found.place)
    named = zip(tier_names(goal), measure(problem, found.place).key(goal), strict=True)
    ours = [value for name, value in named if name not in LOST]
    if goal is Goal.BALANCE:
        assert ours == pytest.approx(best, abs=1e-6)
    else:  # what only breaks ties of cost is no goal
        assert ours[:5] == pytest.approx(best[:5], abs=1e-6)


@many
@given(cluster=writing(), written=st.booleans(), prefer=st.sampled_from(list(Prefer)))
def test_no_migration_copies_less_than_the_least_there_is(
    cluster: Cluster, *, written: bool, prefer: Prefer
) -> None:
    policy = Policy(transport=TransportPolicy(prefer=prefer, write_settings=written))
    problem = built(cluster, policy)
    least = dict(zip((vm.id for vm in problem.vms), problem.copied.tolist(), strict=True))
    made = plan(cluster, policy, now=NOW, effort=3e5)
    assert all(one.bytes / GIB >= least[one.vm] > 0 for one in made.migrations)


@many
@given(writing(), st.integers(0, 2**32 - 1))
def test_what_is_spent_follows_moves_and_goes_back_with_them(cluster: Cluster, seed: int) -> None:
    policy = Policy(limits=Limits(bytes_per_run=GIB, bytes_per_day=GIB, migrations_per_day=1))
    problem = restrain(built(cluster, policy), Past(now=NOW))
    assume(problem.budgets)
    rng, state = np.random.default_rng(seed), State(problem)
    kept = state.kept()
    for _ in range(30):
        vm = int(rng.choice(problem.movable))
        state.move(vm, int(rng.choice(np.flatnonzero(problem.allowed[vm]))))
        away = state.place != problem.home
        assert (state.spent == problem.budgets.size[:, away].sum(axis=1)).all()
        assert state.within() == problem.budgets.allow(away)
        stay = problem.movable[~away[problem.movable]]
        for other, able in zip(stay.tolist(), state.affords(stay).tolist(), strict=True):
            further = away.copy()
            further[other] = True
            assert able == problem.budgets.allow(further)
    state.restore(kept)
    assert state.spent.tolist() == [0.0] * len(problem.budgets.names)
