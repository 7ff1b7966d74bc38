"""Draining hosts of simulated clusters: everything leaves, or what stays is named."""

from __future__ import annotations

from datetime import timedelta

import pytest

from balancer.clock import VirtualClock
from balancer.errors import InputError, RefusedError
from balancer.execute.charge import Charge
from balancer.execute.drain import drain
from balancer.execute.progress import NewsKind
from balancer.execute.recover import recover
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.control import ControlName
from balancer.gateway.gather import in_turn
from balancer.gateway.simulator import mishaps, scenario
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.windows import NodeState, Operation
from balancer.model.drain import DrainState, Kind, OnFailure, Order
from balancer.model.outcome import RunEnd
from balancer.model.plan import Plan
from balancer.model.rule import SelectBy, Selector
from balancer.policy.policy import Limits, Policy, Reserve
from balancer.policy.rules import Pin
from balancer.policy.windows import Calendar, Span
from balancer.store.store import Store
from tests.simulation.draining import (
    at_moment,
    empty,
    everything_is_somewhere,
    furnished,
    holds,
    is_paused,
    take_back,
)
from tests.simulation.small import Small
from tests.stores import new_store


def test_everything_leaves_and_the_node_is_paused() -> None:
    small = furnished()
    before = holds(small, "h1")
    assert before >= {"v11", "v12", "v13", "v14", "Clustergruppe", "files", "Volume1", "Volume2"}
    with new_store() as store:
        report = empty(small, store, "H1")
        assert report.end is RunEnd.DONE
        assert (report.left, report.paused) == ((), ("h1",))
        assert holds(small, "h1") == set()
        assert is_paused(small, "h1")
        assert dict(report.moved) == {
            Kind.VM: 3, Kind.STANDING_VM: 1, Kind.ROLE: 2, Kind.VOLUME: 2
        }  # fmt: skip
        everything_is_somewhere(small)
        assert "files" in holds(small, "h2") | holds(small, "h3")
        (record,) = store.drains.latest("small")
        assert record.state is DrainState.DRAINED
        assert record.paused == ("h1",)
        assert {thing.name for thing in store.drains.things(record.id)} == before
        states = [s.state for s in store.drains.steps(record.id) if s.state in list(DrainState)]
        assert states == ["planned", "pausing", "moving", "clearing", "drained"]


def test_low_priority_vms_are_live_migrated_and_never_stopped() -> None:
    small = furnished()
    with new_store() as store:
        empty(small, store, "h1")
        outcomes = {
            m.vm: m for run in store.journal.runs("small") for m in store.journal.moves(run.id)
        }
    low = outcomes[small.vm("v12")]
    assert low.blackout_s is not None
    assert low.blackout_s < 5


def test_the_forecast_holds() -> None:
    small = furnished(hosts=6, each=20)
    with new_store() as store:
        report = empty(small, store, "h1")
    took_s = (report.ended_at - report.started_at).total_seconds()
    assert took_s == pytest.approx(report.expected_s, rel=0.15)


def test_caps_a_run_and_windows_do_not_hold_up_a_drain() -> None:
    shut = Calendar(blackouts=(Span(),))
    policy = Policy(limits=Limits(migrations_per_run=1), calendar=shut)
    small = furnished()
    with new_store() as store:
        assert empty(small, store, "h1", policy=policy).end is RunEnd.DONE


def test_a_vm_that_cannot_move_is_named_and_the_rest_leaves() -> None:
    small = furnished()
    small.world.guests[small.vm("v11")].assigned_devices = 1
    with new_store() as store:
        report = empty(small, store, "h1")
        assert report.end is RunEnd.IN_PART
        (left,) = report.left
        assert (left.kind, left.name) == (Kind.VM, "v11")
        assert "assigned_device" in left.reason
        assert left.remedy
        assert holds(small, "h1") == {"v11"}
        assert is_paused(small, "h1")
        assert store.drains.latest("small")[0].state is DrainState.FAILED


def test_what_failed_is_left_resumed_if_asked() -> None:
    small = furnished()
    small.world.guests[small.vm("v11")].assigned_devices = 1
    with new_store() as store:
        report = empty(small, store, "h1", on_failure=OnFailure.RESUME)
    assert report.end is RunEnd.IN_PART
    assert report.paused == ()
    assert not is_paused(small, "h1")


