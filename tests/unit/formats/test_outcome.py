"""Run reports as documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from balancer.formats.outcome import report_to_json
from balancer.model.outcome import MigrationOutcome, MigrationState, RunEnd, RunReport, Why

KEYS = "schema cluster plan end started_at ended_at migrations notes"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_report_says_everything_the_run_knows() -> None:
    report = RunReport(
        cluster="c",
        plan="plan-1",
        end=RunEnd.IN_PART,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=90.5),
        migrations=(
            MigrationOutcome(
                "m1", "1", "a", "h1", "h2", MigrationState.DONE, NOW, NOW, 100, blackout_s=0.25
            ),
            MigrationOutcome(
                "m2", "2", "b", "h1", "h2", MigrationState.FAILED, NOW, NOW, 40, 0x80070057, "bad"
            ),
            MigrationOutcome(
                *("m3", "3", "c", "h1", "h2", MigrationState.SKIPPED),
                reason="stopped",
                why=Why.ALARM,
            ),
        ),
        notes=("transport of h1: compression -> smb, restored",),
    )
    document = json.loads(report_to_json(report))
    assert list(document) == KEYS.split()
    assert document["schema"] == "balancer/report/v1"
    assert document["ended_at"] == "2026-01-01T00:01:30.500000Z"
    assert document["end"] == "in_part"
    assert [m["state"] for m in document["migrations"]] == ["done", "failed", "skipped"]
    assert document["migrations"][1]["code"] == 0x80070057
    assert document["migrations"][2] == {
        "migration": "m3", "vm": "3", "name": "c", "source": "h1", "target": "h2",
        "state": "skipped", "started_at": None, "ended_at": None, "percent": 0, "code": None,
        "reason": "stopped", "blackout_s": None, "why": "alarm",
    }  # fmt: skip
    assert document["notes"] == list(report.notes)
