"""Hosts are not read at one instant: while VMs move, their answers contradict each other."""

from __future__ import annotations

from collections import Counter

import pytest

from balancer.clock import VirtualClock
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import Calls, Outcomes, T, in_turn
from balancer.gateway.port import MoveRefusedError, MoveRequest
from balancer.gateway.simulator import scenario
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.world import World
from balancer.model.cluster import HostState


class Slowly:
    """Calls hosts in turn and lets time go by between them."""

    def __init__(self, world: World, clock: VirtualClock, pause_s: float) -> None:
        self._world = world
        self._clock = clock
        self._pause_s = pause_s

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        outcomes: dict[str, T | Exception] = {}
        for host, call in calls.items():
            outcomes |= in_turn({host: call})
            self._clock.sleep(self._pause_s)
            self._world.advance()
        return outcomes  # type: ignore[return-value] # failures only, as in_turn makes them


@pytest.mark.parametrize("name", ["branch", "demo", "standalone"])
@pytest.mark.parametrize("pause_s", [0.3, 1.7, 6.0])
def test_no_host_is_doubted_and_no_vm_lost_while_vms_move(name: str, pause_s: float) -> None:
    clock = VirtualClock()
    world = scenario.build(name, clock)
    hosts = hosts_of(world)
    gateway = ClusterGateway(
        name,
        list(hosts),
        hosts.__getitem__,
        Slowly(world, clock, pause_s),
        clock,
        clustered=world.cluster is not None,
    )
    before = gateway.observe()
    names = [host.name for host in before.cluster.hosts]
    switches = 0
    for turn in range(40):
        seen = gateway.observe()
        assert seen.notes == ()
        assert {host.state for host in seen.cluster.hosts} == {HostState.UP}
        ids = Counter(vm.id for vm in seen.cluster.vms)
        assert set(ids.values()) == {1}
        assert set(ids) == set(before.cluster.vm_by_id)
        for vm in [vm for vm in seen.cluster.vms if vm.is_load and not vm.blocked_by][:3]:
            target = names[(names.index(vm.host) + 1 + turn) % len(names)]
            if target != vm.host:
                try:
                    gateway.start(MoveRequest(vm.id, vm.host, target, vm.clustered), fence=1)
                except MoveRefusedError:
                    continue  # no room there, or another moves: the platform's business
                switches += 1
    assert switches > 3
