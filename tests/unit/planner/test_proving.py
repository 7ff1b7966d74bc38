"""A long search leaves work to proofs only where there is something that proves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.model.cluster import Cluster
from balancer.planner import optimise as searched
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found, optimise
from balancer.planner.problem import Problem, build
from balancer.planner.work import Work
from balancer.policy.policy import Policy
from benchmarks.instances import generate

EVEN = generate(24, 500, 1)
MIXED = replace(
    EVEN,
    hosts=tuple(replace(host, cpu_speed=1.0 + at % 2) for at, host in enumerate(EVEN.hosts)),
)


@pytest.mark.parametrize(
    ("cluster", "solver", "share"),
    [(EVEN, "auto", 0.7), (EVEN, "cbc", 0.92), (MIXED, "auto", 0.92)],
)
def test_work_is_left_to_proofs_where_something_proves(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, solver: Solver, share: float
) -> None:
    given: list[float] = []

    def settled(problem: Problem, work: Work, *_: object) -> Found:
        given.append(work.units)
        return Found(problem.home)

    monkeypatch.setattr(searched, "_settled", settled)
    optimise(build(cluster, Policy(), 30), Work(1e9), 0, solver)
    assert given[0] == pytest.approx(share * 1e9, rel=0.01)
