"""What holds where nothing can be proven: bounds, searches, budgets, determinism, fabrics."""

from __future__ import annotations

import dataclasses
import gc
import time
from itertools import count
from typing import Any

import numpy as np
import pytest

from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan, StoppedBy
from balancer.model.rule import SelectBy, Selector
from balancer.planner import ilp, plan, plan_fabric
from balancer.planner.chains import _Chain, _Chains, improve_by_chains
from balancer.planner.descent import Descent
from balancer.planner.dive import dive
from balancer.planner.ilp import Solver
from balancer.planner.neighbour import exact, pooled
from balancer.planner.pool import whole_units
from balancer.planner.problem import Problem, build
from balancer.planner.relax import focus, relax, rounded
from balancer.planner.ruin import _take, ruin_and_recreate
from balancer.planner.score import legal_end, measure
from balancer.planner.search import construct, polish, shake
from balancer.planner.state import State
from balancer.planner.trials import Trials
from balancer.planner.work import Work
from balancer.policy.policy import Limits, Policy, Thresholds
from balancer.policy.rules.max_vms import MaxVms
from benchmarks.instances import fabric, generate, real
from tests.unit.planner.oracle import GIB, NOW, faults

SEEDS = (1, 2, 3)
CAPPED = Policy(limits=Limits(migrations_per_run=12))


def medium(seed: int) -> Cluster:
    return generate(12, 240, seed)


def descended(problem: Problem) -> Descent:
    engine = Descent(State(problem))
    while engine.step() is not None:
        pass
    return engine


def test_a_small_cluster_is_planned_to_the_proof() -> None:
    problem = build(generate(5, 80, 3), Policy(), 8)
    found = exact(problem, problem.home, Work(1e9), "auto")
    value = measure(problem, found.place).balance
    assert found.proven
    assert value - found.bounds[-1] <= 1e-6 * value


def test_models_of_the_best_columns_are_not_solved_for_a_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = build(generate(4, 60, 1), Policy(), 6)
    make, made = ilp.quiet_highs, list[Any]()

    def kept() -> Any:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ilp, "quiet_highs", kept)
    place = pooled(problem, problem.home, None, Work(1e5), "auto")
    assert legal_end(problem, place)
    assert measure(problem, place).balance < measure(problem, problem.home).balance
    first = len(made)
    exact(problem, place, Work(1e9), "auto")
    names = ("mip_pscost_minreliable", "mip_allow_cut_separation_at_nodes")
    usual = ilp.highspy._Highs().getOptionValue(names[0])[1]
    seen = [tuple(engine.getOptionValue(name)[1] for name in names) for engine in made]
    assert set(seen[:first]) == {(0, True)}
    assert set(seen[first:]) == {(usual, False)}
    assert made[-1].getOptionValue("mip_abs_gap")[1] == 0.0


