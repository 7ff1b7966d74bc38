"""Rules that count all VMs of a host bind in every local search, and leave exchanges open."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.model.rule import SelectBy, Selector
from balancer.planner.chains import improve_by_chains
from balancer.planner.descent import Descent, descend
from balancer.planner.problem import Problem, build
from balancer.planner.score import legal_end, measure
from balancer.planner.search import local
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Policy
from balancer.policy.rules import MaxVms
from tests.notation import cluster

HOSTS, EACH = 6, 10


def task(limit: int) -> Problem:
    """Six hosts with ten VMs each, some busy and some not."""
    rng = np.random.default_rng(3)
    lines = []
    for host in range(HOSTS):
        busy = 0.3 if host % 2 else 1.1
        sizes = [(rng.integers(1, 8), busy * rng.uniform(0.4, 1.6)) for _ in range(EACH)]
        vms = (f"v{host}-{at} {gib}G {cores:.2f}c" for at, (gib, cores) in enumerate(sizes))
        lines.append(f"h{host} 128G 16c: {', '.join(vms)}")
    rule = MaxVms(hosts=(Selector(SelectBy.GLOB, "*"),), limit=limit)
    return build(cluster("\n".join(lines), rules=(rule,)), Policy(goal=Goal.BALANCE))


def most(problem: Problem, place: np.ndarray) -> int:
    return int(np.bincount(place, minlength=len(problem.hosts)).max())


def test_where_every_host_is_full_no_single_vm_moves() -> None:
    state = State(task(EACH))
    assert not descend(state, Work(1e8))


def test_where_every_host_is_full_vms_are_exchanged() -> None:
    problem = task(EACH)
    state = State(problem)
    assert improve_by_chains(Descent(state), Work(1e8))
    assert most(problem, state.place) == EACH
    assert legal_end(problem, state.place)
    before, after = (measure(problem, at).balance for at in (problem.home, state.place))
    assert after < 0.5 * before


@pytest.mark.parametrize("limit", [EACH + 1, EACH + 2])
def test_with_a_little_room_searches_stop_at_the_limit(limit: int) -> None:
    problem = task(limit)
    state = State(problem)
    assert descend(state, Work(1e8))
    assert most(problem, state.place) <= limit
    improve_by_chains(Descent(state), Work(1e8))
    assert most(problem, state.place) <= limit
    assert legal_end(problem, state.place)


def test_hosts_that_have_too_many_give_up_the_excess_and_no_more() -> None:
    problem = task(EACH - 1)
    place = local(problem, Work(1e7))
    assert measure(problem, place).rules == measure(problem, problem.home).rules  # nowhere to go
    assert legal_end(problem, place)
