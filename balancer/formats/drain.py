"""Reports of drains and returns, as `balancer/drain/v1`."""

from __future__ import annotations

import dataclasses
from typing import Any

from balancer.formats.strict import utc, write_json
from balancer.model.drain import DrainReport

DRAIN_SCHEMA = "balancer/drain/v1"


def drain_report_to_json(report: DrainReport) -> str:
    """Return `report` as a document: same report, same bytes."""
    document: dict[str, Any] = {
        "schema": DRAIN_SCHEMA,
        "cluster": report.cluster,
        "hosts": list(report.hosts),
        "end": report.end,
        "started_at": utc(report.started_at),
        "ended_at": utc(report.ended_at),
        "expected_s": report.expected_s,
        "moved": {kind.value: count for kind, count in report.moved},
        "left": [dataclasses.asdict(one) for one in report.left],
        "paused": list(report.paused),
        "plans": list(report.plans),
        "notes": list(report.notes),
    }
    return write_json(document)
