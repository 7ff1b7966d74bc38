from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError

from balancer.clock import SystemClock
from balancer.service.audit import ACTS, AuditLog
from balancer.service.events import Bus, Event, EventKind, Value
from balancer.service.redact import Secrets
from balancer.store import tables
from balancer.store.faults import StoreError
from balancer.store.leases import holder_name
from balancer.store.store import Store
from tests.stores import new_store

AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def event(kind: EventKind, minute: int = 0, cluster: str = "prod", **data: Value) -> Event:
    return Event(
        AT + timedelta(minutes=minute),
        kind,
        cluster=cluster,
        cycle="c1",
        plan="p1",
        migration="m1",
        subject="web-01",
        text="a sentence",
        data=data,
    )


def test_an_act_becomes_a_line_and_a_reading_does_not() -> None:
    with new_store() as store:
        log = AuditLog(store)
        log.hear(event(EventKind.SAMPLED))
        log.hear(event(EventKind.PLANNED))
        log.hear(event(EventKind.MIGRATION_STARTED, why="HV01 is overloaded"))
        (line,) = store.audit.entries()
    assert (line.at, line.who, line.what) == (AT, holder_name(), "migration_started")
    assert (line.subject, line.why, line.outcome) == ("web-01", "HV01 is overloaded", "begun")
    assert (line.cycle, line.plan, line.migration) == ("c1", "p1", "m1")


def test_a_line_that_can_never_be_taken_back_holds_no_secret() -> None:
    secrets = Secrets()
    secrets.learn("geheim")
    told = replace(event(EventKind.HOOK_FAILED), text="login geheim failed; password=hunter22")
    with new_store() as store:
        AuditLog(store, secrets).hear(told)
        (line,) = store.audit.entries()
    assert line.text == "login [hidden] failed; password=[hidden]"


def test_who_acts_is_who_asked_for_it_on_that_cluster() -> None:
    with new_store() as store:
        log = AuditLog(store)
        log.hear(event(EventKind.PLAN_APPROVED, by="ada"))
        log.hear(event(EventKind.REQUEST_TAKEN, asked_by="bob", verb="drain"))
        log.hear(event(EventKind.MIGRATION_STARTED))
        log.hear(event(EventKind.MIGRATION_STARTED, cluster="branch"))
        log.hear(event(EventKind.REQUEST_ENDED, verb="drain", state="refused"))
        log.hear(event(EventKind.MIGRATION_STARTED))
        lines = store.audit.entries()
    us = holder_name()
    assert [line.who for line in lines] == ["ada", "bob", "bob", us, "bob", us]
    assert lines[4].outcome == "refused"


def test_lines_are_found_by_cluster_and_time_and_the_latest_are_shown_in_order() -> None:
    with new_store() as store:
        log = AuditLog(store)
        for minute in range(10):
            log.hear(event(EventKind.FROZEN, minute, cluster=("prod", "branch")[minute % 2]))
        prod = store.audit.entries(cluster="prod", since=AT + timedelta(minutes=3))
        assert [line.at.minute for line in prod] == [4, 6, 8]
        assert [line.at.minute for line in store.audit.entries(limit=3)] == [7, 8, 9]


def test_nobody_can_change_a_line_not_even_we(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        AuditLog(store).hear(replace(event(EventKind.FROZEN), at=SystemClock().now()))
        for statement in (update(tables.audit).values(who="nobody"), delete(tables.audit)):
            with (
                pytest.raises(DBAPIError, match="append-only"),
                store._engine.begin() as connection,
            ):
                connection.execute(statement)
        assert len(store.audit.entries()) == 1


def test_what_the_store_did_not_take_is_written_with_the_next_line(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        log = AuditLog(store)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit RENAME TO away")
        for _ in range(3):
            with pytest.raises(StoreError):
                log.hear(event(EventKind.FROZEN))
        with store._engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO audit")
        log.hear(event(EventKind.THAWED))
        assert [line.what for line in store.audit.entries()] == ["frozen"] * 3 + ["thawed"]


def test_served_aside_it_writes_from_a_thread_of_its_own(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        bus = Bus()
        bus.subscribe("audit", AuditLog(store).hear, aside=True)
        for kind in ACTS:
            bus.tell(event(kind))
        bus.close()
        assert [line.what for line in store.audit.entries()] == [kind.value for kind in ACTS]
