"""No bound is above the best of all placements: on small clusters, against brute force."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster, HostState
from balancer.planner.bound import decoupled_bound
from balancer.planner.lagrange import lagrangian_bound
from balancer.planner.problem import Problem, build
from balancer.planner.relax import relax
from balancer.planner.score import LOST, Measure, measure, tier_names
from balancer.planner.search import construct
from balancer.planner.work import Work
from balancer.policy.policy import Limits, Policy
from tests.properties.planner_clusters import clusters
from tests.unit.planner.oracle import best_placements

many = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
caps = st.sampled_from([None, 1, 2])


def bounded(cluster: Cluster, cap: int | None) -> tuple[Problem, Measure, float]:
    """The task, the tiers that bounds hold for, and the best J of all placements that keep them."""
    policy = Policy(limits=Limits(migrations_per_run=cap))
    try:
        problem = build(cluster, policy)
    except InputError:
        assume(condition=False)
        raise
    kept = measure(problem, construct(problem, Work(1e9)))
    best, _ = best_placements(cluster, policy, cap)
    named = zip(tier_names(policy.goal), kept.key(policy.goal), strict=True)
    upper = [float(value) for name, value in named if name not in (*LOST, "balance")]
    assume(all(abs(a - b) < 1e-6 for a, b in zip(upper, best[:-1], strict=True)))
    return problem, kept, best[-1]


@many
@given(clusters(hosts_max=3, vms_max=5), caps)
def test_the_relaxations_are_no_higher_than_the_best(cluster: Cluster, cap: int | None) -> None:
    problem, kept, best = bounded(cluster, cap)
    place = construct(problem, Work(1e9))
    relaxed = relax(problem, place, kept, Work(1e9))
    assert relaxed is None or relaxed.bound <= best + 1e-9
    assert decoupled_bound(problem, kept).value <= best + 1e-9


@many
@given(clusters(hosts_max=3, vms_max=5), caps, st.sampled_from([1.0, 2.0, 50.0]))
def test_the_lagrangian_bound_is_no_higher_than_the_best(
    cluster: Cluster, cap: int | None, hoped: float
) -> None:
    hosts = tuple(
        dataclasses.replace(
            host,
            cpu_speed=1.0,
            state=HostState.UP if host.state is HostState.DRAINING else host.state,
        )
        for host in cluster.hosts
    )
    problem, kept, best = bounded(dataclasses.replace(cluster, hosts=hosts), cap)
    assume(problem.mean_is_constant and len(problem.movable) > 0)
    relaxed = relax(problem, construct(problem, Work(1e9)), kept, Work(1e9))
    assert relaxed is not None
    # Told that a worse plan is all there is, it must not prove that.
    found = lagrangian_bound(problem, relaxed, hoped * kept.balance + 1.0, Work(3e5))
    assert relaxed.bound <= found <= best + 1e-9
