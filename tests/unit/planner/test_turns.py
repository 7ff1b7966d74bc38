"""Turns of a campaign planned for real: bytes, splits, stuck hosts, and when each may begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from balancer.model.cluster import Cluster
from balancer.model.rule import SelectBy, Selector
from balancer.planner.campaign import Turns, loads_of, order_turns, toll_of
from balancer.planner.turns import Turn, plan_turns, timetable
from balancer.policy.policy import Policy
from balancer.policy.rules import Apart
from balancer.policy.windows import ALWAYS, Calendar, Span
from tests.notation import cluster
from tests.unit.planner.oracle import NOW

GIB = 2**30
FOUR = """
h1 64G x2: a 4G, b 4G, c 8G
h2 64G x2: d 8G, e 8G
h3 64G x2: f 16G, g 4G
h4 64G x2: h 4G, i 4G
"""


def planned(one: Cluster, turns: Turns, *, restore: bool = True) -> list[Turn]:
    return list(plan_turns(one, Policy(), turns, restore=restore, keep_reserve=False, now=NOW))


def test_what_was_reckoned_is_what_the_plans_move() -> None:
    one, hosts = cluster(FOUR), ["h1", "h2", "h3", "h4"]
    for restore, expected in ((True, 2 * (16 + 16 + 20 + 8)), (False, 16 + 16 + 20 + 8 + 8)):
        turns = order_turns(loads_of(one, Policy()), hosts, restore=restore)
        toll = toll_of(loads_of(one, Policy()), turns, hosts, restore=restore)
        assert toll is not None
        assert toll.moved_bytes == expected * GIB  # where they stay, only h4's VMs move twice
        made = planned(one, turns, restore=restore)
        assert sum(turn.moved_bytes for turn in made) == toll.moved_bytes


def test_the_worst_order_moves_more_than_the_best() -> None:
    one = cluster(FOUR)
    best = planned(one, (("h4",), ("h1",), ("h2",), ("h3",)), restore=False)
    worst = planned(one, (("h3",), ("h1",), ("h2",), ("h4",)), restore=False)
    moved = [sum(turn.moved_bytes for turn in each) for each in (best, worst)]
    assert moved[0] < moved[1]


def test_hosts_that_cannot_leave_together_have_turns_of_their_own() -> None:
    apart = Apart(vms=tuple(Selector(SelectBy.EXACT, name) for name in ("a", "d", "f")))
    one = cluster(FOUR, rules=(apart,))
    made = planned(one, (("h1", "h2"), ("h4",)))
    assert [turn.hosts for turn in made] == [("h1",), ("h2",), ("h4",)]
    assert [turn.hosts for turn in planned(cluster(FOUR), (("h1", "h2"), ("h4",)))] == [
        ("h1", "h2"),
        ("h4",),
    ]


def test_a_host_that_cannot_be_emptied_is_named_and_moves_nothing() -> None:
    made = planned(cluster(FOUR.replace("a 4G", "a 4G !assigned_device")), (("h1", "h4"),))
    assert [(turn.hosts, turn.migrations) for turn in made] == [(("h1",), 0), (("h4",), 2)]
    assert [one.name for one in made[0].stuck] == ["a"]
    assert made[1].moved_bytes == 2 * 8 * GIB
    assert made[1].return_s == made[1].drain_s > 0


BERLIN = Span(from_minute=22 * 60, to_minute=6 * 60, timezone="Europe/Berlin")


def test_turns_begin_where_they_end_inside_a_window() -> None:
    at = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    hours = [3600.0 * one for one in (5, 4, 9, 2)]
    made = timetable(hours, Calendar(windows=(BERLIN,)), at)
    assert made[0] == (datetime(2026, 7, 1, 20, tzinfo=UTC), datetime(2026, 7, 2, 1, tzinfo=UTC))
    assert made[1] == (datetime(2026, 7, 2, 20, tzinfo=UTC), datetime(2026, 7, 3, 0, tzinfo=UTC))
    assert made[2] is None  # nine hours fit no night of eight
    assert made[3] == (datetime(2026, 7, 3, 0, tzinfo=UTC), datetime(2026, 7, 3, 2, tzinfo=UTC))
    assert timetable([60.0], ALWAYS, at) == ((at, at + timedelta(minutes=1)),)
    shut = Calendar(blackouts=(Span(),))
    assert timetable([60.0], shut, at) == (None,)


def test_the_night_the_clocks_change_is_an_hour_longer_or_shorter() -> None:
    nine = [9 * 3600.0]
    autumn = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    (found,) = timetable(nine, Calendar(windows=(BERLIN,)), autumn)
    assert found is not None
    assert found[0] == datetime(2026, 10, 24, 20, tzinfo=UTC)
    spring = datetime(2027, 3, 27, 12, 0, tzinfo=UTC)
    (eight,) = timetable([8 * 3600.0], Calendar(windows=(BERLIN,)), spring)
    assert eight is not None
    assert eight[0] == datetime(2027, 3, 28, 20, tzinfo=UTC)  # the night of the 27th has seven
