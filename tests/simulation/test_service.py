"""The daemon's loop over days of virtual time: schedules, modes, requests, freezes, hand-over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from balancer.clock import VirtualClock
from balancer.config import ServicePart
from balancer.errors import BalancerError, ExitCode, RefusedError
from balancer.execute.progress import OnInterrupt
from balancer.gateway.control import ControlName
from balancer.gateway.port import Gateway
from balancer.gateway.simulator.windows import NodeState
from balancer.model.outcome import MigrationState
from balancer.policy.load import parse_policy
from balancer.service.alone import carry_out_alone
from balancer.service.desk import Desk, Ended
from balancer.service.events import Event, EventKind
from balancer.service.loop import Setup
from balancer.service.stop import AbandonedError
from balancer.service.verbs import VERBS, Verb
from balancer.store.faults import StoreError
from balancer.store.leases import LeaseLostError
from balancer.store.requests import HowToStop, Request, RequestState
from balancer.store.standing import Approval, Freeze, Freezes, Marks, Verdict
from balancer.unattended import AutoPart, HooksPart, SchedulePart
from tests.simulation.daemon import AWAY, Daemon, setup
from tests.simulation.draining import is_paused
from tests.simulation.small import Small

K = EventKind


def test_hours_of_auto_move_what_must_be_moved_and_then_nothing() -> None:
    small = Small()
    daemon = Daemon(small, setup(small))
    daemon.run(hours=6)
    assert small.host_of("v11") != "h1"
    assert small.host_of("v12") != "h1"
    assert daemon.count(K.MIGRATION_DONE) == 2
    assert daemon.count(K.CYCLE_STARTED) in range(23, 26)
    assert daemon.count(K.CYCLE_FAILED) == 0
    assert daemon.count(K.SAMPLED) >= 6 * 60 - 5
    assert daemon.turns < 6 * 180 + 60  # one every 20 s, and a few for what was due
    assert daemon.times(K.CYCLE_STARTED)[0] - daemon.times(K.LEASE_TAKEN)[0] == timedelta(
        seconds=30
    )


def test_a_loop_is_made_while_the_store_fails_and_begins_once_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> str:
        raise StoreError("the database is away")

    small = Small()
    with monkeypatch.context() as away:
        away.setattr(Marks, "identity", fail)
        daemon = Daemon(small, setup(small))  # as a reload does, which must not end the service
        daemon.run(minutes=2)
        assert daemon.count(K.STORE_FAILED) > 1
        assert daemon.count(K.LEASE_TAKEN) == 0
    daemon.run(minutes=2)
    assert daemon.count(K.LEASE_TAKEN) == 1


def test_another_password_is_logged_in_with_from_the_next_turn_on() -> None:
    small = Small()
    logins: list[str | None] = []

    def made(login: str) -> Setup:
        def connect() -> Gateway:
            logins.append(login)
            return small.new_gateway()

        return replace(setup(small, connect=connect), login=login)

    daemon = Daemon(small, made("old"))
    daemon.run(minutes=2)
    daemon.loop.replace(made("old"))
    daemon.run(minutes=2)
    daemon.loop.replace(made("new"))
    daemon.run(minutes=2)
    assert logins == ["old", "new"]
    assert daemon.loop.leads


def test_the_nights_about_a_change_of_the_clocks_have_a_cycle_each() -> None:
    small = Small(hosts=2, each=1, clock=VirtualClock(datetime(2026, 3, 28, tzinfo=UTC)))
    nightly = SchedulePart(cron="30 2 * * *", timezone="Europe/Berlin", sample_every=3600.0)
    daemon = Daemon(small, setup(small, "", schedule=nightly))
    daemon.run(days=4)
    zone = ZoneInfo("Europe/Berlin")
    began = [at.astimezone(zone) for at in daemon.times(K.CYCLE_STARTED)]
    assert [at.day for at in began if at.hour == 2] == [28, 30, 31]
    assert [at.day for at in began] == [28, 29, 30, 31]  # 02:30 does not exist on the 29th


def test_a_nightly_cycle_survives_the_start_delay_a_store_fault_and_a_restart() -> None:
    nightly = SchedulePart(cron="30 2 * * *")
    small = Small(clock=VirtualClock(datetime(2026, 3, 26, 2, 29, 50, tzinfo=UTC)))
    daemon = Daemon(small, setup(small, "", schedule=nightly))
    daemon.run(minutes=20)
    assert [f"{at:%d %H:%M}" for at in daemon.times(K.CYCLE_STARTED)] == ["26 02:30"]

    daemon.run(days=1, minutes=-21)  # to 02:28 of the next night
    with pytest.MonkeyPatch.context() as away:

        def fail(*_: object) -> None:
            raise StoreError("the disk is full", remedy="make room")

        away.setattr(Freezes, "of", fail)
        daemon.run(minutes=15)
    daemon.run(minutes=20)
    assert [f"{at:%d %H:%M}" for at in daemon.times(K.CYCLE_STARTED)][1:] == ["27 02:43"]

    daemon.loop.close()
    again = Daemon(small, setup(small, "", schedule=nightly), daemon.store)
    again.run(minutes=20)  # it is 03:04: the night had its cycle
    assert again.count(K.CYCLE_STARTED) == 0
    moved = SchedulePart(cron="0 3 * * *")  # four minutes ago, when it did not say so yet
    again.loop.replace(setup(small, "", schedule=moved))
    again.run(minutes=20)
    assert again.count(K.CYCLE_STARTED) == 0


NIGHTLY = SchedulePart(cron="30 2 * * *")


def away_at_night(policy: str) -> tuple[Small, Daemon]:
    """Return a daemon that was away from after the cycle of one night until 05:00 of the next."""
    small = Small(clock=VirtualClock(datetime(2026, 3, 25, 2, 20, tzinfo=UTC)))
    before = Daemon(small, setup(small, policy, schedule=NIGHTLY))
    before.run(minutes=40)
    assert before.count(K.CYCLE_STARTED) == 1
    before.loop.close()
    small.clock.sleep(26 * 3600)
    return small, Daemon(small, setup(small, policy, schedule=NIGHTLY), store=before.store)


def test_a_nightly_cycle_that_was_missed_is_made_up_for_while_its_window_is_open() -> None:
    _, daemon = away_at_night("windows: [{from: '02:00', to: '06:00', timezone: UTC}]")
    daemon.run(hours=3)
    assert [f"{at:%H:%M}" for at in daemon.times(K.CYCLE_STARTED)] == ["05:00"]
    assert daemon.count(K.CYCLE_MISSED) == 0


@pytest.mark.parametrize(
    "policy",
    ["", "windows: [{from: '02:00', to: '04:00'}, {from: '04:30', to: '06:00'}]"],
    ids=["no windows", "another window"],
)
def test_one_that_is_not_made_up_for_is_told_of_once(policy: str) -> None:
    small, daemon = away_at_night(policy)
    daemon.run(hours=1)
    (missed,) = daemon.kinds(K.CYCLE_MISSED)
    assert missed.data["due_at"] == "2026-03-26T02:30:00+00:00"
    assert "the next is due at 2026-03-27 02:30 UTC" in missed.text
    daemon.loop.close()
    again = Daemon(small, setup(small, policy, schedule=NIGHTLY), store=daemon.store)
    again.run(days=1)
    assert again.count(K.CYCLE_MISSED) == 0
    assert [f"{at:%d %H:%M}" for at in again.times(K.CYCLE_STARTED)] == ["27 02:30"]


def test_trust_grows_from_one_migration_a_run() -> None:
    small = Small(each=8)
    names = ", ".join(f"v1{n}" for n in range(1, 9))
    rule = f"rules: [{{avoid: {{vms: [{names}], hosts: [h1]}}}}]"
    daemon = Daemon(small, setup(small, rule))
    daemon.run(hours=2)
    assert [event.data["migrations"] for event in daemon.kinds(K.RUN_STARTED)] == [1, 2, 4, 1]

    other = Small(each=8)
    service = ServicePart(auto=AutoPart(first_run=0))
    daemon = Daemon(other, setup(other, rule, service=service))
    daemon.run(hours=1)
    assert [event.data["migrations"] for event in daemon.kinds(K.RUN_STARTED)] == [8]


def test_observe_moves_nothing_and_plans_nothing() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, mode="observe"))
    daemon.run(hours=3)
    assert daemon.count(K.CYCLE_ENDED) >= 12
    assert daemon.count(K.PLANNED) == daemon.count(K.RUN_STARTED) == 0


def test_recommend_waits_for_a_person() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, mode="recommend"))
    daemon.run(minutes=5)
    (wanted,) = daemon.kinds(K.APPROVAL_WANTED)
    assert small.host_of("v11") == "h1"
    now = daemon.clock.now()
    daemon.store.approvals.give(
        Approval(wanted.plan, "small", Verdict.APPROVED, "a person", now, "")
    )
    request = daemon.ask("approve", plan=wanted.plan)
    daemon.run(minutes=5)
    answered = daemon.store.requests.get(request)
    assert (answered.state, answered.exit_code) == (RequestState.DONE, 0)
    assert answered.plan == wanted.plan
    assert small.host_of("v11") != "h1"
    assert daemon.kinds(K.PLAN_APPROVED)[0].data["by"] == "a person"


def test_what_nobody_approved_or_somebody_rejected_is_not_carried_out() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, mode="recommend"))
    daemon.run(minutes=5)
    plan = daemon.kinds(K.APPROVAL_WANTED)[0].plan
    unasked = daemon.ask("approve", plan=plan)
    daemon.run(minutes=1)
    assert daemon.store.requests.get(unasked).state is RequestState.REFUSED
    rejected = Approval(plan, "small", Verdict.REJECTED, "a person", daemon.clock.now(), "not now")
    daemon.store.approvals.give(rejected)
    again = daemon.store.approvals.give(
        Approval(plan, "small", Verdict.APPROVED, "another", daemon.clock.now(), "")
    )
    assert again == rejected
    late = daemon.ask("approve", plan=plan)
    daemon.run(minutes=1)
    assert daemon.store.requests.get(late).exit_code == 3
    assert "not now" in daemon.store.requests.get(late).text
    assert daemon.count(K.PLAN_REJECTED) == 1
    daemon.run(hours=1)
    assert daemon.count(K.PLAN_EXPIRED) >= 2
    assert daemon.count(K.RUN_STARTED) == 0
    expired = daemon.kinds(K.APPROVAL_WANTED)[1].plan
    daemon.store.approvals.give(
        Approval(expired, "small", Verdict.APPROVED, "a person", daemon.clock.now(), "")
    )
    stale = daemon.ask("approve", plan=expired)
    daemon.run(minutes=1)
    assert daemon.store.requests.get(stale).exit_code == 2
    assert "expired" in daemon.store.requests.get(stale).text


def test_windows_bind_scheduled_runs() -> None:
    small = Small()  # the clock begins at midnight
    daemon = Daemon(small, setup(small, f"{AWAY}\nwindows: [{{from: 03:00, to: 04:00}}]"))
    daemon.run(hours=2)
    assert daemon.count(K.RUN_STARTED) == 0
    assert {event.data["why"] for event in daemon.kinds(K.CYCLE_SKIPPED)} == {"window"}
    daemon.run(hours=2)
    assert daemon.count(K.MIGRATION_DONE) == 2
    assert all(at.hour == 3 for at in daemon.times(K.MIGRATION_DONE))


def test_nothing_starts_that_would_not_end_inside_its_window() -> None:
    small = Small()
    daemon = Daemon(
        small,
        setup(
            small,
            f"{AWAY}\nwindows: [{{from: 00:00, to: 00:01}}, {{from: 05:00, to: 06:00}}]",
            schedule=SchedulePart(every=900.0),
            service=ServicePart(start_delay=50.0),
        ),
    )
    daemon.run(hours=1)
    assert daemon.count(K.MIGRATION_STARTED) == 0
    (skipped,) = daemon.kinds(K.MIGRATION_SKIPPED)
    assert "would not end inside the window" in skipped.text
    daemon.run(hours=6)
    assert daemon.count(K.MIGRATION_DONE) == 2


def test_a_freeze_by_us_and_one_that_windows_sets() -> None:
    small = Small()
    daemon = Daemon(small, setup(small))
    daemon.store.freezes.freeze(Freeze("small", "a person", daemon.clock.now(), "patch night"))
    daemon.run(hours=1)
    assert daemon.count(K.RUN_STARTED) == 0
    assert "patch night" in daemon.kinds(K.FROZEN)[0].text
    refused = daemon.ask("apply")
    daemon.run(minutes=2)
    assert daemon.store.requests.get(refused).exit_code == 3
    small.new_gateway().write_control(ControlName.FREEZE, "", "no moves, says Bob", 0)
    daemon.store.freezes.thaw("small")
    daemon.run(hours=1)
    assert daemon.count(K.RUN_STARTED) == 0
    assert "Bob" in daemon.kinds(K.FROZEN)[-1].text
    small.new_gateway().write_control(ControlName.FREEZE, "no moves, says Bob", "", 0)
    daemon.run(hours=1)
    assert daemon.count(K.MIGRATION_DONE) == 2


def test_a_freeze_in_the_cluster_that_was_lifted_refuses_nobody() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, schedule=SchedulePart(every=21600.0, sample_every=21600.0)))
    small.new_gateway().write_control(ControlName.FREEZE, "", "hands off, says Bob", 0)
    daemon.run(minutes=2)
    assert "Bob" in daemon.kinds(K.FROZEN)[0].text
    small.new_gateway().write_control(ControlName.FREEZE, "hands off, says Bob", "", 0)
    applied = daemon.ask("apply", anytime=True)
    daemon.run(minutes=5)
    assert daemon.store.requests.get(applied).exit_code == 0
    assert daemon.count(K.MIGRATION_DONE) == 2


def test_in_a_freeze_a_host_is_taken_back_as_long_as_nothing_moves() -> None:
    small = Small()
    daemon = Daemon(small, setup(small))
    small.world.machines["h1"].node_state = NodeState.PAUSED
    daemon.store.freezes.freeze(Freeze("small", "a person", daemon.clock.now(), "patch night"))
    refused = daemon.ask("resume", hosts=["h1"], restore=True)
    daemon.run(minutes=5)
    assert daemon.store.requests.get(refused).exit_code == 3
    assert is_paused(small, "h1")
    resumed = daemon.ask("resume", hosts=["h1"])
    daemon.run(minutes=5)
    assert daemon.store.requests.get(resumed).exit_code == 0
    assert not is_paused(small, "h1")


def test_a_restart_brings_no_cycle_of_its_own() -> None:
    small = Small()
    first = Daemon(small, setup(small))
    first.run(minutes=20)
    assert first.count(K.CYCLE_STARTED) == 2
    last = first.times(K.CYCLE_STARTED)[-1]
    first.loop.close()
    second = Daemon(small, setup(small), store=first.store)
    second.run(minutes=9)
    assert second.count(K.CYCLE_STARTED) == 0
    second.run(minutes=10)
    assert second.times(K.CYCLE_STARTED) == [last + timedelta(minutes=15)]


def test_a_second_daemon_stands_by_and_takes_over_from_one_that_died() -> None:
    small = Small()
    first = Daemon(small, setup(small))
    first.run(minutes=1)
    second = Daemon(small, setup(small), store=first.store)
    second.run(seconds=30)
    assert second.count(K.STANDING_BY) == 1
    assert second.count(K.SAMPLED) == 0
    second.run(minutes=2)  # the first one does not move any more
    assert second.count(K.LEASE_TAKEN) == 1
    assert second.loop.leads
    first.run(seconds=30)
    assert first.count(K.LEASE_LOST) == 1
    assert not first.loop.leads


def test_two_daemons_with_a_store_each_are_kept_apart_by_the_cluster() -> None:
    small = Small()
    first = Daemon(small, setup(small))
    first.run(minutes=1)
    second = Daemon(small, setup(small))
    second.run(minutes=2)
    assert second.count(K.LEASE_TAKEN) == 0
    assert second.count(K.STANDING_BY) == 1
    second.run(minutes=3)  # the first one is silent for longer than its lease in the cluster
    assert second.count(K.LEASE_TAKEN) == 1
    moved = second.count(K.MIGRATION_DONE)
    first.run(minutes=30)
    assert first.count(K.LEASE_LOST) == 1
    assert first.count(K.MIGRATION_DONE) + moved <= 2


def test_a_request_while_nothing_runs_and_one_that_is_no_verb() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, mode="observe"))
    done, unknown = daemon.ask("apply", max_migrations=1), daemon.ask("dance")
    daemon.run(minutes=5)
    nothing = daemon.ask("cancel")
    daemon.run(minutes=1)
    assert daemon.store.requests.get(done).exit_code == 0
    assert daemon.count(K.MIGRATION_DONE) == 1
    assert daemon.store.requests.get(unknown).exit_code == 2
    assert daemon.store.requests.get(nothing).text == "nothing is running"
    run = daemon.store.journal.runs("small")[0]
    assert run.plan == daemon.store.requests.get(done).plan
    states = [move.state for move in daemon.store.journal.moves(run.id)]
    assert states == [MigrationState.DONE]


def slow_plan(small: Small) -> str:
    """Return a policy by which many VMs move, two at a time."""
    del small
    names = ", ".join(f"v1{n}" for n in range(1, 9))
    return f"rules: [{{avoid: {{vms: [{names}], hosts: [h1]}}}}]"


class Meddler:
    """Does something once, when a migration has been seen to start."""

    def __init__(self, daemon: Daemon, act: Callable[[], object]) -> None:
        self._daemon, self._act, self.done = daemon, act, False
        daemon.bus.subscribe("meddler", self.hear)

    def hear(self, event: Event) -> None:
        if event.kind is K.MIGRATION_STARTED and not self.done:
            self.done = True
            self._act()


def busy(**more: Any) -> tuple[Small, Daemon]:
    small = Small(each=8)
    service = ServicePart(auto=AutoPart(first_run=0))
    return small, Daemon(small, setup(small, slow_plan(small), service=service), **more)


def test_a_freeze_during_a_run_is_honoured_within_a_poll() -> None:
    small, daemon = busy()
    Meddler(daemon, lambda: small.gateway.write_control(ControlName.FREEZE, "", "stop it", 0))
    daemon.run(minutes=10)
    frozen = daemon.times(K.FROZEN)[0]
    assert all(at - frozen <= timedelta(seconds=2) for at in daemon.times(K.MIGRATION_STARTED))
    (end,) = daemon.kinds(K.RUN_ENDED)
    assert end.data["end"] == "cancelled"
    assert end.data["done"] == daemon.count(K.MIGRATION_STARTED) < 8


@pytest.mark.parametrize("how", ["finish", "cancel"])
def test_cancel_lets_arrive_what_moves_or_cancels_it(how: str) -> None:
    small, daemon = busy()
    Meddler(daemon, lambda: daemon.ask("cancel", in_flight=how))
    daemon.run(minutes=10)
    (end,) = daemon.kinds(K.RUN_ENDED)
    assert end.data["end"] == "cancelled"
    assert daemon.store.requests.latest("small")[0].state is RequestState.DONE
    if how == "finish":
        assert end.data["cancelled"] == 0
        assert end.data["done"] == daemon.count(K.MIGRATION_STARTED)
    else:
        assert end.data["cancelled"] == daemon.count(K.MIGRATION_STARTED)
    assert not daemon.store.journal.open_moves("small")
    assert small.host_of("v28") == "h2"


def test_a_request_can_be_cancelled_by_its_number() -> None:
    _, daemon = busy()
    request = daemon.ask("apply")

    def withdraw() -> None:
        daemon.store.requests.cancel(request, HowToStop.FINISH, daemon.clock.now(), 130)

    Meddler(daemon, withdraw)
    daemon.run(minutes=10)
    answered = daemon.store.requests.get(request)
    assert (answered.state, answered.exit_code) == (RequestState.CANCELLED, 130)
    waiting = daemon.ask("apply")
    assert daemon.store.requests.cancel(
        waiting, HowToStop.FINISH, daemon.clock.now(), 130
    ).state is (RequestState.CANCELLED)


def test_a_drain_pre_empts_a_rebalance_once_what_moves_has_arrived() -> None:
    served: list[tuple[str, int]] = []

    def drain(desk: Desk, request: Request) -> Ended:
        served.append((request.verb, len(desk.gateway.observe().in_flight)))
        return Ended(ExitCode.DONE, "drained")

    small, daemon = busy(verbs=VERBS | {"drain": Verb(drain, preempts=True)})
    del small
    Meddler(daemon, lambda: daemon.ask("drain"))
    daemon.run(minutes=10)
    assert served == [("drain", 0)]
    first = daemon.kinds(K.RUN_ENDED)[0]
    assert first.data["end"] == "cancelled"
    assert first.data["cancelled"] == 0
    daemon.run(minutes=30)
    assert sum(int(event.data["done"] or 0) for event in daemon.kinds(K.RUN_ENDED)) == 8


@pytest.mark.parametrize("how", list(OnInterrupt))
def test_a_stop_finishes_or_cancels_what_moves(how: OnInterrupt) -> None:
    _, daemon = busy()

    def stop() -> None:
        daemon.stopping.how = how

    Meddler(daemon, stop)
    daemon.run(minutes=10)
    (end,) = daemon.kinds(K.RUN_ENDED)
    assert end.data["end"] == "cancelled"
    assert (end.data["cancelled"] == 0) == (how is OnInterrupt.FINISH)
    daemon.loop.close()
    assert daemon.store.leases.current("small", daemon.clock.now()) is None
    assert daemon.small.gateway.read_control().lease.endswith("|ended")


def test_a_stop_that_takes_too_long_leaves_the_rest_to_the_next_start() -> None:
    small, daemon = busy()
    request = daemon.ask("apply")

    def abandon() -> None:
        daemon.stopping.how, daemon.stopping.abandon = OnInterrupt.FINISH, True

    Meddler(daemon, abandon)
    with pytest.raises(AbandonedError):
        daemon.run(minutes=10)
    assert daemon.store.journal.open_moves("small")
    small.clock.sleep(61)
    after = Daemon(small, setup(small, "", mode="observe"), store=daemon.store)
    after.run(minutes=10)
    assert not after.store.journal.open_moves("small")
    assert after.store.requests.get(request).exit_code == 4
    assert after.count(K.MIGRATION_STARTED) == 0


def test_a_cluster_that_cannot_be_reached_and_comes_back() -> None:
    small = Small()
    for machine in small.world.machines.values():
        machine.powered = False
    daemon = Daemon(small, setup(small))
    daemon.run(minutes=10)
    assert daemon.count(K.SAMPLE_FAILED) >= 8
    assert daemon.count(K.LEASE_TAKEN) == daemon.count(K.CYCLE_STARTED) == 0
    for machine in small.world.machines.values():
        machine.powered = True
    daemon.run(minutes=40)
    assert daemon.count(K.LEASE_TAKEN) == 1
    assert daemon.count(K.CYCLE_ENDED) >= 1


def test_a_host_that_falls_silent_is_told_once_and_again_when_it_is_back() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, "", mode="observe"))
    daemon.run(minutes=3)
    small.world.machines["h3"].powered = False
    daemon.run(minutes=10)
    small.world.machines["h3"].powered = True
    daemon.run(minutes=10)
    assert [event.subject for event in daemon.kinds(K.HOST_LOST)] == ["h3"]
    assert [event.subject for event in daemon.kinds(K.HOST_BACK)] == ["h3"]


def test_hooks_are_run_around_a_run_and_one_that_fails_calls_it_off(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = 'echo "$BALANCER_HOOK $BALANCER_CLUSTER $BALANCER_MIGRATIONS $BALANCER_END" >> "$0"'
    tell = ["/bin/sh", "-c", script, str(said)]
    small = Small()
    daemon = Daemon(small, setup(small, hooks=HooksPart(before_run=tell, after_run=tell)))
    daemon.run(minutes=5)
    assert said.read_text().split("\n")[:2] == ["before_run small 1 ", "after_run small 1 done"]
    assert daemon.count(K.HOOK_RAN) == 2

    other = Small()
    no = HooksPart(before_run=["/bin/sh", "-c", "echo the backup runs; exit 3"])
    daemon = Daemon(other, setup(other, hooks=no))
    daemon.run(minutes=5)
    assert daemon.count(K.RUN_STARTED) == 0
    assert daemon.kinds(K.HOOK_FAILED)[0].data["exit_code"] == 3
    assert "the backup runs" in daemon.kinds(K.CYCLE_FAILED)[0].text


@pytest.mark.parametrize(
    ("error", "end"),
    [(RefusedError("not safe now"), "refused"), (StoreError("the disk is full"), "failed")],
)
def test_a_run_that_ends_with_an_error_has_its_second_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BalancerError, end: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    said = tmp_path / "said"
    script = 'echo "$BALANCER_HOOK $BALANCER_END/$BALANCER_DONE" >> "$0"'
    tell = ["/bin/sh", "-c", script, str(said)]
    daemon = Daemon(
        small := Small(), setup(small, hooks=HooksPart(before_run=tell, after_run=tell))
    )
    monkeypatch.setattr("balancer.cycle.execute", fail)
    daemon.run(minutes=1)
    assert said.read_text().split("\n")[:2] == ["before_run /", f"after_run {end}/"]


@pytest.mark.parametrize("error", [LeaseLostError("another has it"), AbandonedError("at once")])
def test_a_run_that_others_bring_to_an_end_has_its_second_hook_then_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BalancerError
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    said = tmp_path / "said"
    tell = ["/bin/sh", "-c", 'echo "$BALANCER_HOOK/$BALANCER_END" >> "$0"', str(said)]
    hooks = HooksPart(before_run=tell, after_run=tell)
    daemon = Daemon(small := Small(), setup(small, hooks=hooks))
    monkeypatch.setattr("balancer.cycle.execute", fail)
    with suppress(AbandonedError):
        daemon.run(seconds=35)
    assert said.read_text().split() == ["before_run/"]
    small.clock.sleep(61)
    for _ in range(2):
        again = Daemon(small, setup(small, hooks=hooks), store=daemon.store)
        again.run(minutes=1)
        again.loop.close()
    assert said.read_text().split() == ["before_run/", "after_run/interrupted"]


@pytest.mark.parametrize("alone", [False, True], ids=["by the service", "by a command"])
def test_a_run_that_a_crash_cut_short_has_its_second_hook_once_it_is_over(
    tmp_path: Path, *, alone: bool
) -> None:
    said = tmp_path / "said"
    script = 'echo "$BALANCER_HOOK/$BALANCER_END/$BALANCER_DONE/$BALANCER_HOSTS" >> "$0"'
    hooks = HooksPart(after_run=["/bin/sh", "-c", script, str(said)])
    small = Small()
    daemon = Daemon(small, setup(small, hooks=hooks))
    Meddler(daemon, lambda: setattr(daemon.stopping, "abandon", True))
    with pytest.raises(AbandonedError):
        daemon.run(minutes=5)
    (move,) = daemon.store.journal.open_moves("small")
    assert not said.exists()
    small.clock.sleep(300)
    if alone:
        ended = carry_out_alone(
            "small",
            parse_policy("version: 1\ngoal: rules-only\n", "policy"),
            small.new_gateway(),
            daemon.store,
            small.clock,
            ("apply", {}),
            asked_by="a person",
            hooks=hooks,
            interrupted=lambda: False,
            planned=lambda *_: None,
            progress=lambda _: None,
            reported=lambda _: None,
        )
        assert ended.exit_code == 0
    else:
        Daemon(small, setup(small, hooks=hooks), store=daemon.store).run(seconds=20)
    assert said.read_text() == f"after_run/interrupted/1/{move.source},{move.target}\n"


def test_what_an_earlier_run_left_astray_is_told_once_and_then_life_goes_on() -> None:
    small = Small()
    first = Daemon(small, setup(small))
    Meddler(first, lambda: setattr(first.stopping, "abandon", True))
    with pytest.raises(AbandonedError):
        first.run(minutes=10)
    (left,) = first.store.journal.open_moves("small")
    small.clock.sleep(120)
    with small.world.present():  # somebody takes the VM elsewhere meanwhile
        third = next(name for name in ("h3", "h4") if name != left.target)
        small.world.engine.place(small.world.guests[left.vm], small.world.machines[third])
    second = Daemon(small, setup(small), store=first.store)
    second.run(minutes=10)
    (told,) = second.kinds(K.CYCLE_FAILED)
    assert "went astray" in told.text
    assert told.data["exit_code"] == ExitCode.ANSWER_IS_NO
    second.run(minutes=40)
    assert second.count(K.CYCLE_FAILED) == 1
    assert second.count(K.CYCLE_ENDED) >= 2


def test_the_status_names_what_is_carried_out_also_after_a_reading() -> None:
    small = Small(each=8)
    service = ServicePart(auto=AutoPart(first_run=0))
    often = SchedulePart(every=900.0, sample_every=10.0)
    daemon = Daemon(small, setup(small, slow_plan(small), schedule=often, service=service))
    said: list[str] = []
    daemon.bus.subscribe("status", lambda _: said.append(daemon.loop.busy_with))
    daemon.run(minutes=5)
    after = [
        told for event, told in zip(daemon.told, said, strict=True) if event.kind is K.RUN_ENDED
    ]
    assert after == ["balancing"]
