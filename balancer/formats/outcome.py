"""Run reports: what became of a plan, as `balancer/report/v1`."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from balancer.formats.strict import utc, write_json
from balancer.model.outcome import MigrationOutcome, RunReport

REPORT_SCHEMA = "balancer/report/v1"


def report_to_json(report: RunReport) -> str:
    """Return `report` as a report document: same report, same bytes."""
    document: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "cluster": report.cluster,
        "plan": report.plan,
        "end": report.end,
        "started_at": utc(report.started_at),
        "ended_at": utc(report.ended_at),
        "migrations": [_outcome(outcome) for outcome in report.migrations],
        "notes": list(report.notes),
    }
    return write_json(document)


def _outcome(outcome: MigrationOutcome) -> dict[str, Any]:
    return {
        field.name: utc(value) if isinstance(value, datetime) else value
        for field in dataclasses.fields(outcome)
        for value in (getattr(outcome, field.name),)
    }
