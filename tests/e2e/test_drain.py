"""Draining and taking back, as typed, over real WinRM."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.e2e.conftest import Serve, run


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
