"""The whole cycle over both ways: the same plan to the byte, the same end, nothing left to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer.cycle import Cycle
from balancer.formats.plan import plan_to_json
from balancer.model.outcome import RunEnd
from balancer.model.plan import Status
from balancer.policy.load import load_policy
from balancer.store.store import Store
from tests.contract.conftest import WAYS, Bench
from tests.cycles import one_cycle

Make = Callable[..., Bench]
POLICY = load_policy(Path(__file__).parents[2] / "policies" / "default.yaml")


@dataclasses.dataclass(frozen=True)
class Told:
    """What must not depend on the way."""

    plan: str
    end: dict[str, str]
    options: dict[str, int]
    outcomes: list[tuple[str, str]]


def told(bench: Bench, cycle: Cycle) -> Told:
    assert cycle.plan is not None
    assert cycle.report is not None
    with bench.world.present():
        return Told(
            plan=plan_to_json(cycle.plan),
            end={guest.id: guest.host for guest in bench.world.guests.values()},
            options={machine.name: machine.option for machine in bench.world.machines.values()},
            outcomes=[(one.migration, one.state.value) for one in cycle.report.migrations],
        )


def cycle(bench: Bench, store: Store) -> Cycle:
    return one_cycle(bench.world.name, POLICY, bench.gateway, store, bench.clock)


@pytest.mark.parametrize("name", ["demo", "branch", "standalone"])
def test_the_same_scenario_ends_the_same(bench: Make, tmp_path: Path, name: str) -> None:
    found: list[Told] = []
    for number, way in enumerate(WAYS):
        made: Bench = bench(name, way)
        before = {machine.name: machine.option for machine in made.world.machines.values()}
        with Store.open(tmp_path / f"{number}.sqlite") as store:
            first = cycle(made, store)
            assert first.report is not None
            assert first.report.end is RunEnd.DONE
            said = told(made, first)
            second = cycle(made, store)
        ends = {one.vm: one.target for one in first.migrations if not one.stopover}
        assert {vm: said.end[vm] for vm in ends} == ends
        assert said.options == before
        assert second.result == Status.NOTHING_TO_DO.value
        assert second.report is None
        found.append(said)
    assert found[0] == found[1]
