"""The journal, the history and the plans: what is written is what is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from balancer.errors import InputError, InternalError
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState, RunEnd, Why
from balancer.store.history import Measurement, SubjectKind
from balancer.store.journal import Change, Entry
from balancer.store.leases import LeaseLostError
from balancer.store.records import SettingState, TransitionKind
from balancer.store.store import Store
from tests.notation import cluster
from tests.simulation.small import plan_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SNAPSHOT = cluster("h1: a 4G, b 8G\nh2: c off")
PLAN = plan_for(SNAPSHOT, [("m1", "a", "h2"), ("m2", "b", "h2")])


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_runs_that_moved_nothing_tell_nothing(place: str) -> None:
    with Store.open(place) as store:
        journal = store.journal
        lease = store.leases.acquire("test", "me", 60.0, NOW)
        entries = [Entry(PLAN.migrations[0], clustered=True)]

        def ran(end: RunEnd, *states: str) -> int:
            run, (move,) = journal.begin_run(lease, PLAN.id, entries, NOW)
            for before, state in pairwise(("planned", *states)):
                journal.move(lease, run, move, Change(before, state, NOW))
            journal.end_run(lease, run, end, NOW)
            return run

        good = ran(RunEnd.DONE, "intended", "done")
        stopped = ran(RunEnd.CANCELLED, "intended", "done")
        bad = ran(RunEnd.IN_PART, "intended", "failed")
        others = [ran(RunEnd.REFUSED, "skipped") for _ in range(20)]
        assert [run.id for run in journal.telling_runs("test", 12)] == [bad, good]
        assert [run.id for run in journal.telling_runs("test", 1)] == [bad]
        assert not journal.telling_runs("other", 12)
        assert {run.id for run in journal.runs("test", 22)} == {stopped, bad, *others}


def test_a_run_from_its_first_line_to_its_report(place: str) -> None:
    with Store.open(place) as store:
        journal = store.journal
        lease = store.leases.acquire("test", "me", 60.0, NOW)
        entries = [Entry(migration, clustered=True) for migration in PLAN.migrations]
        run, (first, second) = journal.begin_run(lease, PLAN.id, entries, NOW)
        assert [move.migration for move in journal.open_moves("test")] == ["m1", "m2"]
        with pytest.raises(InputError, match="not ended"):
            journal.report(run)
        journal.move(
            lease, run, first, Change("planned", "intended", later(1)), started_at=later(1)
        )
        journal.move(lease, run, first, Change("intended", "failed", later(2), "why", 0x800700AA))
        left_out = Change("planned", "skipped", later(3), "after m1", why=Why.DEPENDENCY)
        journal.move(lease, run, second, left_out)
        setting = journal.intend_setting(lease, run, "h1", "transport", ("tcp", "smb"), later(4))
        assert [s.host for s in journal.open_settings("test")] == ["h1"]
        journal.setting(lease, run, setting, Change("pending", "left", later(5), "theirs"))
        assert journal.settings(run)[0].state is SettingState.LEFT
        journal.note(lease.fence, run, later(6), "a word")
        journal.end_run(lease, run, RunEnd.IN_PART, later(7))
        assert not journal.open_moves("test")
        assert not journal.open_settings("test")
        assert not journal.open_runs("test")
        report = journal.report(run)
        assert report.end is RunEnd.IN_PART
        failed, skipped = report.migrations
        assert (failed.state, failed.code, failed.reason) == (
            MigrationState.FAILED,
            0x800700AA,
            "why",
        )
        assert (failed.why, skipped.why) == (None, Why.DEPENDENCY)
        assert [line.why for line in journal.transitions(run) if line.state == "skipped"] == [
            Why.DEPENDENCY
        ]
        assert (failed.started_at, failed.ended_at) == (later(1), later(2))
        assert skipped.started_at is None
        assert report.notes == ("theirs", "a word")
        lines = journal.transitions(run)
        assert [line.at for line in lines] == [NOW, *map(later, range(1, 8))]
        assert {line.fence for line in lines} == {lease.fence}
        assert lines[0].kind is TransitionKind.RUN
        with pytest.raises(InputError, match="no run 99"):
            journal.report(99)


def test_a_line_that_does_not_follow_from_the_last_is_not_written(place: str) -> None:
    with Store.open(place) as store:
        lease = store.leases.acquire("test", "me", 60.0, NOW)
        run, (move,) = store.journal.begin_run(
            lease, PLAN.id, [Entry(PLAN.migrations[0], clustered=False)], NOW
        )
        with pytest.raises(InternalError, match="does not have moves 1 as running"):
            store.journal.move(lease, run, move, Change("running", "done", NOW))
        assert len(store.journal.transitions(run)) == 1


def test_a_stale_executor_cannot_announce_anything(place: str) -> None:
    with Store.open(place) as store:
        journal = store.journal
        old = store.leases.acquire("test", "old", 60.0, NOW)
        run, (move,) = journal.begin_run(
            old, PLAN.id, [Entry(PLAN.migrations[0], clustered=True)], NOW
        )
        store.leases.acquire("test", "new", 60.0, later(61))
        before = journal.transitions(run)
        with pytest.raises(LeaseLostError):
            journal.move(old, run, move, Change("planned", "intended", later(62)))
        with pytest.raises(LeaseLostError):
            journal.intend_setting(old, run, "h1", "transport", ("tcp", "smb"), later(62))
        with pytest.raises(LeaseLostError):
            journal.begin_run(old, PLAN.id, [], later(62))
        with pytest.raises(LeaseLostError):
            journal.end_run(old, run, RunEnd.DONE, later(62))
        assert journal.transitions(run) == before
        assert journal.open_moves("test")[0].state is MigrationState.PLANNED


def test_samples_are_kept_by_subject_and_time(place: str) -> None:
    with Store.open(place) as store:
        history = store.history
        for minute in range(3):
            history.record(SNAPSHOT, later(60 * minute))
        history.record(SNAPSHOT, later(60))  # the same moment again
        samples = history.samples("test", SubjectKind.VM, "b", later(60))
        assert [sample.at for sample in samples] == [later(60), later(120)]
        assert samples[0].host == "h1"
        assert samples[0].memory_assigned_bytes == 8 * 2**30
        host = history.samples("test", SubjectKind.HOST, "h2", NOW)[0]
        assert (host.host, host.state, host.memory_assigned_bytes) == (None, "up", 0)
        assert history.samples("other", SubjectKind.VM, "b", NOW) == ()
        assert history.prune(later(120)) == 2 * 5
        assert len(history.samples("test", SubjectKind.VM, "b", NOW)) == 1


def test_two_clusters_may_be_sampled_at_the_same_moment(place: str) -> None:
    with Store.open(place) as store:
        other = cluster("h1: a\nh2:", name="other")
        store.history.record(SNAPSHOT, NOW)
        store.history.record(other, NOW)
        assert len(store.history.samples("other", SubjectKind.VM, "a", NOW)) == 1
        assert len(store.history.samples("test", SubjectKind.VM, "a", NOW)) == 1


def test_measurements_and_plans_come_back_as_they_were(place: str) -> None:
    with Store.open(place) as store:
        one = Measurement("test", "a", "h1", "h2", Transport.SMB, NOW, 8.0, 10.0, 2**32, 0.5)
        store.history.record_measurement(one)
        assert store.history.measurements("test") == (one,)
        assert store.history.measurements("test", later(1)) == ()
        assert one.bytes_per_s == 2**29
        store.plans.save(PLAN, "{1}")
        store.plans.save(PLAN, "{2}")
        assert store.plans.get(PLAN.id).document == "{2}"
        assert [plan.id for plan in store.plans.latest("test")] == [PLAN.id]
        with pytest.raises(InputError, match="no plan"):
            store.plans.get("another")
