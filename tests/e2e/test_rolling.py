"""Walking a cluster, as typed, over real WinRM: dry runs, hooks, a kill in the middle of one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Serve, Served


def paused(site: Served) -> set[str]:
    hosts = site("observe", "--json").document["hosts"]
    return {host["name"] for host in hosts if host.get("state", "up") == "paused"}


def hosts_of(site: Served) -> dict[str, str]:
    return {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}


@pytest.mark.timeout(300)
def test_a_dry_run_prints_turns_and_touches_nothing(serve: Serve, tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.yaml"
    stuck.write_text("version: 1\nworld: lab\nvms: [{vm: erp-010, assigned_devices: 1}]\n", "utf-8")
    site = serve(str(stuck), "--speed", "30")
    ran = site("rolling", "--dry-run", "LAB1", "LAB3", "LAB4", "--json")
    assert ran.code == 0, ran.stderr
    plan = ran.document
    assert [turn["hosts"] for turn in plan["turns"]] == [["LAB1"], ["LAB3"], ["LAB4"]]
    seen = site("observe", "--json").document
    running = [vm for vm in seen["vms"] if vm.get("state", "running") == "running"]
    held = sum(vm["memory_assigned_bytes"] for vm in running if vm["host"] != "LAB2")
    assert plan["moved_bytes"] == pytest.approx(2 * held, rel=0.1), "out and back"
    assert sum(turn["moved_bytes"] for turn in plan["turns"]) == plan["moved_bytes"]
    ends = [turn["ends_at"] for turn in plan["turns"]]
    assert all(turn["begins_at"] < turn["ends_at"] for turn in plan["turns"])
    assert [turn["begins_at"] for turn in plan["turns"][1:]] == ends[:-1]
    ran = site("rolling", "--dry-run", "--no-restore", "--at-once", "2")
    assert ran.code == 3
    assert "LAB2: erp-010: it is blocked by assigned_device" in ran.stderr
    assert "remedy: take the assigned device from it" in ran.stderr
    assert "4 hosts in " in ran.stdout
    assert site("rolling", "--dry-run", "LAB99").code == 2
    assert site("rolling", "--run", "echo 'x", "LAB1").code == 2
    assert site("rolling", "--abandon").code == 2, "there is none"
    assert paused(site) == set()


@pytest.mark.timeout(300)
def test_killed_while_a_command_runs_it_goes_on_with_that_command(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve("lab", "--speed", "60")
    before = hosts_of(site)
    said = tmp_path / "ge sagt"
    hook = tmp_path / "patch 'n"
    hook.write_text(
        "#!/bin/sh\n"
        f'echo "$1 $BALANCER_HOST $BALANCER_CLUSTER" >> "{said}"\n'
        f'[ -e "{said}.go" ] || sleep 60\n',
        "utf-8",
    )
    hook.chmod(0o755)
    command = f'"{hook}" {{host}}'
    first = site.start("rolling", "LAB3", "LAB4", "--at-once", "2", "--run", command)
    both = ["LAB3 LAB3 LAB", "LAB4 LAB4 LAB"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and lines_of(said) != both:
        time.sleep(0.2)
    first.kill()
    first.communicate()
    assert lines_of(said) == both
    assert paused(site) == {"LAB3", "LAB4"}
    said.with_name("ge sagt.go").touch()
    assert site("rolling", "LAB1").code == 2, "another campaign is not over"
    ran = site("rolling", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.document["state"] == "done"
    steps = {one["host"]: one["step"] for one in ran.document["hosts"]}
    assert steps == {"LAB3": "done", "LAB4": "done"}
    assert lines_of(said) == sorted(both * 2), "it ran again, once on each host"
    lines = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert lines, "progress is told as JSON lines"
    assert paused(site) == set()
    assert hosts_of(site) == before


def lines_of(path: Path) -> list[str]:
    return sorted(path.read_text("utf-8").split("\n")[:-1]) if path.exists() else []


@pytest.mark.timeout(300)
def test_a_command_that_fails_leaves_the_host_paused_and_the_campaign_to_be_decided(
    serve: Serve,
) -> None:
    site = serve("lab", "--speed", "60")
    ran = site("rolling", "LAB1", "--run", "sh -c 'echo no space on {host}; exit 3'")
    assert ran.code == 4
    assert "stopped (1 hosts failed): 0 of 1 hosts" in ran.stdout
    assert "no space on LAB1; the host stays paused" in ran.stdout
    assert paused(site) == {"LAB1"}
    ran = site("rolling", "--abandon")
    assert (ran.code, "given up by" in ran.stdout) == (0, True)
    assert paused(site) == {"LAB1"}
    assert site("resume", "LAB1", "--restore").code == 0
    ran = site("rolling", "LAB1", "--run", "sleep 60", "--timeout", "1")
    assert (ran.code, "killed: not over after 1 s" in ran.stdout) == (4, True)