@pytest.mark.parametrize("cap", [20, None])
def test_every_chain_gains_what_it_says_and_stays_legal(
    cap: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = build(generate(16, 400, 1), Policy(), cap)
    engine = descended(problem)
    make, told = _Chains.make, []

    def checked(chains: _Chains, chain: _Chain) -> None:
        before = measure(problem, engine.state.place)
        make(chains, chain)
        after = measure(problem, engine.state.place)
        assert chain.gain == pytest.approx(after.balance - before.balance, abs=1e-9)
        assert (after.rules, after.overload) <= (before.rules, before.overload + 1e-12)
        assert legal_end(problem, engine.state.place)
        told.append(chain.gain)

    monkeypatch.setattr(_Chains, "make", checked)
    assert improve_by_chains(engine, Work(1e9)) == bool(told)
    assert told
    assert max(told) < 0
    assert not improve_by_chains(Descent(engine.state), Work(1e9)), "a local optimum has none left"


def trials_of(engine: Descent, seed: int, hosts: int = 9) -> Trials:
    """Make many trials on hosts chosen by chance, in which most of what may go home has."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(len(engine.state.problem.hosts))[:hosts] for _ in range(100)]
    trials = Trials(engine, np.sort(np.array(chosen), axis=1))
    undone = trials.there & (trials.home >= 0) & (trials.home != trials.at)
    undone &= ~engine.ruled[trials.rows] & (rng.random(undone.shape) < 0.7)
    trials.undo(undone)
    return trials


@pytest.mark.parametrize("budget", [None, 200 * GIB])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_of_many_trials_changes_j_as_it_says_and_by_itself_ends_legally(
    seed: int, budget: int | None
) -> None:
    policy = Policy(limits=Limits(migrations_per_run=12, bytes_per_run=budget))
    problem = build(medium(seed), policy)
    assert bool(problem.budgets) == (budget is not None)
    engine = descended(problem)
    kept, before = engine.state.place.copy(), measure(problem, engine.state.place)
    trials = trials_of(engine, seed)
    change = trials.descend(Work(1e9))
    assert (engine.state.place == kept).all()
    sound = np.flatnonzero(np.isfinite(change)).tolist()
    assert len(sound) > 4
    for trial in sound:
        place = kept.copy()
        rows, target = trials.moves_of(trial)
        place[engine.rows[rows]] = target
        after = measure(problem, place)
        assert after.balance - before.balance == pytest.approx(change[trial], abs=1e-9)
        assert after.moves == trials.moves[trial]
        if engine.ruled[rows].sum() <= 1:
            assert legal_end(problem, place)
            assert (after.rules, after.soft) <= (before.rules, before.soft)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trial_at_its_end_is_a_local_optimum_on_its_hosts(seed: int) -> None:
    problem = build(medium(seed), CAPPED)
    engine = descended(problem)
    trials = trials_of(engine, seed)
    change = trials.descend(Work(1e9))
    for trial in np.flatnonzero(np.isfinite(change)).tolist():
        state = State(problem, engine.state.place)
        rows, target = trials.moves_of(trial)
        for vm, host in zip(engine.rows[rows].tolist(), target.tolist(), strict=True):
            state.move(vm, host)
        fresh, hosts = Descent(state), trials.hosts[trial]
        seen = trials.rows[trial][trials.there[trial]]
        into = fresh.into[seen][:, hosts].copy()
        into[engine.ruled[seen]] = np.inf  # rules are as they were at the beginning
        total = into + fresh.out[seen, None]
        if state.moves >= problem.cap:
            total[fresh.place[seen] == fresh.home[seen]] = np.inf
        assert total.min() > -1e-8


def test_trials_fill_no_host_beyond_a_cap_on_all_vms() -> None:
    cluster, most = medium(1), 23
    rule = MaxVms(hosts=(Selector(SelectBy.GLOB, "*"),), limit=most)
    ruled = build(cluster, Policy(rules=(rule,)))
    start = construct(ruled, Work(1e9))
    fullest: list[int] = []
    for problem in (ruled, build(cluster, Policy())):
        engine = Descent(State(problem, start))
        trials, counts = trials_of(engine, 1), []
        change = trials.descend(Work(1e9))
        for trial in np.flatnonzero(np.isfinite(change)).tolist():
            place = start.copy()
            rows, target = trials.moves_of(trial)
            place[engine.rows[rows]] = target
            counts.append(int(np.bincount(place).max()))
        fullest.append(max(counts))
    assert fullest[0] <= most < fullest[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_where_no_move_can_be_taken_back_there_is_still_a_plan(seed: int) -> None:
    cluster = generate(8, 160, seed)
    rule = MaxVms(hosts=(Selector(SelectBy.GLOB, "*"),), limit=22)
    policy = dataclasses.replace(CAPPED, rules=(rule,))
    made = plan(cluster, policy, now=NOW, effort=1e6)
    assert made.migrations
    assert judge(cluster, policy, made) == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trial_that_breaks_a_rule_together_or_meets_another_is_not_made(seed: int) -> None:
    """Two domain controllers that a rule keeps apart, each allowed on a host by itself."""
    problem = build(medium(seed), Policy())
    engine = descended(problem)
    apart = next(group for group in problem.groups if group.limit == 1 and len(group.members) > 1)
    free = np.flatnonzero(np.bincount(engine.state.place[apart.members], minlength=12) == 0)
    one, other = apart.members[:2].tolist()
    host = next(
        host
        for host in free.tolist()
        if not engine.forbidden(engine.row_of[one])[host]
        and not engine.forbidden(engine.row_of[other])[host]
    )
    rows, target = np.array([engine.row_of[one], engine.row_of[other]]), np.array([host, host])
    kept, taken = engine.state.place.copy(), np.zeros(12, dtype=bool)
    assert not _take(engine, rows, target, taken, np.inf)
    assert (engine.state.place == kept).all()
    assert not taken.any()
    assert _take(engine, rows[:1], target[:1], taken, np.inf)
    assert engine.state.place[one] == host
    assert np.flatnonzero(taken).tolist() == sorted({host, int(kept[one])})
    assert not _take(engine, rows[:1], np.array([kept[one]]), taken, np.inf), "its hosts are taken"
    assert engine.state.place[one] == host


@pytest.mark.parametrize("seed", SEEDS)
def test_ruin_and_recreate_returns_the_best_it_saw(seed: int) -> None:
    problem = build(medium(seed), CAPPED)
    engine = descended(problem)
    start = measure(problem, engine.state.place).balance
    best = ruin_and_recreate(engine, 0.0, Work(4e5), seed)
    assert legal_end(problem, best)
    fresh = Descent(State(problem, engine.state.place))
    assert (engine.blocked == fresh.blocked).all()
    np.testing.assert_allclose(engine.state.load, fresh.state.load)
    assert measure(problem, best).balance <= start + 1e-9
    again = descended(problem)
    assert (best == ruin_and_recreate(again, 0.0, Work(4e5), seed)).all()


@pytest.mark.parametrize("make", [generate, real])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_search_gets_below_the_relaxation(make: object, seed: int) -> None:
    assert callable(make)
    problem = build(make(12, 240, seed), CAPPED)
    place = construct(problem, Work(1e9))
    kept = measure(problem, place)
    relaxed = relax(problem, place, kept, Work(1e9))
    assert relaxed is not None
    assert 0 < relaxed.bound <= kept.balance
    assert relaxed.share.sum() <= problem.cap + 1e-6
    assert (relaxed.reduced_cost[problem.allowed] > -1e-4).mean() > 0.99
    rows = focus(problem, place, relaxed)
    assert legal_end(problem, dive(problem, place, relaxed, Work(1e9)))
    begun = rounded(problem, place, relaxed, 0.6, Work(1e9))
    assert legal_end(problem, begun)
    start = construct(problem, Work(1e9), begun)
    found = polish(problem, shake(problem, start, relaxed.bound, Work(4e5), 1, rows), Work(4e5))
    assert legal_end(problem, found)
    after = measure(problem, found)
    if (after.drain, after.rules) <= (kept.drain, kept.rules):
        assert after.balance >= relaxed.bound
    early = relax(problem, place, kept, Work(2e4))
    assert early is None or early.bound <= relaxed.bound + 1e-6


def test_sets_that_move_as_one_do_so_in_the_relaxation_too() -> None:
    problem = build(real(12, 240, 1), CAPPED)
    units = whole_units(problem)
    assert len(units) > 1
    place = construct(problem, Work(1e9))
    kept = measure(problem, place)
    relaxed = relax(problem, place, kept, Work(1e9))
    apart = relax(dataclasses.replace(problem, groups=()), place, kept, Work(1e9))
    assert relaxed is not None
    assert apart is not None
    for unit in units:
        assert (relaxed.share[unit] == relaxed.share[unit[0]]).all()
    assert relaxed.bound > 1.01 * apart.bound, "fractions of sets are no plans"


@pytest.mark.parametrize("seed", SEEDS)
def test_same_work_same_plan_whatever_the_order_of_the_input(seed: int) -> None:
    seen = medium(seed)
    rng = np.random.default_rng(seed)
    other = dataclasses.replace(
        seen,
        hosts=tuple(seen.hosts[at] for at in rng.permutation(len(seen.hosts))),
        vms=tuple(seen.vms[at] for at in rng.permutation(len(seen.vms))),
        rules=tuple(seen.rules[at] for at in rng.permutation(len(seen.rules))),
    )
    made = plan(seen, CAPPED, now=NOW, seed=seed, effort=6e5)
    assert made.stopped_by is StoppedBy.WORK
    assert plan(other, CAPPED, now=NOW, seed=seed, effort=6e5) == made
    assert faults(seen, CAPPED, made) == []


def test_no_effort_gives_a_legal_plan_and_more_a_better_one() -> None:
    values = []
    for effort in (0.0, 3e5, 1.5e6):
        made = plan(medium(1), CAPPED, now=NOW, effort=effort)
        assert faults(medium(1), CAPPED, made) == []
        assert made.score.bound <= made.score.after + 1e-9
        values.append(made.score.after)
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


@pytest.mark.parametrize(("seed", "optimum"), [(1, 0.12350), (3, 0.19075)])
def test_repairs_and_even_loads_are_weighed_together_where_vms_are_few_and_large(
    seed: int, optimum: float
) -> None:
    """Searched move by move it was 0.127: which VMs leave for a rule's sake had been decided."""
    seen = real(16, 400, seed)
    policy = Policy(limits=Limits(migrations_per_run=20))
    made = plan(seen, policy, now=NOW)
    assert faults(seen, policy, made) == []
    assert made.score.after == pytest.approx(optimum, abs=1e-5)  # proven with more work


def test_thresholds_just_above_what_the_best_plan_needs_are_kept_by_a_good_one() -> None:
    """Single moves get stuck there: it was 0.0855, with 0.0742 to be had."""
    seen = generate(16, 400, 2)
    policy = Policy(
        thresholds=Thresholds(cpu=0.6158, memory=0.7071), limits=Limits(migrations_per_run=20)
    )
    made = plan(seen, policy, now=NOW)
    assert faults(seen, policy, made) == []
    assert made.score.after < 0.0775


def test_on_large_clusters_such_thresholds_are_searched_from_above() -> None:
    seen, policy = real(64, 1000, 3), Policy(thresholds=Thresholds(cpu=0.52725, memory=0.67666))
    made = plan(seen, policy, now=NOW, max_migrations=50, effort=8e5)
    assert judge(seen, policy, made, max_migrations=50) == ()
    assert next(tier.after for tier in made.score.tiers if tier.name == "overload") == 0.0
    assert made.score.after < 0.72  # 0.94 from below


def test_ruin_and_recreate_takes_no_overload_for_an_even_load() -> None:
    """Its best by J alone was overloaded here, and all that it had found was lost with that."""
    problem = build(real(6, 60, 93), Policy(), 6)
    place = construct(problem, Work(1e9))
    found = shake(problem, place, 0.0, Work(1e5), 93)
    before, after = measure(problem, place), measure(problem, found)
    assert after.overload == before.overload == 0.0
    assert after.balance < before.balance - 1e-4


@pytest.mark.parametrize("after", [0, 1, 5, 40, 300, 2000])
def test_interrupted_at_any_time_a_larger_plan_is_legal_too(after: int) -> None:
    asked = count()
    made = plan(medium(2), CAPPED, now=NOW, interrupted=lambda: next(asked) >= after)
    assert faults(medium(2), CAPPED, made) == []
    assert made.stopped_by in (StoppedBy.INTERRUPT, StoppedBy.WORK)
    assert after > 40 or made.stopped_by is StoppedBy.INTERRUPT


@pytest.mark.parametrize("limit_s", [0.5, 1.5])
def test_a_time_limit_is_kept_within_ten_percent(limit_s: float) -> None:
    seen = generate(32, 800, 1)
    # Seconds of this process, so that what else runs on the machine does not count; and none of
    # them for garbage that other tests have left.
    gc.collect()
    started = time.process_time()
    made = plan(
        seen,
        CAPPED,
        now=NOW,
        elapsed_s=lambda: time.process_time() - started,
        time_limit_s=limit_s,
        effort=1e9,
    )
    assert time.process_time() - started <= 1.1 * limit_s
    assert made.stopped_by is StoppedBy.TIME
    assert faults(seen, CAPPED, made) == []
    assert made.score.after < made.score.before


@pytest.mark.parametrize("solver", ["cbc", "auto"])
def test_without_highs_a_larger_plan_is_made_too(
    solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    if solver == "auto":  # as where HiGHS is not installed
        monkeypatch.setattr("balancer.planner.ilp.highspy", None)
    made = plan(medium(1), CAPPED, now=NOW, effort=3e5, solver=solver)
    assert faults(medium(1), CAPPED, made) == []
    assert 0 < made.score.bound <= made.score.after < made.score.before


@pytest.mark.slow
@pytest.mark.parametrize(("hosts", "vms", "cap"), [(16, 400, 20), (64, 1000, 50)])
def test_without_highs_large_clusters_are_planned_in_time(hosts: int, vms: int, cap: int) -> None:
    seen = generate(hosts, vms, 1)
    started = time.monotonic()
    made = plan(
        seen,
        Policy(),
        now=NOW,
        max_migrations=cap,
        elapsed_s=lambda: time.monotonic() - started,
        time_limit_s=10.0,
        effort=1e9,
        solver="cbc",
    )
    assert time.monotonic() - started <= 11.0
    assert judge(seen, Policy(), made, max_migrations=cap) == ()
    assert made.score.after < 0.05 * made.score.before


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.2, 1.0, 3.0])
def test_the_largest_cluster_is_planned_in_time_and_stops_when_asked(after_s: float) -> None:
    seen = generate(64, 8000, 1)
    started = time.process_time()

    def spent() -> float:
        return time.process_time() - started

    made = plan(
        seen,
        Policy(),
        now=NOW,
        max_migrations=80,
        interrupted=lambda: spent() >= after_s,
        effort=1e9,
    )
    assert spent() <= after_s + 1.5
    assert made.stopped_by is StoppedBy.INTERRUPT
    assert judge(seen, Policy(), made, max_migrations=80) == ()
    started = time.process_time()
    made = plan(
        seen,
        Policy(),
        now=NOW,
        max_migrations=80,
        elapsed_s=spent,
        time_limit_s=2 + after_s,
        effort=1e9,
    )
    assert spent() <= 1.1 * (2 + after_s)
    assert made.stopped_by is StoppedBy.TIME
    assert judge(seen, Policy(), made, max_migrations=80) == ()


def test_a_fabric_is_its_clusters_whatever_the_number_of_processes() -> None:
    def planned(processes: int) -> list[Plan]:
        clusters = fabric(3, 12, 120, 1)
        found = plan_fabric(clusters, CAPPED, now=NOW, effort=1e5, processes=processes)
        return list(found)

    alone = [plan(one, CAPPED, now=NOW, effort=1e5) for one in fabric(3, 12, 120, 1)]
    assert planned(1) == alone
    assert planned(2) == alone
