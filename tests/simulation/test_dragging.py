"""What the cluster moves along by itself, because a rule of its own keeps VMs on one node."""

from __future__ import annotations

from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.gateway.simulator.actors import move_by_hand
from balancer.gateway.simulator.things import AffinityRule
from balancer.gateway.simulator.windows import AffinityRuleType
from balancer.model.outcome import RunEnd
from balancer.policy.policy import Policy
from tests.simulation.draining import empty, everything_is_somewhere, furnished, holds, take_back
from tests.simulation.small import Small
from tests.stores import new_store


def tied(*names: str) -> Small:
    small = furnished()
    cluster = small.world.cluster
    assert cluster is not None
    cluster.rules += (AffinityRule("tied", AffinityRuleType.SAME_NODE, names),)
    return small


def test_who_moves_one_moves_the_others_where_they_may_go() -> None:
    small = tied("v21", "v22", "v23")
    small.world.guests[small.vm("v23")].locked = True
    with small.world.present() as now_s:
        assert move_by_hand(small.world, small.vm("v21"), "h3", now_s)
    small.clock.sleep(300)
    assert (small.host_of("v21"), small.host_of("v22")) == ("h3", "h3")
    assert small.host_of("v23") == small.host_of("v24") == "h2"


def test_a_plan_for_a_whole_set_is_carried_out_though_the_cluster_is_ahead_of_it() -> None:
    small = tied("v21", "v22")
    with new_store() as store:
        plan = small.plan([("a", "v21", "h3"), ("b", "v22", "h3")])
        with store.leases.hold("small", "me", small.clock) as lease:
            report = execute(plan, Charge(Policy(), small.gateway, store, small.clock, lease))
    assert report.end is RunEnd.DONE
    assert (small.host_of("v21"), small.host_of("v22")) == ("h3", "h3")
    assert "moved by others" in report.migrations[1].reason


def test_a_drain_and_the_return_of_a_set_leave_nothing_behind() -> None:
    small = tied("v11", "v12", "v13")
    before = holds(small, "h1")
    with new_store() as store:
        report = empty(small, store, "h1")
        assert report.end is RunEnd.DONE, report
        assert holds(small, "h1") == set()
        assert len({small.host_of(name) for name in ("v11", "v12", "v13")}) == 1
        back = take_back(small, store, "h1", restore=True)
        assert back.end is RunEnd.DONE, back
    assert holds(small, "h1") == before
    everything_is_somewhere(small)
