"""`balancer status` and `thaw`: what is left alone because it failed, and how that is ended."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from balancer.cli import run
from balancer.clock import SystemClock
from balancer.model.aside import About, Aside
from balancer.store.breakers import RUNS_MAX
from balancer.store.store import Store

CONFIG = "version: 1\nstore: s.sqlite\nclusters:\n  - {name: prod, hosts: [localhost]}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "balancer.yaml"
    file.write_text(CONFIG, "utf-8")
    now = SystemClock().now()
    with Store.open(tmp_path / "s.sqlite") as store:
        lease = store.leases.acquire("prod", "me", 60.0, now)
        store.asides.failed(lease, _failed(now), About.WAY)
        for _ in range(RUNS_MAX):
            store.breakers.failed(lease, "plan p7: the network [is] gone", now)
        store.leases.release(lease)
    return file


def _failed(now: datetime) -> Aside:
    return Aside("prod", "id-1", "'; [b]rm*", "hv1", "hv2", now, now, 0, 0x80071741, "no [red]")


def test_people_see_what_is_set_aside_why_and_what_to_do(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "set aside '; [b]rm* from hv1 to hv2 until" in told
    assert "no [red]" in told
    assert "only recommends until" in told
    assert "3 runs in a row failed, the last by plan p7: the network [is] gone" in told
    assert "balancer thaw" in told


def test_scripts_see_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json", "--config", str(config)]) == 0
    (status,) = json.loads(capsys.readouterr().out)["clusters"]
    (one,) = status["set_aside"]
    assert (one["vm"], one["source"], one["target"]) == ("id-1", "hv1", "hv2")
    assert one["code"] == 0x80071741
    assert one["until"].endswith("Z")
    assert status["only_recommends"] is True
    assert status["breaker"]["failed_runs"] == RUNS_MAX


def test_thaw_forgets_failed_runs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["thaw", "--config", str(config)]) == 5  # nobody answers for the cluster itself
    assert "failed runs are forgotten: prod" in capsys.readouterr().out
    assert run(["status", "--json", "--config", str(config)]) == 0
    (status,) = json.loads(capsys.readouterr().out)["clusters"]
    assert status["only_recommends"] is False
    assert len(status["set_aside"]) == 1  # what failed stays set aside
