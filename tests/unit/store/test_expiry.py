"""What is over and old goes, some at a time; what is not over, or is owed to a host, stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from balancer.clock import SystemClock
from balancer.formats.plan import plan_to_json
from balancer.model.drain import DrainState, Kind, Order, Thing
from balancer.model.outcome import RunEnd
from balancer.model.plan import Plan
from balancer.store import expiry, tables
from balancer.store.audit import AuditEntry
from balancer.store.campaigns import CampaignState
from balancer.store.faults import StoreError
from balancer.store.journal import Change, Entry
from balancer.store.leases import Lease
from balancer.store.requests import RequestState
from balancer.store.standing import Approval, Verdict
from balancer.store.store import Store
from tests.notation import cluster
from tests.simulation.small import plan_for

OLD, BORDER, NEW = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 10, 20))
SNAPSHOT = cluster("h1: a 4G, b 8G\nh2: c off")


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place) as opened:
        yield opened


@pytest.fixture
def lease(store: Store) -> Lease:
    return store.leases.acquire("test", "me", 60.0, OLD)


def rows(store: Store) -> dict[str, int]:
    names = ["runs", "moves", "settings", "transitions", "plans", "approvals"]
    names += ("drains", "drain_steps", "drain_things", "campaigns", "campaign_hosts", "requests")
    with store._engine.connect() as connection:
        return {
            name: connection.execute(
                select(func.count()).select_from(tables.metadata.tables[name])
            ).scalar_one()
            for name in names
        }


def plan(name: str, at: datetime) -> Plan:
    made = plan_for(SNAPSHOT, [("m1", "a", "h2")], now=at)
    return replace(made, id=name)


def ran(store: Store, lease: Lease, at: datetime, name: str, *, owed: bool = False) -> None:
    made = plan(name, at)
    store.plans.save(made, plan_to_json(made))
    store.approvals.give(Approval(name, "test", Verdict.APPROVED, "me", at, ""))
    entry = Entry(made.migrations[0], clustered=True)
    run, (move,) = store.journal.begin_run(lease, name, [entry], at)
    setting = store.journal.intend_setting(lease, run, "h1", "transport", ("tcp", "smb"), at)
    store.journal.move(lease, run, move, Change("planned", "skipped", at))
    if not owed:
        store.journal.setting(lease, run, setting, Change("pending", "restored", at))
    store.journal.end_run(lease, run, RunEnd.DONE, at)


def test_runs_go_with_all_that_hangs_on_them_and_then_their_plans(
    store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "RUNS", 2)
    for number in range(3):
        ran(store, lease, OLD, f"old {number}")
    ran(store, lease, OLD, "owed", owed=True)
    ran(store, lease, NEW, "new")
    assert store.expiry.plans(BORDER) == 0  # they were carried out
    assert [store.expiry.runs(BORDER) for _ in range(3)] == [2, 1, 0]
    assert {run.plan for run in store.journal.runs("test")} == {"owed", "new"}
    assert [store.expiry.plans(BORDER) for _ in range(3)] == [2, 1, 0]
    left = rows(store)
    assert (left["runs"], left["moves"], left["settings"]) == (2, 2, 2)
    assert (left["plans"], left["approvals"]) == (2, 2)
    assert [record.host for record in store.journal.open_settings("test")] == ["h1"]


def test_drains_and_campaigns_go_once_they_are_over(store: Store, lease: Lease) -> None:
    things = [Thing("h1", Kind.VM, "a", "a")]
    for at, state in (
        (OLD, DrainState.DRAINED),
        (OLD, DrainState.MOVING),
        (NEW, DrainState.FAILED),
    ):
        drain = store.drains.begin(lease, Order(("h1",)), things, at, 1.0)
        store.drains.enter(lease, drain, state, at)
    for at, entered in ((OLD, CampaignState.DONE), (OLD, CampaignState.STOPPED)):
        campaign = store.campaigns.begin(lease, [["h1"], ["h2"]], {}, "me", at)
        store.campaigns.enter(lease, campaign, entered, at)
    assert [store.expiry.drains(BORDER), store.expiry.drains(BORDER)] == [1, 0]
    assert [store.expiry.campaigns(BORDER), store.expiry.campaigns(BORDER)] == [1, 0]
    left = rows(store)
    assert (left["drains"], left["drain_steps"], left["drain_things"]) == (2, 4, 2)
    assert (left["campaigns"], left["campaign_hosts"]) == (1, 2)
    assert store.campaigns.open("test") is not None


def test_requests_go_once_they_are_answered(store: Store, lease: Lease) -> None:
    done, waits = (store.requests.submit("test", "apply", {}, "me", OLD) for _ in range(2))
    assert store.requests.take(lease, done, OLD)
    store.requests.finish(lease, done, RequestState.DONE, OLD, exit_code=0, text="")
    assert [store.expiry.requests(BORDER), store.expiry.requests(BORDER)] == [1, 0]
    assert [one.id for one in store.requests.latest("test")] == [waits]


def test_lines_of_the_audit_log_go_when_they_are_old_and_not_before(store: Store) -> None:
    def line(at: datetime) -> AuditEntry:
        return AuditEntry(at, "c", "me", "ran", "", "", "done", "")

    now = SystemClock().now()
    store.audit.append([line(now - timedelta(days=days)) for days in (500, 200, 61, 59)])
    assert store.expiry.audit(now - timedelta(days=400)) == 1
    assert store.expiry.audit(now - timedelta(days=60)) == 2
    with pytest.raises(StoreError, match="keeps each line for 60 days"):
        store.expiry.audit(now)
    assert len(store.audit.entries()) == 1
