"""What peers are told and what is read from their answers; those that are there are run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from balancer.errors import ExitCode
from balancer.model.cluster import Cluster
from balancer.policy.load import parse_policy
from balancer.policy.policy import Policy
from benchmarks.instances import generate
from benchmarks.peers import install, measured
from benchmarks.peers.__main__ import Size, main, told
from benchmarks.peers.contest import Entry, bounds_of, compare
from benchmarks.peers.hbal import STEP, Hbal, placed, text_of
from benchmarks.peers.neutral import judge
from benchmarks.peers.ours import Ours
from benchmarks.peers.proxlb import ProxLb, ProxLbSolver
from benchmarks.peers.rebalancer import SETTINGS, Rebalancer
from benchmarks.peers.task import AbsentError, Answer, Peer, Task

SAID = """Loaded 4 nodes, 60 instances
Trying to minimize the CV...
    1. v3  h2    => h0      0.20128344 a=fa:h0
    2. v41 h2    => h1      0.14059623 a=fa:h1
    3. v3  h0    => h3"""


def small(seed: int = 1, cap: int = 6) -> Task:
    return Task(generate(4, 60, seed), cap, 60.0)


def test_hbal_is_told_loads_limits_and_sets_to_be_apart() -> None:
    task = small()
    groups, nodes, instances, tags, policies = text_of(task).rstrip("\n").split("\n\n")
    assert groups.startswith("group|uuid|")
    assert tags == "htools:iextags:apart"
    assert policies.splitlines()[0].split("|")[-2] == "0.8"
    hosts, vms = task.cluster.hosts, task.cluster.vms
    rows = [line.split("|") for line in instances.splitlines()]
    for row, vm in zip(rows, vms, strict=True):
        assert int(row[1]) << 20 == vm.memory_assigned_bytes
        assert int(row[3]) == pytest.approx(1000 * vm.cpu_used_cores, abs=0.5)
        assert hosts[int(row[6][1:])].name == vm.host
        assert row[8] == "ext"
    for row, host in zip((line.split("|") for line in nodes.splitlines()), hosts, strict=True):
        there = sum(vm.memory_assigned_bytes >> 20 for vm in vms if vm.host == host.name)
        total, kept, free = int(row[1]), int(row[2]), int(row[3])
        assert kept == round(0.15 * total)
        assert free == total - kept - there
    tagged = {vms[at].id for at, row in enumerate(rows) if row[9]}
    assert tagged == {vm for vms_, _ in task.rules.apart for vm in vms_}


def test_hbal_s_steps_are_read_as_they_come() -> None:
    task = small()
    steps = STEP.findall(SAID)
    place = placed(task, steps)
    assert [vm for vm, _ in steps] == ["3", "41"]  # the third is only half a line
    assert place[task.cluster.vms[3].id] == task.cluster.hosts[0].name
    assert place[task.cluster.vms[41].id] == task.cluster.hosts[1].name
    assert len(place) == 60


def test_the_cpu_time_of_children_counts_and_a_limit_ends_them() -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    ran = measured.run([sys.executable, "-c", outer], limit_s=60.0)
    assert (ran.status, ran.cut) == (0, False)
    assert ran.cpu_s > 0.3
    forever = "import time; print('so far', flush=True); time.sleep(60)"
    ran = measured.run([sys.executable, "-c", forever], limit_s=1.5)
    assert ran.cut
    assert ran.out == "so far\n"
    assert ran.wall_s < 30


def test_a_peer_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for peer in (Rebalancer("stratified", 1.0), ProxLb("cpu"), ProxLbSolver(1.0)):
        with pytest.raises(AbsentError, match="--install"):
            peer.balance(small())


def entry(cluster: Cluster, place: dict[str, str], who: str, cpu_s: float = 1.0) -> Entry:
    verdict = judge(cluster, place)
    return Entry("it", True, who, verdict.moves, Answer(place, cpu_s, cpu_s), verdict)


def test_a_comparison_names_each_aim_that_is_missed() -> None:
    task = small()
    ours = Ours().balance(task)
    good = entry(task.cluster, dict(ours.place), "ours")
    bad = entry(task.cluster, task.home, "hbal")
    assert (
        compare(task.cluster, good, replace(bad, verdict=replace(bad.verdict, gib=1e9))).missed
        == ()
    )
    lost = compare(task.cluster, bad, good)
    assert any(text.startswith("J ") for text in lost.missed)
    many = generate(4, 1000, 1)
    here = Task(many, 1, 1.0).home
    one, other = entry(many, here, "ours", 9.0), entry(many, here, "hbal", 100.0)
    assert compare(many, one, other).missed == ("11 times as fast",)


def test_where_ours_does_more_it_is_run_within_the_peer_s_bounds() -> None:
    task = small()
    ours = entry(task.cluster, dict(Ours().balance(task).place), "ours")
    most = replace(ours.verdict, gib=ours.verdict.gib - 2.0, memory_max=0.99)
    peer = replace(ours, who="hbal", verdict=most)
    bounds = bounds_of(task.cluster, ours, peer)
    assert bounds is not None
    policy = parse_policy(bounds.policy(), "policy.yaml")
    assert policy.limits.bytes_per_run == round(most.gib * 2**30)
    assert policy.thresholds.memory == Policy().thresholds.memory  # never above the built-in one
    assert policy.thresholds.cpu <= max(most.cpu_max, 0.63) + 1e-9
    within = entry(task.cluster, dict(Ours(bounds=bounds).balance(task).place), "ours, within")
    assert within.verdict.gib <= most.gib
    assert bounds_of(task.cluster, within, peer) is None
    assert bounds_of(task.cluster, ours, ours) is None


def test_a_run_within_the_peer_s_bounds_decides() -> None:
    task = small()
    bad = entry(task.cluster, task.home, "ours")
    lost = compare(task.cluster, bad, entry(task.cluster, dict(Ours().balance(task).place), "hbal"))
    assert lost.is_missed
    assert told(lost).startswith("MISSED: 1 hosts over a limit")
    settled = replace(lost, settled=True)
    assert not settled.is_missed
    assert told(settled).startswith("without the peer's bounds: 1 hosts over")


def test_sizes_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert Size.read("64x1000:50") == Size(64, 1000, 50)
    with pytest.raises(SystemExit) as ended:
        main(["--sizes", "64-1000"])
    assert ended.value.code == ExitCode.BAD_INPUT
    assert "64x1000:50" in capsys.readouterr().err


def test_without_any_peer_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = ["--sizes", "2x8:2", "--seeds", "1", "--peers", "rebalancer", "--json"]
    assert main(asked) == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    assert "--install" in said.err
    document = json.loads(said.out)
    assert {one["who"] for one in document["entries"]} >= {"as it is", "ours"}
    assert document["contests"] == []


PEERS: list[Peer] = [
    Hbal(),
    *(Rebalancer(setting, 2.0) for setting in SETTINGS),
    ProxLb("memory"),
    ProxLb("cpu"),
    ProxLbSolver(5.0),
]


@pytest.mark.server
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_balances_within_the_cap(peer: Peer) -> None:
    task = small()
    try:
        answer = peer.balance(task)
    except AbsentError as error:
        pytest.skip(str(error))
    before, after = judge(task.cluster, task.home), judge(task.cluster, answer.place)
    if isinstance(peer, ProxLb):  # it looks at one resource only
        name = f"{peer.resource}_sd"
        assert getattr(after, name) < getattr(before, name)
    else:
        assert after.score < before.score
    assert after.moves <= task.cap or peer.name == "proxlb-solver"
    assert after.broken == 0 or peer.name.startswith("ProxLB")
    assert answer.cpu_s > 0


def test_peers_are_kept_out_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert install.home().is_relative_to(tmp_path)
    locked = (Path(__file__).parents[3] / "requirements.lock").read_text("utf-8")
    for _, packages in install.ENVIRONMENTS.values():
        assert all(f"{package.split('==')[0]}==" not in locked for package in packages)
