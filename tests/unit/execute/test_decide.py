"""What a look means and what may start: decisions without a world."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.execute.decide import (
    Sight,
    admitted,
    astray_text,
    blocked_by,
    conclusion,
    foreign,
    meaning,
    verdict,
    why_not_at_rest,
    within_cap,
)
from balancer.execute.machine import IN_FLIGHT, TABLE, Event
from balancer.gateway.port import InFlight, Sighting
from balancer.judge import Code, Finding
from balancer.model.cluster import VmState
from balancer.model.outcome import Cause, MigrationState, Why
from balancer.model.plan import Plan
from balancer.policy.capacity import Caps
from tests.notation import cluster
from tests.simulation.small import plan_for

RUNNING = VmState.RUNNING


@pytest.mark.parametrize(
    ("sighting", "sight"),
    [
        (None, Sight.SILENT),
        (Sighting("v", ("t",), RUNNING, answered=False), Sight.SILENT),
        (Sighting("v", ("s",), RUNNING, moving=True), Sight.MOVING),
        (Sighting("v", ("s",), RUNNING, moving=True, queued=True), Sight.QUEUED),
        (Sighting("v", ("t",), RUNNING), Sight.ARRIVED),
        (Sighting("v", ("t",), VmState.PAUSED), Sight.ARRIVED),
        (Sighting("v", ("t",), VmState.OFF), Sight.ASTRAY),
        (Sighting("v", ("s",), RUNNING), Sight.STAYED),
        (Sighting("v", ("s",), VmState.OFF), Sight.STAYED),
        (Sighting("v", ("s", "t"), RUNNING), Sight.ASTRAY),
        (Sighting("v", (), VmState.UNKNOWN), Sight.ASTRAY),
        (Sighting("v", ("x",), RUNNING), Sight.ASTRAY),
    ],
)
def test_what_a_look_means(sighting: Sighting | None, sight: Sight) -> None:
    assert meaning(sighting, "s", "t") is sight
    if sight is Sight.ASTRAY:
        assert astray_text(sighting, "t")


@given(st.sampled_from(sorted(IN_FLIGHT)), st.sampled_from(Sight), st.floats(0, 1e6))
def test_conclusions_are_events_of_the_table(
    state: MigrationState, sight: Sight, lasted_s: float
) -> None:
    event = conclusion(state, sight, lasted_s)
    if state is MigrationState.INTENDED:
        return  # left by its timeout before a look is weighed
    assert event is None or event in TABLE[state].exits
    if sight is Sight.SILENT:
        assert event is None


def test_an_end_must_last_before_it_is_believed_unless_it_is_the_good_one() -> None:
    running, unknown = MigrationState.RUNNING, MigrationState.UNKNOWN
    assert conclusion(running, Sight.ARRIVED, 0.0) is Event.ARRIVED
    assert conclusion(running, Sight.STAYED, 9.0) is None
    assert conclusion(running, Sight.STAYED, 10.0) is Event.STAYED
    assert conclusion(unknown, Sight.STAYED, 59.0) is None
    assert conclusion(unknown, Sight.STAYED, 60.0) is Event.STAYED
    assert conclusion(running, Sight.ASTRAY, 29.0) is None
    assert conclusion(running, Sight.ASTRAY, 30.0) is Event.ASTRAY
    assert conclusion(unknown, Sight.QUEUED, 0.0) is Event.ACCEPTED


SILENT = Sighting("v", ("s",), RUNNING, answered=False)


@pytest.mark.parametrize(
    ("sighting", "word", "words", "final"),
    [
        (None, Why.HOST_UNREACHABLE, "does not answer", False),
        (SILENT, Why.HOST_UNREACHABLE, "does not answer", False),
        (Sighting("v", ("s",), RUNNING, moving=True), Why.BUSY, "somebody else", False),
        (Sighting("v", ("x",), RUNNING), Why.STALE, "on x", True),
        (Sighting("v", (), RUNNING), Why.STALE, "no host", True),
        (Sighting("v", ("s",), VmState.SAVED), Why.STALE, "saved", True),
    ],
)
def test_why_a_vm_is_not_at_rest(
    sighting: Sighting | None,
    word: Why,
    words: str,
    final: bool,  # noqa: FBT001
) -> None:
    cause, is_final = why_not_at_rest(sighting, "s")
    assert cause is not None
    assert cause.why is word
    assert words in cause.text
    assert is_final == final


def test_a_vm_at_rest() -> None:
    assert why_not_at_rest(Sighting("v", ("s",), RUNNING), "s") == (None, False)


def test_a_verdict_is_the_word_of_the_first_finding_and_the_words_of_all() -> None:
    assert verdict([]) is None
    found = [Finding(Code.RULE_DURING, "r", "a rule"), Finding(Code.OVERLOAD, "h", "load")]
    assert verdict(found) == Cause(Why.RULE, "a rule; load")
    words = {code: verdict([Finding(code, "s", "m")]) for code in Code}
    assert {cause.why for cause in words.values() if cause is not None} == {
        *(Why.RULE, Why.CAPACITY, Why.CAP, Why.BLOCKED, Why.TARGET, Why.DEPENDENCY, Why.STALE)
    }


HOSTS = cluster("h1: a, b, c\nh2: d\nh3:")


def plan(
    moves: list[tuple[str, str, str]], after: dict[str, tuple[str, ...]] | None = None
) -> Plan:
    return plan_for(HOSTS, moves, after=after)


def caps(per_host: int, wide: int | None = None) -> Caps:
    return Caps(None, dict.fromkeys(("h1", "h2", "h3"), per_host), wide, None, None)


def test_slots() -> None:
    (one,) = plan([("m1", "a", "h2")]).migrations
    assert admitted([one], [], caps(1)) == [one]
    assert not admitted([one], [("h2", "h3")], caps(1))
    assert admitted([one], [("h2", "h3")], caps(2))
    assert not admitted([one], [("h3", "h1"), ("h1", None)], caps(2))
    assert not admitted([one], [("h3", None)], caps(2, wide=1))
    assert not admitted([one], [], Caps(None, {"h1": 1}, None, None, None))


def test_those_admitted_together_keep_the_caps_together() -> None:
    moves = plan([("m1", "a", "h2"), ("m2", "b", "h3"), ("m3", "d", "h3")]).migrations
    assert [m.id for m in admitted(moves, [], caps(1))] == ["m1"]
    assert [m.id for m in admitted(moves[1:], [], caps(1))] == ["m2"]
    assert [m.id for m in admitted(moves, [], caps(2))] == ["m1", "m2", "m3"]
    assert [m.id for m in admitted(moves, [], caps(2, wide=2))] == ["m1", "m2"]


def test_foreign_moves_are_those_of_vms_that_are_not_ours() -> None:
    flights = (
        InFlight("a", "h1", "h2", 5, queued=False),
        InFlight("z", "h1", None, 0, queued=True),
    )
    assert [flight.vm for flight in foreign(flights, frozenset({"a"}))] == ["z"]


def test_a_cap_keeps_what_comes_before_and_never_strands_a_vm() -> None:
    moves = [("m1", "a", "h3"), ("m2", "b", "h2"), ("m3", "a", "h2")]
    over = plan(moves, after={"m3": ("m1", "m2")})
    assert over.migration_by_id["m1"].stopover
    assert within_cap(over, None) == {"m1", "m2", "m3"}
    assert within_cap(over, 3) == {"m1", "m2", "m3"}
    assert within_cap(over, 2) == {"m2"}  # m1 alone would leave `a` on its stop-over
    assert within_cap(over, 0) == frozenset()


@given(st.data(), st.integers(0, 6))
def test_whatever_a_cap_keeps_is_within_it_and_closed(data: st.DataObject, most: int) -> None:
    names = ["a", "b", "c"]
    moves = [(f"m{n}", name, "h3") for n, name in enumerate(names)]
    after = {
        f"m{n}": tuple(data.draw(st.sets(st.sampled_from([f"m{k}" for k in range(n)])), str(n)))
        for n in range(1, len(names))
    }
    made = plan(moves, after=after)
    kept = within_cap(made, most)
    assert len(kept) <= most
    assert all(before in kept for id_ in kept for before in made.migration_by_id[id_].after)


def test_what_a_migration_waits_for_and_what_it_has_lost() -> None:
    made = plan(
        [("m1", "a", "h2"), ("m2", "b", "h3"), ("m3", "c", "h3")], after={"m3": ("m1", "m2")}
    )
    states = {"m1": MigrationState.DONE, "m2": MigrationState.RUNNING}
    assert blocked_by(made.migration_by_id["m3"], states) == (["m2"], [])
    states["m2"] = MigrationState.CANCELLED
    assert blocked_by(made.migration_by_id["m3"], states) == ([], ["m2"])
