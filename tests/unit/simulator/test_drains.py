"""The platform's own drain: by priority, live or by saved state, and what it leaves behind."""

from __future__ import annotations

from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.drains import SAVED_BYTES_PER_S, OperatorDrain
from balancer.gateway.simulator.windows import NodeState, NodeStatus, VmStateCode
from balancer.model.cluster import HostState
from tests.simulation.draining import everything_is_somewhere, furnished, holds
from tests.simulation.small import GIB, Small


def states(small: Small, vm: str, seconds: int) -> list[VmStateCode]:
    """Return the states that a VM goes through, second by second."""
    found: list[VmStateCode] = []
    for _ in range(seconds):
        with small.world.present():
            state = small.world.guests[small.vm(vm)].state
        if not found or found[-1] is not state:
            found.append(state)
        small.clock.sleep(1)
    return found


def test_it_empties_a_node_and_saves_what_is_below_the_threshold() -> None:
    small = furnished()
    OperatorDrain("h1", at_s=10).enter(small.world)
    small.clock.sleep(11)
    machine = small.world.machines["h1"]
    seen = small.gateway.observe()
    assert (machine.node_state, machine.drain) == (NodeState.PAUSED, 1)
    assert seen.estate is not None
    assert seen.estate.nodes[0].draining
    assert seen.cluster.host_by_name["h1"].state is HostState.PAUSED
    # v12 is of low priority: it stands still while its memory is written and read again.
    assert states(small, "v12", 60) == [
        VmStateCode.SAVING,
        VmStateCode.STARTING,
        VmStateCode.RUNNING,
    ]
    small.clock.sleep(120)
    small.world.advance()
    assert holds(small, "h1") == set()
    assert (machine.node_state, machine.drain) == (NodeState.PAUSED, 2)
    assert machine.node_status is NodeStatus.DRAIN_COMPLETED
    everything_is_somewhere(small)
    live = small.world.guests[small.vm("v11")]
    assert live.blackout_s is not None
    assert live.blackout_s < 4 * GIB / SAVED_BYTES_PER_S


def test_by_a_threshold_of_nothing_everything_migrates_live() -> None:
    small = furnished()
    assert small.world.cluster is not None
    small.world.cluster.move_type_threshold = 0
    OperatorDrain("h1", at_s=0).enter(small.world)
    assert states(small, "v12", 90) == [VmStateCode.RUNNING]
    assert holds(small, "h1") == set()


def test_what_cannot_leave_makes_it_fail_and_the_node_stays_paused_until_resumed() -> None:
    small = furnished()
    small.world.guests[small.vm("v11")].assigned_devices = 1
    OperatorDrain("h1", at_s=0, resume_after_s=600).enter(small.world)
    small.clock.sleep(300)
    small.world.advance()
    machine = small.world.machines["h1"]
    assert holds(small, "h1") == {"v11"}
    assert (machine.drain, machine.node_status) == (3, NodeStatus.DRAIN_FAILED)
    assert machine.node_state is NodeState.PAUSED
    small.clock.sleep(301)
    small.world.advance()
    assert (machine.node_state, machine.drain) == (NodeState.UP, 0)
    assert holds(small, "h1") == {"v11"}, "nothing comes back by itself"


def test_higher_priorities_leave_first() -> None:
    small = furnished(each=6)
    for number, priority in enumerate((2000, 3000, 2000, 3000, 2000, 2000), 1):
        small.world.guests[small.vm(f"v1{number}")].priority = priority
    OperatorDrain("h1", at_s=0).enter(small.world)
    first: list[str] = []
    for _ in range(120):
        with small.world.present():
            names = {guest.name for guest in small.world.guests.values() if guest.host != "h1"}
        first += sorted(one for one in names if one.startswith("v1") and one not in first)
        small.clock.sleep(1)
    running = [one for one in first if one != "v14"]  # it stands still and is moved at once
    assert running[0] == "v12"


def test_a_node_that_dies_on_the_way_loses_nothing() -> None:
    small = furnished()
    OperatorDrain("h1", at_s=0).enter(small.world)
    small.clock.sleep(2)
    with small.world.present() as now_s:
        mishaps.power_off(small.world, small.world.machines["h1"], now_s)
    small.clock.sleep(120)
    small.world.advance()
    assert small.world.machines["h1"].drain == 3
    everything_is_somewhere(small)
    assert small.world.guests[small.vm("v12")].state is VmStateCode.RUNNING
