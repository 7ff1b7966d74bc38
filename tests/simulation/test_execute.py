"""Plans carried out in the simulator: what goes well, what goes wrong, and what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from balancer.errors import InputError, RefusedError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute, exit_code
from balancer.execute.progress import NewsKind, OnInterrupt, Progress
from balancer.gateway.port import Gateway, MoveRequest
from balancer.gateway.simulator.actors import move_by_hand
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import inject
from balancer.gateway.simulator.windows import Operation
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState, RunEnd, RunReport, Why
from balancer.model.plan import Plan
from balancer.model.rule import SelectBy, Selector
from balancer.policy.policy import Limits, Policy, TransportPolicy
from balancer.policy.rules.avoid import Avoid
from balancer.store.journal import Change
from balancer.store.leases import Lease
from tests.simulation.small import Small
from tests.simulation.traps import Trap, TrappedGateway
from tests.stores import new_store

WRITING = Policy(transport=TransportPolicy(write_settings=True))
TWO = [("m1", "v11", "h2"), ("m2", "v31", "h4")]


class Bench:
    """A small world, a store, and everything that a run said."""

    def __init__(self, hosts: int = 4, slots: int = 2) -> None:
        self.small = Small(hosts=hosts, slots=slots)
        self.store = new_store()
        self.trap = Trap()
        self.seen: list[Progress] = []
        self.watch: Callable[[Progress], None] = lambda _: None

    def run(
        self,
        plan: Plan,
        policy: Policy = WRITING,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        on_interrupt: OnInterrupt = OnInterrupt.FINISH,
        max_migrations: int | None = None,
    ) -> RunReport:
        gateway = TrappedGateway(self.small.gateway, self.trap)
        with self.store.leases.hold("small", "me", self.small.clock) as lease:
            return execute(
                plan,
                Charge(
                    policy,
                    gateway,
                    self.store,
                    self.small.clock,
                    lease,
                    interrupted=interrupted,
                    on_progress=self.note,
                    on_interrupt=lambda: on_interrupt,
                ),
                max_migrations=max_migrations,
            )

    def note(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.watch(progress)

    def fault(self, fault: Fault) -> None:
        inject(self.small.world, fault)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        def fire(now_s: float) -> None:
            act()

        self.small.world.at(seconds, fire)

    def news(self, kind: NewsKind) -> list[str]:
        return [n.text for seen in self.seen for n in seen.news if n.kind is kind]

    @property
    def starts(self) -> int:
        return sum(act[0] == "start" for act in self.trap.acts)


def exact(name: str) -> Selector:
    return Selector(SelectBy.EXACT, name)


def states(report: RunReport) -> list[MigrationState]:
    return [outcome.state for outcome in report.migrations]


def whys(report: RunReport) -> list[Why | None]:
    return [outcome.why for outcome in report.migrations]


DONE, FAILED, SKIPPED = MigrationState.DONE, MigrationState.FAILED, MigrationState.SKIPPED


def test_a_plan_is_carried_out_in_order_and_told_as_it_goes() -> None:
    bench = Bench()
    plan = bench.small.plan(
        [("m1", "v11", "h2"), ("m2", "v21", "h1")], after={"m2": ("m1",)}, smb=("h1", "h2")
    )
    report = bench.run(plan)
    assert report.end is RunEnd.DONE
    assert exit_code(report.end) == 0
    assert states(report) == [DONE, DONE]
    first, second = report.migrations
    assert first.ended_at is not None
    assert second.started_at is not None
    assert first.ended_at <= second.started_at
    assert first.blackout_s is not None
    assert (bench.small.host_of("v11"), bench.small.host_of("v21")) == ("h2", "h1")
    writes = [act[1:] for act in bench.trap.acts if act[0] == "write"]
    assert sorted(writes[:2]) == [("h1", "smb"), ("h2", "smb")]
    assert sorted(writes[2:]) == [("h1", "compression"), ("h2", "compression")]
    assert bench.seen[-1].done == 2
    assert bench.seen[-1].eta_s == 0.0
    assert all(seen.eta_s is not None for seen in bench.seen)
    assert bench.store.journal.report(1).migrations == report.migrations
    measured = bench.store.history.measurements("small")
    assert [m.transport for m in measured] == [Transport.SMB, Transport.SMB]
    assert all(m.duration_s > 0 and m.bytes_per_s > 0 for m in measured)


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (2, 2)])
def test_slots_count_moves_in_and_out_together(slots: int, at_once: int) -> None:
    bench = Bench(slots=slots)
    plan = bench.small.plan([("m1", "v11", "h2"), ("m2", "v12", "h3"), ("m3", "v41", "h1")])
    assert bench.run(plan).end is RunEnd.DONE
    assert max(seen.running for seen in bench.seen) == at_once


def test_the_lowest_cap_for_the_cluster_wins() -> None:
    bench = Bench()
    policy = Policy(limits=Limits(concurrent_per_cluster=1))
    assert bench.run(bench.small.plan(TWO), policy).end is RunEnd.DONE
    assert max(seen.running for seen in bench.seen) == 1


def test_moves_of_others_take_slots() -> None:
    bench = Bench(slots=1)
    small = bench.small
    small.gateway.start(MoveRequest(small.vm("v42"), "h4", "h3", clustered=True), 1)
    report = bench.run(small.plan([("m1", "v11", "h2"), ("m2", "v31", "h1")]))
    assert report.end is RunEnd.DONE
    started = {o.migration: o.started_at for o in report.migrations}
    assert started["m1"] is not None
    assert started["m2"] is not None
    assert started["m2"] > started["m1"]  # h3 was busy with the foreign one


def test_a_vm_that_we_have_moved_takes_slots_once_somebody_else_moves_it_on() -> None:
    bench = Bench(slots=1)
    small = bench.small
    small.world.guests[small.vm("v11")].assigned_bytes *= 8  # still on its way when m2 is done

    def by_hand(seen: Progress) -> None:
        with small.world.present() as now_s:
            if seen.done == 1:
                move_by_hand(small.world, small.vm("v11"), "h1", now_s)

    bench.watch = by_hand
    moves = [("m1", "v11", "h2"), ("m2", "v31", "h4"), ("m3", "v21", "h3")]
    report = bench.run(small.plan(moves, after={"m2": ("m1",), "m3": ("m2",)}))
    assert states(report) == [DONE, DONE, DONE]
    assert small.host_of("v11") == "h1"
    (back,) = [job for job in small.world.engine.migrations if job.target.name == "h1"]
    asked_at = report.migrations[2].started_at
    assert back.ended_s is not None
    assert asked_at is not None
    assert asked_at >= small.world.time(back.ended_s)  # h2 has one slot


def test_what_was_seen_before_the_process_stood_still_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    small = bench.small
    write, stood = bench.store.journal.move, list[float]()

    def stand_still(lease: Lease, run: int, move: int, change: Change, **more: Any) -> None:
        write(lease, run, move, change, **more)
        if change.state == DONE.value and not stood:  # both had arrived at the look before
            with small.world.present() as now_s:
                move_by_hand(small.world, small.vm("v31"), "h1", now_s)
            small.clock.sleep(100.0)
            stood.append(100.0)

    monkeypatch.setattr(bench.store.journal, "move", stand_still)
    report = bench.run(small.plan(TWO))
    assert stood
    assert states(report)[0] is DONE
    assert states(report)[1] is not DONE
    assert "it is on h1, where nobody asked it to go" in report.migrations[1].reason


def test_a_run_that_ends_since_others_take_its_slots_says_so() -> None:
    bench = Bench(slots=1)
    small = bench.small
    bench.fault(Fault(FaultKind.MOVE_HANGS, vm=small.vm("v12")))
    small.gateway.start(MoveRequest(small.vm("v12"), "h1", "h3", clustered=True), 1)
    report = bench.run(small.plan([("m1", "v11", "h2")]))
    assert states(report) == [SKIPPED]
    assert whys(report) == [Why.LATE]
    assert f"somebody else is migrating {small.vm('v12')}" in report.migrations[0].reason


def test_a_failed_migration_takes_along_what_comes_after_it() -> None:
    bench = Bench()
    small = bench.small
    bench.fault(Fault(FaultKind.INCOMPATIBLE, vm=small.vm("v11"), count=1))
    plan = small.plan([*TWO, ("m3", "v21", "h1")], after={"m3": ("m1",)})
    report = bench.run(plan)
    assert report.end is RunEnd.IN_PART
    assert exit_code(report.end) == 4
    assert states(report) == [FAILED, DONE, SKIPPED]
    assert whys(report) == [Why.PLATFORM, None, Why.DEPENDENCY]
    assert report == dataclasses.replace(
        bench.store.journal.report(1), started_at=report.started_at, notes=report.notes
    )
    assert report.migrations[0].code == 0x80071741
    assert "processor" in report.migrations[0].reason
    assert report.migrations[2].reason == "it comes after m1 (failed)"
    assert bench.starts == 2


def test_what_passes_is_tried_again_and_what_does_not_is_given_up() -> None:
    bench = Bench()
    small = bench.small
    reset = Fault(FaultKind.MOVE_FAILS, vm=small.vm("v11"), code=0x80072746, percent=30, count=1)
    bench.fault(reset)
    bench.fault(dataclasses.replace(reset, vm=small.vm("v31"), count=None))
    report = bench.run(small.plan(TWO))
    assert states(report) == [DONE, FAILED]
    assert whys(report) == [None, Why.PLATFORM]
    assert report.migrations[1].code == 0x80072746
    assert bench.starts == 2 + 3
    assert len(bench.news(NewsKind.RETRY)) == 1 + 2


def test_a_lost_reply_is_resolved_by_looking() -> None:
    bench = Bench()
    start = "Start-LbMigration"
    bench.fault(Fault(FaultKind.REPLY_LOST, host="h1", function=start, count=1))
    bench.fault(Fault(FaultKind.REQUEST_LOST, host="h3", function=start, count=1))
    report = bench.run(bench.small.plan(TWO))
    assert report.end is RunEnd.DONE
    assert len(bench.news(NewsKind.LOST)) == 2
    starts = [act[1] for act in bench.trap.acts if act[0] == "start"]
    assert starts.count(bench.small.vm("v11")) == 1  # it was done: never asked for twice
    assert starts.count(bench.small.vm("v31")) == 2  # seen at rest for a minute, then again
    at = [line.at for line in bench.store.journal.transitions(1) if line.subject == 2]
    assert max(b - a for a, b in pairwise(at)) >= timedelta(seconds=60)


def test_a_request_that_cannot_be_sent_is_tried_again() -> None:
    bench = Bench()
    bench.fault(Fault(FaultKind.UNREACHABLE, host="h1", function="Start-LbMigration", count=1))
    report = bench.run(bench.small.plan(TWO))
    assert report.end is RunEnd.DONE
    assert whys(report) == [None, None]
    bench.fault(Fault(FaultKind.UNREACHABLE, host="h2", function="Start-LbMigration"))
    report = bench.run(bench.small.plan([("m1", "v21", "h3")]))
    assert whys(report) == [Why.HOST_UNREACHABLE]
    moves = [move for progress in bench.seen for move in progress.moves]
    assert moves[-1].why is Why.HOST_UNREACHABLE, "the metrics count by it"


def test_a_process_that_stood_still_before_it_asked_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    journal, write = bench.store.journal, bench.store.journal.move

    def stopped(lease: Lease, run: int, move: int, change: Change, **more: Any) -> None:
        if change.state == MigrationState.INTENDED:
            monkeypatch.setattr(journal, "move", write)
            inject(bench.small.world, Fault(FaultKind.NODE_PAUSED, host="h2"))
            bench.small.clock.sleep(1800.0)
        write(lease, run, move, change, **more)

    monkeypatch.setattr(journal, "move", stopped)
    report = bench.run(bench.small.plan([("m1", "v11", "h2")]))
    assert states(report) == [SKIPPED]
    assert whys(report) == [Why.TARGET]
    assert bench.starts == 0


def test_a_migration_that_hangs_is_cancelled_at_its_deadline() -> None:
    bench = Bench()
    bench.fault(Fault(FaultKind.MOVE_HANGS, vm=bench.small.vm("v11"), percent=40, count=1))
    report = bench.run(bench.small.plan(TWO))
    assert report.end is RunEnd.IN_PART
    assert states(report) == [MigrationState.CANCELLED, DONE]
    assert whys(report) == [Why.LATE, None]
    assert "not over after" in report.migrations[0].reason
    assert bench.small.host_of("v11") == "h1"
    assert ("cancel", bench.small.vm("v11")) in bench.trap.acts


def test_a_cancellation_that_got_lost_is_asked_for_again() -> None:
    bench = Bench()
    bench.fault(Fault(FaultKind.MOVE_HANGS, vm=bench.small.vm("v11"), percent=40, count=1))
    bench.fault(Fault(FaultKind.REQUEST_LOST, "h1", function="Stop-LbMigration", count=2))
    report = bench.run(bench.small.plan(TWO))
    assert states(report) == [MigrationState.CANCELLED, DONE]
    assert not bench.news(NewsKind.STOPPED)
    assert bench.trap.acts.count(("cancel", bench.small.vm("v11"))) == 3


def test_a_vm_that_ends_up_elsewhere_stops_the_run() -> None:
    bench = Bench()
    small = bench.small
    bench.later(3.0, lambda: inject(small.world, Fault(FaultKind.HOST_DIES, host="h1")))
    # The cluster restarts h1's VMs on h2: not where the plan sends this one.
    elsewhere = [("m1", "v11", "h3"), ("m2", "v31", "h4"), ("m3", "v32", "h4")]
    plan = small.plan(elsewhere, after={"m3": ("m1", "m2")})
    report = bench.run(plan)
    assert small.host_of("v11") not in ("h1", "h3")
    assert report.end is RunEnd.IN_PART
    assert report.migrations[0].state is FAILED
    assert report.migrations[2].state is SKIPPED
    assert whys(report) == [Why.ASTRAY, None, Why.ALARM]
    assert bench.starts == 2


@pytest.mark.parametrize("how", list(OnInterrupt))
def test_interrupted_it_begins_nothing_more_and_cleans_up(how: OnInterrupt) -> None:
    bench = Bench(slots=1)
    small = bench.small
    plan = small.plan([("m1", "v11", "h2"), ("m2", "v12", "h2")], smb=("h1", "h2"))
    report = bench.run(plan, interrupted=lambda: small.clock.monotonic_s() > 5, on_interrupt=how)
    assert report.end is RunEnd.CANCELLED
    assert exit_code(report.end) == 130
    first = DONE if how is OnInterrupt.FINISH else MigrationState.CANCELLED
    assert states(report) == [first, SKIPPED]
    assert set(whys(report)) <= {None, Why.INTERRUPTED}
    assert whys(report)[1] is Why.INTERRUPTED
    assert set(small.options().values()) == {1}
    assert not small.gateway.observe().in_flight
    assert bench.starts == 1


def test_interrupted_before_anything_it_touches_nothing() -> None:
    bench = Bench()
    report = bench.run(bench.small.plan(TWO), interrupted=lambda: True)
    assert report.end is RunEnd.CANCELLED
    assert not bench.trap.acts


def test_a_setting_that_cannot_be_written_costs_speed_only() -> None:
    bench = Bench()
    small = bench.small
    plan = small.plan([("m1", "v11", "h2")], smb=("h1", "h2"))
    small.world.machines["h2"].option = 0  # somebody changed it since it was planned
    with pytest.raises(RefusedError, match="h2"):
        bench.run(plan)
    small.world.machines["h2"].option = 1

    gateway = _ChangesSetting(small)
    with bench.store.leases.hold("small", "me", small.clock) as lease:
        report = execute(plan, Charge(WRITING, gateway, bench.store, small.clock, lease))
    assert report.end is RunEnd.DONE
    assert small.options() == {"h1": 1, "h2": 0, "h3": 1, "h4": 1}
    assert any("somebody else changed it" in note for note in report.notes)
    moved = bench.store.history.measurements("small")
    assert [m.transport for m in moved] == [Transport.TCP]  # SMB on one side only falls back


class _ChangesSetting(TrappedGateway):
    """Somebody sets h2 to TCP between the reading of it and our writing."""

    def __init__(self, small: Small) -> None:
        super().__init__(small.gateway, Trap())
        self._small = small

    def read_transport(self, host: str) -> Transport:
        if host == "h2" and self._small.options()["h2"] == 1:
            self._small.world.machines["h2"].option = 0
        return super().read_transport(host)


def test_settings_wait_while_others_migrate_there() -> None:
    bench = Bench()
    small = bench.small
    plan = small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")], smb=("h1", "h2"))
    small.gateway.start(MoveRequest(small.vm("v22"), "h2", "h4", clustered=True), 1)
    report = bench.run(plan)
    assert report.end is RunEnd.DONE
    started = {o.migration: o.started_at for o in report.migrations}
    assert started["m1"] is not None
    assert started["m2"] is not None
    assert started["m2"] < started["m1"]  # m2 needs no setting and does not wait
    assert set(small.options().values()) == {1}
    assert [m.transport for m in bench.store.history.measurements("small")].count(
        Transport.SMB
    ) == 1


def test_a_migration_made_unsafe_meanwhile_is_left_out() -> None:
    bench = Bench()
    small = bench.small
    plan = small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")], after={"m2": ("m1",)})

    def pause() -> None:
        inject(small.world, Fault(FaultKind.NODE_PAUSED, host="h4"))

    bench.later(2.0, pause)
    report = bench.run(plan)
    assert report.end is RunEnd.IN_PART
    assert states(report) == [DONE, SKIPPED]
    assert "h4" in report.migrations[1].reason
    assert whys(report) == [None, Why.TARGET]
    assert bench.starts == 1


def test_what_waited_for_a_slot_was_not_held_all_the_while() -> None:
    bench = Bench()
    guest = bench.small.world.guests[bench.small.vm("v11")]
    guest.operation = Operation.BACKING_UP
    # The other one takes the only slot for longer than a move is held.
    bench.fault(Fault(FaultKind.MOVE_HANGS, vm=bench.small.vm("v31"), percent=40, count=1))
    bench.later(700.0, lambda: setattr(guest, "operation", None))
    policy = Policy(limits=Limits(concurrent_per_cluster=1))
    report = bench.run(bench.small.plan(TWO), policy)
    assert states(report) == [DONE, MigrationState.CANCELLED]


def test_a_vm_that_somebody_moved_is_left_alone() -> None:
    bench = Bench()
    small = bench.small
    plan = small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")], after={"m2": ("m1",)})
    request = MoveRequest(small.vm("v31"), "h3", "h1", clustered=True)
    gateway: Gateway = small.new_gateway()
    bench.later(1.0, lambda: gateway.start(request, 10**9))
    report = bench.run(plan)
    assert states(report)[1] is SKIPPED
    assert whys(report)[1] is Why.STALE
    assert small.host_of("v31") == "h1"


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_cap_keeps_the_earliest(most: int) -> None:
    bench = Bench()
    plan = bench.small.plan([("m1", "v11", "h2"), ("m2", "v31", "h4")], after={"m2": ("m1",)})
    report = bench.run(plan, max_migrations=most)
    assert states(report) == [DONE] * most + [SKIPPED] * (2 - most)
    assert whys(report) == [None] * most + [Why.CAP] * (2 - most)
    assert bench.starts == most
    assert report.end is (RunEnd.REFUSED, RunEnd.IN_PART, RunEnd.DONE)[most]


def test_plans_that_are_not_for_here_and_now_are_refused_before_anything() -> None:
    bench = Bench()
    small = bench.small
    plan = small.plan(TWO)
    bad: Sequence[tuple[Plan, Policy, type[Exception], str]] = [
        (dataclasses.replace(plan, cluster="other"), WRITING, InputError, "other"),
        (dataclasses.replace(plan, cluster="smal"), WRITING, InputError, "smal"),
        (dataclasses.replace(plan, expires_at=plan.created_at), WRITING, InputError, "expired"),
        (
            plan,
            Policy(rules=(Avoid(vms=(exact("v11"),), hosts=(exact("h2"),)),)),
            RefusedError,
            "not safe",
        ),
    ]
    for wrong, policy, kind, text in bad:
        with pytest.raises(kind, match=text):
            bench.run(wrong, policy)
    small.gateway.start(MoveRequest(small.vm("v11"), "h1", "h3", clustered=True), 1)
    small.clock.sleep(60.0)
    with pytest.raises(InputError, match="out of date"):
        bench.run(plan)
    assert not bench.trap.acts
    assert not bench.store.journal.runs("small")


def test_a_plan_names_its_cluster_in_any_case() -> None:
    bench = Bench()
    plan = dataclasses.replace(bench.small.plan(TWO), cluster="SMALL")
    assert bench.run(plan).end is RunEnd.DONE


def test_too_much_silence_is_no_time_to_move_anything() -> None:
    bench = Bench(hosts=5)
    plan = bench.small.plan(TWO)
    bench.small.gateway.observe()
    for host in ("h3", "h4"):
        bench.fault(Fault(FaultKind.UNREACHABLE, host=host))
    with pytest.raises(RefusedError, match="do not answer"):
        bench.run(plan)