def test_what_cannot_be_resumed_is_tried_again_at_the_next_start() -> None:
    small = furnished()
    small.world.guests[small.vm("v11")].assigned_devices = 1
    lost = Fault(FaultKind.REQUEST_LOST, function="Set-LbNode", lasts_s=600.0)
    at_moment(small, 3.0, lambda _: mishaps.inject(small.world, lost))
    with new_store() as store:
        report = empty(small, store, "h1", on_failure=OnFailure.RESUME)
        assert report.end is RunEnd.IN_PART
        assert report.paused == ("h1",)
        assert any("tries again" in note for note in report.notes)
        assert store.drains.latest("small")[0].state is DrainState.UNDOING
        small.clock.sleep(900)
        with store.leases.hold("small", "me", small.clock) as lease:
            recover(Charge(Policy(), small.gateway, store, small.clock, lease))
        assert store.drains.latest("small")[0].state is DrainState.FAILED
    assert not is_paused(small, "h1")


def refused(
    small: Small, store: Store, match: str, *hosts: str, policy: Policy | None = None
) -> None:
    before = {host: holds(small, host) for host in small.world.machines}
    with pytest.raises(RefusedError, match=match):
        empty(small, store, *hosts, policy=policy)
    assert {host: holds(small, host) for host in small.world.machines} == before
    assert not any(is_paused(small, host) for host in hosts)
    assert store.drains.latest("small") == ()


def test_without_room_nothing_is_begun_and_what_is_missing_is_said() -> None:
    small = furnished(hosts=2, each=16)
    for machine in small.world.machines.values():
        machine.memory_bytes = 90 * 2**30
    with new_store() as store:
        refused(small, store, r"needs 4.0 GiB of memory, and .* GiB are missing on h2", "h1")


def test_a_rule_that_stands_against_it_is_named() -> None:
    exact = SelectBy.EXACT
    pin = Pin(vms=(Selector(exact, "v11"),), hosts=(Selector(exact, "h1"),), name="licence")
    with new_store() as store:
        refused(furnished(), store, "licence", "h1", policy=Policy(rules=(pin,)))


def test_quorum_is_never_lost() -> None:
    small = furnished(hosts=3)
    assert small.world.cluster is not None
    small.world.cluster.witness_online = None
    with new_store() as store:
        refused(small, store, "1 of 3 votes, no majority .there is no witness", "h1", "h2")
        small.world.machines["h3"].node_state = NodeState.DOWN
        small.world.machines["h3"].powered = False
        refused(small, store, "no majority", "h1")


def test_storage_spaces_direct_is_waited_for() -> None:
    small = furnished()
    assert small.world.cluster is not None
    small.world.cluster.storage_direct = True
    with new_store() as store:
        small.world.cluster.storage_jobs = 1
        refused(small, store, "1 storage jobs run", "h1")
        small.world.cluster.storage_jobs = 0
        small.world.cluster.unhealthy_disks = ("Volume2",)
        refused(small, store, "not healthy: Volume2", "h1")
        small.world.cluster.unhealthy_disks = ()
        assert empty(small, store, "h1").end is RunEnd.DONE


def test_a_storage_repair_on_the_way_stops_it_cleanly() -> None:
    small = furnished(each=16)
    assert small.world.cluster is not None
    small.world.cluster.storage_direct = True

    def repair(_now_s: float) -> None:
        assert small.world.cluster is not None
        small.world.cluster.storage_jobs = 1
        mishaps.power_off(small.world, small.world.machines["h4"], _now_s)

    at_moment(small, 20, repair)
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.IN_PART
    assert any("1 storage jobs run" in note for note in report.notes)
    assert not small.world.engine.busy


def test_a_frozen_cluster_is_left_alone() -> None:
    small = furnished()
    small.gateway.write_control(ControlName.FREEZE, "", "SAN upgrade", 0)
    with new_store() as store:
        refused(small, store, "frozen: SAN upgrade", "h1")


def test_no_such_host_and_a_silent_one() -> None:
    small = furnished()
    with new_store() as store:
        with pytest.raises(InputError, match="no host named 'h9'"):
            empty(small, store, "h9")
        mishaps.inject(small.world, Fault(FaultKind.UNREACHABLE, host="h2"))
        with pytest.raises(InputError, match="h2 cannot be drained: it is unknown"):
            empty(small, store, "h2")


def test_it_is_not_begun_when_it_would_end_too_late() -> None:
    small = furnished()
    with new_store() as store:
        with store.leases.hold("small", "me", small.clock) as lease:
            order = Order(("h1",), by=small.clock.now() + timedelta(seconds=20))
            with pytest.raises(RefusedError, match="it should have begun by"):
                drain(order, Charge(Policy(), small.gateway, store, small.clock, lease))
        assert not is_paused(small, "h1")


