"""Rules on when VMs move, and which VMs move at all: what plans make of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Migration, Plan
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import plan
from balancer.planner.drain import drain
from balancer.policy.policy import Goal, Policy
from balancer.policy.rules import (
    AsOne,
    BalancerVm,
    HostReserve,
    LastResort,
    OneAtATime,
    OnlyDuring,
    Prefer,
    Priority,
)
from balancer.policy.windows import Span
from tests.notation import cluster

GIB = 2**30
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def planned(seen: Cluster, *rules: Rule, goal: Goal = Goal.RULES_ONLY) -> Plan:
    policy = Policy(goal=goal, rules=rules)
    made = plan(seen, policy, now=NOW)
    assert judge(seen, policy, made) == ()
    return made


def times(made: Plan) -> dict[str, tuple[float, float]]:
    return {one.name: (one.start_s, one.start_s + one.duration_s) for one in made.migrations}


def by_name(made: Plan) -> dict[str, Migration]:
    return {one.name: one for one in made.migrations}


LEAVING = cluster(
    """
    h1 64G x4 draining: a 8G, b 8G, c 8G, lb 2G
    h2 64G x4:
    h3 64G x4:
    """
)


def test_without_a_rule_all_leave_at_once() -> None:
    assert {start for start, _ in times(planned(LEAVING)).values()} == {0.0}


def test_of_vms_that_move_one_at_a_time_never_two_are_under_way() -> None:
    made = planned(LEAVING, OneAtATime(vms=pick("a", "b", "c")))
    spans = sorted(times(made)[name] for name in "abc")
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert times(made)["lb"][0] == 0.0  # who is none of them does not wait


def test_the_balancer_itself_moves_last() -> None:
    made = planned(LEAVING, BalancerVm(vms=pick("lb")))
    mine = by_name(made)["lb"]
    assert {made.migration_by_id[name].name for name in mine.after} == {"a", "b", "c"}
    assert mine.start_s >= max(times(made)[name][1] for name in "abc")


def test_who_has_priority_starts_first() -> None:
    narrow = dataclasses.replace(
        LEAVING,
        hosts=tuple(
            dataclasses.replace(host, migration=dataclasses.replace(host.migration, concurrent=1))
            for host in LEAVING.hosts
        ),
    )
    usual, favoured = planned(narrow), planned(narrow, Priority(vms=pick("lb")))
    assert usual.migrations[-1].name == "lb"  # the longest go first
    assert favoured.migrations[0].name == "lb"


def test_with_a_cap_priority_decides_who_gets_away() -> None:
    made = plan(LEAVING, Policy(rules=(Priority(vms=pick("lb")),)), now=NOW, max_migrations=1)
    assert [one.name for one in made.migrations] == ["lb"]


# a and b fit h2 together once x has left it; h3 has room for one of them, or for x.
TIGHT = """
h1 64G x4: a 20G, b 20G
h2 40G x4: x 10G
h3 38G x4: y 1G
"""


@pytest.mark.parametrize("as_one", [True, False])
def test_a_set_that_moves_as_one_waits_until_all_of_it_fits(as_one: bool) -> None:  # noqa: FBT001
    seen = cluster(TIGHT.replace("h1 64G x4", "h1 64G x4 draining"))
    rules = (AsOne(vms=pick("a", "b")),) if as_one else ()
    made = planned(seen, *rules)
    moves = by_name(made)
    if not as_one:
        assert moves["a"].target != moves["b"].target
        return
    assert moves["a"].target == moves["b"].target == "h2"
    assert moves["a"].after == moves["b"].after == (moves["x"].id,)
    assert times(made)["a"][0] == times(made)["b"][0]


def test_a_set_that_nowhere_fits_stays_whole() -> None:
    seen = cluster("h1 64G draining: a 20G, b 20G, c 1G\nh2 30G:\nh3 30G:")
    made = planned(seen, AsOne(vms=pick("a", "b")))
    assert set(by_name(made)) == {"c"}
    assert {one.name for one in made.not_moved} == {"a", "b"}


HOT = """
h1 64G 16c: fast 4G 7c, slow 4G 4c, small 4G 3c
h2 64G 16c:
"""


def test_a_last_resort_stays_while_another_can_relieve() -> None:
    usual = planned(cluster(HOT), goal=Goal.BALANCE)
    assert "fast" in by_name(usual)  # evens out best
    for goal in (Goal.RELIEVE, Goal.BALANCE):
        made = planned(cluster(HOT), LastResort(vms=pick("fast")), goal=goal)
        assert made.migrations
        assert "fast" not in by_name(made)
        assert not made.unresolved


def test_a_last_resort_moves_where_nothing_else_relieves() -> None:
    seen = cluster(HOT.replace("slow 4G 4c", "slow 4G 4c !assigned_device").replace("3c", "0.5c"))
    seen = dataclasses.replace(
        seen, hosts=tuple(dataclasses.replace(host, cpu_cores=13.0) for host in seen.hosts)
    )
    made = planned(seen, LastResort(vms=pick("fast")), goal=Goal.RELIEVE)
    assert "nothing else would do" in by_name(made)["fast"].reason
    tier = next(tier for tier in made.score.tiers if tier.name == "last resort")
    assert (tier.before, tier.after) == (0.0, 1.0)


def test_a_last_resort_that_another_would_have_spared_names_it() -> None:
    rules = (LastResort(vms=pick("a")), BalancerVm(vms=pick("b")))
    made = planned(cluster("h1: a 4G 8c, b 4G 7c\nh2:\nh3: c 4G 1c"), *rules, goal=Goal.RELIEVE)
    (one,) = made.migrations
    told = {"a": rules, "b": rules[::-1]}[one.vm]
    assert one.reason.endswith(f"; only a last resort would do: {told[0]} (another is {told[1]})")


def test_a_last_resort_leaves_a_draining_host() -> None:
    assert set(by_name(planned(LEAVING, LastResort(vms=pick("a", "b"))))) == {"a", "b", "c", "lb"}


def at_night(*, hard: bool = True) -> OnlyDuring:
    return OnlyDuring(vms=pick("a"), windows=(Span(from_minute=0, to_minute=60),), hard=hard)


@pytest.mark.parametrize(
    ("clock", "leaves"),
    [("00:00", True), ("00:30", True), ("00:59", False), ("01:00", False), ("12:00", False)],
)
def test_a_vm_with_hours_of_its_own_moves_in_them_only(clock: str, leaves: bool) -> None:  # noqa: FBT001
    hour, minute = map(int, clock.split(":"))
    policy = Policy(goal=Goal.RULES_ONLY, rules=(at_night(),))
    made = plan(LEAVING, policy, now=NOW.replace(hour=hour, minute=minute, second=55))
    assert judge(LEAVING, policy, made) == ()
    assert ("a" in by_name(made)) is leaves
    assert {"b", "c", "lb"} <= by_name(made).keys()
    if not leaves:
        (left,) = made.not_moved
        assert "window closes" in left.reason or "until 2026-01-02 00:00 UTC" in left.reason


def test_soft_hours_give_way_to_what_is_more_important() -> None:
    policy = Policy(goal=Goal.RULES_ONLY, rules=(at_night(hard=False),))
    assert "a" in by_name(plan(LEAVING, policy, now=NOW.replace(hour=12)))


def test_a_host_with_a_reserve_of_its_own_takes_less() -> None:
    kept = HostReserve(hosts=pick("h2"), memory=60 * GIB)
    made = planned(LEAVING, kept)
    assert {one.target for one in made.migrations if one.name != "lb"} == {"h3"}


def test_a_drain_uses_a_reserve_only_where_room_is_short_and_says_so() -> None:
    seen = cluster("h1 64G: a 8G, b 8G\nh2 20G:\n")
    policy = Policy(rules=(HostReserve(hosts=pick("h2"), memory=10 * GIB),))
    kept = drain(seen, policy, ["h1"], now=NOW, keep_reserve=True)
    assert [one.name for one in kept.plan.migrations] != ["a", "b"]
    assert len(kept.stuck) == 1
    used = drain(seen, policy, ["h1"], now=NOW)
    assert len(used.plan.migrations) == 2
    assert any("6.0 GiB of the memory reserve of h2" in text for text in used.concessions)


EQUAL = "h1 64G draining: a 8G\nh2 64G:\nh3 64G:\nh4 64G: x 1G\n"


@pytest.mark.parametrize("host", ["h2", "h3"])
def test_a_tie_is_broken_for_the_host_that_is_nearer(host: str) -> None:
    made = planned(cluster(EQUAL), Prefer(vms=pick("a"), hosts=pick(host), tie_break=True))
    assert by_name(made)["a"].target == host


def test_a_tie_break_moves_nothing_and_outweighs_nothing() -> None:
    near = Prefer(vms=pick("a", "x"), hosts=pick("h4"), tie_break=True)
    crowded = EQUAL.replace("x 1G", "x 1G, y 40G")
    assert by_name(planned(cluster(crowded), near))["a"].target != "h4"
    at_rest = EQUAL.replace(" draining", "")
    assert planned(cluster(at_rest), near, goal=Goal.BALANCE).migrations == ()
