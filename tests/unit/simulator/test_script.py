"""Scenario files: what they make, and where their errors are."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.errors import InputError
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
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
        ("auto_balancer: {moves: 2}", "updating: {at: 1m}", 11, "each"),
        ("seed: 7", "seed: 7\nsped: 8", 5, "sped"),
    ],
)
def test_an_error_says_where_it_is(old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(GOOD.replace(old, new, 1), "s.yaml", VirtualClock())
    assert f"s.yaml:{line}" in str(caught.value)
    assert words in str(caught.value)


FURNISHED = """
version: 1
world: demo
cluster: {witness: none, storage_direct: true, move_type_threshold: 1000}
roles:
  - {name: files, owner: HV02, nodes: [HV02, HV03]}
volumes:
  - {name: Volume2, owner: HV02}
vms:
  - {vm: dc-01, priority: low, assigned_devices: 1}
actors:
  - storage_repair: {at: 1m, lasts: 2m}
"""


def test_a_cluster_is_furnished_as_the_file_says() -> None:
    clock = VirtualClock()
    world = parse_scenario(FURNISHED, "s.yaml", clock)
    cluster = world.cluster
    assert cluster is not None
    assert (cluster.witness_online, cluster.move_type_threshold) == (None, 1000)
    assert [(role.name, role.owner) for role in cluster.roles[1:]] == [("files", "HV02")]
    assert cluster.volumes[-1].name == "Volume2"
    (controller,) = [one for one in world.guests.values() if one.name == "dc-01"]
    assert (controller.priority, controller.assigned_devices) == (1000, 1)
    jobs = []
    for _ in range(4):
        world.advance()
        jobs.append(cluster.storage_jobs)
        clock.sleep(60)
    assert jobs == [0, 1, 1, 0]
    estate = ClusterGateway(
        "demo", list(world.machines), hosts_of(world).__getitem__, in_turn, clock
    )
    seen = estate.observe().estate
    assert seen is not None
    assert seen.storage.direct
    assert "files" in {role.name for role in seen.roles}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "owner: HV02, nodes",
            "owner: HV99, nodes",
            "s.yaml:6:5: roles[0]: the world has no host 'HV99'",
        ),
        ("witness: none", "witness: maybe", "s.yaml:4"),
        ("world: demo", "world: standalone", "the hosts of this world stand alone"),
        ("vm: dc-01", "vm: nobody", "0 VMs of the world are called 'nobody'"),
    ],
)
def test_what_does_not_fit_the_world_is_said_with_its_place(old: str, new: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(FURNISHED.replace(old, new, 1), "s.yaml", VirtualClock())
    assert words in str(caught.value)
