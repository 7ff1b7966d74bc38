"""One host of 64, with 125 VMs: one cannot move, and a host dies on the way.

The command itself, from its arguments to its exit code; only the clock and the way to the hosts
are the simulator's, so that minutes pass in seconds and the forecast can be held to them.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from balancer.cli import run
from balancer.gateway.port import Gateway
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.things import Guest
from balancer.store.store import Store
from tests.simulation.draining import everything_is_somewhere, holds, is_paused
from tests.simulation.small import GIB, Small


class Large(Small):
    """64 hosts, of which the first has 125 VMs of several sizes and the others a few."""

    def new_world(self) -> None:
        for number in range(125):
            name, size = f"m{number:03}", (2, 4, 8, 16)[number % 4]
            guest = Guest(self.vm(name), name, "h1", 2, size * GIB, Load(base_cores=0.1))
            guest.group, guest.startup_bytes = name, guest.assigned_bytes
            self.world.guests[guest.id] = guest
            self.world.guests_on["h1"][guest.id] = guest
            self.world.groups[name] = guest
        self.world.machines["h1"].memory_bytes = 2048 * GIB
        self.gateway = self.new_gateway()

    def kill_a_target_once_so_many_left(self, many: int) -> list[str]:
        """Let the target of a migration in flight die; return where its name will be."""
        dead: list[str] = []

        def look(now_s: float) -> None:
            flights = [one for one in self.world.engine.migrations if one.running]
            if len(self.world.guests_on["h1"]) <= 128 - many and flights:
                dead.append(flights[0].target.name)
                mishaps.power_off(self.world, flights[0].target, now_s)
            else:
                self.world.at(now_s + 1, look)

        self.world.at(1, look)
        return dead


def large() -> Large:
    """Return the world; readers know only guests that were there when it was made."""
    made = Large(hosts=64, each=3)
    made.new_world()
    return made


CONFIG = """
version: 1
store: {store}
clusters:
  - name: small
    hosts: [h1, h2]
    connection: {{username: nobody, password_file: none}}
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("dies", [False, True], ids=["all well", "a host dies"])
def test_right_plan_right_forecast_right_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dies: bool,  # noqa: FBT001 -- a case
) -> None:
    world = large()
    world.world.guests[world.vm("m007")].assigned_devices = 1
    config = tmp_path / "balancer.yaml"
    config.write_text(CONFIG.format(store=tmp_path / "store.db"), "utf-8")

    def connect(*_: Any) -> Gateway:
        return world.new_gateway()

    monkeypatch.setattr("balancer.cli.site.connect", connect)
    monkeypatch.setattr("balancer.cli.drain.SystemClock", lambda: world.clock)
    site = ["--config", str(config)]

    # The plan, before anything is done.
    assert run(["drain", "h1", "--dry-run", "--json", *site]) == 3
    shown = capsys.readouterr()
    plan = json.loads(shown.out)
    assert plan["status"] == "infeasible"
    assert len(plan["migrations"]) == 127  # 124 of 125, and three that were there before
    assert {one["source"] for one in plan["migrations"]} == {"h1"}
    assert "m007 cannot leave h1: it is blocked by assigned_device" in shown.err
    assert not is_paused(world, "h1")

    dead = world.kill_a_target_once_so_many_left(60) if dies else []
    assert run(["drain", "H1", "--json", *site]) == 4
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["end"], report["paused"]) == ("in_part", ["h1"])
    assert [(one["kind"], one["name"]) for one in report["left"]] == [("vm", "m007")]
    assert report["left"][0]["remedy"]
    assert report["moved"]["vm"] == 127
    assert len(report["plans"]) == (2 if dies else 1)
    if dies:
        assert any(f"planned anew without {dead[0]}" in note for note in report["notes"])
    began, ended = (datetime.fromisoformat(report[key]) for key in ("started_at", "ended_at"))
    assert (ended - began).total_seconds() == pytest.approx(report["expected_s"], rel=0.15)
    progress = [json.loads(line) for line in told.err.splitlines() if line.startswith("{")]
    etas = [one["eta_s"] for one in progress if one["eta_s"] is not None]
    assert etas[0] == pytest.approx(report["expected_s"], rel=0.15)

    assert holds(world, "h1") == {"m007"}
    assert is_paused(world, "h1")
    everything_is_somewhere(world)
    store = Store.open_read_only(tmp_path / "store.db")
    ran = {run.plan for run in store.journal.runs("small")}
    store.close()
    assert ran == set(report["plans"])
