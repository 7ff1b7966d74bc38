"""What holds for every drain, on random small clusters with rules."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster, HostState
from balancer.model.plan import Status
from balancer.planner import drain
from balancer.policy.policy import Policy
from tests.properties.planner_clusters import clusters, policies
from tests.unit.planner.oracle import NOW, end_of, faults

few = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@few
@given(clusters(), policies(), st.sampled_from(["use", "keep"]), st.integers(0, 3))
def test_a_drain_is_legal_moves_only_what_must_leave_and_names_all_that_stays(
    cluster: Cluster, policy: Policy, keep: str, at: int
) -> None:
    host = cluster.hosts[at % len(cluster.hosts)]
    assume(host.state in (HostState.UP, HostState.PAUSED, HostState.DRAINING))
    try:
        found = drain(cluster, policy, [host.name], now=NOW, keep_reserve=keep == "keep")
    except InputError:
        assume(condition=False)
        raise
    assert faults(found.cluster, found.policy, found.plan) == []
    draining = {one.name for one in found.cluster.hosts if one.state is HostState.DRAINING}
    must = {vm.id for vm in cluster.vms if vm.host in draining and vm.is_load}
    assert {one.vm for one in found.plan.migrations} <= must
    end = end_of(found.cluster, found.plan)
    left = {vm for vm in must if end[vm] in draining}
    assert left == {one.vm for one in found.stuck}
    assert (found.plan.status is Status.INFEASIBLE) == bool(left)
    if keep == "keep":
        assert found.policy.reserve == policy.reserve
