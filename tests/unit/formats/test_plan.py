"""Plan documents: every key of the contract, there and back, and what is not believed."""

from __future__ import annotations

import contextlib
import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.formats.plan import parse_plan, plan_to_json, read_plan
from balancer.model.cluster import Transport
from balancer.model.effect import Effect, End, Gain, Repair
from balancer.model.plan import (
    Kind,
    Migration,
    NotMoved,
    Plan,
    Score,
    SettingChange,
    Status,
    StoppedBy,
    Tier,
    Unresolved,
)
from balancer.planner import plan
from balancer.policy.policy import Policy
from tests.notation import cluster
from tests.unit.formats.clusters import MOMENT, NAME

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4

SAMPLE = Plan(
    cluster="c",
    id="plan-1",
    created_at=NOW,
    expires_at=NOW + timedelta(minutes=15),
    snapshot_sha256=DIGEST,
    policy_sha256="",
    status=Status.FEASIBLE,
    stopped_by=StoppedBy.WORK,
    score=Score(2.0, 0.5, 0.25, "linear", 6 / 7, (Tier("drain", 1.0, 0.0, None),)),
    makespan_s=82.8,
    makespan_bound_s=80.0,
    migrations=(
        Migration("m1", "1", "a", "h1", "h2", Transport.SMB, 2**32, 0.0, 40.0, "relieves h1"),
        Migration(
            "m2", "2", "b", "h2", "h1", Transport.TCP, 1, 40.0, 42.8, "", ("m1",), Kind.QUICK, True
        ),
    ),
    settings=(SettingChange("h1", "transport", "compression", "smb"),),
    not_moved=(NotMoved("3", "ü漢[*]", "h1", "it is pinned"),),
    unresolved=(Unresolved("h2", "CPU 91 %", "no host has room"),),
)


KEYS = """schema cluster id created_at expires_at snapshot_sha256 policy_sha256 status stopped_by
migrations settings not_moved unresolved score makespan_s makespan_bound_s"""
MIGRATION_KEYS = """id vm name kind source target transport after stopover start_s duration_s bytes
reason"""
SCORE_KEYS = "before after bound bound_kind closed tiers"


def number(least: float = 0.0) -> st.SearchStrategy[float]:
    return st.floats(least, 1e12)


