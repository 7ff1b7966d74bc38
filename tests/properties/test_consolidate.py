"""What holds for every plan of the goal consolidate, on random small clusters with rules."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge import goal_faults, judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan, Status, StoppedBy
from balancer.planner import plan
from balancer.policy.policy import Consolidation, Goal, Limits, Policy, Reserve
from tests.properties.planner_clusters import clusters, policies
from tests.unit.planner.oracle import (
    NOW,
    best_placements,
    end_of,
    faults,
    key,
    moved_to,
    start_of,
)

few = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
packed = st.builds(
    Consolidation,
    margin=st.sampled_from([0.05, 0.1, 0.3]),
    awake_at_least=st.integers(1, 3),
    majority=st.booleans(),
)


def planned(cluster: Cluster, policy: Policy, packing: Consolidation) -> tuple[Plan, Policy]:
    policy = dataclasses.replace(policy, goal=Goal.CONSOLIDATE, consolidation=packing)
    try:
        return plan(cluster, policy, now=NOW), policy
    except InputError:
        assume(condition=False)
        raise


@few
@given(clusters(), policies(), packed)
def test_no_rule_and_no_load_is_worse_and_no_host_is_woken_for_nothing(
    cluster: Cluster, policy: Policy, packing: Consolidation
) -> None:
    made, policy = planned(cluster, policy, packing)
    assert faults(cluster, policy, made) == []
    assert judge(cluster, policy, made) == ()
    assert list(goal_faults(cluster, policy, made)) == []
    before, after = (
        key(cluster, policy, place) for place in (start_of(cluster), end_of(cluster, made))
    )
    assert after[:8] < before[:8] if made.migrations else after == before
    if after[:5] == before[:5]:
        assert after[6] <= before[6], "hosts awake"
        assert after[5] == 0, "filled above the ceiling"
    told = [one for one in made.score.tiers if one.name == "hosts awake"]
    assert [(one.before, one.after) for one in told] == [(before[6], after[6])]
    up = {host.name for host in cluster.hosts if host.state == "up"}
    assert {one.host for one in made.sleep} == up
    on = len(up) - sum(one.may_sleep for one in made.sleep)
    least = packing.awake_at_least
    if packing.majority:
        least = max(least, len(cluster.hosts) // 2 + 1)
    assert on >= min(len(up), least)
    ends = end_of(cluster, made)
    running = {ends[vm.id] for vm in cluster.vms if vm.is_load}
    assert not running & {one.host for one in made.sleep if one.may_sleep}


@few
@given(clusters(), policies(), packed, st.integers(1, 2))
def test_what_is_planned_for_failures_is_let_through(
    cluster: Cluster, policy: Policy, packing: Consolidation, failed: int
) -> None:
    """All on one host: others are woken, and the judge counts for itself what that saves."""
    one = cluster.hosts[0].name
    on_one = {vm.id: vm.host if vm.migrating_to else one for vm in cluster.vms}
    cluster = moved_to(cluster, on_one)
    policy = dataclasses.replace(policy, reserve=Reserve(host_failures=failed))
    made, policy = planned(cluster, policy, packing)
    assert judge(cluster, policy, made) == ()
    assert list(goal_faults(cluster, policy, made)) == []


@few
@given(clusters(hosts_max=3, vms_max=5), st.sampled_from([None, 1, 2]), packed)
def test_a_plan_called_optimal_is_the_best_of_all_placements(
    cluster: Cluster, cap: int | None, packing: Consolidation
) -> None:
    made, policy = planned(cluster, Policy(limits=Limits(migrations_per_run=cap)), packing)
    mine = key(cluster, policy, end_of(cluster, made))
    best, _ = best_placements(cluster, policy, cap)
    if made.stopped_by is StoppedBy.PROOF:
        assert mine[:7] == best[:7]
        assert mine[7] <= best[7] + 1e-6
    (told,) = [one for one in made.score.tiers if one.name == "hosts awake"]
    if mine[:6] <= best[:6]:
        assert told.bound is not None
        assert told.bound <= best[6] + 1e-9


@few
@given(clusters(), policies(), packed)
def test_planning_again_at_the_end_of_a_plan_finds_nothing(
    cluster: Cluster, policy: Policy, packing: Consolidation
) -> None:
    made, policy = planned(cluster, dataclasses.replace(policy, limits=Limits()), packing)
    assume(made.status is not Status.INFEASIBLE)
    reasons = [one.reason for one in made.not_moved] + [one.reason for one in made.sleep]
    assume(not any("no way around" in reason for reason in reasons))
    again, _ = planned(moved_to(cluster, end_of(cluster, made)), policy, packing)
    assert again.migrations == ()
