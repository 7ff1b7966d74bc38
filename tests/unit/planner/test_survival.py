"""Plans of policies that want any host to be able to fail."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from balancer.errors import RefusedError
from balancer.formats.plan import parse_plan, plan_to_json
from balancer.judge import Code, judge, judge_start
from balancer.model.aside import Aside
from balancer.model.cluster import Cluster, Priority
from balancer.model.plan import Lost, Plan, Status, Survival
from balancer.model.rule import SelectBy, Selector
from balancer.planner import bring_back, drain, move, plan
from balancer.planner.carry import carry
from balancer.planner.problem import build
from balancer.planner.schedule import Schedule, schedule
from balancer.planner.stays import UNSEEN
from balancer.planner.work import Work
from balancer.policy.heed import heeding
from balancer.policy.policy import Goal, Limits, Policy, Reserve
from balancer.policy.rules import Apart, AsOne, Avoid
from benchmarks.instances import generate
from tests.notation import GIB, cluster
from tests.unit.judge.plans import NOW, leg, plan_of

ANY_ONE = Reserve(host_failures=1)


def made(seen: Cluster, policy: Policy) -> Plan:
    found = plan(seen, policy, now=NOW)
    assert judge(seen, policy, found) == ()
    assert parse_plan(plan_to_json(found), "plan") == found
    return found


def survival(found: Plan) -> tuple[str, int, int | None, int] | None:
    one = found.survival
    return None if one is None else (one.failures, one.before, one.during, one.after)


def moves(found: Plan) -> set[str]:
    return {f"{one.vm}: {one.source} > {one.target}" for one in found.migrations}


# h1 has most load, and no room for s even without a and b; so h3 has to keep 16 GiB.
UNEVEN = """
h1 20G 4c: a 4G 1.0c, b 4G 1.0c, k 6G 1.1c
h2 20G 4c: s 16G 1.0c
h3 20G 4c:
"""


def test_nothing_moves_into_the_room_that_a_failure_needs() -> None:
    seen = cluster(UNEVEN)
    free = made(seen, Policy())
    policy = Policy(reserve=ANY_ONE)
    assert [one.code for one in judge(seen, policy, free)] == [Code.SURVIVAL_END]
    assert free.survival is None
    assert "survival" not in plan_to_json(free)
    kept = made(seen, policy)
    assert len(kept.migrations) == 1
    assert kept.score.after < kept.score.before
    assert survival(kept) == ("any 1 host", 0, 0, 0)


def test_a_plan_that_takes_away_the_room_for_a_failure_is_refused() -> None:
    seen, policy = cluster(UNEVEN), Policy(reserve=ANY_ONE)
    spoilt = plan_of(seen, leg("b: h1 > h3"))
    found = judge(seen, policy, spoilt)
    assert [one.code for one in found] == []
    spoilt = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3"))
    assert {one.code for one in judge(seen, policy, spoilt)} == {Code.SURVIVAL_END}
    assert judge(seen, Policy(), spoilt) == ()


@pytest.mark.parametrize("goal", [Goal.RELIEVE, Goal.BALANCE, Goal.CONSOLIDATE])
def test_an_overloaded_host_is_relieved_even_if_a_failure_needs_the_room(goal: Goal) -> None:
    """The hole for s is the only way out of a host that suffers now."""
    seen = cluster("h1 20G 4c: a 8G 2.0c, b 8G 1.9c\nh2 20G 4c: s 16G 1.0c\nh3 20G 4c: t 1G 0.1c")
    policy = Policy(goal=goal, reserve=ANY_ONE)
    found = made(seen, policy)
    assert len(found.migrations) == 1
    assert found.migrations[0].reason.startswith("relieves h1: CPU 98 % -> ")
    assert survival(found) == ("any 1 host", 0, 1, 1)
    assert found.unresolved[0].problem == "if it fails, s (16.0 GiB) finds no host"
    assert move(seen, policy, "a", "h3", now=NOW).migrations
    # Nothing is relieved: the judge wants the room kept.
    (refused,) = judge(seen, dataclasses.replace(policy, goal=Goal.RULES_ONLY), found)
    assert refused.code is Code.SURVIVAL_END
    assert made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE)).migrations == ()


def test_where_relief_leaves_the_choice_the_room_is_kept() -> None:
    """h3 would be the better host for a, but then s found none."""
    seen = cluster("h1 20G 4c: a 8G 2.0c, b 8G 1.9c\nh2 20G 4c: s 16G 0.1c\nh3 20G 4c:\nh4 12G 3c:")
    free = made(seen, Policy(goal=Goal.RELIEVE))
    kept = made(seen, Policy(goal=Goal.RELIEVE, reserve=ANY_ONE))
    assert [one.target for one in (*free.migrations, *kept.migrations)] == ["h3", "h4"]


# Nobody has a hole of 16 GiB, though there are 24 GiB free on h1 and h2 when h3 fails.
SCATTERED = """
h1 20G 8c: a 8G 0.1c
h2 20G 8c: b 8G 0.1c
h3 20G 8c: s 16G 0.1c
"""


@pytest.mark.parametrize("goal", [Goal.RULES_ONLY, Goal.RELIEVE, Goal.BALANCE])
def test_holes_are_made_where_a_failure_needs_them(goal: Goal) -> None:
    seen = cluster(SCATTERED)
    found = made(seen, Policy(goal=goal, reserve=ANY_ONE))
    assert len(found.migrations) == 1
    assert survival(found) == ("any 1 host", 1, 1, 0)
    (why,) = {one.reason for one in found.migrations}
    assert why == (
        "keeps room for failures: without it 16.0 GiB more of medium priority would find no host"
    )
    assert found.unresolved == ()
    names = [one.name for one in found.score.tiers]
    assert names[2 if goal is Goal.RULES_ONLY else 3] == "GiB lost (medium priority)"
    assert not any("high" in name or "low" in name for name in names)
    gains = found.migrations[0].effect
    assert gains is not None
    assert ("GiB lost (medium priority)", 16.0) in {(one.tier, one.by) for one in gains.gains}


def test_what_is_missing_is_named() -> None:
    """The sums leave room enough, and no hole is large enough."""
    seen = cluster("h1 20G: a 12G\nh2 20G: b 12G\nh3 18G: c 9G")
    found = made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    assert found.status is Status.FEASIBLE
    assert not found.migrations
    texts = [f"{one.subject}: {one.problem} ({one.reason})" for one in found.unresolved]
    assert texts == [
        "h1: if it fails, a (12.0 GiB) finds no host (the largest hole is 9.0 GiB on h3)",
        "h2: if it fails, b (12.0 GiB) finds no host (the largest hole is 9.0 GiB on h3)",
        "h3: if it fails, c (9.0 GiB) finds no host (the largest hole is 8.0 GiB on h1)",
    ]


def test_the_rest_of_many_failures_is_counted() -> None:
    seen = cluster("\n".join(f"h{at} 20G: v{at} 10G, w{at} 1G" for at in range(8)))
    found = made(seen, Policy(reserve=ANY_ONE, limits=Limits(migrations_per_run=0)))
    assert len(found.unresolved) == 6
    last = found.unresolved[-1]
    assert (last.subject, last.problem) == (
        "survivability",
        "3 restarts would find no host at 3 other failures",
    )


def prioritised(seen: Cluster, **priorities: Priority) -> Cluster:
    vms = (dataclasses.replace(vm, priority=priorities.get(vm.id, vm.priority)) for vm in seen.vms)
    return dataclasses.replace(seen, vms=tuple(vms))


def test_what_restarts_first_is_what_has_priority() -> None:
    """Only one of a and b finds room on h3: the larger, unless the other is more important."""
    seen = cluster("h1 20G: a 12G, b 4G\nh2 20G paused: c 4G\nh3 20G: d 7G\nh4 20G: e 17G")
    assert "a (12.0 GiB)" not in told(made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE)))
    seen = prioritised(seen, b=Priority.HIGH, c=Priority.HIGH)
    found = made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    assert "a (12.0 GiB) finds no host" in told(found)


def told(found: Plan) -> str:
    return "; ".join(one.problem for one in found.unresolved)


def beyond(found: Plan) -> list[str]:
    assert found.survival is not None
    return [f"{one.problem} ({one.reason})" for one in found.survival.beyond_help]


# Nobody has a hole of 16 GiB for c, unless b leaves h1; then d has none.
LARGE_OR_SMALL = """
h1 16G 8c: b 2G 0.1c
h2 24G 8c: c 16G 0.1c, e 2G 0.1c
h3 20G 8c: a 12G 0.1c, d 5G 0.1c
"""


def test_a_small_vm_is_lost_rather_than_a_large_one() -> None:
    high = dict.fromkeys("acd", Priority.HIGH)
    seen = prioritised(cluster(LARGE_OR_SMALL), **high, b=Priority.LOW, e=Priority.LOW)
    found = made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    assert found.survival == Survival(
        *("any 1 host", 1, 1, 1),
        *(Lost(16 * GIB, 0, 0), Lost(16 * GIB, 0, 0), Lost(5 * GIB, 0, 0)),
        found.survival.beyond_help if found.survival else (),
    )
    (said,) = beyond(found)
    assert said == (
        "the failure of h2, for VMs of low priority, is not survived by any placement"
        " (1.0 GiB of memory are missing)"
    )
    seen = prioritised(seen, c=Priority.LOW)
    assert made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE)).migrations == ()


def test_a_site_may_fail() -> None:
    sites = "h1 20G @Site=A: a 8G\nh2 20G @Site=A: b 8G\nh3 20G @Site=B: c 8G\nh4 20G @Site=B: d 4G"
    found = made(cluster(sites), Policy(reserve=Reserve(domain_failure="site")))
    assert survival(found) == ("any one site", 0, 0, 0)
    both = Reserve(domain_failure="site", host_failures=2)
    found = made(cluster(sites), Policy(reserve=both))
    assert survival(found) == ("any 2 hosts, or any one site", 0, 0, 0)


def test_a_broken_hard_rule_comes_before_failures() -> None:
    rule = Apart(vms=tuple(Selector(SelectBy.EXACT, vm) for vm in "ab"))
    seen = cluster("h1 20G: a 12G, b 4G\nh2 20G: c 4G\nh3 20G paused: d 4G", rules=(rule,))
    before = made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    assert moves(before) == {"b: h1 > h2"}
    assert before.survival is not None


def test_startup_memory_counts_where_it_is_known() -> None:
    seen = cluster("h1 20G: a 12G\nh2 20G: b 12G")
    small = tuple(dataclasses.replace(vm, memory_startup_bytes=4 * GIB) for vm in seen.vms)
    seen = dataclasses.replace(seen, vms=small)
    assert survival(made(seen, Policy(reserve=ANY_ONE))) == ("any 1 host", 0, 0, 0)


# a and b have to leave h1, and h2 is too busy for them. Both on their way to h3 at once would leave
# no hole of 12 GiB anywhere.
TWO_TO_GO = """
h1 20G x2: a 8G 0.5c, b 8G 0.5c
h2 28G x2: s 12G 12.7c
h3 20G x2:
"""


def leave_h1() -> Cluster:
    both = tuple(Selector(SelectBy.EXACT, vm) for vm in "ab")
    rule = Avoid(vms=both, hosts=(Selector(SelectBy.EXACT, "h1"),))
    return cluster(TWO_TO_GO, rules=(rule,))


def test_migrations_wait_for_each_other_where_a_failure_needs_it() -> None:
    seen = leave_h1()
    at_once = made(seen, Policy(goal=Goal.RULES_ONLY))
    assert [one.after for one in at_once.migrations] == [(), ()]
    one, two = made(seen, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE)).migrations
    assert (one.target, two.target) == ("h3", "h3")
    assert two.after == (one.id,)
    assert two.start_s >= one.start_s + one.duration_s


def test_what_could_not_be_seen_in_time_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.planner.carry.WATCH_UNITS", 100.0)
    found = made(leave_h1(), Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    assert found.migrations == ()
    assert {one.reason for one in found.not_moved} == {UNSEEN}
    # Where no failure is in doubt there is nothing to see.
    roomy = cluster(TWO_TO_GO.replace("20G", "40G"), rules=leave_h1().rules)
    assert len(made(roomy, Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE)).migrations) == 2


def test_a_time_limit_ends_the_look_at_the_way_and_ctrl_c_does_not() -> None:
    problem = build(leave_h1(), Policy(goal=Goal.RULES_ONLY, reserve=ANY_ONE))
    place = problem.home.copy()
    place[:2] = 2  # a and b on h3
    late = Work(1e9, elapsed_s=lambda: 9.0, time_limit_s=1.0)
    assert carry(problem, place, late, "auto").dropped == {0: UNSEEN, 1: UNSEEN}
    cut = Work(1e9, interrupted=lambda: True)
    assert len(carry(problem, place, cut, "auto").schedule.timed) == 2


def test_an_instant_that_no_failure_may_fall_into_is_refused() -> None:
    seen, policy = leave_h1(), Policy(reserve=ANY_ONE)
    at_once = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3"))
    (found,) = judge(seen, policy, at_once)
    assert (found.code, found.subject) == (Code.SURVIVAL_DURING, "b")
    assert "if h2 fails, s (12.0 GiB) would find no host" in found.message
    in_turn = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3", "a"))
    assert judge(seen, policy, in_turn) == ()


def test_a_start_waits_while_a_failure_needs_the_room() -> None:
    seen, policy = leave_h1(), Policy(reserve=ANY_ONE)
    at_once = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3"))
    assert judge_start(seen, policy, at_once, "b", done=(), running=()) == ()
    (found,) = judge_start(seen, policy, at_once, "b", done=(), running=["a"])
    assert found.code is Code.SURVIVAL_DURING
    flying = tuple(
        dataclasses.replace(vm, migrating_to="h3") if vm.id == "a" else vm for vm in seen.vms
    )
    reading = dataclasses.replace(seen, vms=flying)
    assert judge_start(reading, policy, at_once, "b", done=(), running=["a"]) == (found,)


# Two of three hosts can just take what runs on all of them; one of two can not.
THREE = """
h1 20G: a 8G
h2 20G: b 8G
h3 20G: c 8G
"""


def test_a_drain_uses_the_room_for_failures_and_says_so_first() -> None:
    seen, policy = cluster(THREE), Policy(reserve=ANY_ONE)
    found = drain(seen, policy, ["h1"], now=NOW)
    assert found.stuck == ()
    assert judge(found.cluster, found.policy, found.plan) == ()
    assert found.plan.survival is not None
    assert (found.plan.survival.during, found.plan.survival.after) == (None, 2)
    (target,) = {one.target for one in found.plan.migrations}
    assert found.concessions[0].startswith(f"no longer survived: {target}: if it fails, ")
    assert "finds no host" in found.plan.unresolved[0].problem


def test_a_drain_that_keeps_the_reserve_rather_leaves_vms_behind() -> None:
    seen, policy = cluster(THREE), Policy(reserve=ANY_ONE)
    found = drain(seen, policy, ["h1"], now=NOW, keep_reserve=True)
    assert judge(found.cluster, found.policy, found.plan) == ()
    assert not found.plan.migrations
    (stuck,) = found.stuck
    assert stuck.reason == "without it, any 1 host could not fail any more"
    assert stuck.remedy.startswith("drain without --keep-reserve")
    emptied = drain(seen, policy, ["h1"], now=NOW).plan
    codes = {one.code for one in judge(found.cluster, found.policy, emptied)}
    assert codes == {Code.SURVIVAL_END}


TWO = "h1 20G: a 4G\nh2 20G: b 8G"


def test_a_drain_of_one_of_two_nodes_that_keeps_the_reserve_goes_on_and_says_what_it_is() -> None:
    seen, policy = cluster(TWO), Policy(reserve=ANY_ONE)
    found = drain(seen, policy, ["h1"], now=NOW, keep_reserve=True)
    assert moves(found.plan) == {"a: h1 > h2"}
    assert found.stuck == ()
    assert judge(found.cluster, found.policy, found.plan) == ()
    assert survival(found.plan) == ("any 1 host", 1, None, 2)
    (said,) = found.concessions
    who = "h2: if it fails, b (8.0 GiB), a (4.0 GiB) find no host"
    assert said == f"no longer survived: {who} (no host is left to take it)"
    # What is kept free on each host is kept, as ever.
    kept = Policy(reserve=Reserve(host_failures=1, memory_bytes=10 * GIB))
    found = drain(seen, kept, ["h1"], now=NOW, keep_reserve=True)
    assert [one.vm for one in found.stuck] == ["a"]


def test_two_of_three_hosts_at_once_are_held_against_what_one_by_one_would_keep() -> None:
    seen, policy = cluster(TWO + "\nh3 20G:"), Policy(reserve=ANY_ONE)
    one = drain(seen, policy, ["h1"], now=NOW, keep_reserve=True)
    assert (one.stuck, one.concessions) == ((), ())
    both = drain(seen, policy, ["h1", "h2"], now=NOW, keep_reserve=True)
    assert {one.vm for one in both.stuck} == {"a", "b"}


def test_a_drain_says_only_what_was_survived_before_it() -> None:
    """If h2 fails b finds no host, now as then; c and a do now."""
    seen = cluster("h1 12G: a 2G\nh2 20G: b 16G\nh3 8G: c 7G")
    found = drain(seen, Policy(reserve=ANY_ONE), ["h1"], now=NOW)
    lost = [one.subject for one in found.plan.unresolved if "no host" in one.problem]
    assert lost == ["h2", "h3"]
    said = [text for text in found.concessions if "survived" in text]
    assert [text.partition(" (the largest")[0] for text in said] == [
        "no longer survived: h3: if it fails, c (7.0 GiB) finds no host",
        "no longer survived: h2: if it fails, a (2.0 GiB) finds no host",
    ]


def test_vms_come_back_to_an_empty_host_though_it_is_one_large_hole() -> None:
    """Only it has room for c; as it was before the drain, nobody had."""
    seen = cluster("h1 20G:\nh2 24G: a 4G, b 4G, e 12G\nh3 20G: c 13G, d 3G")
    policy = Policy(reserve=ANY_ONE)
    back, judged_by = bring_back(seen, policy, {"a": "h1", "b": "h1"}, now=NOW)
    assert moves(back) == {"a: h2 > h1", "b: h2 > h1"}
    assert back.not_moved == ()
    assert {one.code for one in judge(seen, policy, back)} == {Code.SURVIVAL_END}
    assert judge(seen, judged_by, back) == ()
    for one in back.migrations:
        assert judge_start(seen, judged_by, back, one.id, done=(), running=()) == ()


def test_a_drain_for_which_there_is_room_keeps_all() -> None:
    seen = cluster(THREE.replace("20G", "40G"))
    for keep in (False, True):
        found = drain(seen, Policy(reserve=ANY_ONE), ["h1"], now=NOW, keep_reserve=keep)
        assert (found.stuck, found.concessions) == ((), ())
        assert found.plan.survival is not None
        assert found.plan.survival.after == 0


def test_what_is_asked_for_is_refused_where_a_failure_needs_the_room() -> None:
    seen = cluster("h1 20G: a 4G\nh2 20G: s 16G\nh3 19G: t 2G")
    policy = Policy(reserve=ANY_ONE)
    assert move(seen, Policy(), "t", "h1", now=NOW).migrations
    assert move(seen, policy, "a", "h3", now=NOW).migrations
    with pytest.raises(RefusedError, match=r"h2: if it fails, s \(16.0 GiB\) finds no host"):
        move(cluster("h1 20G: a 4G\nh2 20G: s 16G\nh3 15G: t 2G"), policy, "t", "h1", now=NOW)


def test_consolidation_leaves_what_a_failure_needs_awake() -> None:
    """One host holds it all and two have to stay awake; each has to take what the other has."""
    lines = [f"h{at} 40G: v{at} 10G 0.2c" for at in range(4)]
    seen = cluster("\n".join(lines))
    free = made(seen, Policy(goal=Goal.CONSOLIDATE))
    assert [one.may_sleep for one in free.sleep].count(True) == 2
    kept = made(seen, Policy(goal=Goal.CONSOLIDATE, reserve=ANY_ONE))
    assert [one.may_sleep for one in kept.sleep].count(True) == 2
    assert survival(kept) == ("any 1 host", 0, 0, 0)
    tight = cluster("\n".join(line.replace("10G", "12G") for line in lines))
    free = made(tight, Policy(goal=Goal.CONSOLIDATE))
    assert [one.may_sleep for one in free.sleep].count(True) == 2
    kept = made(tight, Policy(goal=Goal.CONSOLIDATE, reserve=ANY_ONE))
    assert [one.may_sleep for one in kept.sleep].count(True) == 1
    assert {one.reason for one in kept.sleep if not one.may_sleep} == {
        "any 1 host may fail only while it is awake"
    }
    spoilt = dataclasses.replace(free, policy_sha256="")
    codes = {one.code for one in judge(tight, Policy(reserve=ANY_ONE), spoilt)}
    assert codes == set(), "a host that is on takes restarts"
    asleep = Policy(goal=Goal.CONSOLIDATE, reserve=ANY_ONE)
    assert Code.SURVIVAL_END in {one.code for one in judge(tight, asleep, spoilt)}


def test_a_host_that_is_set_aside_as_a_target_still_restarts_vms() -> None:
    seen = cluster(UNEVEN)
    at = datetime(2026, 11, 26, tzinfo=UTC)
    aside = Aside(seen.name, "", "", "", "h3", at, at, 3, None, "it refused them")
    heeded, policy = heeding(seen, Policy(reserve=ANY_ONE), [aside])
    found = made(heeded, policy)
    assert not any(one.target == "h3" for one in found.migrations)
    assert found.survival is not None
    assert found.survival.before == 0


def test_where_nothing_restarts_by_itself_nothing_is_said_of_failures() -> None:
    seen = cluster(UNEVEN)
    alone = tuple(dataclasses.replace(vm, clustered=False) for vm in seen.vms)
    assert made(dataclasses.replace(seen, vms=alone), Policy(reserve=ANY_ONE)).survival is None
    assert made(seen, Policy(reserve=Reserve(domain_failure="site"))).survival is None


def test_a_plan_from_before_losses_were_measured_reads_and_is_written_as_it_was() -> None:
    document = json.loads(plan_to_json(made(cluster(SCATTERED), Policy(reserve=ANY_ONE))))
    for key in ("lost_before", "lost_during", "lost_after"):
        assert document["survival"].pop(key) is not None
    read = parse_plan(json.dumps(document), "plan")
    assert read.survival is not None
    assert read.survival.lost_after is None
    assert json.loads(plan_to_json(read)) == document


def test_migrations_that_are_unsafe_beside_each_other_wait_and_are_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each by itself is safe, and so are all once they are there; two that have arrived are not."""
    problem = build(generate(8, 200, 4), Policy(reserve=ANY_ONE), max_migrations=10)
    place = problem.home.copy()
    place[[27, 50, 62, 72, 104, 150, 199]] = [3, 3, 1, 2, 1, 5, 6]
    carried = carry(problem, place, Work(1e9), "auto")
    assert not carried.dropped
    assert carried.lost == []
    # Two of a set that moves as one do not wait for each other, however often they are told to.
    as_one = AsOne(vms=tuple(Selector(SelectBy.EXACT, problem.vms[vm].id) for vm in (3, 104)))
    bound = build(generate(8, 200, 4), Policy(reserve=ANY_ONE, rules=(as_one,)), max_migrations=10)
    scheduled: list[int] = []

    def counted(*given: Any) -> Schedule:
        scheduled.append(len(given[1]))
        return schedule(*given)

    monkeypatch.setattr("balancer.planner.carry.schedule", counted)
    both = place.copy()
    both[[3, 104]] = 7
    carry(bound, both, Work(1e9), "auto")
    assert len(scheduled) < 20
    monkeypatch.setattr("balancer.planner.carry.PARTED_MAX", 0)
    assert carry(problem, place, Work(1e9), "auto").dropped
