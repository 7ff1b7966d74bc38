"""`balancer status` and `thaw`: what is left alone because it failed, and how that is ended."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from balancer.cli import run
from balancer.clock import SystemClock
from balancer.formats.plan import plan_to_json
from balancer.model.aside import About, Aside
from balancer.model.drain import DrainState, Kind, Order, Thing
from balancer.store.breakers import RUNS_MAX
from balancer.store.campaigns import CampaignState, HostStep
from balancer.store.journal import Change, Entry
from balancer.store.standing import Approval, Freeze, Verdict
from balancer.store.store import Store
from tests.simulation.small import Small

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


def test_freezes_requests_and_a_plan_that_waits_are_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SystemClock().now()
    made = replace(
        Small().plan([("m1", "v11", "h2")]),
        cluster="prod",
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )
    with Store.open(config.parent / "s.sqlite") as store:
        store.plans.save(made, plan_to_json(made))
        store.freezes.freeze(Freeze("", "ada", now, "SAN [b]upgrade"))
        number = store.requests.submit("prod", "drain", {"hosts": ["HV1"]}, "bob", now)
    assert run(["status", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "frozen by ada since" in told
    assert "SAN [b]upgrade" in told
    assert f"waiting request {number}: drain for bob" in told
    assert f"1 migrations until {made.expires_at.astimezone():%Y-%m-%d %H:%M}" in told
    assert f"balancer approve {made.id}" in told
    with Store.open(config.parent / "s.sqlite") as store:
        store.approvals.give(Approval(made.id, "prod", Verdict.REJECTED, "ada", now, ""))
        store.freezes.thaw("")
    assert run(["status", "--json", "--config", str(config)]) == 0
    (status,) = json.loads(capsys.readouterr().out)["clusters"]
    assert (status["frozen"], status["waits"]) == (None, None)
    assert [one["id"] for one in status["requests"]] == [number]


def test_thaw_forgets_failed_runs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["thaw", "--config", str(config)]) == 5  # nobody answers for the cluster itself
    assert "failed runs are forgotten: prod" in capsys.readouterr().out
    assert run(["status", "--json", "--config", str(config)]) == 0
    (status,) = json.loads(capsys.readouterr().out)["clusters"]
    assert status["only_recommends"] is False
    assert len(status["set_aside"]) == 1  # what failed stays set aside


def test_a_drain_and_a_campaign_are_named_with_their_step_and_when_they_should_be_over(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SystemClock().now()
    began = now - timedelta(minutes=10)
    made = replace(Small().plan([("m1", "v11", "h2")]), cluster="prod")
    entry = Entry(replace(made.migrations[0], source="h1", vm="v1"), clustered=True)
    with (
        Store.open(config.parent / "s.sqlite") as store,
        store.leases.hold("prod", "me", SystemClock()) as lease,
    ):
        things = [Thing("h1", Kind.VM, f"v{n}", f"v{n}") for n in range(1, 5)]
        order = Order(("h1",), asked_by="ada")
        drain = store.drains.begin(lease, order, things, began, 60.0)
        store.drains.enter(lease, drain, DrainState.MOVING, began)
        number, (move,) = store.journal.begin_run(lease, made.id, [entry], began)
        for before, after in (("planned", "intended"), ("intended", "done")):
            store.journal.move(lease, number, move, Change(before, after, now))
        hosts = [["h3"], ["h1"], ["h2"]]
        start = now - timedelta(hours=1)
        campaign = store.campaigns.begin(lease, hosts, {"work_s": 9.0}, "bob", start)
        store.campaigns.step(lease, campaign, "h3", HostStep.DONE, now - timedelta(minutes=30))
        store.campaigns.step(lease, campaign, "h1", HostStep.DRAINING, began)
    assert run(["status", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "drain h1: moving; 1 of 4 VMs away; over by about" in told
    assert "(for ada since" in told
    assert "campaign h1: draining; 1 of 3 hosts through; over by about" in told
    assert run(["status", "--json", "--config", str(config)]) == 0
    (status,) = json.loads(capsys.readouterr().out)["clusters"]
    by_pace, by_turns = (datetime.fromisoformat(one["ends_at"]) for one in status["underway"])
    # A quarter took ten minutes, a turn half an hour; this turn has begun half an hour ago.
    assert abs(by_pace - (began + timedelta(minutes=40))) < timedelta(minutes=1)
    assert abs(by_turns - (now + timedelta(minutes=30))) < timedelta(minutes=1)

    with (
        Store.open(config.parent / "s.sqlite") as store,
        store.leases.hold("prod", "me", SystemClock()) as lease,
    ):
        store.drains.enter(lease, drain, DrainState.DRAINED, now)
        store.campaigns.step(lease, campaign, "h1", HostStep.DONE, now)
        waits = "no window is [open]; the next window opens at 02:00"
        store.campaigns.enter(lease, campaign, CampaignState.GOING, now, waits)
    assert run(["status", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "drain h1" not in told
    assert "campaign h3, h1, h2: waiting; 2 of 3 hosts through (for bob" in told
    assert "no window is [open]; the next window opens at 02:00" in told
