"""A host whose VMs want more processors than it has, over both ways to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.world import World
from balancer.judge import judge
from balancer.planner import plan
from balancer.policy.policy import Goal, Policy
from tests.contract.conftest import WAYS
from tests.unit.simulator.worlds import Small, guest, machine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("way", WAYS)
def test_who_waits_for_processors_wants_more_than_it_uses(
    reach: Callable[[World, str], ClusterGateway], way: str
) -> None:
    busy = [guest(f"busy{number}", load=Load(base_cores=4.0)) for number in range(3)]
    idle = guest("idle", host="HV2", load=Load(base_cores=0.5))
    small = Small([machine(number, logical_processors=8) for number in (1, 2)], [*busy, idle])
    seen = reach(small.world, way).observe().cluster
    there = seen.vms_on["HV1"]
    for vm in there:
        assert vm.cpu_used_cores < 2.7
        assert vm.cpu_demand_cores == pytest.approx(4.0, abs=0.02)
    assert [vm.cpu_wait_cores for vm in seen.vms_on["HV2"]] == [None]
    # Eight processors are wanted, of which 6.4 are below the threshold: one VM is not enough.
    made = plan(seen, Policy(goal=Goal.RELIEVE), now=NOW)
    assert judge(seen, Policy(goal=Goal.RELIEVE), made) == ()
    assert len(made.migrations) == 1
    assert made.unresolved