def test_a_target_that_dies_on_the_way_is_planned_around() -> None:
    small = furnished(each=12)
    at_moment(
        small, 25, lambda now_s: mishaps.power_off(small.world, small.world.machines["h2"], now_s)
    )
    with new_store() as store:
        report = empty(small, store, "h1")
        assert report.end is RunEnd.DONE, report
        assert len(report.plans) > 1
        assert (report.ended_at - report.started_at).total_seconds() < report.expected_s + 60
        assert holds(small, "h1") == set()
        everything_is_somewhere(small)


def test_capacity_that_vanishes_stops_it_and_nothing_is_in_flight() -> None:
    small = furnished(hosts=4, each=20)
    for machine in small.world.machines.values():
        machine.memory_bytes = 118 * 2**30
    at_moment(
        small, 20, lambda now_s: mishaps.power_off(small.world, small.world.machines["h3"], now_s)
    )
    with new_store() as store:
        report = empty(small, store, "h1", on_failure=OnFailure.RESUME)
        assert report.end is RunEnd.IN_PART
        assert report.left
        assert all(left.remedy for left in report.left)
        assert not is_paused(small, "h1")
        assert not small.world.engine.busy
        everything_is_somewhere(small)


def test_a_backup_is_waited_for() -> None:
    small = furnished()
    guest = small.world.guests[small.vm("v11")]
    guest.operation = Operation.BACKING_UP

    def over(_now_s: float) -> None:
        guest.operation = None

    at_moment(small, 200, over)
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.DONE
    assert holds(small, "h1") == set()


def test_a_target_that_does_not_take_a_vm_is_replaced_by_another() -> None:
    small = furnished()
    for target in ("h2", "h3"):
        fault = Fault(FaultKind.INCOMPATIBLE, host="h1", target=target, vm=small.vm("v11"))
        mishaps.inject(small.world, fault)
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.DONE
    assert small.host_of("v11") == "h4"


def test_asked_to_stop_it_lets_what_moves_arrive() -> None:
    small = furnished(each=12)
    begun = small.clock.monotonic_s()
    with new_store() as store:
        report = empty(
            small, store, "h1", interrupted=lambda: small.clock.monotonic_s() - begun > 25
        )
        assert report.end is RunEnd.CANCELLED
        assert holds(small, "h1")
        assert is_paused(small, "h1")
        assert store.drains.open("small") == ()
        assert not small.world.engine.busy


def test_a_node_that_somebody_else_paused_is_emptied_but_stays_paused() -> None:
    small = furnished()
    small.world.machines["h1"].node_state = NodeState.PAUSED
    small.world.guests[small.vm("v11")].assigned_devices = 1
    with new_store() as store:
        report = empty(small, store, "h1", on_failure=OnFailure.RESUME)
        assert report.end is RunEnd.IN_PART
        assert is_paused(small, "h1")
        assert store.drains.latest("small")[0].paused == ()


def test_two_hosts_at_once() -> None:
    small = furnished()
    with new_store() as store:
        report = empty(small, store, "h1", "h3")
    assert report.end is RunEnd.DONE
    assert holds(small, "h1") == holds(small, "h3") == set()
    assert report.paused == ("h1", "h3")


def test_lost_replies_are_resolved_by_looking() -> None:
    small = furnished()
    for function in ("Set-LbNode", "Move-LbGroup", "Move-LbVolume", "Start-LbMigration"):
        mishaps.inject(small.world, Fault(FaultKind.REPLY_LOST, function=function, count=1))
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.DONE
    assert holds(small, "h1") == set()
    everything_is_somewhere(small)


def test_a_role_that_may_go_nowhere_is_named() -> None:
    small = furnished()
    assert small.world.cluster is not None
    small.world.cluster.roles[1].nodes = ("h1",)
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.IN_PART
    assert [(left.kind, left.name) for left in report.left] == [(Kind.ROLE, "files")]
    assert "possible owners" in report.left[0].remedy


def test_what_was_there_comes_back() -> None:
    small = furnished()
    before = {host: holds(small, host) for host in small.world.machines}
    with new_store() as store:
        empty(small, store, "h1")
        report = take_back(small, store, "h1", restore=True)
        assert report.end is RunEnd.DONE, report
        assert not is_paused(small, "h1")
        assert {host: holds(small, host) for host in small.world.machines} == before
        assert store.drains.latest("small")[0].returned_at is not None
        again = take_back(small, store, "h1", restore=True)
        assert any("nothing is known" in note for note in again.notes)


def test_hosts_that_left_together_return_one_by_one() -> None:
    small = furnished()
    before = {host: holds(small, host) for host in small.world.machines}
    with new_store() as store:
        empty(small, store, "h1", "h3")
        take_back(small, store, "h3", restore=True)
        assert holds(small, "h3") == before["h3"]
        assert is_paused(small, "h1")
        assert store.drains.latest("small")[0].returned_at is None
        take_back(small, store, "h1", restore=True)
        assert store.drains.latest("small")[0].returned_at is not None
    assert {host: holds(small, host) for host in small.world.machines} == before


