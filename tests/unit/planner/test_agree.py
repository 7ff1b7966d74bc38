"""What hosts choose for themselves: plans in which they agree, and what their prices prove."""

from __future__ import annotations

import pytest

from balancer.planner.agree import Agreement
from balancer.planner.lagrange import Dual
from balancer.planner.neighbour import exact
from balancer.planner.problem import Problem, build
from balancer.planner.relax import relax
from balancer.planner.score import legal_end, measure
from balancer.planner.search import construct
from balancer.planner.work import Work
from balancer.policy.policy import Policy
from benchmarks.instances import generate

PLENTY = 1e9


def task(seed: int, hosts: int = 4, vms: int = 40, cap: int = 5) -> Problem:
    return build(generate(hosts, vms, seed), Policy(), cap)


def agreement_for(problem: Problem) -> Agreement:
    place = construct(problem, Work(PLENTY))
    relaxed = relax(problem, place, measure(problem, place), Work(PLENTY))
    assert relaxed is not None
    return Agreement(problem, Dual(problem, relaxed))


@pytest.mark.parametrize("seed", [1, 2, 3, 7])
def test_hosts_come_to_the_optimum_and_prove_nearly_that(seed: int) -> None:
    problem = task(seed)
    agreement = agreement_for(problem)
    place = construct(problem, Work(PLENTY))
    least = exact(problem, place, Work(PLENTY), "auto")
    assert least.proven
    optimum = measure(problem, least.place).balance
    relaxed = agreement.bound
    for _ in range(8):
        place = agreement.improve(place, Work(1e6), "auto")
    assert legal_end(problem, place)
    value = measure(problem, place).balance
    assert optimum - 1e-9 <= value <= 1.01 * optimum
    assert relaxed <= agreement.dual.bound <= optimum + 1e-9
    # Of what the relaxation leaves open, most is closed.
    assert optimum - agreement.dual.bound <= 0.5 * (optimum - relaxed)


def test_the_same_seed_and_work_give_the_same_plan() -> None:
    problem = task(1, hosts=8, vms=120, cap=10)
    places = []
    for _ in range(2):
        place = construct(problem, Work(PLENTY))
        agreement = agreement_for(problem)
        for _ in range(3):
            place = agreement.improve(place, Work(1e6), "auto")
        places.append((place.tolist(), agreement.dual.bound))
    assert places[0] == places[1]


def test_fewer_sets_that_are_looked_at_prove_less_but_nothing_false() -> None:
    problem = task(2)
    bounds = []
    for sets_max in (1, 30, 30_000):
        dual = agreement_for(problem).dual
        dual.sets_max = sets_max
        dual.evaluate(Work(PLENTY))
        bounds.append(dual.best[0])
    assert bounds[0] <= bounds[1] <= bounds[2]
    assert bounds[0] < bounds[2]
