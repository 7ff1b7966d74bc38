"""What holds for every plan, on random small clusters with rules."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster, Host, HostState, Vm
from balancer.model.plan import Plan, Status, StoppedBy
from balancer.planner import plan
from balancer.policy.policy import Goal, Limits, Policy
from tests.properties.planner_clusters import GIB, clusters, policies
from tests.unit.planner.oracle import (
    NOW,
    best_placements,
    end_of,
    faults,
    is_even,
    key,
    moved_to,
    start_of,
    tiers,
)

few = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def planned(cluster: Cluster, policy: Policy) -> Plan:
    try:
        return plan(cluster, policy, now=NOW)
    except InputError:
        assume(condition=False)
        raise


@few
@given(clusters(), policies(), st.sampled_from([Goal.BALANCE, Goal.RELIEVE, Goal.RULES_ONLY]))
def test_a_plan_is_legal_in_every_order_and_betters_something(
    cluster: Cluster, policy: Policy, goal: Goal
) -> None:
    policy = dataclasses.replace(policy, goal=goal)
    made = planned(cluster, policy)
    assert faults(cluster, policy, made) == []
    before = tiers(cluster, policy, start_of(cluster))
    after = tiers(cluster, policy, end_of(cluster, made))
    upper = {Goal.BALANCE: 5, Goal.RELIEVE: 3, Goal.RULES_ONLY: 2}[goal]
    if made.migrations and goal is not Goal.BALANCE:
        assert after[:upper] < before[:upper]
    elif made.migrations:
        assert after < before
    assert after[0] <= before[0]
    assert after[0] < before[0] or after[1] <= before[1] + 1e-9
    assert abs(made.score.before - before[5]) < 1e-9
    assert abs(made.score.after - after[5]) < 1e-9
    assert (made.status is Status.INFEASIBLE) == (after[0] > 0)


@few
@given(clusters(hosts_max=3, vms_max=5), st.sampled_from([None, 1, 2]))
def test_a_plan_called_optimal_is_the_best_of_all_placements(
    cluster: Cluster, cap: int | None
) -> None:
    policy = Policy(limits=Limits(migrations_per_run=cap))
    made = planned(cluster, policy)
    if is_even(cluster, policy):
        policy = dataclasses.replace(policy, goal=Goal.RELIEVE)
    mine = key(cluster, policy, end_of(cluster, made))
    best, _ = best_placements(cluster, policy, cap)
    if made.stopped_by is StoppedBy.PROOF:
        assert mine[:-1] == best[:-1]
        assert mine[-1] <= best[-1] * (1 + 3e-6) + 2e-9
    # The bound of J holds for every plan at least as good in the tiers above.
    if mine[:-1] <= best[:-1]:
        assert made.score.bound <= best[-1] + 1e-9
    assert made.score.bound <= made.score.after + 1e-9


# All but the host that is drained is even, and what leaves it makes it uneven.
DRAINED = Cluster(
    name="drained",
    hosts=(
        Host("h0", 8.0, 24 * GIB),
        Host("h1", 8.0, 24 * GIB),
        Host("h2", 8.0, 24 * GIB, state=HostState.DRAINING),
    ),
    vms=tuple(
        Vm(f"v{at}", f"v{at}", f"h{at}", 0.5, gib * GIB) for at, gib in enumerate([8, 8, 12])
    ),
)


@few
@given(clusters(), policies())
@example(DRAINED, Policy())
def test_planning_again_at_the_end_of_a_plan_finds_nothing(
    cluster: Cluster, policy: Policy
) -> None:
    policy = dataclasses.replace(policy, limits=Limits())
    made = planned(cluster, policy)
    assume(made.status is not Status.INFEASIBLE)
    # A move given up for want of room on the way may be possible once the others are done.
    assume(not any("no way around" in one.reason for one in made.not_moved))
    again = planned(moved_to(cluster, end_of(cluster, made)), policy)
    assert again.migrations == ()


@few
@given(clusters(), policies(), st.data())
def test_order_of_input_changes_nothing(
    cluster: Cluster, policy: Policy, data: st.DataObject
) -> None:
    other = dataclasses.replace(
        cluster,
        hosts=tuple(data.draw(st.permutations(cluster.hosts))),
        vms=tuple(data.draw(st.permutations(cluster.vms))),
        rules=tuple(data.draw(st.permutations(cluster.rules))),
    )
    assert planned(cluster, policy) == planned(other, policy)


@few
@given(clusters(), policies())
def test_interrupted_at_any_time_the_plan_is_legal(cluster: Cluster, policy: Policy) -> None:
    for after in (0, 1, 3, 10):
        asked = iter(range(10**9))
        try:
            made = plan(cluster, policy, now=NOW, interrupted=lambda: next(asked) >= after)  # noqa: B023 -- called within the turn
        except InputError:
            assume(condition=False)
        assert faults(cluster, policy, made) == []
