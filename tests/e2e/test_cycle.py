"""From looking at a cluster to having balanced it, and what the next look says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.conftest import Serve, run

SPEED = ("--speed", 30)


def test_check_observe_plan_apply_and_nothing_left_to_do(serve: Serve, tmp_path: Path) -> None:
    site = serve("branch", *SPEED)
    checked = site("check", "--json")
    assert checked.code == 0
    assert [host["ok"] for host in checked.document["hosts"]] == [True, True]

    snapshot, plan_file = tmp_path / "snap shot.json", tmp_path / "plän.json"
    assert site("observe", "-o", snapshot).code == 0
    seen = json.loads(snapshot.read_text("utf-8"))
    assert (seen["schema"], seen["cluster"]) == ("balancer/snapshot/v1", "BRANCH")

    planned = site("plan", "-o", plan_file, "--json")
    assert planned.code == 0
    plan = planned.document
    assert plan == json.loads(plan_file.read_text("utf-8"))
    assert plan["migrations"]
    assert all(each["reason"] for each in plan["migrations"])

    applied = site("apply", plan_file, "--json")
    assert applied.code == 0, applied.stderr
    assert applied.document["end"] == "done"
    assert [json.loads(line)["total"] for line in applied.stderr.splitlines() if line[0] == "{"]

    places = {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}
    assert all(places[each["vm"]] == each["target"] for each in plan["migrations"])
    again = site("apply")
    assert again.code == 0, again.stderr
    assert "Nothing to do" in again.stdout

    status = site("status", "--json").document["clusters"][0]
    assert status["lease"] is None
    assert status["open_moves"] == status["open_settings"] == []
    assert [each["end"] for each in status["runs"]] == ["done"]
    assert "done" in site("status").stdout


def test_hosts_without_a_cluster_are_balanced_as_well(serve: Serve) -> None:
    site = serve("standalone", *SPEED)
    applied = site("apply", "--max-migrations", 1, "--json")
    assert applied.code == 0, applied.stderr
    assert applied.document["end"] == "done"
    assert len(applied.document["migrations"]) == 1


def test_the_demo_ends_within_policy_and_a_second_run_finds_nothing() -> None:
    shown = run("demo", "--speed", 60, "--json")
    assert shown.code == 0, shown.stderr
    document = shown.document
    assert document["report"]["end"] == "done"
    assert len({each["transport"] for each in document["plan"]["migrations"]}) > 1
    assert document["plan"]["settings"]
    assert document["second_plan"]["migrations"] == []
    assert document["second_plan"]["unresolved"] == []
