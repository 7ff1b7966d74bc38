"""What ails a cluster, who else acts on it, and how guests are: the same over both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from balancer.gateway.port import MoveRequest
from balancer.gateway.pulse import Heartbeat
from balancer.gateway.signs import OtherKind
from balancer.gateway.simulator.windows import NodeState, NodeStatus
from balancer.gateway.simulator.world import World
from balancer.model.cluster import HostState
from tests.contract.conftest import WAYS, Bench

Make = Callable[..., Bench]

each_way = pytest.mark.parametrize("way", WAYS)


@each_way
def test_a_healthy_cluster_that_is_ours_alone_shows_no_sign(bench: Make, way: str) -> None:
    for name in ("demo", "standalone"):
        seen = bench(name, way).gateway.observe()
        assert seen.troubles == ()
        assert seen.others == ()


def _ill(world: World) -> None:
    assert world.cluster is not None
    world.machines["HV03"].node_status = NodeStatus.QUARANTINED
    world.machines["HV03"].node_state = NodeState.DOWN
    world.cluster.witness_online = False
    first, second = world.cluster.networks
    world.cluster.networks = (first, replace(second, state=2))


@each_way
def test_what_ails_a_cluster_is_seen(bench: Make, way: str) -> None:
    seen = bench("demo", way, _ill).gateway.observe()
    assert seen.troubles == (
        "node HV03 is quarantined: it left the cluster too often",
        "the witness is lost: one more failure may cost the quorum",
        "the cluster network Management is partitioned",
    )


def _company(world: World) -> None:
    assert world.cluster is not None
    world.cluster.auto_balancer_mode = 2
    world.cluster.updating = True
    for name in ("HV02", "HV05"):
        world.machines[name].scvmm = True
    world.machines["HV04"].node_state = NodeState.PAUSED
    world.machines["HV04"].drain = 1


@each_way
def test_who_else_acts_is_seen(bench: Make, way: str) -> None:
    seen = bench("demo", way, _company).gateway.observe()
    assert {other.kind for other in seen.others} == set(OtherKind)
    text = "; ".join(other.text for other in seen.others)
    assert "drains HV04" in text
    assert "SCVMM manages HV02 and 1 more host" in text
    assert seen.cluster.host_by_name["HV04"].state is HostState.PAUSED


def _joining(world: World) -> None:
    assert world.cluster is not None
    world.cluster.auto_balancer_mode = 1
    world.machines["HV08"].node_state = NodeState.JOINING


@each_way
def test_a_balancer_that_acts_on_joins_acts_while_a_node_joins(bench: Make, way: str) -> None:
    one = bench("demo", way, _joining)
    (other,) = one.gateway.observe().others
    assert (other.kind, "HV08" in other.text) == (OtherKind.BUILT_IN, True)
    one.world.machines["HV08"].node_state = NodeState.UP
    assert one.gateway.observe().others == ()


@each_way
def test_a_guests_heartbeat_is_seen_before_and_after(bench: Make, way: str) -> None:
    one = bench("branch", way)
    cluster = one.gateway.observe().cluster
    vm = next(vm for vm in cluster.vms_on["BR1"] if vm.is_load and not vm.blocked_by)
    assert one.gateway.look([vm.id])[vm.id].heartbeat is Heartbeat.OK
    one.world.guests[vm.id].ails_s = 1e9
    one.gateway.start(MoveRequest(vm.id, "BR1", "BR2", vm.clustered), fence=1)
    one.pass_s(900)
    assert one.gateway.look([vm.id])[vm.id].heartbeat is Heartbeat.LOST
    one.world.guests[vm.id].heartbeat, one.world.guests[vm.id].ails_s = None, 0.0
    assert one.gateway.look([vm.id])[vm.id].heartbeat is None


@each_way
@pytest.mark.parametrize(("access", "reached"), [(0, False), (1, False), (3, True), (4, False)])
def test_a_volume_that_a_node_does_not_reach_directly(
    bench: Make, way: str, access: int, *, reached: bool
) -> None:
    def change(world: World) -> None:
        assert world.cluster is not None
        world.cluster.volumes[0].access["HV07"] = access

    seen = bench("demo", way, change).gateway.observe()
    named = [rule for rule in seen.cluster.rules if "shared volume" in str(rule)]
    assert bool(named) is not reached
