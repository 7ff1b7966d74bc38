"""What hosts choose for themselves: plans in which they agree, and what their prices prove."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.model.plan import StoppedBy
from balancer.planner.agree import Agreement
from balancer.planner.lagrange import Choice, Dual, least_few
from balancer.planner.neighbour import exact
from balancer.planner.optimise import optimise
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


def test_of_equal_values_the_first_are_taken_however_they_are_sorted() -> None:
    value = np.random.default_rng(1).integers(0, 40, 5000).astype(float)
    value[::3] = np.inf
    for most in (1, 20, 4000, 6000):
        expected = np.argsort(value, kind="stable")[:most]
        assert sorted(least_few(value, most).tolist()) == sorted(expected.tolist())


def test_what_was_proven_before_the_user_stopped_the_search_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate, evaluated = Dual.evaluate, list[Choice]()

    def noted(dual: Dual, work: Work, most: int = 1) -> list[Choice] | None:
        found = evaluate(dual, work, most)
        evaluated.extend(found or [])
        return found

    monkeypatch.setattr(Dual, "evaluate", noted)
    problem = task(1, hosts=12, vms=150, cap=6)
    work = Work(3e6, interrupted=lambda: len(evaluated) > 1000)
    found = optimise(problem, work, 0, "auto")
    assert work.stopped_by is StoppedBy.INTERRUPT
    relaxed, proven = found.balance
    assert proven.kind == "Lagrangian"
    assert proven.value > relaxed.value
    assert type(proven.value) is float  # as numpy's own it would be written in another way
