"""Dashboard and alert rules speak of metrics that exist, and the rules do what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from balancer.service.metrics import Metrics
from tests.packaging.tools import ROOT, done, tool

ALERTS = ROOT / "docs" / "alerts" / "balancer.yml"
DASHBOARD = ROOT / "docs" / "grafana" / "balancer.json"
NAME = re.compile(r"\b(?:balancer|process)_[a-z_]+\b")


def known() -> frozenset[str]:
    """Return every name under which one of our metrics can be asked for."""
    metrics, names = Metrics(), set[str]()
    for family in metrics.series.registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    return frozenset(names)


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def queries(part: object) -> Iterator[str]:
    """Yield every query of a dashboard, wherever it stands."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from queries(value)
    elif isinstance(part, list):
        for each in part:
            yield from queries(each)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_alerts_speak_of_metrics_that_exist(rule: dict[str, Any]) -> None:
    names = set(NAME.findall(rule["expr"]))
    assert names or "up{" in rule["expr"]
    assert names <= known()


def test_the_dashboard_speaks_of_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    asked = list(queries(dashboard["panels"])) + list(queries(dashboard["templating"]))
    assert len(asked) > 20
    names = set(NAME.findall(" ".join(asked)))
    assert names <= known(), sorted(names - known())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_every_alert_says_who_it_wakes_and_where_the_answer_stands() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in manual.splitlines()
        if line.startswith("#")
    }
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert file == "operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in headings, f"operations.md does not explain {rule['alert']}"


def test_every_alert_is_tested() -> None:
    tested = ALERTS.with_name("balancer_test.yml").read_text("utf-8")
    for rule in rules():
        assert f'"{rule["alert"]}"' in tested, rule["alert"]


def test_what_alerts_count_begins_at_zero() -> None:
    """`increase` sees nothing of a series that is born at one."""
    metrics = Metrics()
    metrics.watch({"prod": 60.0}, 0.0)
    metrics.listen_for(["audit"])
    told = metrics.text().decode()
    for rule in rules():
        for name, selector in re.findall(r"(balancer_\w+_total)(\{[^}]*\})?\[", rule["expr"]):
            wanted = selector.strip("{}")
            lines = [line for line in told.splitlines() if line.startswith(name) and wanted in line]
            assert lines, f"{rule['alert']}: {name}{selector} is not there from the beginning"
            assert all(line.endswith(" 0.0") for line in lines)


@pytest.mark.server
@pytest.mark.parametrize("words", ["check rules balancer.yml", "test rules balancer_test.yml"])
def test_promtool_agrees(words: str) -> None:
    told = done(tool("promtool"), *words.split(), cwd=ALERTS.parent)
    assert "SUCCESS" in told
    assert "FAILED" not in told


@pytest.mark.server
def test_promtool_finds_nothing_to_say_about_our_metrics() -> None:
    metrics = Metrics()
    metrics.watch({"prod": 60.0}, 0.0)
    done(tool("promtool"), "check", "metrics", input=metrics.text().decode())
