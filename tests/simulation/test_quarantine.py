"""What fails is set aside across runs and planned around; too much of it stops a run, and runs."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.recover import recover
from balancer.formats.plan import plan_to_json
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import heal, inject
from balancer.model.aside import About, Aside
from balancer.model.outcome import MigrationState, RunEnd, Why
from balancer.planner import why_not
from balancer.policy.heed import heeding
from balancer.policy.load import parse_policy
from balancer.policy.policy import Policy
from balancer.service.events import EventKind
from balancer.store.asides import FIRST
from balancer.store.breakers import COOL_OFF, RUNS_MAX
from balancer.store.standing import Approval, Verdict
from tests.simulation.daemon import AWAY, Daemon, setup
from tests.simulation.small import Small
from tests.simulation.test_execute import DONE, FAILED, SKIPPED, Bench, states
from tests.simulation.test_late import DiesAtLook
from tests.simulation.traps import PowerCut, Trap
from tests.stores import new_store

K = EventKind
INCOMPATIBLE, RESET, NO_MEMORY, LOCKED = 0x80071741, 0x80072746, 0x800705AA, 0x80071748


def fails(code: int, **of: object) -> Fault:
    return Fault(FaultKind.MOVE_FAILS, code=code, percent=20.0, **of)  # type: ignore[arg-type]


def labels(bench: Bench) -> list[str]:
    return [one.label for one in bench.store.asides.active("small", bench.small.clock.now())]


def test_a_failure_that_will_come_again_is_set_aside_and_the_next_run_leaves_it_alone() -> None:
    bench = Bench()
    bench.fault(fails(INCOMPATIBLE, host="h1", target="h2"))
    report = bench.run(bench.small.plan([("m1", "v11", "h2")]))
    assert states(report) == [FAILED]
    assert labels(bench) == ["v11 from h1 to h2"]
    assert any("set aside until" in note for note in report.notes)
    starts = bench.starts
    again = bench.run(bench.small.plan([("m1", "v11", "h2"), ("m2", "v12", "h3")]))
    assert states(again) == [SKIPPED, DONE]
    assert again.migrations[0].why is Why.QUARANTINE
    assert "processors" in again.migrations[0].reason
    assert bench.starts == starts + 1


@pytest.mark.parametrize("code", [NO_MEMORY, LOCKED])
def test_what_passes_is_not_set_aside(code: int) -> None:
    bench = Bench()
    bench.fault(fails(code, count=1))
    bench.run(bench.small.plan([("m1", "v11", "h2")]))
    assert labels(bench) == []


def test_a_network_that_fails_again_and_again_is_set_aside_and_one_that_recovers_is_not() -> None:
    bench = Bench()
    once = fails(RESET, count=1)
    bench.fault(once)
    assert states(bench.run(bench.small.plan([("m1", "v11", "h2")]))) == [DONE]
    assert labels(bench) == []
    bench.fault(fails(RESET))
    assert states(bench.run(bench.small.plan([("m2", "v12", "h2")]))) == [FAILED]
    assert labels(bench) == ["v12 from h1 to h2"]


def test_a_migration_that_never_ends_is_set_aside() -> None:
    bench = Bench()
    bench.fault(Fault(FaultKind.MOVE_HANGS, count=1))
    report = bench.run(bench.small.plan([("m1", "v11", "h2")]))
    assert states(report) == [MigrationState.CANCELLED]
    assert labels(bench) == ["v11 from h1 to h2"]


def test_within_a_run_what_adds_up_keeps_the_rest_from_being_tried() -> None:
    bench = Bench(hosts=6, slots=1)
    bench.fault(fails(INCOMPATIBLE, target="h6"))
    moves = [("a", "v11", "h6"), ("b", "v21", "h6"), ("c", "v31", "h6"), ("d", "v41", "h6")]
    fine = [(f"f{n}", f"v5{n}", f"h{n}") for n in range(1, 5)]
    fine += [(f"g{n}", f"v{n}2", f"h{n % 4 + 1}") for n in range(1, 5)]
    ids = [id_ for id_, _, _ in [*fine, *moves]]
    after: dict[str, tuple[str, ...]] = {one: (before,) for before, one in pairwise(ids[:8])}
    after |= {"a": ("g4",), "b": ("g4",), "c": ("g4",), "d": ("g4",)}
    report = bench.run(bench.small.plan([*fine, *moves], after=after))
    assert "anything to h6" in labels(bench)
    assert sum(one.state is FAILED for one in report.migrations) == 3
    (skipped,) = (one for one in report.migrations if one.state is SKIPPED)
    assert skipped.why is Why.QUARANTINE


def test_a_person_may_try_and_what_goes_well_is_no_longer_set_aside() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, ""))
    fault = fails(INCOMPATIBLE, host="h1", target="h2")
    inject(small.world, fault)
    daemon.run(minutes=1)
    for expected in (FAILED, FAILED, DONE):
        if expected is DONE:
            heal(small.world, fault)
        plan = small.plan([("m1", "v11", "h2")])
        daemon.store.plans.save(plan, plan_to_json(plan))
        daemon.ask("move", plan=plan.id)
        daemon.run(minutes=3)
        run = daemon.store.journal.runs("small", 1)[0]
        assert [move.state for move in daemon.store.journal.moves(run.id)] == [expected]
    assert daemon.store.asides.active("small", daemon.clock.now()) == ()
    assert daemon.store.breakers.of("small") is None  # what a person tries does not count


def test_the_service_goes_another_way_and_does_not_try_again_before_its_time() -> None:
    small = Small()
    inject(small.world, fails(INCOMPATIBLE, target="h2"))
    daemon = Daemon(small, setup(small, AWAY))
    daemon.run(hours=2)
    failed = daemon.kinds(K.MIGRATION_FAILED)
    assert {small.host_of("v11"), small.host_of("v12")} <= {"h3", "h4"}
    assert len({(one.subject, one.data["target"]) for one in failed}) == len(failed) <= 2


def _aside(daemon_or: Bench | Small, **of: str) -> Aside:
    clock = daemon_or.clock if isinstance(daemon_or, Small) else daemon_or.small.clock
    values = {"vm": "", "name": "", "source": "", "target": ""} | of
    until = clock.now() + timedelta(hours=4)
    return Aside("small", **values, since=clock.now(), until=until, failures=1, code=1, reason="no")


def test_what_is_set_aside_is_named_as_the_reason_why_not() -> None:
    small = Small()
    cluster = small.gateway.observe().cluster
    policy = parse_policy("version: 1\n", "p")
    v11 = small.vm("v11")
    way = _aside(small, vm=v11, name="v11", source="h1", target="h2")
    seen, heeded = heeding(cluster, policy, [way])
    (against,) = why_not(seen, heeded, v11, "h2")
    assert "v11 from h1 to h2 set aside until" in against
    assert list(why_not(seen, heeded, v11, "h3")) == []
    assert list(why_not(seen, heeded, small.vm("v12"), "h2")) == []
    for one, vm, target, blocked in (
        (_aside(small, vm=v11, name="v11"), "v11", "h4", True),
        (_aside(small, source="h1"), "v12", "h3", True),
        (_aside(small, source="h1"), "v21", "h3", False),
        (_aside(small, target="h3"), "v21", "h3", True),
        (_aside(small, target="h3"), "v31", "h1", False),
        (_aside(small, source="h1", target="h2"), "v14", "h2", True),
        (_aside(small, source="h1", target="h2"), "v34", "h2", False),
    ):
        seen, heeded = heeding(cluster, policy, [one])
        said = list(why_not(seen, heeded, small.vm(vm), target))
        assert bool(said) is blocked, (one.label, vm, target)
        assert not blocked or "set aside until" in " ".join(said)
    assert one.about is About.PAIR


def test_what_is_set_aside_never_makes_a_cluster_unplannable() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, "rules: [{pin: {vms: [v11], hosts: [h2]}}]"))
    inject(small.world, fails(INCOMPATIBLE, host="h1", target="h2"))
    daemon.run(hours=2)
    assert daemon.count(K.CYCLE_FAILED) == 0
    assert daemon.count(K.MIGRATION_FAILED) == 1
    skipped = daemon.kinds(K.MIGRATION_SKIPPED)
    assert {event.data["why"] for event in skipped} <= {"quarantine"}
    daemon.clock.sleep(FIRST.total_seconds())
    daemon.run(hours=1)
    assert daemon.count(K.MIGRATION_FAILED) == 2  # tried again in its time


# The circuit breaker


def test_a_run_in_which_much_fails_is_stopped_with_an_alarm() -> None:
    bench = Bench(hosts=4, slots=1)
    bench.fault(fails(NO_MEMORY))
    moves = [(f"m{n}", f"v1{n}", f"h{n % 3 + 2}") for n in range(1, 5)]
    moves += [(f"n{n}", f"v2{n}", "h3") for n in range(1, 5)]
    report = bench.run(bench.small.plan(moves))
    failed = [one for one in report.migrations if one.state is FAILED]
    assert 3 <= len(failed) <= 4  # one may be in flight when it trips
    assert report.end is RunEnd.IN_PART
    assert any("is no chance any more" in note for note in report.notes)
    rest = [one for one in report.migrations if one.state is SKIPPED]
    assert {one.why for one in rest} == {Why.ALARM}


def test_few_failures_among_many_successes_stop_nothing() -> None:
    bench = Bench(hosts=4, slots=2)
    bench.fault(fails(NO_MEMORY, count=2))
    moves = [(f"m{n}", f"v1{n}", f"h{n % 3 + 2}") for n in range(1, 5)]
    moves += [(f"n{n}", f"v2{n}", "h3") for n in range(1, 5)]
    report = bench.run(bench.small.plan(moves))
    assert states(report).count(FAILED) == 2
    assert states(report).count(DONE) == 6


MANY = "rules: [{avoid: {vms: [v11, v12, v13, v14], hosts: [h1]}}]"


def _bad_nights() -> Daemon:
    small = Small()
    inject(small.world, fails(NO_MEMORY))
    daemon = Daemon(small, setup(small, MANY))
    daemon.run(hours=2)
    return daemon


def test_runs_that_fail_in_a_row_make_the_cluster_only_recommend() -> None:
    daemon = _bad_nights()
    assert daemon.count(K.RUN_STARTED) == 3
    (fell,) = daemon.kinds(K.FELL_BACK)
    assert fell.data["failed_runs"] == 3
    assert daemon.count(K.APPROVAL_WANTED) >= 1
    breaker = daemon.store.breakers.of("small")
    assert breaker is not None
    assert breaker.is_open(daemon.clock.now())
    daemon.clock.sleep(COOL_OFF.total_seconds())
    daemon.run(hours=1)
    assert daemon.count(K.RUN_STARTED) == 4  # one try after the cool-off, and it is open again
    assert daemon.count(K.FELL_BACK) == 2


def test_a_person_who_says_so_lets_it_act_again() -> None:
    daemon = _bad_nights()
    daemon.small.world.faults.clear(next(iter(daemon.small.world.faults._on))[0])
    assert daemon.store.breakers.close("small")  # what `balancer thaw` does
    daemon.run(hours=2)
    assert daemon.count(K.ACTS_AGAIN) == 1
    assert daemon.count(K.MIGRATION_DONE) == 4


def test_an_approved_plan_that_goes_well_lets_it_act_again() -> None:
    daemon = _bad_nights()
    daemon.small.world.faults.clear(next(iter(daemon.small.world.faults._on))[0])
    daemon.run(minutes=15)
    plan = daemon.kinds(K.APPROVAL_WANTED)[-1].plan
    now = daemon.clock.now()
    daemon.store.approvals.give(Approval(plan, "small", Verdict.APPROVED, "a person", now, ""))
    daemon.ask("approve", plan=plan)
    daemon.run(hours=1)
    assert daemon.count(K.ACTS_AGAIN) == 1
    assert daemon.store.breakers.of("small") is None
    assert daemon.small.host_of("v14") != "h1"


def test_a_restart_remembers_both() -> None:
    daemon = _bad_nights()
    runs = daemon.count(K.RUN_STARTED)
    again = Daemon(daemon.small, setup(daemon.small, MANY), store=daemon.store)
    daemon.loop.close()
    again.run(hours=2)
    assert runs == 3
    assert again.count(K.RUN_STARTED) == 0
    assert again.count(K.FELL_BACK) == 1


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_run_that_a_crash_interrupted_counts_as_any_other(*, by_hand: bool) -> None:
    small = Small()
    inject(small.world, fails(NO_MEMORY))
    with new_store() as store:
        for times in range(1, RUNS_MAX + 1):
            lease = store.leases.acquire("small", "first", 60.0, small.clock.now())
            with pytest.raises(PowerCut):
                execute(
                    small.plan([("m1", "v11", "h2")]),
                    Charge(Policy(), DiesAtLook(small.gateway, Trap()), store, small.clock, lease),
                    by_hand=by_hand,
                )
            store.leases.release(lease)
            with store.leases.hold("small", "second", small.clock) as lease:
                recover(Charge(Policy(), small.new_gateway(), store, small.clock, lease))
            breaker = store.breakers.of("small")
            assert (breaker.failed_runs if breaker else 0) == (0 if by_hand else times)
        assert by_hand == (breaker is None or not breaker.is_open(small.clock.now()))
