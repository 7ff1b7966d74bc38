"""What proofs are given: the work of a long search, and where small models begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from balancer.model.cluster import Cluster, HostState
from balancer.planner import EFFORT, neighbour
from balancer.planner import optimise as searched
from balancer.planner.formulate import Formulation, all_columns, count_columns
from balancer.planner.ilp import Effort, Solver
from balancer.planner.neighbour import exact, search_before_whole, whole
from balancer.planner.optimise import Found, optimise
from balancer.planner.problem import CPU, MEMORY, Ints, Problem, build
from balancer.planner.relax import Relaxed, relax
from balancer.planner.score import NOTHING_LOST, Measure, lost, measure
from balancer.planner.search import construct, local, shake
from balancer.planner.secure import failures_bind, secured
from balancer.planner.tiers import TierSolution, model_units
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Policy, Reserve, Thresholds
from benchmarks.instances import generate

EVEN = generate(24, 500, 1)
SURVIVING = Policy(reserve=Reserve(host_failures=1))
ENOUGH = 1.2e6  # for a model of the whole of 6 hosts with 160 VMs
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


def test_a_small_model_begins_near_what_it_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = build(generate(4, 60, 2), Policy(), 6)
    begun: list[Ints] = []

    def noted(
        problem: Problem, place: Ints, work: Work, solver: Solver, *, proof: bool
    ) -> TierSolution:
        begun.append(place)
        return exact(problem, place, work, solver, proof=proof)

    monkeypatch.setattr(searched, "exact", noted)
    least = measure(problem, optimise(problem, Work(1e9), 0, "auto").place).balance
    assert measure(problem, local(problem, Work(1e9))).balance > 1.1 * least  # not there by itself
    assert measure(problem, begun[0]).balance < 1.02 * least


@pytest.mark.parametrize(
    ("hosts", "vms", "seed", "cap", "units"), [(6, 100, 1, 10, 2e5), (4, 60, 3, 3, 6e4)]
)
def test_little_work_still_proves_small_clusters(
    hosts: int, vms: int, seed: int, cap: int, units: float
) -> None:
    problem = build(generate(hosts, vms, seed), Policy(), cap)
    assert optimise(problem, Work(units), 0, "auto").proven


@pytest.mark.parametrize(("vms", "units"), [(135, 1e5), (100, 8e4), (110, 1.2e5)])
def test_trials_leave_enough_for_the_model(
    monkeypatch: pytest.MonkeyPatch, vms: int, units: float
) -> None:
    problem = build(generate(6, vms, 1), Policy(), 10)
    needed = model_units(len(all_columns(problem)[0]))
    left: list[float] = []

    def noted(
        problem: Problem, place: Ints, work: Work, solver: Solver, *, proof: bool
    ) -> TierSolution:
        left.append(work.units)
        return exact(problem, place, work, solver, proof=proof)

    monkeypatch.setattr(searched, "exact", noted)
    searched.once(problem, Work(units), 0, "auto")
    assert left[0] > needed


def test_a_medium_cluster_is_searched_then_solved_as_a_whole_to_the_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = build(generate(6, 160, 1), Policy(), 8)
    work = Work(EFFORT)
    left: list[float] = []

    def noted(problem: Problem, place: Ints, relaxed: Relaxed | None, *more: Any) -> TierSolution:
        left.append(work.units)
        return whole(problem, place, relaxed, *more)

    monkeypatch.setattr(searched, "whole", noted)
    found = optimise(problem, work, 0, "auto")
    value = measure(problem, found.place).balance
    assert EFFORT - left[0] == pytest.approx(search_before_whole(problem), rel=0.2)
    assert found.proven
    assert found.bounds is not None
    assert value * (1 - 1e-6) <= found.bounds[-1] <= value * (1 + 1e-9)
    assert len(left) == 1  # who has the proof plans no second time


def test_a_model_of_the_whole_is_looked_at_as_often_as_there_is_work_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, made = build(generate(12, 240, 1), Policy(), 12), list[Effort]()

    def solved(
        formulation: Formulation, place: Ints, work: Work, effort: Effort, *_: object
    ) -> TierSolution:
        made.append(effort)
        return TierSolution(place, (0.0,) * len(formulation.tiers), proven=False)

    monkeypatch.setattr(neighbour, "solve_tiers", solved)
    for units in (1e6, 2e6):
        whole(problem, problem.home, None, Work(units), "auto", units)
    looks = [effort.looks or 0 for effort in made]
    assert 50 < looks[0] < 100
    assert looks[1] == pytest.approx(2 * looks[0], abs=1)
    assert not any(effort.parts for effort in made)  # they would not end


def test_where_the_whole_is_not_large_its_parts_find_what_a_search_does_not() -> None:
    problem, work = build(generate(6, 160, 2), Policy(), 8), Work(EFFORT)
    place = shake(problem, local(problem, work), 0.0, work.part(1e6), 0)
    assert measure(problem, place).balance > 0.016
    solved = whole(problem, place, None, Work(EFFORT), "auto", 2e6).place
    assert measure(problem, solved).balance < 0.0147


def test_failures_that_no_plan_meets_leave_it_to_be_proven() -> None:
    problem = build(generate(6, 160, 1), SURVIVING, 8)
    found = optimise(problem, Work(EFFORT), 0, "auto")
    assert found.proven
    assert measure(problem, problem.home).lost > NOTHING_LOST == measure(problem, found.place).lost


def test_failures_bind_where_something_is_lost_or_was_refused_for_them() -> None:
    problem = build(generate(6, 160, 5), SURVIVING, 4)
    assert not failures_bind(problem, problem.home)
    crowded = np.where(np.isin(problem.home, [0, 1]), 2, problem.home)
    assert failures_bind(problem, crowded)
    assert lost(problem, secured(problem, crowded, problem.home)) == NOTHING_LOST
    assert failures_bind(problem, problem.home)
    assert not failures_bind(build(problem.cluster, Policy(), 4), crowded)


@pytest.mark.parametrize(
    ("vms", "policy", "solver", "asked"),
    [
        (160, Policy(), "auto", True),
        (160, Policy(), "cbc", False),  # cannot be stopped by what it has done
        (160, Policy(goal=Goal.RELIEVE), "auto", False),  # J with no move more is not asked for
        (160, SURVIVING, "auto", False),  # more is lost than it knows of
        (100, Policy(), "auto", False),  # such a model has been solved already
    ],
)
def test_a_model_of_the_whole_is_made_where_it_is_not_in_vain(
    monkeypatch: pytest.MonkeyPatch, vms: int, policy: Policy, solver: Solver, *, asked: bool
) -> None:
    problem, made = build(generate(6, vms, 1), policy, 4), list[Ints]()

    def nothing(problem: Problem, place: Ints, *_: object) -> TierSolution:
        made.append(place)
        return TierSolution(place, (0.0,) * len(measure(problem, place).key(Goal.BALANCE)), False)

    monkeypatch.setattr(searched, "whole", nothing)
    monkeypatch.setattr(searched, "_searched", lambda _, found, *__: found.place)
    found = Found(problem.home, weighed=True)
    searched._continued(problem, found, Work(1e9), 0, solver)
    assert bool(made) is asked


def test_what_the_whole_leaves_unproven_is_searched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, left = build(generate(6, 160, 1), Policy(), 8), list[float]()

    def nothing(
        problem: Problem, place: Ints, _: Relaxed | None, work: Work, *__: object
    ) -> TierSolution:
        left.append(work.left())
        return TierSolution(place, (0.0,) * len(measure(problem, place).key(Goal.BALANCE)), False)

    monkeypatch.setattr(searched, "whole", nothing)
    work = Work(ENOUGH)
    found = optimise(problem, work, 0, "auto")
    assert len(left) == 1
    assert work.units < 0.5 * left[0]
    assert not found.proven
    assert "branch and bound" not in {bound.kind for bound in found.balance}


def crowded(threshold: float) -> Problem:
    """Return a large task with hosts above all of their processors, and below 97 % of memory."""
    problem = build(EVEN, Policy(thresholds=Thresholds(cpu=threshold, memory=0.97)), 10)
    assert problem.before[CPU].max() > 1.0
    assert problem.before[MEMORY].max() < 0.97
    return problem


def relaxed_of(problem: Problem, bound: float) -> Relaxed:
    found = relax(problem, problem.home, measure(problem, problem.home), Work(1e9))
    assert found is not None
    return replace(found, bound=bound)


@pytest.mark.parametrize(
    ("threshold", "bound", "units", "asked"),
    [
        (0.7, 1e-3, 1e9, True),
        (1.0, 1e-3, 1e9, False),  # there is nothing above it
        (0.7, 1e9, 1e9, False),  # J is near the relaxation
        (0.7, 0.0, 1e9, False),  # which was cut short
        (0.7, 1e-3, 1e3, False),  # with so little work
    ],
)
def test_what_is_searched_from_above(
    monkeypatch: pytest.MonkeyPatch, threshold: float, bound: float, units: float, *, asked: bool
) -> None:
    problem, tops = crowded(threshold), list[Problem]()

    def found(loose: Problem, *_: object) -> Found:
        tops.append(loose)
        return Found(loose.home)

    monkeypatch.setattr(searched, "once", found)
    relaxed = relaxed_of(problem, bound)
    searched._from_above(problem, problem.home, relaxed, Work(units), 0, "auto")
    assert bool(tops) is asked
    for loose in tops:
        assert loose.threshold[CPU] == 1.0
        assert loose.threshold[MEMORY] == problem.threshold[MEMORY]


def test_from_above_only_what_is_better_and_legal_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = crowded(0.7)
    relaxed, good = relaxed_of(problem, 1e-3), construct(problem, Work(1e9))
    full = np.full_like(problem.home, int(problem.before[CPU].argmin()))

    def from_above(begun: Ints, end: Ints) -> Ints:
        monkeypatch.setattr(searched, "once", lambda *_: Found(end))
        monkeypatch.setattr(searched, "construct", lambda _, __, start: start)
        return searched._from_above(problem, begun, relaxed, Work(1e9), 0, "auto")

    assert np.array_equal(from_above(problem.home, good), good)
    assert np.array_equal(from_above(good, problem.home), good)
    assert np.array_equal(from_above(good, full), good)


def test_a_search_that_goes_on_does_not_begin_above(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, begun = crowded(0.7), list[Ints]()

    def noted(_: Problem, place: Ints, *__: object) -> Ints:
        begun.append(place)
        return place

    monkeypatch.setattr(searched, "_from_above", noted)
    monkeypatch.setattr(searched, "best_start", lambda _, place, *__: (place, None))
    monkeypatch.setattr(searched, "_continued", lambda _, found, *__: found)
    place = searched.once(problem, Work(1e9), 0, "auto").place
    assert len(begun) == 1
    searched.once(problem, Work(1e9), 0, "auto", place)
    assert len(begun) == 1


def test_two_measures_keep_the_lower_of_each_tier() -> None:
    one = Measure(2, 0, 0.1, 3, 0.0, 0.5, 0.0, 4)
    other = Measure(1, 2, 0.2, 1, 0.5, 0.4, 0.0, 5)
    assert one.strictest(other) == Measure(1, 0, 0.1, 1, 0.0, 0.5, 0.0, 4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_columns_are_counted_as_they_are_made(seed: int) -> None:
    seen = generate(12, 90, seed)
    hosts = tuple(
        replace(host, state=HostState.DRAINING) if at == seed else host
        for at, host in enumerate(seen.hosts)
    )
    for cluster in (seen, replace(seen, hosts=hosts)):
        problem = build(cluster, Policy(), 10)
        assert count_columns(problem) == len(all_columns(problem)[0]) > 0


def test_where_failures_are_to_be_survived_small_models_begin_without_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Ints] = []

    def noted(_: Problem, place: Ints, *__: object) -> Ints:
        tried.append(place)
        return place

    monkeypatch.setattr(searched, "shake", noted)
    cluster = generate(4, 60, 2)
    optimise(build(cluster, SURVIVING, 6), Work(1e6), 0, "auto")
    assert not tried
    optimise(build(cluster, Policy(), 6), Work(1e6), 0, "auto")
    assert tried
