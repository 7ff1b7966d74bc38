"""The neutral judge agrees with the planner's own measure, which it shares no code with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from balancer.model.cluster import Cluster
from balancer.planner.problem import build
from balancer.planner.score import measure, overloaded
from balancer.planner.state import State
from balancer.policy.policy import Policy
from benchmarks.instances import generate, real
from benchmarks.peers.in_rebalancer import _pieces
from benchmarks.peers.neutral import TANGENTS, judge, unevenness
from benchmarks.peers.task import Task


def scattered(cluster: Cluster, share: float, seed: int) -> dict[str, str]:
    """Move a share of the VMs anywhere, whatever rules say."""
    rng = np.random.default_rng(seed)
    hosts = [host.name for host in cluster.hosts]
    return {
        vm.id: str(rng.choice(hosts)) if rng.random() < share else vm.host for vm in cluster.vms
    }


@pytest.mark.parametrize("maker", [generate, real])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.8])
def test_score_moves_and_overload_are_those_of_the_planner(
    maker: Callable[[int, int, int], Cluster], share: float
) -> None:
    cluster = maker(12, 240, 3)
    problem = build(cluster, Policy())
    place = scattered(cluster, share, 5)
    hosts = {host.name: at for at, host in enumerate(problem.hosts)}
    at = np.array([hosts[place[vm.id]] for vm in problem.vms])
    found, verdict = measure(problem, at), judge(cluster, place)
    assert verdict.score == pytest.approx(found.balance, rel=1e-9, abs=1e-12)
    assert verdict.moves == found.moves
    over = overloaded(problem, State(problem, at).used()).any(axis=0).sum()
    assert verdict.over == over


def test_rules_are_counted_once_for_each_vm_and_domain_in_excess() -> None:
    cluster = generate(8, 240, 1)
    assert judge(cluster, Task(cluster, 1, 1.0).home).broken == 0
    rules = Task(cluster, 1, 1.0).rules
    place = {vm.id: vm.host for vm in cluster.vms}
    (crowd, limit), *_ = rules.apart
    place |= dict.fromkeys(crowd, place[crowd[0]])
    wanderer, hosts = next(iter(rules.allowed.items()))
    place[wanderer] = next(host.name for host in cluster.hosts if host.name not in hosts)
    one, _ = rules.together[0]
    place[one] = next(host.name for host in cluster.hosts if host.name != place[one])
    assert judge(cluster, place).broken == len(crowd) - limit + 1 + 1


def test_a_placement_that_lacks_a_vm_is_refused() -> None:
    cluster = generate(4, 60, 1)
    place = Task(cluster, 1, 1.0).home
    del place[cluster.vms[0].id]
    with pytest.raises(ValueError, match="not a placement"):
        judge(cluster, place)


def test_the_pieces_that_rebalancer_is_told_add_up_to_our_unevenness() -> None:
    off = np.linspace(-0.9, 0.9, 1801)
    told = sum(
        slope * np.maximum(0.0, np.abs(off) - step) for _, step, slope in _pieces(list(TANGENTS))
    )
    assert told == pytest.approx(unevenness(off), abs=1e-12)
