"""What rehearsals of failures a search makes, and that it pays for them."""

from __future__ import annotations

import sys
from itertools import count

import pytest

from balancer.planner import plan
from balancer.planner.carry import carry
from balancer.planner.drill import REHEARSAL_UNITS, Drill
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found, optimise
from balancer.planner.plan import RESERVE_SHARE_MORE
from balancer.planner.problem import Bools, Ints, Problem, build
from balancer.planner.score import gained, measure
from balancer.planner.search import trim
from balancer.planner.state import State
from balancer.planner.stays import UNSEEN, what_keeps
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Policy, Reserve
from benchmarks.instances import generate
from tests.notation import cluster
from tests.unit.judge.plans import NOW


def in_doubt(goal: Goal = Goal.BALANCE) -> tuple[Problem, Ints]:
    """A task of which failures have to be rehearsed, and a few moves that are safe."""
    problem = build(generate(8, 200, 4), Policy(goal=goal, reserve=Reserve(host_failures=1)))
    place = problem.home.copy()
    place[[27, 50, 62, 72, 104, 150, 199]] = [3, 3, 1, 2, 1, 5, 6]
    return problem, place


def test_only_what_a_move_may_have_changed_is_rehearsed_anew() -> None:
    problem = build(generate(16, 200, 2), Policy(reserve=Reserve(host_failures=2)))
    drill = problem.drill
    drill.lost(problem.home)
    begun, every = drill.rehearsals, 0
    for vm in problem.movable[:8].tolist():
        other, whole = problem.home.copy(), Drill(problem)
        other[vm] = (other[vm] + 1) % 16
        assert drill.lost(other) == whole.lost(other)
        every += whole.rehearsals
    assert 0 < drill.rehearsals - begun < every


def test_what_taking_moves_back_rehearses_is_paid_for() -> None:
    problem, place = in_doubt(Goal.RELIEVE)
    work = Work(1e6)
    problem.drill.lost(place)
    before = problem.drill.rehearsals
    trim(problem, place, work)
    rehearsed = problem.drill.rehearsals - before
    assert rehearsed > 0
    assert work.units <= 1e6 - rehearsed * REHEARSAL_UNITS


def test_no_failure_is_rehearsed_for_what_is_no_better_anyway() -> None:
    problem, place = in_doubt()
    best = (0.0,) * len(measure(problem, problem.home).key(Goal.BALANCE))
    before = problem.drill.rehearsals
    assert gained(problem, place, best, Work(1e6)) is None
    assert problem.drill.rehearsals == before


@pytest.mark.parametrize("units", [2e4, 6e4, 1e5])
def test_what_can_be_seen_of_the_way_moves_and_the_rest_does_not(
    monkeypatch: pytest.MonkeyPatch, units: float
) -> None:
    """Work that does not suffice for all moves suffices for a few of them."""
    monkeypatch.setattr("balancer.planner.carry.WATCH_UNITS", units)
    problem, place = in_doubt()
    carried = carry(problem, place, Work(1e9), "auto")
    assert carried.schedule.timed
    assert set(carried.dropped.values()) == {UNSEEN}


def test_seconds_that_a_time_limit_leaves_are_used_to_see_the_way() -> None:
    """The search was ended by the clock; a tenth of the seconds is left, and is enough."""
    problem, place = in_doubt()
    work = Work(1e9, elapsed_s=lambda: 9.0, time_limit_s=10.0, reserve_s=2.0)
    assert work.cut_short()
    assert not carry(problem, place, work, "auto").dropped


@pytest.mark.parametrize("step_s", [0.004, 0.008, 0.012])
def test_a_first_attempt_leaves_seconds_for_another_with_fewer_moves(step_s: float) -> None:
    problem, place = in_doubt()
    ticks = count()
    late = Work(1e9, lambda: 9.0 + step_s * next(ticks), time_limit_s=10.0, reserve_s=2.0)
    assert late.cut_short()
    carried = carry(problem, place, late, "auto")
    assert carried.schedule.timed
    assert set(carried.dropped.values()) == {UNSEEN}


# Too much for every host, and nobody can take any of it.
FULL = "h1 20G 4c: a 10G 2c, b 10G 2c\nh2 20G 4c: c 10G 2c, d 10G 2c"


def test_why_vms_stay_is_found_out_for_all_hosts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = "\n".join(f"h{at} 20G 4c: v{at} 19G 4c" for at in range(12))
    asked: list[int] = []
    fits = State.fits

    def counting(self: State, vm: int, *, even_overload: bool = False) -> Bools:
        asked.append(vm)
        return fits(self, vm, even_overload=even_overload)

    state = State(build(cluster(hosts), Policy()))
    monkeypatch.setattr(State, "fits", counting)
    assert what_keeps(state, 0).startswith("no host can take it: h")
    assert len(asked) <= 2


def test_whoever_set_a_time_limit_does_not_wait_for_what_is_against_each_host() -> None:
    late = plan(cluster(FULL), Policy(), now=NOW, elapsed_s=lambda: 9.0, time_limit_s=1.0)
    assert {one.reason for one in late.not_moved} == {"the search was stopped before it got to it"}
    found = plan(cluster(FULL), Policy(), now=NOW)
    assert {one.vm for one in found.not_moved} == {one.vm for one in late.not_moved}
    assert all("of memory free" in one.reason for one in found.not_moved)


def test_of_a_time_limit_as_much_is_kept_for_the_way_as_a_look_at_failures_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[float] = []
    module, ticks = sys.modules["balancer.planner.plan"], count()
    search = optimise

    def noted(problem: Problem, work: Work, seed: int, solver: Solver) -> Found:
        kept.append(work.reserve_s)
        return search(problem, work, seed, solver)

    monkeypatch.setattr(module, "optimise", noted)
    policy, seen = Policy(reserve=Reserve(host_failures=1)), generate(8, 200, 4)
    plan(seen, policy, now=NOW, elapsed_s=lambda: 0.5 * next(ticks), time_limit_s=10.0)
    assert kept[0] >= RESERVE_SHARE_MORE * 10.0 + 1.0
