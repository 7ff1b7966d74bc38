from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from balancer.errors import InputError
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Status
from balancer.model.rule import SelectBy, Selector
from balancer.planner import Evacuation, bring_back, drain
from balancer.policy.policy import Goal, Limits, Policy, Reserve
from balancer.policy.rules import Allow, Apart, Pin, Together
from balancer.policy.windows import Calendar, Span
from benchmarks.instances import generate
from tests.notation import cluster
from tests.unit.planner.oracle import NOW

GIB = 2**30
THREE = """
h1 64G: a 16G, b 8G, c 4G
h2 64G: d 8G
h3 64G: e 20G 14c, f 4G
"""


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def drained(one: Cluster, policy: Policy, *hosts: str, keep_reserve: bool = False) -> Evacuation:
    found = drain(one, policy, hosts, now=NOW, keep_reserve=keep_reserve)
    assert judge(found.cluster, found.policy, found.plan) == ()
    drained_vms = {vm.id for vm in one.vms if vm.host in hosts}
    assert {migration.vm for migration in found.plan.migrations} <= drained_vms
    return found


def test_exactly_what_runs_on_the_host_moves_even_where_others_are_overloaded() -> None:
    found = drained(cluster(THREE), Policy(), "h1")
    assert {one.vm for one in found.plan.migrations} == {"a", "b", "c"}
    assert all(one.source == "h1" for one in found.plan.migrations)
    assert found.plan.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert (found.stuck, found.concessions) == ((), ())
    assert {one.reason for one in found.plan.migrations} == {"evacuates h1, which is draining"}


def test_caps_a_run_and_windows_do_not_hold_for_a_drain_but_concurrency_does() -> None:
    shut = Calendar(windows=(Span(days=frozenset({5}), from_minute=0, to_minute=1),))
    policy = Policy(
        goal=Goal.BALANCE,
        limits=Limits(migrations_per_run=1, bytes_per_run=GIB, concurrent_per_cluster=1),
        calendar=shut,
    )
    made = drained(cluster(THREE), policy, "h1").plan
    assert len(made.migrations) == 3
    ordered = sorted(made.migrations, key=lambda one: one.start_s)
    ends = [one.start_s + one.duration_s for one in ordered]
    assert all(end <= nxt.start_s + 1e-6 for end, nxt in zip(ends, ordered[1:], strict=False))


def test_a_paused_host_is_drained_and_a_silent_one_is_not() -> None:
    paused = cluster(THREE.replace("h1 64G", "h1 64G paused"))
    assert len(drained(paused, Policy(), "h1").plan.migrations) == 3
    for state in ("down", "unknown"):
        with pytest.raises(InputError, match=f"it is {state}"):
            drain(cluster(THREE.replace("h1 64G", f"h1 64G {state}")), Policy(), ["h1"], now=NOW)
    with pytest.raises(InputError, match="no host named 'h9'"):
        drain(cluster(THREE), Policy(), ["h9"], now=NOW)


def test_two_hosts_at_once_do_not_send_vms_to_each_other() -> None:
    found = drained(cluster(THREE), Policy(), "h1", "h2")
    assert {one.target for one in found.plan.migrations} == {"h3"}
    assert len(found.plan.migrations) == 4


TIGHT = """
h1 64G: a 20G
h2 64G: b 40G
h3 64G: c 50G
"""


def test_the_reserve_is_used_only_where_it_must_be_and_said_first() -> None:
    roomy = drained(cluster(THREE), Policy(reserve=Reserve(memory_fraction=0.1)), "h1")
    assert roomy.policy.reserve == Reserve(memory_fraction=0.1)
    tight = Policy(reserve=Reserve(memory_fraction=0.2))
    found = drained(cluster(TIGHT), tight, "h1")
    assert [one.target for one in found.plan.migrations] == ["h2"]
    assert found.policy.reserve == Reserve()
    assert found.concessions[0] == "8.8 GiB of the memory reserve of h2 are used"
    assert any("memory at 94 %" in text for text in found.concessions)


def test_with_the_reserve_kept_it_says_how_much_is_missing_where() -> None:
    tight = Policy(reserve=Reserve(memory_fraction=0.2))
    found = drained(cluster(TIGHT), tight, "h1", keep_reserve=True)
    assert found.plan.status is Status.INFEASIBLE
    (stuck,) = found.refused
    assert (stuck.name, stuck.immovable) == ("a", False)
    assert stuck.missing_bytes == pytest.approx((40 + 20 - 64 * 0.8) * GIB, abs=2)
    assert "8.8 GiB are missing on h2" in stuck.reason
    assert "free 8.8 GiB on h2" in stuck.remedy