def test_drained_again_while_it_is_empty_all_of_it_comes_back() -> None:
    small = furnished()
    before = {host: holds(small, host) for host in small.world.machines}
    with new_store() as store:
        assert dict(empty(small, store, "h1").moved)[Kind.VM] == 3
        assert empty(small, store, "h1").moved == ()
        take_back(small, store, "h1")
        take_back(small, store, "h1", restore=True)
        assert {host: holds(small, host) for host in small.world.machines} == before


def test_what_left_before_others_landed_there_does_not_come_back() -> None:
    small = furnished()
    with new_store() as store:
        empty(small, store, "h1")
        take_back(small, store, "h1")
        empty(small, store, "h1")
        report = take_back(small, store, "h1", restore=True)
    assert report.moved == ()
    assert holds(small, "h1") == set()


def test_resumed_without_restore_nothing_comes_back() -> None:
    small = furnished()
    with new_store() as store:
        empty(small, store, "h1")
        report = take_back(small, store, "h1")
    assert report.end is RunEnd.DONE
    assert (report.moved, report.paused) == ((), ())
    assert not is_paused(small, "h1")
    assert holds(small, "h1") == set()


def test_a_return_keeps_the_rules_and_names_what_stays_away() -> None:
    small = furnished()
    exact = SelectBy.EXACT
    with new_store() as store:
        empty(small, store, "h1")
        home = small.host_of("v11")
        pin = Pin(vms=(Selector(exact, "v11"),), hosts=(Selector(exact, home),))
        policy = Policy(rules=(pin,), reserve=Reserve(memory_fraction=0.1))
        report = take_back(small, store, "h1", restore=True, policy=policy)
    assert report.end is RunEnd.IN_PART
    assert [left.name for left in report.left] == ["v11"]
    assert small.host_of("v11") == home


def test_a_return_that_was_stopped_goes_on_when_asked_again() -> None:
    small = furnished()
    before = {host: holds(small, host) for host in small.world.machines}
    with new_store() as store:
        empty(small, store, "h1")
        news: list[NewsKind] = []
        stopped = take_back(
            small,
            store,
            "h1",
            restore=True,
            interrupted=lambda: NewsKind.MOVED in news,
            on_progress=lambda progress: news.extend(one.kind for one in progress.news),
        )
        assert stopped.end is RunEnd.CANCELLED
        assert holds(small, "h1") < before["h1"]
        assert take_back(small, store, "h1", restore=True).end is RunEnd.DONE
    assert {host: holds(small, host) for host in small.world.machines} == before


def test_a_return_that_others_forestall_is_not_said_to_be_done() -> None:
    small = furnished()
    with new_store() as store:
        empty(small, store, "h1")

        def forestall(plan: Plan) -> None:
            with small.world.present():
                guest = small.world.guests[plan.migrations[0].vm]
                del small.world.guests_on[guest.host][guest.id]
                guest.host = next(h for h in ("h2", "h3", "h4") if h != guest.host)
                small.world.guests_on[guest.host][guest.id] = guest

        report = take_back(small, store, "h1", restore=True, on_plan=forestall)
        assert report.end is RunEnd.IN_PART
        assert {left.name for left in report.left} == {"v11", "v12", "v13"}
        assert take_back(small, store, "h1", restore=True).end is RunEnd.DONE
    assert {"v11", "v12", "v13"} <= holds(small, "h1")


def test_a_host_that_is_down_cannot_be_resumed() -> None:
    small = furnished()
    mishaps.inject(small.world, Fault(FaultKind.HOST_DIES, host="h2"))
    small.clock.sleep(60)
    with new_store() as store, pytest.raises(RefusedError, match="it is down"):
        take_back(small, store, "h2")


def test_hosts_that_stand_alone_are_emptied_without_pausing() -> None:
    clock = VirtualClock()
    world = scenario.build("standalone", clock)
    ways = hosts_of(world)
    gateway = ClusterGateway(
        world.name, list(ways), ways.__getitem__, in_turn, clock, clustered=False
    )
    for machine in world.machines.values():
        machine.memory_bytes *= 2
    with (
        new_store() as store,
        store.leases.hold(world.name, "me", clock) as lease,
    ):
        order = Order(("SA2",))
        report = drain(order, Charge(Policy(), gateway, store, clock, lease))
    assert report.end is RunEnd.DONE, report
    assert not any(guest.is_load for guest in world.guests_on["SA2"].values())
    assert report.paused == ()
