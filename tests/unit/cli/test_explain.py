"""`balancer explain`: questions, answers as documents, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balancer.cli import run
from balancer.formats.snapshot import snapshot_to_json
from tests.notation import cluster

HOSTILE = "'; rm * \"ü"
HOT = f"""
h1 64G 16c: a 8G 8c, b 8G 6c, h2 4G 1c
h2 64G 16c: {HOSTILE.replace(" ", "_")} 8G 1c
h3 64G 16c draining: c 8G 1c, d 8G 1c !assigned_device
"""
POLICY = """
version: 1
limits: {migrations_per_run: 3}
rules:
  - never_move: {vms: [a], name: held}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BALANCER_CONFIG", raising=False)
    (tmp_path / "s.json").write_text(snapshot_to_json(cluster(HOT)), "utf-8")
    (tmp_path / "p.yaml").write_text(POLICY, "utf-8")
    return tmp_path


def explain(*words: str) -> int:
    return run(["explain", "--snapshot", "s.json", "--policy", "p.yaml", *words])


def document(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert explain(*words, "--json") == code
    read = json.loads(capsys.readouterr().out)
    assert isinstance(read, dict)
    return read


@pytest.mark.usefixtures("here")
def test_a_vm_that_goes_elsewhere_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, "--why-not", "b")
    assert (told["host"], told["target"]) == ("h1", "h2")
    assert told["reason"].startswith("relieves h1")
    stays, drained = told["instead"]
    assert (stays["host"], stays["against"]) == ("h1", [])
    assert stays["changes"][0]["tier"] == "overload"
    assert stays["changes"][0]["by"] > 0
    assert drained["against"] == ["h3 is draining"] == told["against"]["h3"]


@pytest.mark.usefixtures("here")
def test_a_host_is_asked_by_its_name_or_after_a_colon_where_a_vm_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert document(capsys, "--why-not", "h2")["vm"] == "h2"
    told = document(capsys, "--why-not", ":h2")
    assert told["host"] == "h2"
    assert "b" in told["comes"]
    reasons = {one["reason"]: one["vms"] for one in document(capsys, "--why-not", "h3")["not_off"]}
    assert reasons == {"it is blocked by assigned_device": 1}


@pytest.mark.usefixtures("here")
def test_hostile_names_are_found_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = HOSTILE.replace(" ", "_")
    assert document(capsys, "--why-not", f"{name}:h1")["name"] == name
    assert explain("--why-not", name) == 0
    assert name in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_drain_that_cannot_be_names_the_smallest_conflict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (told,) = document(capsys, "--conflict", code=3)["conflicts"]
    assert told["subject"] == "h3 is drained"
    assert [(one["kind"], one["text"]) for one in told["members"]] == [
        ("must", "h3 is draining: d (8.0 GiB) would have to leave"),
        ("fact", "d: it is blocked by assigned_device"),
    ]
    assert told["smallest"] is True
    for verb in (["plan"], ["explain"]):
        assert run([*verb, "--snapshot", "s.json", "--policy", "p.yaml"]) == 3
        assert "in conflict, h3 is drained" in capsys.readouterr().out
    assert run(["plan", "--snapshot", "s.json", "-o", "plan.json"]) == 3
    capsys.readouterr()
    for words in (["plan.json"], ["--time-limit", "60"]):
        assert explain(*words) == 3
        told = capsys.readouterr().out
        assert "What is in conflict was not looked for: ask with --conflict." in told


