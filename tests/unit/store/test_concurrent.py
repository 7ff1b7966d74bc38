"""Many executors and people at once on one store: each act is whole, and one of two stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, update

from balancer.clock import SystemClock
from balancer.store import tables
from balancer.store.audit import AuditEntry
from balancer.store.faults import StoreError
from balancer.store.history import SubjectKind
from balancer.store.leases import LeaseLostError
from balancer.store.requests import HowToStop, RequestState
from balancer.store.standing import Approval, Freeze, Verdict
from balancer.store.store import Store
from balancer.store.thinning import HOUR
from tests.notation import cluster
from tests.simulation.small import plan_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 8


def at_once(work: Callable[[int], None]) -> None:
    """Run `work` in many threads that begin together, and fail with what failed in them."""
    gate = threading.Barrier(MANY)
    faults: list[BaseException] = []

    def run(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the test must see it
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def test_a_store_has_one_identity_whoever_asks_first(place: str) -> None:
    with Store.open(place) as store:
        drawn: list[str] = []
        at_once(lambda _: drawn.append(store.marks.identity(NOW)))
    assert len(set(drawn)) == 1
    assert len(drawn) == MANY


def test_what_is_said_twice_at_the_same_moment_is_said_once(place: str) -> None:
    snapshot = cluster("h1: a 4G, b 8G\nh2: c off")
    plan = plan_for(snapshot, [("m1", "a", "h2")])
    with Store.open(place) as store:

        def say(number: int) -> None:
            store.freezes.freeze(Freeze("c", f"t{number}", NOW, "why"))
            store.marks.set("c", "cycled", NOW + timedelta(seconds=number))
            store.plans.save(plan, f"document {number}")
            store.history.record(snapshot, NOW)

        at_once(say)
        freeze = store.freezes.of("c")
        assert freeze is not None
        assert freeze.by.startswith("t")
        assert store.plans.get(plan.id).document.startswith("document ")
        assert len(store.history.samples(snapshot.name, SubjectKind.VM, "a", NOW)) == 1


def test_of_two_verdicts_the_first_one_stands_for_both(place: str) -> None:
    with Store.open(place) as store:
        told: list[Approval] = []

        def say(number: int) -> None:
            verdict = Verdict.APPROVED if number % 2 else Verdict.REJECTED
            told.append(store.approvals.give(Approval("p", "c", verdict, f"t{number}", NOW, "why")))

        at_once(say)
        assert {approval.by for approval in told} == {told[0].by}
        assert store.approvals.of("p") == told[0]


def test_a_request_is_taken_once_and_cancelled_or_taken_but_never_both(place: str) -> None:
    with Store.open(place) as store:
        lease = store.leases.acquire("c", "me", 60.0, NOW)
        requests = [store.requests.submit("c", "apply", {}, "me", NOW) for _ in range(10)]
        taken: list[int] = []

        def take(number: int) -> None:
            for request in requests:
                if number == 0:
                    store.requests.cancel(request, HowToStop.FINISH, NOW, 130)
                elif store.requests.take(lease, request, NOW):
                    taken.append(request)

        at_once(take)
        assert len(taken) == len(set(taken))
        for request in map(store.requests.get, requests):
            assert (request.state is RequestState.TAKEN) == (request.id in taken)
            assert request.state in (RequestState.TAKEN, RequestState.CANCELLED)


def test_two_that_tidy_up_at_once_keep_the_means(place: str) -> None:
    snapshot = cluster("h1: a 4G, b 8G")
    with Store.open(place) as store:
        for minute in range(0, 60, 5):
            store.history.record(snapshot, NOW + timedelta(minutes=minute))

        def tidy(number: int) -> None:
            for some in store.thinning.parts():
                store.thinning.thin_hour(NOW, some)

        at_once(tidy)
        for key in ("a", "b"):
            (sample,) = store.history.samples(snapshot.name, SubjectKind.VM, key, NOW)
            assert sample.at == NOW
            assert sample.memory_assigned_bytes == {"a": 4 << 30, "b": 8 << 30}[key]
        assert store.thinning.oldest(None) < NOW + HOUR  # type: ignore[operator]


def test_a_lease_taken_over_shuts_out_the_writes_of_the_one_before(place: str) -> None:
    """Whoever wrote did so while it held the cluster: the journal's fences never go back."""
    with Store.open(place) as store:
        first = store.leases.acquire("c", "first", 60.0, NOW)
        run, _ = store.journal.begin_run(first, "p", [], NOW)
        late = NOW + timedelta(seconds=3600)

        def work(number: int) -> None:
            if number == 0:
                newer = store.leases.acquire("c", "newer", 60.0, late)
                for _ in range(20):
                    store.journal.intend_setting(newer, run, f"n{_}", "t", ("a", "b"), late)
                return
            for step in range(20):
                with suppress(LeaseLostError):
                    store.journal.intend_setting(
                        first, run, f"{number}.{step}", "t", ("a", "b"), late
                    )

        at_once(work)
        fences = [line.fence for line in store.journal.transitions(run)]
        assert fences == sorted(fences)
        assert len(set(fences)) == 2


def test_the_past_cannot_be_changed(place: str) -> None:
    with Store.open(place) as store:
        lately = SystemClock().now() - timedelta(days=59)
        store.audit.append([AuditEntry(lately, "c", "me", "ran", "", "", "done", "")])
        for change in (delete(tables.audit), update(tables.audit).values(who="nobody")):
            with (
                pytest.raises(StoreError, match="append-only"),
                store.audit._writing() as connection,
            ):
                connection.execute(change)
        assert [entry.who for entry in store.audit.entries()] == ["me"]