EFFECTS = st.builds(
    Effect,
    repairs=st.lists(st.builds(Repair, NAME, NAME), max_size=2).map(tuple),
    gains=st.lists(st.builds(Gain, NAME, number(-1e9)), max_size=2).map(tuple),
    ends=st.lists(st.builds(End, NAME, NAME, number(), number(), number()), max_size=2).map(tuple),
    score_cost=number(),
    copy_s=number(),
    blackout_s=number(),
    failure_rate=number(),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    ids = draw(st.lists(NAME, max_size=3, unique=True))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    migrations = tuple(
        Migration(
            name,
            draw(NAME),
            draw(text),
            "h1",
            draw(st.sampled_from(["h2", "H1", "ü"])),
            draw(st.sampled_from(Transport)),
            draw(st.integers(0, 2**63 - 1)),
            draw(number()),
            draw(number()),
            draw(text),
            tuple(ids[:index]),
            draw(st.sampled_from(Kind)),
            draw(st.booleans()),
            draw(st.none() | EFFECTS),
        )
        for index, name in enumerate(ids)
    )
    created = draw(MOMENT)
    setting = st.builds(SettingChange, NAME, NAME, text, text)
    digest = st.sampled_from(["", DIGEST])
    tier = st.builds(Tier, NAME, number(-1e9), number(), st.none() | number())
    return Plan(
        cluster=draw(NAME),
        id=draw(NAME),
        created_at=created,
        expires_at=created + timedelta(seconds=draw(st.integers(0, 10**6))),
        snapshot_sha256=draw(digest),
        policy_sha256=draw(digest),
        status=draw(st.sampled_from(Status)),
        stopped_by=draw(st.sampled_from(StoppedBy)),
        score=Score(
            draw(number()), draw(number()), draw(number()), draw(text), draw(number(-9)),
            tuple(draw(st.lists(tier, max_size=2))),
        ),
        makespan_s=draw(number()),
        makespan_bound_s=draw(number()),
        migrations=migrations,
        settings=tuple(draw(st.lists(setting, max_size=2))),
        not_moved=tuple(draw(st.lists(st.builds(NotMoved, NAME, text, NAME, text), max_size=2))),
        unresolved=tuple(draw(st.lists(st.builds(Unresolved, text, text, text), max_size=2))),
    )  # fmt: skip


@settings(max_examples=150)
@given(plans())
def test_every_plan_reads_back_equal_and_is_written_in_the_same_bytes(made: Plan) -> None:
    text = plan_to_json(made)
    assert parse_plan(text, "p.json") == made
    assert plan_to_json(parse_plan(text, "p.json")) == text


def test_a_plan_of_the_planner_reads_back_equal(tmp_path: Path) -> None:
    busy = cluster("h1 64G 16c: a 8G 6c, b 8G 6c, c 8G 3c\nh2 64G: d 4G 1c\nh3 64G 16c:")
    made = plan(busy, Policy(), now=NOW)
    assert made.migrations
    file = tmp_path / "plan.json"
    file.write_text(plan_to_json(made), "utf-8")
    assert read_plan(file) == made


def test_the_keys_are_those_of_the_contract_in_its_order() -> None:
    document = json.loads(plan_to_json(SAMPLE))
    assert list(document) == KEYS.split()
    assert list(document["migrations"][0]) == MIGRATION_KEYS.split()
    assert list(document["score"]) == SCORE_KEYS.split()
    assert document["created_at"] == "2026-01-01T00:00:00Z"
    assert document["score"]["tiers"] == [
        {"name": "drain", "before": 1.0, "after": 0.0, "bound": None}
    ]


def changed(path: list[str | int], value: Any) -> str:
    document = json.loads(plan_to_json(SAMPLE))
    here = document
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "place", "told"),
    [
        (["schema"], "balancer/plan/v2", "schema", "not 'balancer/plan/v2'"),
        (["schema"], "balancer/snapshot/v1", "schema", "expected schema 'balancer/plan/v1'"),
        (["cluster"], None, "cluster", "missing"),
        (["stat"], "optimal", "stat", "unknown key 'stat'"),
        (["status"], "best", "status", "one of optimal"),
        (["stopped_by"], "luck", "stopped_by", "one of proof"),
        (["created_at"], "today", "created_at", "RFC 3339"),
        (["expires_at"], "2025-12-31T00:00:00Z", "expires_at", "before it was made"),
        (["snapshot_sha256"], "abc", "snapshot_sha256", "SHA-256"),
        (["makespan_s"], -1, "makespan_s", "at least 0"),
        (["score", "bound"], "0", "score.bound", "a number"),
        (["migrations", 0, "id"], "m2", "migrations[1].id", "stands twice"),
        (["migrations", 0, "vm"], "", "migrations[0].vm", "expected text"),
        (["migrations", 0, "force"], True, "migrations[0].force", "unknown key"),
        (["migrations", 0, "transport"], "rdma", "migrations[0].transport", "one of tcp"),
        (["migrations", 0, "target"], "h1", "migrations[0].target", "both 'h1'"),
        (["migrations", 0, "bytes"], 2**64, "migrations[0].bytes", "below 2^63"),
        (["migrations", 0, "after"], ["m9"], "migrations[0].after", "no migration 'm9'"),
        (["migrations", 0, "after"], ["m1"], "migrations", "in a ring: 'm1', 'm2'"),
        (["migrations", 0, "after"], ["m2"], "migrations", "in a ring: 'm1', 'm2'"),
        (["settings", 0, "host"], None, "settings[0].host", "missing"),
        (["unresolved"], None, "unresolved", "missing"),
    ],
)
def test_a_tampered_plan_is_refused_at_the_place(
    path: list[str | int], value: Any, place: str, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_plan(changed(path, value), "p.json")
    text = str(caught.value)
    assert f"p.json: {place}: " in text
    assert told in text
    assert "remedy: " in text


@given(st.integers(0, len(plan_to_json(SAMPLE)) - 3))
def test_a_truncated_plan_is_refused(length: int) -> None:
    with pytest.raises(InputError):
        parse_plan(plan_to_json(SAMPLE)[:length], "p.json")


@given(st.data())
def test_any_json_in_a_plan_is_a_value_or_an_input_error(data: st.DataObject) -> None:
    document = copy.deepcopy(json.loads(plan_to_json(SAMPLE)))
    key = data.draw(st.sampled_from(sorted(document)))
    inner = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    document[key] = data.draw(
        inner | st.lists(inner) | st.lists(st.dictionaries(st.sampled_from(["id", "after"]), inner))
    )
    with contextlib.suppress(InputError):
        parse_plan(json.dumps(document), "p.json")
