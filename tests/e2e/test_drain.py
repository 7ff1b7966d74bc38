"""Draining and taking back, as typed, over real WinRM."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND, Serve, environment, run


def test_a_snapshot_says_how_a_drain_would_go(tmp_path: Path) -> None:
    hosts = [{"name": name, "cpu_cores": 16, "memory_bytes": 64 * 2**30} for name in ("A", "B")]
    vm = {"id": "1", "name": "one", "host": "A", "cpu_used_cores": 1}
    vm["memory_assigned_bytes"] = 8 * 2**30
    document = {"schema": "balancer/snapshot/v1", "cluster": "c", "hosts": hosts, "vms": [vm]}
    path = tmp_path / "s.json"
    path.write_text(json.dumps(document), "utf-8")
    ran = run("drain", "a", "--dry-run", "--snapshot", path, "--json")
    assert ran.code == 0
    assert [one["target"] for one in ran.document["migrations"]] == ["B"]
    assert run("drain", "A", "--snapshot", path).code == 2
    assert run("drain", "Z", "--dry-run", "--snapshot", path).code == 2
    vm["memory_assigned_bytes"] = 65 * 2**30
    hosts[0]["memory_bytes"] = 128 * 2**30
    path.write_text(json.dumps(document), "utf-8")
    ran = run("drain", "A", "--dry-run", "--snapshot", path)
    assert ran.code == 3
    assert "1.0 GiB are missing on B" in ran.stderr


def test_a_node_is_emptied_carried_on_after_a_kill_and_taken_back(serve: Serve) -> None:
    site = serve("branch", "--speed", "20")
    assert site("drain", "BR2", "--dry-run").code == 3
    assert site("drain", "BR2").code == 3, "there is no room, so nothing is begun"
    site = serve("demo", "--speed", "30")
    first = site.start("drain", "HV02")
    time.sleep(10)
    first.kill()
    first.communicate()
    deadline = time.monotonic() + 80  # the lease of the killed one has to run out
    while (ran := site("drain", "HV02", "--json")).code == 6 and time.monotonic() < deadline:
        time.sleep(3)
    assert ran.code == 0, ran.stderr
    assert (ran.document["end"], ran.document["paused"]) == ("done", ["HV02"])
    seen = site("observe", "--json").document
    assert "HV02" not in {vm["host"] for vm in seen["vms"]}
    assert {host["name"]: host.get("state", "up") for host in seen["hosts"]}["HV02"] == "paused"
    ran = site("resume", "HV02", "--json")
    assert (ran.code, ran.document["paused"]) == (0, [])


@pytest.mark.timeout(300)
def test_what_stands_against_a_drain_is_said_with_the_exit_code(
    serve: Serve, tmp_path: Path
) -> None:
    shaky = tmp_path / "shaky.yaml"
    shaky.write_text(
        "version: 1\nworld: lab\ncluster: {witness: none}\n"
        "vms: [{vm: sql-003, assigned_devices: 1}]\n"
        "roles: [{name: licence, owner: LAB3, nodes: [LAB3]}]\n",
        "utf-8",
    )
    site = serve(str(shaky), "--speed", "60")
    ran = site("drain", "LAB1", "LAB2")
    assert ran.code == 3
    assert "2 of 4 votes, no majority (there is no witness)" in ran.stderr
    too_late = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    ran = site("drain", "LAB1", "--by", too_late)
    assert ran.code == 3
    assert "it should have begun by" in ran.stderr
    ran = site("drain", "LAB1", "--by", "23:59", "--dry-run")
    assert ran.code == 0, ran.stderr
    assert "latest start " in ran.stdout
    ran = site("drain", "LAB3", "--on-failure", "resume", "--keep-reserve", "--json")
    assert ran.code == 4
    document = ran.document
    assert (document["end"], document["paused"]) == ("in_part", [])
    assert {one["name"]: one["kind"] for one in document["left"]} == {
        "sql-003": "vm",
        "licence": "role",
    }
    assert all(one["remedy"] for one in document["left"])
    told = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert (2, 2) in {(one["done"], one["total"]) for one in told}
    assert any(one["eta_s"] is not None for one in told if one["total"])
    assert {"moves", "news", "elapsed_s"} <= told[0].keys()


def test_storage_that_repairs_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    repairs = tmp_path / "repairs.yaml"
    repairs.write_text(
        "version: 1\nworld: lab\ncluster: {storage_direct: true, storage_jobs: 2}\n", "utf-8"
    )
    ran = serve(str(repairs))("drain", "LAB1")
    assert ran.code == 3
    assert "2 storage jobs run" in ran.stderr


def test_hosts_that_stand_alone_are_emptied_and_taken_back(serve: Serve) -> None:
    site = serve("standalone", "--speed", "60")
    ran = site("drain", "SA2", "--json")
    assert (ran.code, ran.document["paused"]) == (0, []), ran.stderr
    vms = site("observe", "--json").document["vms"]
    assert not [vm for vm in vms if vm["host"] == "SA2" and vm.get("state", "running") == "running"]


@pytest.mark.timeout(300)
def test_scripts_around_an_update_of_a_node(serve: Serve, tmp_path: Path) -> None:
    """What Cluster-Aware Updating runs before and after a node's updates, exit codes passed on."""
    site = serve("lab", "--speed", "60")
    python = shlex.join(COMMAND)
    before, after = tmp_path / "pre-update", tmp_path / "post-update"
    before.write_text(f'#!/bin/sh\nexec {python} drain "$1" --on-failure resume\n', "utf-8")
    after.write_text(f'#!/bin/sh\nexec {python} resume "$1" --restore\n', "utf-8")

    def script(path: Path, node: str) -> int:
        environs = environment(BALANCER_CONFIG=str(site.config))
        command = ["/bin/sh", str(path), node]
        return subprocess.run(command, env=environs, check=False, timeout=90).returncode  # noqa: S603

    owners = {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}
    assert script(before, "lab2") == 0
    seen = site("observe", "--json").document
    assert {host["name"]: host.get("state", "up") for host in seen["hosts"]}["LAB2"] == "paused"
    assert "LAB2" not in {vm["host"] for vm in seen["vms"]}
    assert script(before, "lab2") == 0, "an update that is tried again finds the node empty"
    assert script(after, "lab2") == 0
    assert script(after, "lab2") == 0, "so does one that is resumed twice"
    seen = site("observe", "--json").document
    assert {host["name"]: host.get("state", "up") for host in seen["hosts"]}["LAB2"] == "up"
    assert {vm["id"]: vm["host"] for vm in seen["vms"]} == owners
    assert script(before, "lab9") == 2, "anything but 0 stops the update of the node"
