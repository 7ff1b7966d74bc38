"""Moves of whole units: what no move of a single VM can do, because a rule holds them together."""

from __future__ import annotations

import numpy as np

from balancer.model.rule import SelectBy, Selector
from balancer.planner.problem import Problem, build
from balancer.planner.score import legal_end, measure
from balancer.planner.state import State
from balancer.planner.units import move_units
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Limits, Policy
from balancer.policy.rules import Allow, AsOne, Together
from tests.notation import cluster

PAIR = "h1 64G 16c: a 4G 5c, b 4G 5c, c 4G 5c\nh2 64G 16c: d 4G 1c\nh3 64G 16c: e 4G 2c\n"


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def task(text: str = PAIR, policy: Policy | None = None) -> Problem:
    rule = Together(vms=pick("a", "b"))
    return build(cluster(text, rules=(rule,)), policy or Policy(goal=Goal.BALANCE))


def moved(problem: Problem, work: Work | None = None) -> dict[str, str]:
    state = State(problem)
    move_units(state, work or Work(1e9))
    assert legal_end(problem, state.place)
    away = np.flatnonzero(state.place != problem.home).tolist()
    return {problem.vms[vm].id: problem.hosts[state.place[vm]].name for vm in away}


def test_a_pair_moves_to_where_it_evens_out_most() -> None:
    problem = task()
    assert moved(problem) == {"a": "h2", "b": "h2"}
    state = State(problem)
    before = measure(problem, state.place).key(Goal.BALANCE)
    move_units(state, Work(1e9))
    assert measure(problem, state.place).key(Goal.BALANCE) < before


def test_a_pair_stays_where_moving_gains_nothing() -> None:
    assert moved(task(PAIR.replace("5c", "0.1c").replace("2c", "0.1c"))) == {}


def test_a_pair_does_not_go_where_it_does_not_fit_as_a_whole() -> None:
    assert moved(task(PAIR.replace("h2 64G", "h2 11G"))) == {"a": "h3", "b": "h3"}


def test_a_pair_is_not_moved_by_half_where_the_cap_takes_one_only() -> None:
    policy = Policy(goal=Goal.BALANCE, limits=Limits(migrations_per_run=1))
    assert moved(task(policy=policy)) == {}


def test_a_pair_goes_where_both_may_be() -> None:
    rules = (Together(vms=pick("a", "b")), Allow(vms=pick("b"), hosts=pick("h1", "h3")))
    problem = build(cluster(PAIR, rules=rules), Policy(goal=Goal.BALANCE))
    assert moved(problem) == {"a": "h3", "b": "h3"}


def test_a_pair_that_is_torn_apart_is_left_to_the_repair_of_rules() -> None:
    torn = PAIR.replace(", b 4G 5c", "").replace("h2 64G 16c:", "h2 64G 16c: b 4G 5c,")
    assert moved(task(torn)) == {}


def test_sets_that_share_a_vm_move_as_one_set() -> None:
    rules = (Together(vms=pick("a", "b")), AsOne(vms=pick("b", "c")))
    text = "h1 64G 16c: a 4G 4c, b 4G 4c, c 4G 4c, x 4G 3c\nh2 64G 16c:\n"
    problem = build(cluster(text, rules=rules), Policy(goal=Goal.BALANCE))
    gone = moved(problem)
    assert set(gone) in (set(), {"a", "b", "c"})
    assert gone


def test_out_of_work_nothing_is_left_half_moved() -> None:
    for units in (0.0, 100.0, 2000.0, 4000.0):
        gone = moved(task(), Work(units))
        assert set(gone) in (set(), {"a", "b"})