def test_a_rule_that_stands_against_every_host_is_named() -> None:
    here = Pin(vms=names("a"), hosts=names("h1"), name="licence")
    found = drained(cluster(THREE, rules=(here,)), Policy(), "h1")
    (stuck,) = found.refused
    assert (stuck.name, stuck.missing_bytes) == ("a", None)
    assert "pin [licence]" in stuck.reason
    assert len(found.plan.migrations) == 2


def test_a_vm_that_cannot_be_live_migrated_is_no_reason_to_keep_the_others() -> None:
    one = cluster(THREE.replace("c 4G", "c 4G !assigned_device"))
    found = drained(one, Policy(), "h1")
    (stuck,) = found.stuck
    assert stuck.immovable
    assert found.refused == ()
    assert "assigned_device" in stuck.reason
    assert "take the assigned device from it" in stuck.remedy
    assert found.plan.status is Status.INFEASIBLE
    assert {migration.vm for migration in found.plan.migrations} == {"a", "b"}


def test_soft_rules_are_kept_if_they_can_be_and_named_if_not() -> None:
    kept = drained(cluster(THREE), Policy(rules=(soft_apart("a", "d"),)), "h1")
    assert {one.vm: one.target for one in kept.plan.migrations}["a"] == "h3"
    two = cluster("h1 64G: a 4G\nh2 64G: d 4G")
    broken = drained(two, Policy(rules=(soft_apart("a", "d"),)), "h1")
    assert any("apart [a, d]" in text for text in broken.concessions)


def soft_apart(*of: str) -> Apart:
    return Apart(vms=names(*of), hard=False)


def test_vms_held_together_leave_together() -> None:
    rule = Together(vms=names("a", "b"))
    ends = {
        one.vm: one.target
        for one in drained(cluster(THREE), Policy(rules=(rule,)), "h1").plan.migrations
    }
    assert ends["a"] == ends["b"]


def test_vms_elsewhere_do_not_move_even_to_mend_a_rule() -> None:
    rule = Allow(vms=names("d"), hosts=names("h3"))
    made = drained(cluster(THREE, rules=(rule,)), Policy(), "h1").plan
    assert {one.vm for one in made.migrations} == {"a", "b", "c"}


def test_same_input_same_plan() -> None:
    first, second = (drained(cluster(THREE), Policy(), "h1").plan for _ in range(2))
    assert first == second
    assert first.id.startswith("plan-")


def test_vms_go_back_where_they_were_as_far_as_they_may() -> None:
    after = cluster("h1 64G:\nh2 64G: a 16G, b 8G, d 8G\nh3 64G: c 4G, e 30G 14c")
    homes = {"a": "h1", "b": "h1", "c": "h1", "gone": "h1", "d": "h2"}
    rule = Allow(vms=names("b"), hosts=names("h2", "h3"))
    made, judged_by = bring_back(after, Policy(rules=(rule,)), homes, now=NOW)
    assert {one.vm: one.target for one in made.migrations} == {"a": "h1", "c": "h1"}
    assert [one.name for one in made.not_moved] == ["b"]
    assert judge(after, judged_by, made) == ()
    paused = dataclasses.replace(cluster("h1 64G paused:\nh2 64G: a 16G"), name="test")
    none, _ = bring_back(paused, Policy(), {"a": "h1"}, now=NOW)
    assert none.migrations == ()
    assert "h1 is paused" in none.not_moved[0].reason


@pytest.mark.slow
def test_emptying_the_fullest_of_64_hosts_moves_its_vms_and_no_other() -> None:
    seen = generate(64, 8000, 1)
    used = Counter[str]()
    for vm in seen.vms:
        used[vm.host] += vm.memory_assigned_bytes
    fullest = max(used, key=lambda name: used[name])
    found = drained(seen, Policy(limits=Limits(migrations_per_run=10)), fullest)
    there = {vm.id for vm in seen.vms if vm.host == fullest}
    ends = [one for one in found.plan.migrations if not one.stopover]
    assert {one.vm for one in ends} == there
    assert len(ends) == len(there)
    assert fullest not in {one.target for one in found.plan.migrations}
    assert found.stuck == ()
