"""The systemd units: what they promise, and that both say the same."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, done, tool

UNITS = ROOT / "systemd"
BOTH = ("balancer.service", "balancer@.service")
WORKER = "balancer-worker.service"
EXPOSURE_MAX = 2.0


def directives(name: str) -> list[str]:
    lines = (UNITS / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_template_differs_in_the_site_only() -> None:
    single, template = (directives(name) for name in BOTH)
    expected = [
        line.replace("Description=Hyper-V Balancer", "Description=Hyper-V Balancer for %i")
        .replace("/etc/balancer/balancer.yaml", "/etc/balancer/%i.yaml")
        .replace("StateDirectory=balancer", "StateDirectory=balancer/%i")
        .replace("WorkingDirectory=/var/lib/balancer", "WorkingDirectory=/var/lib/balancer/%i")
        for line in single
    ]
    assert template == expected


def test_the_worker_lives_within_the_same_walls() -> None:
    expected = [
        line.replace("Description=Hyper-V Balancer", "Description=Hyper-V Balancer worker").replace(
            "/usr/bin/balancer run", "/usr/bin/balancer worker"
        )
        for line in directives("balancer.service")
    ]
    assert directives(WORKER) == expected


def test_the_service_is_told_of_by_itself_watched_and_given_time_to_stop() -> None:
    said = dict(line.split("=", 1) for line in directives("balancer.service") if "=" in line)
    assert said["Type"] == "notify"
    assert said["WatchdogSec"]
    assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert said["LoadCredential"].startswith("balancer:")
    assert said["RestartPreventExitStatus"] == "2", "a bad configuration is no reason to try again"
    minutes = re.fullmatch(r"(\d+)min", said["TimeoutStopSec"])
    assert minutes is not None
    assert int(minutes[1]) * 60 > 900, "longer than service.stop_within"


@pytest.mark.parametrize("name", [*BOTH, WORKER])
def test_the_service_is_exposed_as_little_as_it_can_be(name: str, tmp_path: Path) -> None:
    unit = shutil.copy(UNITS / name, tmp_path / name)
    told = done(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert found is not None, told
    assert float(found[1]) <= EXPOSURE_MAX, told
