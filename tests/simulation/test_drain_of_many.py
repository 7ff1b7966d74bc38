"""One host of 64, with 125 VMs: one cannot move, and a host dies on the way."""

from __future__ import annotations

import pytest

from balancer.errors import ExitCode
from balancer.execute.executor import exit_code
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.things import Guest
from balancer.model.drain import Kind
from balancer.model.plan import Status
from balancer.planner import Evacuation
from balancer.store.store import Store
from tests.simulation.draining import empty, everything_is_somewhere, holds, is_paused
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


def large() -> Large:
    """Return the world; readers know only guests that were there when it was made."""
    made = Large(hosts=64, each=3)
    made.new_world()
    return made


@pytest.mark.parametrize("dies", [False, True], ids=["all well", "a host dies"])
def test_right_plan_right_forecast_right_exit_code(dies: bool) -> None:  # noqa: FBT001 -- a case
    world = large()
    world.world.guests[world.vm("m007")].assigned_devices = 1
    plans: list[Evacuation] = []

    def planned(evacuation: Evacuation) -> None:
        plans.append(evacuation)
        if dies and len(plans) == 1:
            halfway = evacuation.plan.migrations[len(evacuation.plan.migrations) // 2]
            with world.world.present() as now_s:
                world.world.at(now_s + halfway.start_s, lambda at_s: kill(halfway.target, at_s))

    def kill(host: str, at_s: float) -> None:
        mishaps.power_off(world.world, world.world.machines[host], at_s)

    with Store.open("sqlite://") as store:
        report = empty(world, store, "h1", on_planned=planned, poll_s=3.0)
    first = plans[0].plan
    assert first.status is Status.INFEASIBLE
    assert [one.name for one in plans[0].stuck] == ["m007"]
    assert len(first.migrations) == 127  # 124 of 125, and three that were there before
    assert {one.source for one in first.migrations} == {"h1"}
    assert len(plans) == (2 if dies else 1)
    assert exit_code(report.end) is ExitCode.EXECUTED_IN_PART
    assert [(one.kind, one.name) for one in report.left] == [(Kind.VM, "m007")]
    took_s = (report.ended_at - report.started_at).total_seconds()
    assert took_s == pytest.approx(report.expected_s, rel=0.15)
    assert holds(world, "h1") == {"m007"}
    assert is_paused(world, "h1")
    everything_is_somewhere(world)
