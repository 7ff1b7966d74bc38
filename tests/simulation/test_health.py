"""Nothing begins on a cluster that is not well, and a guest that is worse ends the run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import pytest

from balancer.errors import RefusedError, UnreachableError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.pulse import GRACE_S
from balancer.execute.recover import recover
from balancer.gateway.port import Sighting
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import heal, inject
from balancer.gateway.simulator.windows import NodeState, NodeStatus
from balancer.gateway.simulator.world import World
from balancer.model.outcome import MigrationState, RunEnd
from balancer.service.events import EventKind
from tests.simulation.daemon import AWAY, Daemon, setup
from tests.simulation.small import Small
from tests.simulation.test_execute import DONE, SKIPPED, TWO, WRITING, Bench, states
from tests.simulation.traps import PowerCut, Trap, TrappedGateway

IN_TURN = [("m1", "v11", "h2"), ("m2", "v31", "h4")]


def _isolated(world: World) -> None:
    world.machines["h3"].node_status |= NodeStatus.ISOLATED


def _quarantined(world: World) -> None:
    world.machines["h3"].node_state = NodeState.DOWN
    world.machines["h3"].node_status |= NodeStatus.QUARANTINED


def _no_witness(world: World) -> None:
    assert world.cluster is not None
    world.cluster.witness_online = False


def _network(state: int, role: int = 1) -> Callable[[World], None]:
    def change(world: World) -> None:
        assert world.cluster is not None
        (network,) = world.cluster.networks
        more = replace(network, name="Heartbeat", subnet="10.9.9.0/24", state=state, role=role)
        world.cluster.networks = (network, more)

    return change


TROUBLES = [
    (_isolated, "h3 is isolated"),
    (_quarantined, "h3 is quarantined"),
    (_no_witness, "witness is lost"),
    (_network(1), "network Heartbeat is down"),
    (_network(2), "network Heartbeat is partitioned"),
]


@pytest.mark.parametrize(("befalls", "why"), TROUBLES, ids=lambda v: v if str(v) == v else "")
def test_nothing_begins_on_a_cluster_that_is_not_well(
    befalls: Callable[[World], None], why: str
) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    befalls(bench.small.world)
    with pytest.raises(RefusedError, match=why):
        bench.run(plan)
    assert bench.starts == 0


@pytest.mark.parametrize(("befalls", "why"), TROUBLES, ids=lambda v: v if str(v) == v else "")
def test_trouble_on_the_way_stops_the_run_and_what_moves_arrives(
    befalls: Callable[[World], None], why: str
) -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(
        [("m1", "v11", "h2"), ("m2", "v12", "h2"), ("m3", "v13", "h4")],
        after={"m2": ("m1",), "m3": ("m2",)},
    )
    bench.later(1.0, lambda: befalls(bench.small.world))
    report = bench.run(plan)
    assert report.end is RunEnd.IN_PART
    assert states(report) == [DONE, SKIPPED, SKIPPED]
    assert bench.starts == 1
    assert why in report.migrations[1].reason
    assert any(why in note for note in report.notes)


@pytest.mark.parametrize(
    "befalls", [_network(3), _network(0), _network(1, role=0)], ids=["up", "unavailable", "unused"]
)
def test_networks_that_are_no_trouble(befalls: Callable[[World], None]) -> None:
    bench = Bench()
    befalls(bench.small.world)
    assert bench.run(bench.small.plan(TWO)).end is RunEnd.DONE


def test_without_quorum_nothing_begins_and_what_moves_is_followed_to_its_end() -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})
    gone = Fault(FaultKind.NO_QUORUM)
    bench.later(1.0, lambda: inject(bench.small.world, gone))
    bench.later(200.0, lambda: heal(bench.small.world, gone))
    report = bench.run(plan)
    assert states(report)[0] is DONE
    assert bench.small.host_of("v11") == "h2"
    later = [act for act in bench.trap.acts if act[0] == "start"][1:]
    assert not later or bench.small.clock.monotonic_s() > 200.0

    inject(bench.small.world, gone)
    starts = bench.starts
    with pytest.raises(UnreachableError, match="no node can be believed"):
        bench.run(plan)
    assert bench.starts == starts


def test_too_many_silent_hosts_on_the_way_stop_the_run() -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})

    def fall_silent() -> None:
        for host in ("h3", "h4"):
            inject(bench.small.world, Fault(FaultKind.UNREACHABLE, host=host, lasts_s=120.0))

    bench.later(1.0, fall_silent)
    report = bench.run(plan)
    assert states(report) == [DONE, SKIPPED]
    assert "2 of 4 hosts do not answer" in report.migrations[1].reason


def _ailing(bench: Bench, seconds: float, before: int | None = 6) -> None:
    guest = bench.small.world.guests[bench.small.vm("v11")]
    guest.ails_s, guest.heartbeat = seconds, before


def test_a_guest_that_does_not_answer_any_more_stops_the_run() -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})
    _ailing(bench, 1e9)
    report = bench.run(plan)
    assert states(report) == [DONE, SKIPPED]
    assert report.end is RunEnd.IN_PART
    (note,) = (note for note in report.notes if "heartbeat" in note)
    assert "of v11 was ok on h1, and is lost 60 s after it arrived on h2" in note
    assert bench.starts == 1


def test_the_last_guest_of_a_run_is_looked_after_as_well() -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2")])
    _ailing(bench, 1e9)
    report = bench.run(plan)
    assert any("heartbeat of v11" in note for note in report.notes)
    assert report.end is RunEnd.IN_PART


def test_a_guest_that_answers_again_in_time_holds_the_run_up_and_no_more() -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})
    _ailing(bench, GRACE_S - 20.0)
    report = bench.run(plan)
    assert states(report) == [DONE, DONE]
    first, second = report.migrations
    assert first.ended_at is not None
    assert second.started_at is not None
    assert (second.started_at - first.ended_at).total_seconds() > GRACE_S - 25.0


@pytest.mark.parametrize("before", [None, 2, 4], ids=["no services", "never", "lost before"])
def test_a_guest_that_did_not_answer_before_either_is_no_alarm(before: int | None) -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})
    _ailing(bench, 1e9, before)
    assert states(bench.run(plan)) == [DONE, DONE]


def test_a_guest_that_somebody_moves_on_is_theirs() -> None:
    bench = Bench(slots=1)
    plan = bench.small.plan(IN_TURN, after={"m2": ("m1",)})
    _ailing(bench, 1e9)
    world = bench.small.world

    def on() -> None:
        guest = world.guests[bench.small.vm("v11")]
        if guest.host == "h2":
            world.engine.place(guest, world.machines["h3"])
        else:
            bench.later(world.now_s + 5.0, on)

    bench.later(5.0, on)
    assert states(bench.run(plan)) == [DONE, DONE]


class DiesAt(TrappedGateway):
    """The process ends with the first look after so many seconds."""

    def __init__(self, bench: Bench, at_s: float) -> None:
        super().__init__(bench.small.gateway, Trap())
        self._clock, self._at_s = bench.small.clock, at_s

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        if self._clock.monotonic_s() >= self._at_s:
            raise PowerCut
        return super().look(vms)


def _crash_and_start_again(bench: Bench, at_s: float) -> tuple[str, ...]:
    small, store = bench.small, bench.store
    plan = small.plan(IN_TURN, after={"m2": ("m1",)})
    lease = store.leases.acquire("small", "first", 5.0, small.clock.now())
    gateway = DiesAt(bench, at_s)
    with pytest.raises(PowerCut):
        execute(plan, Charge(WRITING, gateway, store, small.clock, lease))
    small.clock.sleep(600.0)
    with store.leases.hold("small", "second", small.clock) as lease:
        return recover(Charge(WRITING, small.new_gateway(), store, small.clock, lease))


AT = pytest.mark.parametrize("at_s", [1.5, 30.0], ids=["as it moves", "once it has arrived"])


@AT
def test_a_guest_is_compared_with_before_after_a_crash_as_well(at_s: float) -> None:
    bench = Bench(slots=1)
    _ailing(bench, 1e9)
    with pytest.raises(RefusedError, match="the heartbeat of v11 was ok on h1, and is lost"):
        _crash_and_start_again(bench, at_s)
    breaker = bench.store.breakers.of("small")
    assert breaker is not None
    assert "heartbeat of v11" in breaker.reason


@AT
def test_a_guest_that_is_well_after_a_crash_is_no_alarm(at_s: float) -> None:
    bench = Bench(slots=1)
    _ailing(bench, 20.0)
    _crash_and_start_again(bench, at_s)
    assert bench.small.host_of("v11") == "h2"
    assert bench.store.breakers.of("small") is None


def test_a_node_paused_for_weeks_is_left_out_and_the_rest_is_balanced() -> None:
    small = Small()
    small.world.machines["h2"].node_state = NodeState.PAUSED
    small.world.machines["h2"].drain = 2  # drained, once
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(hours=3)
    assert daemon.count(EventKind.MIGRATION_DONE) == 2
    assert {small.host_of("v11"), small.host_of("v12")} <= {"h3", "h4"}
    assert [small.host_of(f"v2{n}") for n in range(1, 5)] == ["h2"] * 4
    assert not daemon.kinds(EventKind.MIGRATION_FAILED, EventKind.CYCLE_FAILED)
    assert MigrationState.DONE in {
        move.state
        for run in daemon.store.journal.runs("small")
        for move in daemon.store.journal.moves(run.id)
    }
