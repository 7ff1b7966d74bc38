"""Others who act on the cluster: refused, waited for, taken over and given back, or ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from balancer.errors import RefusedError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.recover import recover
from balancer.gateway.simulator.drains import OperatorDrain, Updating
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import inject
from balancer.gateway.simulator.windows import NodeState
from balancer.gateway.simulator.world import World
from balancer.model.outcome import RunEnd
from balancer.policy.interlock import IGNORING, Heed, Interlock
from balancer.policy.policy import Policy
from balancer.service.events import EventKind
from balancer.store.records import SettingState
from balancer.store.store import Store
from tests.simulation.daemon import AWAY, Daemon, setup
from tests.simulation.small import Small
from tests.simulation.test_execute import DONE, SKIPPED, TWO, Bench, states
from tests.simulation.traps import PowerCut, Trap, TrappedGateway, trapped
from tests.stores import new_store

K = EventKind
LEASE_S = 60.0
IN_TURN = [("m1", "v11", "h2"), ("m2", "v31", "h4")]


def mode_of(world: World) -> int:
    assert world.cluster is not None
    return world.cluster.auto_balancer_mode


def set_mode(world: World, mode: int) -> None:
    assert world.cluster is not None
    world.cluster.auto_balancer_mode = mode


def _built_in(world: World) -> None:
    set_mode(world, 2)


def _scvmm(world: World) -> None:
    world.machines["h3"].scvmm = True


def _updating(world: World) -> None:
    assert world.cluster is not None
    world.cluster.updating = True


def _draining(world: World) -> None:
    world.machines["h4"].drain, world.machines["h4"].node_state = 1, NodeState.PAUSED


def _repair(world: World) -> None:
    assert world.cluster is not None
    world.cluster.storage_direct, world.cluster.storage_jobs = True, 2


OTHERS = [
    (_built_in, "built_in_balancer", "built-in balancer is on"),
    (_scvmm, "scvmm", "SCVMM manages h3"),
    (_updating, "cluster_aware_updating", "Cluster-Aware Updating is under way"),
    (_draining, "node_drain", "somebody drains h4"),
]
by_each = pytest.mark.parametrize(("acts", "who", "text"), OTHERS, ids=[one[1] for one in OTHERS])


def heeding(who: str, heed: Heed) -> Policy:
    return Policy(interlock=replace(IGNORING, **{who: heed}))


@by_each
def test_refused_is_refused_and_says_who_and_what_to_do(
    acts: Callable[[World], None], who: str, text: str
) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    acts(bench.small.world)
    with pytest.raises(RefusedError, match=text) as caught:
        bench.run(plan, heeding(who, Heed.REFUSE))
    assert caught.value.remedy
    assert bench.starts == 0


@by_each
def test_ignored_is_gone_on_beside(acts: Callable[[World], None], who: str, text: str) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    acts(bench.small.world)
    assert bench.run(plan, heeding(who, Heed.IGNORE)).end is RunEnd.DONE


@by_each
def test_who_begins_on_the_way_ends_the_run_without_an_alarm(
    acts: Callable[[World], None], who: str, text: str
) -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan([*IN_TURN[:1], ("m2", "v31", "h2")], after={"m2": ("m1",)})
    bench.later(1.0, lambda: acts(bench.small.world))
    report = bench.run(plan, heeding(who, Heed.REFUSE))
    assert states(report) == [DONE, SKIPPED]
    assert text in report.migrations[1].reason
    assert not any("stopped" in note for note in report.notes)


@by_each
def test_who_is_waited_for_holds_the_start_up_until_done(
    acts: Callable[[World], None], who: str, text: str
) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    acts(bench.small.world)

    def over() -> None:
        world = bench.small.world
        assert world.cluster is not None
        world.cluster.auto_balancer_mode, world.cluster.updating = 0, False
        world.machines["h3"].scvmm = False
        world.machines["h4"].drain, world.machines["h4"].node_state = 0, NodeState.UP

    bench.later(100.0, over)
    began = bench.small.clock.now()
    report = bench.run(plan, heeding(who, Heed.WAIT))
    assert report.end is RunEnd.DONE
    (one,) = report.migrations
    assert one.started_at is not None
    assert timedelta(seconds=100) <= one.started_at - began < timedelta(seconds=140)


@by_each
def test_who_does_not_end_is_not_waited_for_for_ever(
    acts: Callable[[World], None], who: str, text: str
) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    acts(bench.small.world)
    report = bench.run(plan, heeding(who, Heed.WAIT))
    assert report.end is RunEnd.REFUSED
    assert text in report.migrations[0].reason


def test_a_storage_repair_is_waited_for() -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    _repair(bench.small.world)
    report = bench.run(plan)
    assert states(report) == [SKIPPED]
    assert "2 repairs" in report.migrations[0].reason


def test_the_defaults_refuse_what_never_ends_and_wait_for_what_does() -> None:
    assert Policy().interlock == Interlock(Heed.REFUSE, Heed.REFUSE, Heed.WAIT, Heed.WAIT)


# Taking over

OVER = Policy(interlock=Interlock(built_in_balancer=Heed.TAKE_OVER))


@pytest.mark.parametrize("mode", [1, 2])
def test_the_built_in_balancer_is_off_during_a_run_and_as_it_was_afterwards(mode: int) -> None:
    bench = Bench()
    world = bench.small.world
    set_mode(world, mode)
    if mode == 1:  # it acts while a node joins
        world.machines["h4"].node_state = NodeState.JOINING
    during: list[int] = []
    bench.later(4.0, lambda: during.append(mode_of(world)))
    plan = bench.small.plan([("m1", "v11", "h2")])
    report = bench.run(plan, OVER)
    assert report.end is RunEnd.DONE
    assert during == [0]
    assert mode_of(world) == mode
    (record,) = bench.store.journal.settings(1)
    assert record.state is SettingState.RESTORED
    assert any("built-in balancer of small" in note for note in report.notes)


def test_a_built_in_balancer_that_is_off_is_left_alone() -> None:
    bench = Bench()
    assert bench.run(bench.small.plan(TWO), OVER).end is RunEnd.DONE
    assert not bench.store.journal.settings(1)


def test_it_stays_on_when_nothing_is_left_to_begin() -> None:
    bench = Bench()
    set_mode(bench.small.world, 2)
    heard = iter([False])  # until its first step
    report = bench.run(bench.small.plan(TWO), OVER, interrupted=lambda: next(heard, True))
    assert states(report) == [SKIPPED, SKIPPED]
    assert not bench.store.journal.settings(1)


def test_whoever_switches_it_on_again_has_it() -> None:
    bench = Bench(slots=1)
    world = bench.small.world
    set_mode(world, 2)
    bench.later(8.0, lambda: set_mode(world, 1))
    bench.later(8.0, lambda: setattr(world.machines["h3"], "node_state", NodeState.JOINING))
    plan = bench.small.plan([("m1", "v11", "h2"), ("m2", "v12", "h4")], after={"m2": ("m1",)})
    report = bench.run(plan, OVER)
    assert states(report) == [DONE, SKIPPED]
    assert "is on again" in report.migrations[1].reason
    assert mode_of(world) == 1
    assert bench.store.journal.settings(1)[0].state is SettingState.LEFT


def test_what_cannot_be_switched_off_keeps_the_run_from_beginning() -> None:
    bench = Bench()
    set_mode(bench.small.world, 2)
    plan = bench.small.plan([("m1", "v11", "h2")])
    bench.fault(Fault(FaultKind.REQUEST_LOST, function="Set-LbAutoBalancer"))
    report = bench.run(plan, OVER)
    assert report.end is RunEnd.REFUSED
    assert bench.starts == 0
    assert mode_of(bench.small.world) == 2


@pytest.mark.parametrize("kind", [FaultKind.REPLY_LOST, FaultKind.LATE, FaultKind.REQUEST_LOST])
def test_a_lost_reply_to_it_is_looked_at_and_it_is_given_back(kind: FaultKind) -> None:
    bench = Bench()
    set_mode(bench.small.world, 2)
    plan = bench.small.plan([("m1", "v11", "h2")])
    bench.fault(Fault(kind, function="Set-LbAutoBalancer", count=1, delay_s=20.0))
    report = bench.run(plan, OVER)
    bench.small.clock.sleep(3600.0)
    bench.small.world.advance()
    assert report.end is RunEnd.DONE
    assert mode_of(bench.small.world) == 2
    assert not bench.store.journal.open_settings("small")


def _crashed(small: Small, store: Store, trap: Trap) -> bool:
    trapped(store, trap)
    lease = store.leases.acquire("small", "first", LEASE_S, small.clock.now())
    try:
        execute(
            small.plan([("m1", "v11", "h2")]),
            Charge(OVER, TrappedGateway(small.gateway, trap), store, small.clock, lease),
        )
    except PowerCut:
        return True
    return False


def test_after_a_crash_at_any_point_the_next_start_gives_it_back() -> None:
    points = 0
    for at in range(1, 200):
        small, trap = Small(), Trap(at)
        set_mode(small.world, 2)
        with new_store() as store:
            cut = _crashed(small, store, trap)
            if not cut:
                break
            points += 1
            small.clock.sleep(LEASE_S + 1.0)
            with store.leases.hold("small", "second", small.clock) as lease:
                recover(Charge(Policy(), small.new_gateway(), store, small.clock, lease))
            small.world.advance()
            assert mode_of(small.world) == 2, at
            assert not store.journal.open_settings("small")
    assert points > 15


# The service


def test_a_drain_by_an_operator_puts_the_cycle_off_until_it_ends() -> None:
    small = Small()
    OperatorDrain("h4", 10.0, resume_after_s=200.0).enter(small.world)
    for guest in small.world.guests.values():
        if guest.host == "h4":
            guest.assigned_bytes *= 5  # so that the drain takes longer than our first cycle
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(seconds=50)
    assert daemon.count(K.RUN_STARTED) == 0
    (held,) = daemon.kinds(K.HELD_BACK)
    assert "somebody drains h4" in held.text
    assert {event.data["why"] for event in daemon.kinds(K.CYCLE_SKIPPED)} == {"interlock"}
    daemon.run(minutes=30)
    assert daemon.count(K.HELD_NO_MORE) == 1
    assert small.host_of("v11") != "h1"
    moved = daemon.times(K.MIGRATION_STARTED)[0]
    freed = daemon.times(K.HELD_NO_MORE)[0]
    assert abs(moved - freed) < timedelta(minutes=2)  # not only at the next quarter of an hour


def test_while_a_cluster_is_updated_it_is_not_balanced() -> None:
    small = Small()
    Updating(5.0, each_s=600.0).enter(small.world)
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(minutes=20)
    assert daemon.count(K.RUN_STARTED) == 0
    daemon.run(hours=3)
    assert small.world.cluster is not None
    assert not small.world.cluster.updating
    assert small.host_of("v11") != "h1"
    assert small.host_of("v12") != "h1"
    assert daemon.count(K.MIGRATION_FAILED) == 0


@pytest.mark.parametrize("acts", [_built_in, _scvmm], ids=["built-in", "scvmm"])
def test_what_never_ends_leaves_plans_to_read_and_is_told_once(
    acts: Callable[[World], None],
) -> None:
    small = Small()
    acts(small.world)
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(hours=3)
    assert daemon.count(K.RUN_STARTED) == 0
    assert daemon.count(K.PLANNED) >= 10
    assert daemon.count(K.HELD_BACK) == 1
    assert daemon.count(K.CYCLE_FAILED) == 0
    asked = daemon.ask("apply")
    daemon.run(minutes=2)
    answer = daemon.store.requests.get(asked)
    assert answer.exit_code == 3
    assert "remedy" in answer.text


def test_the_service_takes_over_and_gives_back() -> None:
    small = Small()
    set_mode(small.world, 2)
    daemon = Daemon(small, setup(small, f"{AWAY}\ninterlock: {{built_in_balancer: take_over}}"))
    daemon.run(hours=2)
    assert daemon.count(K.MIGRATION_DONE) == 2
    assert mode_of(small.world) == 2
    written = daemon.kinds(K.SETTING_WRITTEN, K.SETTING_RESTORED)
    assert [event.kind for event in written] == [K.SETTING_WRITTEN, K.SETTING_RESTORED] * 2


def test_a_cluster_that_is_not_well_is_held_back_and_told_once() -> None:
    small = Small()
    assert small.world.cluster is not None
    small.world.cluster.witness_online = False
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(hours=2)
    assert daemon.count(K.RUN_STARTED) == daemon.count(K.CYCLE_FAILED) == 0
    (held,) = daemon.kinds(K.HELD_BACK)
    assert held.data["why"] == "unhealthy"
    small.world.cluster.witness_online = True
    daemon.run(hours=1)
    assert daemon.count(K.MIGRATION_DONE) == 2


def test_what_a_person_asks_for_is_not_held_up_by_others() -> None:
    small = Small()
    for acts in (_built_in, _scvmm, _updating):
        acts(small.world)
    daemon = Daemon(small, setup(small, ""))
    daemon.run(minutes=1)
    drained = daemon.ask("drain", hosts=["h1"])
    daemon.run(minutes=10)
    assert daemon.store.requests.get(drained).exit_code == 0
    assert {small.host_of(f"v1{n}") for n in range(1, 5)}.isdisjoint({"h1"})


def test_an_isolated_node_holds_drains_up_as_well() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, ""))
    daemon.run(minutes=1)
    inject(small.world, Fault(FaultKind.NODE_ISOLATED, host="h4"))
    refused = daemon.ask("drain", hosts=["h1"])
    daemon.run(minutes=2)
    answer = daemon.store.requests.get(refused)
    assert answer.exit_code == 3
    assert "h4 is isolated" in answer.text
