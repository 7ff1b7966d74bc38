"""`balancer audit`, run as a user runs it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from balancer.cli import run
from balancer.clock import SystemClock
from balancer.store.audit import AuditEntry
from balancer.store.store import Store

CONFIG = "version: 1\nstore: s.sqlite\nclusters:\n  - {name: prod, hosts: [h1]}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "balancer.yaml"
    file.write_text(CONFIG, "utf-8")
    return file


def entry(hours_ago: float, subject: str) -> AuditEntry:
    return AuditEntry(
        at=SystemClock().now() - timedelta(hours=hours_ago),
        cluster="prod",
        who="ada",
        what="plan_approved",
        subject=subject,
        why="patch night",
        outcome="done",
        text="",
    )


def ask(config: Path, *words: str) -> int:
    return run(["audit", "--config", str(config), *words])


def test_lines_since_then_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(config.with_name("s.sqlite")) as store:
        store.audit.append([entry(48, "old"), entry(2, "young"), entry(1, "younger")])
    assert ask(config, "--json", "--since", "24h", "--cluster", "PROD") == 0
    document = json.loads(capsys.readouterr().out)
    assert [line["subject"] for line in document["audit"]] == ["young", "younger"]
    assert document["audit"][0]["at"].endswith("Z")
    assert document["audit"][0]["who"] == "ada"
    assert ask(config, "--limit", "1", "--json") == 0
    (line,) = json.loads(capsys.readouterr().out)["audit"]
    assert line["subject"] == "younger"


def test_words_for_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(config) == 0
    assert "nothing was done yet" in capsys.readouterr().out
    with Store.open(config.with_name("s.sqlite")) as store:
        store.audit.append([entry(2, "p7")])
    assert ask(config) == 0
    told = capsys.readouterr().out
    assert "plan approved" in told
    assert "ada" in told
    assert ask(config, "--since", "2999-01-01") == 0
    assert "nothing was done since" in capsys.readouterr().out


@pytest.mark.parametrize("since", ["yesterday", "99999999999999d", "2026-13-01"])
def test_a_time_that_is_none_is_refused(
    config: Path, since: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(config, "--since", since) == 2
    assert since in capsys.readouterr().err
