from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.rule import SelectBy, Selector
from balancer.planner.descent import Descent
from balancer.planner.problem import build
from balancer.planner.score import TANGENTS, better, legal_end, measure, phi
from balancer.planner.state import State
from balancer.policy.policy import Policy, Reserve
from balancer.policy.rules import Pin
from tests.notation import cluster
from tests.properties.planner_clusters import clusters, policies
from tests.unit.planner.oracle import end_faults, tiers

NOW = datetime(2026, 11, 24, tzinfo=UTC)
few = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def test_phi_is_zero_within_one_percent_and_touches_the_square_at_its_tangents() -> None:
    assert phi(np.array([0.0, 0.0099, -0.01])).tolist() == [0.0, 0.0, 0.0]
    for tangent in (0.02, 0.04, 0.64):
        assert phi(np.array([-tangent]))[0] == pytest.approx(tangent**2)
    assert phi(np.array([0.03]))[0] < 0.03**2


def test_phi_is_the_highest_of_its_tangents_everywhere() -> None:
    far = np.concatenate([np.linspace(-1.5, 1.5, 3001), [1e12, -1e300]])
    lines = [2 * tangent * np.abs(far) - tangent**2 for tangent in (0.0, *TANGENTS)]
    assert phi(far) == pytest.approx(np.max(lines, axis=0), abs=1e-15)


@few
@given(clusters(), policies(), st.data())
def test_measure_agrees_with_the_record_read_in_plain_python(
    seen: Cluster, policy: Policy, data: st.DataObject
) -> None:
    try:
        problem = build(seen, policy)
    except InputError:
        assume(condition=False)
    place = problem.home.copy()
    for vm in range(len(place)):
        hosts = np.flatnonzero(problem.allowed[vm]).tolist()
        place[vm] = data.draw(st.sampled_from(hosts))
    named = {
        vm.id: problem.hosts[at].name for vm, at in zip(problem.vms, place.tolist(), strict=True)
    }
    found = measure(problem, place)
    mine = (found.drain, found.rules, found.overload, found.resort, found.soft, found.balance)
    assert mine == pytest.approx(tiers(seen, policy, named))
    within_cap = found.moves <= problem.cap
    assert legal_end(problem, place) == (within_cap and not end_faults(seen, policy, named))


@few
@given(clusters(), policies(), st.data())
def test_running_differences_agree_with_measuring_afresh(
    seen: Cluster, policy: Policy, data: st.DataObject
) -> None:
    try:
        problem = build(seen, policy)
    except InputError:
        assume(condition=False)
    assume(problem.mean_is_constant)
    state = State(problem)
    engine = Descent(state)
    for _ in range(4):
        rows, hosts = np.nonzero(np.isfinite(engine.into))
        if not len(rows):
            return
        at = data.draw(st.integers(0, len(rows) - 1))
        before = measure(problem, state.place)
        told = engine.into[rows[at], hosts[at]] + engine.out[rows[at]]
        engine.apply(int(engine.rows[rows[at]]), int(hosts[at]))
        after = measure(problem, state.place)
        assert told == pytest.approx(after.balance - before.balance, abs=1e-9)
        assert after.rules <= before.rules
        fresh = State(problem, state.place)
        np.testing.assert_allclose(state.load, fresh.load, rtol=1e-12, atol=1e-6)
        assert state.moves == fresh.moves
        assert [c.tolist() for c in state.counts] == [c.tolist() for c in fresh.counts]
        again = Descent(state)
        np.testing.assert_allclose(engine.into, again.into, atol=1e-9)
        np.testing.assert_allclose(engine.out, again.out, atol=1e-9)


def test_better_is_strict_tier_by_tier() -> None:
    assert better((0.0, 1.0, 9.0), (1.0, 0.0, 0.0))
    assert not better((1.0, 0.0, 0.0), (0.0, 1.0, 9.0))
    assert better((1.0, 0.5), (1.0, 0.6))
    assert not better((1.0, 0.6 - 1e-7), (1.0, 0.6)), "less than the solver's own gap"


def test_a_reserve_that_leaves_nothing_still_gives_finite_numbers() -> None:
    problem = build(cluster("h1: a\nh2:"), Policy(reserve=Reserve(memory_fraction=1.0)))
    assert np.isfinite(measure(problem, problem.home).balance)


def test_contradicting_rules_are_refused_by_name() -> None:
    a = Selector(SelectBy.EXACT, "a")
    pins = tuple(
        Pin(vms=(a,), hosts=(Selector(SelectBy.EXACT, host),), origin=f"p:{line}")
        for line, host in enumerate(("h1", "h2"), 1)
    )
    with pytest.raises(InputError, match=r"p:1.*p:2"):
        build(cluster("h1: a\nh2:", rules=pins), Policy())
