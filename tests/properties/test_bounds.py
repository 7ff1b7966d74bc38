"""No bound is above the best of all placements: on small clusters, against brute force."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster, HostState
from balancer.planner.agree import Agreement
from balancer.planner.bound import decoupled_bound
from balancer.planner.lagrange import Dual
from balancer.planner.problem import Problem, build
from balancer.planner.relax import relax
from balancer.planner.score import LOST, Measure, legal_end, measure, tier_names
from balancer.planner.search import construct
from balancer.planner.work import Work
from balancer.policy.policy import Limits, Policy
from tests.properties.planner_clusters import clusters
from tests.unit.planner.oracle import best_placements

many = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
GIB = 2**30
caps = st.builds(
    Limits,
    migrations_per_run=st.sampled_from([None, 1, 2]),
    bytes_per_run=st.sampled_from([None, 5 * GIB, 12 * GIB]),
)


def idle(cluster: Cluster) -> Cluster:
    """The same with VMs that write nothing: their memory is copied once."""
    vms = tuple(dataclasses.replace(vm, dirty_bytes_per_s=0.0) for vm in cluster.vms)
    return dataclasses.replace(cluster, vms=vms)


def bounded(cluster: Cluster, cap: Limits) -> tuple[Problem, Measure, float]:
    """The task, the tiers that bounds hold for, and the best J of all placements that keep them."""
    policy, cluster = Policy(limits=cap), idle(cluster)
    try:
        problem = build(cluster, policy)
    except InputError:
        assume(condition=False)
        raise
    kept = measure(problem, construct(problem, Work(1e9)))
    best, _ = best_placements(cluster, policy, cap.migrations_per_run, cap.bytes_per_run)
    named = zip(tier_names(policy.goal), kept.key(policy.goal), strict=True)
    upper = [float(value) for name, value in named if name not in (*LOST, "balance")]
    assume(all(abs(a - b) < 1e-6 for a, b in zip(upper, best[:-1], strict=True)))
    return problem, kept, best[-1]


@many
@given(clusters(hosts_max=3, vms_max=5), caps)
def test_the_relaxations_are_no_higher_than_the_best(cluster: Cluster, cap: Limits) -> None:
    problem, kept, best = bounded(cluster, cap)
    place = construct(problem, Work(1e9))
    relaxed = relax(problem, place, kept, Work(1e9))
    assert relaxed is None or relaxed.bound <= best + 1e-9
    assert decoupled_bound(problem, kept).value <= best + 1e-9


def even(cluster: Cluster) -> Cluster:
    """The same with hosts of one speed and none draining, so that no move changes a mean."""
    hosts = tuple(
        dataclasses.replace(
            host,
            cpu_speed=1.0,
            state=HostState.UP if host.state is HostState.DRAINING else host.state,
        )
        for host in cluster.hosts
    )
    return dataclasses.replace(cluster, hosts=hosts)


@many
@given(
    clusters(hosts_max=3, vms_max=5),
    caps,
    st.sampled_from([1.0, 2.0, 50.0]),
    st.sampled_from([2, 3000]),
)
def test_what_hosts_prove_by_themselves_is_no_higher_than_the_best(
    cluster: Cluster, cap: Limits, hoped: float, looked_at: int
) -> None:
    problem, kept, best = bounded(even(cluster), cap)
    assume(problem.mean_is_constant and len(problem.movable) > 0)
    relaxed = relax(problem, construct(problem, Work(1e9)), kept, Work(1e9))
    assert relaxed is not None
    dual = Dual(problem, relaxed)
    dual.sets_max = looked_at
    for _ in range(30):
        # Told that a worse plan is all there is, it must not prove that.
        dual.evaluate(Work(1e9))
        dual.climb(hoped * kept.balance + 1.0)
    assert relaxed.bound <= dual.bound <= best + 1e-9


@many
@given(
    clusters(hosts_max=3, vms_max=5),
    caps,
    st.sampled_from([1, 3, 3000]),
    st.sampled_from([0.01, 0.3, 10.0]),
    st.integers(0, 9),
)
def test_any_prices_prove_no_more_than_the_best(
    cluster: Cluster, cap: Limits, looked_at: int, spread: float, seed: int
) -> None:
    problem, kept, best = bounded(even(cluster), cap)
    assume(problem.mean_is_constant and len(problem.movable) > 0)
    relaxed = relax(problem, construct(problem, Work(1e9)), kept, Work(1e9))
    assert relaxed is not None
    dual, rng = Dual(problem, relaxed), np.random.default_rng(seed)
    dual.sets_max = looked_at
    for _ in range(20):
        dual.leave = rng.normal(0.0, spread, len(dual.leave))
        drawn = rng.normal(0.0, spread, len(dual.caps))
        dual.extra = np.maximum(-relaxed.prices.caps, drawn)
        dual.evaluate(Work(1e9))
    assert dual.bound <= best + 1e-9


@many
@given(clusters(hosts_max=3, vms_max=5), caps)
def test_plans_in_which_hosts_agree_are_legal_and_never_worse(
    cluster: Cluster, cap: Limits
) -> None:
    problem, kept, best = bounded(even(cluster), cap)
    assume(problem.mean_is_constant and len(problem.movable) > 0)
    place = construct(problem, Work(1e9))
    relaxed = relax(problem, place, kept, Work(1e9))
    assert relaxed is not None
    agreement = Agreement(problem, Dual(problem, relaxed))
    goal, key = problem.policy.goal, measure(problem, place).key(problem.policy.goal)
    for _ in range(5):
        place = agreement.improve(place, Work(5e6), "auto")
        assert legal_end(problem, place)
        after = measure(problem, place).key(goal)
        assert after <= key
        key = after
    assert agreement.dual.bound <= best + 1e-9
    assert measure(problem, place).balance >= best - 1e-9
