"""Consolidation on clusters of which too few hosts are awake, or up."""

from __future__ import annotations

import dataclasses

import pytest

from balancer.judge import Code, goal_faults, judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.planner import plan
from balancer.policy.policy import Consolidation, Goal, Policy, Reserve
from tests.notation import cluster
from tests.unit.judge.plans import leg, plan_of
from tests.unit.planner.oracle import NOW, end_of, faults, moved_to

ASKED = Policy(
    goal=Goal.CONSOLIDATE,
    reserve=Reserve(host_failures=1),
    consolidation=Consolidation(awake_at_least=2),
)


def planned(seen: Cluster, policy: Policy = ASKED) -> Plan:
    made = plan(seen, policy, now=NOW)
    assert faults(seen, policy, made) == []
    assert judge(seen, policy, made) == ()
    assert list(goal_faults(seen, policy, made)) == []
    return made


@pytest.mark.parametrize(
    "text",
    [
        "h1:\nh2: a 8G 1c, b 8G 3c",
        "h1:\nh2: a 8G 1c, b 8G 3c\nh3:",
        "h1:\nh2: a 8G 1c, b 8G 3c\nh3:\nh4:",
        "h1:\nh2: a 8G 1c, b 8G 3c\nh3 down:",
        "h1:\nh2: a 8G 1c, b 8G 3c\nh3 draining: c 4G 1c !assigned_device",
    ],
    ids=["two", "three", "four", "one down", "one draining"],
)
def test_a_host_is_woken_where_no_other_could_take_what_fails(text: str) -> None:
    """All that can move is on one host, as after a node has come back from a reboot."""
    seen = cluster(text)
    made = planned(seen)
    assert len(made.migrations) == 1
    assert made.migrations[0].reason.startswith("keeps room for failures")
    assert made.survival is not None
    assert (made.survival.before, made.survival.after) == (2, 0)
    assert planned(moved_to(seen, end_of(seen, made))).migrations == (), "and it stays awake"


def test_the_judge_lets_hosts_be_woken_for_failures_only_where_less_is_lost() -> None:
    all_on_one, spread = cluster("h1:\nh2: a 8G, b 8G"), cluster("h1:\nh2: a 8G, b 8G\nh3: c 8G")
    wakes = leg("a: h2 > h1")
    assert list(goal_faults(all_on_one, ASKED, plan_of(all_on_one, wakes))) == []
    nobody_asks = dataclasses.replace(ASKED, reserve=Reserve())
    for seen, policy in ((all_on_one, nobody_asks), (spread, ASKED)):
        (found,) = goal_faults(seen, policy, plan_of(seen, wakes))
        assert found.code is Code.AWAKE


@pytest.mark.parametrize(
    ("text", "awake"),
    [
        ("h1: a 8G 1c", 1),
        ("h1: a 8G 1c\nh2 down:", 1),
        ("h1 down:\nh2 paused: a 8G 1c", 0),
        ("h1: a 8G 1c\nh2: b 8G 1c\nh3 down:\nh4 down:\nh5 down:", 2),
    ],
    ids=["one host", "one up", "none up", "a majority is down"],
)
@pytest.mark.parametrize("majority", [False, True])
def test_no_more_hosts_are_kept_awake_than_are_up(text: str, awake: int, *, majority: bool) -> None:
    packed = Consolidation(awake_at_least=2, majority=majority)
    made = planned(cluster(text), Policy(goal=Goal.CONSOLIDATE, consolidation=packed))
    assert made.migrations == ()
    (told,) = [one for one in made.score.tiers if one.name == "hosts awake"]
    assert (told.before, told.after, told.bound) == (awake, awake, awake)
    assert [one.may_sleep for one in made.sleep] == [False] * awake
    kept = [one.reason for one in made.sleep if "the policy keeps" in one.reason]
    assert all(f"keeps {awake} host" in reason for reason in kept)