def test_a_draining_host_to_which_nothing_could_come_keeps_no_vm(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asked_of(here, capsys, "h1 draining: a !assigned_device\nh2:", "", "--why-not", "h1")
    assert "nothing comes h1 is draining nothing leaves 1 VM: it is blocked" in told


@pytest.mark.usefixtures("here")
def test_a_drain_that_has_no_room_names_it_before_anything_moves(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = "h1 64G 16c: big 40G 1c\nh2 64G 16c: x 40G 1c\nh3 64G 16c: y 20G 1c, z 10G 1c"
    (here / "s.json").write_text(snapshot_to_json(cluster(full)), "utf-8")
    words = ["drain", "h1", "--dry-run", "--snapshot", "s.json", "--policy", "p.yaml"]
    assert run(words) == 3
    told = capsys.readouterr().out
    assert "limit: a drain moves no VMs but those on drained hosts" in told
    assert "fact: h2 has 64.0 GiB of memory for VMs" in told


def asked_of(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, policy: str, *words: str
) -> str:
    """Return what is told of a cluster in the notation, on one line."""
    (here / "s.json").write_text(snapshot_to_json(cluster(text)), "utf-8")
    (here / "p.yaml").write_text(f"version: 1\n{policy}\n", "utf-8")
    explain(*words)
    return " ".join(capsys.readouterr().out.split())


def test_where_no_conflict_is_proven_it_is_told_what_was_asked_and_what_is_proven(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (
        "No conflict was proven. Asked about are drained hosts and hard rules, but not overload, "
        "failures of hosts, or caps on how long a run takes. "
    )
    alone = asked_of(here, capsys, "h1 64G 16c: a 4G 15c", "", "--conflict")
    proven = "Proven: overload is no less than 0.1375 in any plan, unless what comes before it is"
    assert alone == f"{asked}{proven} worse."
    slow = "limits: {duration_per_run: 5s}"
    drain = asked_of(here, capsys, "h1 64G draining: a 8G 1c\nh2 64G:", slow, "--conflict")
    assert drain == f"{asked}What stays unresolved may be for want of a better search."


def test_a_host_that_is_full_has_no_room_below_its_threshold(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, together = "h1 16c: a 4G 8c, b 4G 7c\nh2 16c: c 4G 1c", 'together: {vms: [{glob: "*"}]}'
    told = asked_of(here, capsys, text, f"rules: [{{{together}}}]", "--conflict")
    assert "h1, above its threshold of 80 %, may hold no more than the 15.0 cores it holds" in told
    assert "h2 has 12.8 cores for VMs below its threshold of 80 %" in told


def test_no_time_to_look_for_a_drain_is_no_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asked_of(here, capsys, "h1 draining: a 8G 1c\nh2:", "", "--time-limit", "0")
    assert "No migrations: the search was stopped before it found any." in told
    assert "unresolved: h1: 1 VM is still on it: a" in told
    assert "Infeasible" not in told
    assert explain("--time-limit", "0") == 0


@pytest.mark.usefixtures("here")
def test_prices_are_a_document_and_honour_the_time_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = document(capsys, "--prices")
    assert told["untried"] == []
    first = told["prices"][0]
    assert (first["kind"], first["relaxed"]) == ("rule", "without never_move [held] (p.yaml:5)")
    assert first["gains"][0]["by"] > 0
    short = document(capsys, "--prices", "--time-limit", "0")
    assert short["prices"] == []
    assert "without never_move [held] (p.yaml:5)" in short["untried"]


def test_a_plan_that_was_made_before_can_be_asked_about(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--snapshot", "s.json", "--policy", "p.yaml"]
    assert run(["plan", *given, "-o", "plan.json"]) == 3
    capsys.readouterr()
    told = document(capsys, "plan.json", "--why-not", "b")
    assert told["target"] == "h2"
    plan = json.loads((here / "plan.json").read_text("utf-8"))
    assert [one["effect"]["repairs"] for one in plan["migrations"] if one["vm"] == "b"] == [
        [{"tier": "overload", "subject": "h1 CPU"}]
    ]
    assert explain("plan.json", "--why-not", "b") == 0
    assert capsys.readouterr().err == ""
    (here / "p.yaml").write_text(POLICY.replace("3", "2"), "utf-8")
    assert explain("plan.json", "--why-not", "b") == 0
    assert capsys.readouterr().err == (
        "warning: the plan was made by another policy than the one that answers go by\n"
    )
    (here / "s.json").write_text(snapshot_to_json(cluster(HOT, name="other")), "utf-8")
    assert explain("plan.json", "--why-not", "b") == 2
    assert "the plan is for 'test', not for 'other'" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "words",
    [
        ["--why-not", "nobody"],
        ["--why-not", "b:h9"],
        ["--why-not", ":h9"],
        ["--why-not", "b", "--prices"],
        ["--prices", "--conflict"],
        ["s.json", "--prices"],
    ],
    ids=" ".join,
)
def test_bad_questions_are_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(*words) == 2
    assert capsys.readouterr().out == ""
