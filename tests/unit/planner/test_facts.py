"""What the platform never allows: planner and judge see it alike, and say it in words."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balancer.judge import Code, judge, judge_start
from balancer.model.cluster import Cluster
from balancer.model.rule import SelectBy, Selector
from balancer.planner import plan, why_not
from balancer.policy.policy import Goal, Policy
from balancer.policy.rules import BalancerVm, OneAtATime, OnlyDuring
from balancer.policy.windows import Span
from tests.notation import GIB, cluster
from tests.unit.judge.plans import leg, plan_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEEN = cluster("h1 64G 16c draining: a 8G, b 8G\nh2 64G 8c:\nh3 16G 16c:\n")
RULES_ONLY = Policy(goal=Goal.RULES_ONLY)


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def with_vm(name: str, seen: Cluster = SEEN, **facts: Any) -> Cluster:
    vms = (dataclasses.replace(vm, **facts) if vm.id == name else vm for vm in seen.vms)
    return dataclasses.replace(seen, vms=tuple(vms))


def with_host(name: str, seen: Cluster = SEEN, **facts: Any) -> Cluster:
    hosts = (dataclasses.replace(h, **facts) if h.name == name else h for h in seen.hosts)
    return dataclasses.replace(seen, hosts=tuple(hosts))


def test_a_vm_goes_to_no_host_with_fewer_processors_than_it_has() -> None:
    seen = with_vm("a", vcpus=12)
    made = plan(seen, RULES_ONLY, now=NOW)
    assert {one.name: one.target for one in made.migrations}["a"] == "h3"
    (text,) = why_not(seen, RULES_ONLY, "a", "h2")
    assert text == "it has 12 virtual processors, h2 has 8 logical ones"
    (finding,) = judge(seen, RULES_ONLY, plan_of(seen, leg("a: h1 > h2")))
    assert finding.code is Code.TARGET


@pytest.mark.parametrize(
    ("free", "nodes", "fits"),
    [
        ((6, 6), None, False),
        ((8, 1), None, True),
        ((6, 6), 2, True),
        ((9, 3), 2, True),  # both of its nodes on the one
        ((7, 3), 2, False),
        ((), None, True),  # memory may span nodes
    ],
)
def test_where_memory_may_not_span_nodes_one_has_to_have_room(
    free: tuple[int, ...],
    nodes: int | None,
    fits: bool,  # noqa: FBT001
) -> None:
    seen = with_vm("a", numa_nodes=nodes)
    seen = with_host("h2", seen, numa_free_bytes=tuple(one * GIB for one in free))
    assert (why_not(seen, RULES_ONLY, "a", "h2") == ()) is fits
    assert (judge(seen, RULES_ONLY, plan_of(seen, leg("a: h1 > h2"))) == ()) is fits


def test_cpu_reserves_add_up_on_a_host() -> None:
    both = with_vm("b", with_vm("a", cpu_reserved_cores=5.0), cpu_reserved_cores=4.0)
    made = plan(both, RULES_ONLY, now=NOW)
    assert judge(both, RULES_ONLY, made) == ()
    assert sorted(one.target for one in made.migrations) == ["h2", "h3"]
    together = plan_of(both, leg("a: h1 > h2"), leg("b: h1 > h2", "a"))
    (finding,) = judge(both, RULES_ONLY, together)
    assert finding.code is Code.CPU_RESERVE
    assert "9 logical processors" in finding.message


def test_a_reserve_that_has_to_wait_for_another_waits() -> None:
    seen = cluster("h1 64G 8c x4: a 8G\nh2 64G 8c x4: b 8G\nh3 64G 4c x4:\n")
    seen = with_vm("b", with_vm("a", seen, cpu_reserved_cores=6.0), cpu_reserved_cores=3.0)
    swap = (leg("b: h2 > h3"), leg("a: h1 > h2", "b"))
    assert judge(seen, RULES_ONLY, plan_of(seen, *swap)) == ()
    at_once = plan_of(seen, swap[0], dataclasses.replace(swap[1], after=()))
    assert {one.code for one in judge(seen, RULES_ONLY, at_once)} == {Code.CPU_RESERVE}


def test_a_host_without_processors_left_says_so() -> None:
    seen = with_vm("a", cpu_reserved_cores=10.0)
    (text,) = why_not(seen, RULES_ONLY, "a", "h2")
    assert text == "h2 has no processors left for its CPU reserve"


def test_members_of_a_guest_cluster_move_where_the_policy_allows_it_and_in_turn() -> None:
    seen = with_vm("b", with_vm("a", blocked_by=("shared_disk",)), blocked_by=("shared_disk",))
    assert plan(seen, RULES_ONLY, now=NOW).migrations == ()
    strict = dataclasses.replace(RULES_ONLY, rules=(OneAtATime(vms=pick("a", "b")),))
    assert plan(seen, strict, now=NOW).migrations == ()
    rule = OneAtATime(vms=pick("a", "b"), shared_disks=True)
    policy = dataclasses.replace(RULES_ONLY, rules=(rule,))
    made = plan(seen, policy, now=NOW)
    assert judge(seen, policy, made) == ()
    first, second = made.migrations
    assert second.after == (first.id,)
    assert not judge_start(seen, policy, made, first.id, done=(), running=())
    assert judge_start(seen, strict, made, first.id, done=(), running=())


def test_a_member_does_not_start_while_somebody_moves_another() -> None:
    rule = OneAtATime(vms=pick("a", "b"))
    policy = dataclasses.replace(RULES_ONLY, rules=(rule,))
    made = plan_of(SEEN, leg("a: h1 > h2"))
    (finding,) = judge_start(
        SEEN, policy, made, "a", done=(), running=(), foreign=[("b", "h1", "h3")]
    )
    assert finding.code is Code.RULE_DURING
    assert "while b is under way" in finding.message


def test_the_balancer_does_not_move_itself_while_anything_else_moves() -> None:
    policy = dataclasses.replace(RULES_ONLY, rules=(BalancerVm(vms=pick("a")),))
    made = plan_of(SEEN, leg("a: h1 > h2"))
    assert judge_start(SEEN, policy, made, "a", done=(), running=()) == ()
    found = judge_start(SEEN, policy, made, "a", done=(), running=(), foreign=[("b", "h1", "h3")])
    assert {one.code for one in found} == {Code.RULE_DURING}


def test_a_vm_with_hours_of_its_own_does_not_start_outside_of_them() -> None:
    rule = OnlyDuring(vms=pick("a"), windows=(Span(from_minute=0, to_minute=60),))
    policy = dataclasses.replace(RULES_ONLY, rules=(rule,))
    made = plan_of(SEEN, leg("a: h1 > h2"))
    for minute, starts in ((0, True), (59, True), (60, False), (600, False)):
        at = NOW + timedelta(minutes=minute)
        found = judge_start(SEEN, policy, made, "a", done=(), running=(), at=at)
        assert (found == ()) is starts, minute


def test_what_others_are_bringing_to_a_host_takes_its_room() -> None:
    seen = cluster("h1 64G draining: a 20G\nh2 64G: c 4G\nh3 64G: d 8G\nh4 64G: big 50G >h2")
    made = plan(seen, RULES_ONLY, now=NOW)
    assert [(one.vm, one.target) for one in made.migrations] == [("a", "h3")]
    there = plan_of(seen, leg("a: h1 > h2"))
    foreign = [("big", "h4", "h2")]
    memory = {Code.MEMORY_DURING, Code.MEMORY_END}
    assert memory <= {finding.code for finding in judge(seen, RULES_ONLY, there)}
    started = judge_start(seen, RULES_ONLY, there, "a", done=(), running=(), foreign=foreign)
    assert memory <= {finding.code for finding in started}
    assert "being migrated to h2" in " ".join(why_not(seen, RULES_ONLY, "big", "h3"))


def test_a_host_that_others_fill_beyond_its_room_may_still_be_left() -> None:
    seen = cluster("h1 64G: a 20G, c 4G, e 20G\nh2 64G:\nh3 64G: big 50G >h1")
    made = plan(seen, Policy(goal=Goal.RELIEVE), now=NOW)
    assert {one.target for one in made.migrations} == {"h2"}
    assert not judge(seen, Policy(goal=Goal.RELIEVE), made)
