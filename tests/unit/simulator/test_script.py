"""Scenario files: what they make, and where their errors are."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.errors import InputError
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator import script
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.script import load_scenario, parse_scenario
from balancer.gateway.simulator.windows import Operation

GOOD = """
version: 1
world: demo
seed: 7
faults:
  - {at: 90s, kind: silent, host: HV01, lasts: 1m}
  - {at: 0s, kind: move_fails, vm: dc-01, code: "0x800705AA", percent: 40%, count: 1}
actors:
  - operator: {at: 2m, vm: dc-01, to: HV05}
  - backup: {host: HV04, at: 1m, each: 5m}
  - auto_balancer: {moves: 2}
"""


def test_faults_and_actors_come_at_their_time() -> None:
    clock = VirtualClock()
    world = parse_scenario(GOOD, "s.yaml", clock)
    host = hosts_of(world)["HV01"]
    (controller,) = [one for one in world.guests.values() if one.name == "dc-01"]
    home = controller.host
    clock.sleep(80)
    host.version()
    locked = [one.host for one in world.guests.values() if one.operation == Operation.BACKING_UP]
    assert locked == ["HV04"]
    clock.sleep(20)
    with pytest.raises(ReplyLostError):
        host.version()
    clock.sleep(300)
    host.version()
    assert (controller.host, controller.failure) == (home, 0x800705AA)


def test_the_example_in_the_documentation_is_a_scenario(tmp_path: Path) -> None:
    lines = (script.__doc__ or "").splitlines()
    text = "\n".join(line[4:] for line in lines if line.startswith("    "))
    (tmp_path / "s.yaml").write_text(text, "utf-8")
    assert load_scenario(tmp_path / "s.yaml", VirtualClock()).name == "DEMO"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("world: demo", "world: nowhere", 3, "no scenario 'nowhere'"),
        ("host: HV01", "host: HV99", 6, "HV99"),
        ("kind: silent", "kind: mute", 6, "silent"),
        ("to: HV05", "to: HV99", 9, "no host 'HV99'"),
        ("vm: dc-01, to", "vm: nobody, to", 9, "0 VMs"),
        ("vm: dc-01, to", "vm: web-frontend, to", 9, "2 VMs"),
        ("at: 90s", "at: 90", 6, "duration"),
        ("0x800705AA", "800705AA", 7, "HRESULT"),
        ("auto_balancer: {moves: 2}", "weather: {}", 11, "weather"),
        ("seed: 7", "seed: 7\nsped: 8", 5, "sped"),
    ],
)
def test_an_error_says_where_it_is(old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(GOOD.replace(old, new, 1), "s.yaml", VirtualClock())
    assert f"s.yaml:{line}" in str(caught.value)
    assert words in str(caught.value)
