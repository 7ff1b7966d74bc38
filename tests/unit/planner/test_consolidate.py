"""The goal of consolidation: as few hosts awake as hold the load, each emptied whole or not."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest

from balancer.judge import Code, goal_faults, judge
from balancer.model.cluster import Cluster, HostState
from balancer.model.past import Past, PastMove, Trouble
from balancer.model.plan import Plan, Status, StoppedBy
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import move, plan
from balancer.planner.emptier import more_asleep
from balancer.planner.problem import build
from balancer.planner.score import legal_end, measure
from balancer.planner.search import construct
from balancer.planner.work import Work
from balancer.policy.policy import Consolidation, Goal, Limits, Policy, Reserve
from balancer.policy.rules import Apart, Avoid, LastResort, NeverMove, Pin, Together
from balancer.policy.stability import Cooldown, Costs
from tests.notation import cluster
from tests.unit.planner.oracle import NOW, best_placements, end_of, faults, key, moved_to

LOW = """
h1 64G 16c: a 12G 3c, b 12G 2c
h2 64G 16c: c 8G 2c
h3 64G 16c: d 4G 1c, e 4G 1c
"""
ONE = Consolidation(awake_at_least=1)


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def packing(packed: Consolidation = ONE, limits: Limits | None = None, **other: object) -> Policy:
    changed = dataclasses.replace(Policy(), goal=Goal.CONSOLIDATE, consolidation=packed)
    return dataclasses.replace(changed, limits=limits or Limits(), **other)  # type: ignore[arg-type]


def planned(text: str | Cluster, *rules: Rule, policy: Policy | None = None) -> Plan:
    seen = cluster(text, rules=rules) if isinstance(text, str) else text
    policy = policy or packing()
    made = plan(seen, policy, now=NOW)
    assert faults(seen, policy, made) == []
    assert judge(seen, policy, made) == ()
    assert list(goal_faults(seen, policy, made)) == []
    return made


def asleep(made: Plan) -> list[str]:
    return [one.host for one in made.sleep if one.may_sleep]


def why(made: Plan, host: str) -> str:
    (found,) = [one.reason for one in made.sleep if one.host == host]
    return found


def tier(made: Plan, name: str = "hosts awake") -> tuple[float, float, float | None]:
    (found,) = [one for one in made.score.tiers if one.name == name]
    return found.before, found.after, found.bound


def test_as_few_hosts_as_hold_the_load_stay_awake_and_the_cheapest_are_emptied() -> None:
    made = planned(LOW)
    assert made.status is Status.OPTIMAL
    assert made.stopped_by is StoppedBy.PROOF
    assert {one.name for one in made.migrations} == {"c", "d", "e"}
    assert asleep(made) == ["h2", "h3"]
    assert tier(made) == (3, 1, 1)
    reasons = {one.name: one.reason for one in made.migrations}
    assert reasons["d"] == "empties h3: it may sleep"
    assert why(made, "h2") == "emptied by this plan"
    assert why(made, "h3") == (
        "emptied by this plan; without it fewer than half of the nodes are on: put them to sleep "
        "one at a time, so that the votes can follow"
    )


def test_so_many_stay_awake_as_the_policy_wants() -> None:
    made = planned(LOW, policy=packing(Consolidation(awake_at_least=2)))
    assert asleep(made) in (["h2"], ["h3"])
    assert {one.bytes < 9 * 2**30 for one in made.migrations} == {True}
    assert why(made, "h1") == "the policy keeps 2 hosts awake (consolidate.awake_at_least)"
    most = planned(LOW + "h4 64G 16c:", policy=packing(Consolidation(majority=True)))
    assert len(asleep(most)) == 1
    assert "consolidate.majority" in why(most, "h1")


def test_an_empty_host_that_the_policy_keeps_awake_does_not_sleep() -> None:
    made = planned("h1: a 8G 1c\nh2:\nh3:", policy=packing(Consolidation(awake_at_least=2)))
    assert made.migrations == ()
    assert asleep(made) == ["h2"]
    assert why(made, "h3") == (
        "carries no VM; the policy keeps 2 hosts awake (consolidate.awake_at_least)"
    )


def test_hosts_are_filled_to_the_ceiling_and_not_to_the_threshold() -> None:
    text = "h1 64G 16c: a 8G 7c\nh2 64G 16c: b 8G {}c\n"
    assert planned(text.format(4)).migrations
    between = planned(text.format(5))  # 75 %: above 70 %, below 80 %
    assert between.migrations == ()
    assert tier(between) == (2, 2, 2)
    assert why(between, "h2") == "the load needs 2 hosts awake"
    assert planned(text.format(5), policy=packing(Consolidation(0.05, 1))).migrations


def test_what_is_between_ceiling_and_threshold_stays_as_it_is() -> None:
    made = planned("h1 64G 16c: a 8G 6c, b 8G 6c\nh2 64G 16c:")  # 75 %
    assert made.status is Status.NOTHING_TO_DO
    assert asleep(made) == ["h2"]


def test_overload_wakes_an_empty_host() -> None:
    seen = cluster("h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c:\nh3 64G 16c:")
    made = planned(seen)
    assert len(made.migrations) == 1
    assert tier(made) == (1, 2, 2)
    assert len(asleep(made)) == 1
    again = planned(moved_to(seen, end_of(seen, made)))
    assert again.migrations == (), "and what was woken is not emptied at once"


def test_relief_goes_to_a_host_that_is_awake_if_one_has_room() -> None:
    made = planned("h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c: c 8G 3c\nh3 64G 16c:")
    assert {one.target for one in made.migrations} == {"h2"}
    assert asleep(made) == ["h3"]


def test_relief_wakes_a_host_rather_than_fill_one_above_the_ceiling() -> None:
    made = planned("h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c: c 8G 5c !replica\nh3 64G 16c:")
    assert {one.target for one in made.migrations} == {"h3"}


@pytest.mark.parametrize("state", ["down", "paused"])
def test_overload_that_nothing_else_ends_names_the_host_that_is_off(state: str) -> None:
    text = f"h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c: c 8G 12c\nh3 64G 16c {state}:"
    (left,) = planned(text).unresolved
    assert f"h3, which is {state}, could take load if it were up" in left.reason
    never = planned(text, Pin(vms=names("a", "b"), hosts=names("h1")))
    assert "h3, which" not in never.unresolved[0].reason


def test_hosts_that_somebody_paused_are_let_alone_and_do_not_count() -> None:
    made = planned("h1: a 8G 1c\nh2 paused: b 8G 1c\nh3 paused:\nh4 down:")
    assert made.migrations == ()
    assert tier(made) == (1, 1, 1)
    assert [one.host for one in made.sleep] == ["h1"]


def test_a_host_is_emptied_whole_or_not_at_all() -> None:
    text = "h1 64G 16c: a 8G 1c, b 8G 1c, c 8G 1c\nh2 64G 16c: d 4G 1c, e 4G 1c, f 4G 1c, g 4G 1c"
    made = planned(text, policy=packing(limits=Limits(migrations_per_run=2)))
    assert made.migrations == ()
    assert made.not_moved == ()
    assert why(made, "h1") == "emptying it takes 3 migrations, the cap of 2 leaves 2"
    assert tier(made) == (2, 2, 2)
    few = planned(text, policy=packing(limits=Limits(migrations_per_run=3)))
    assert {one.source for one in few.migrations} == {"h1"}


def test_caps_that_only_the_schedule_knows_give_up_whole_hosts() -> None:
    text = "h1 64G 16c: a 8G 1c\nh2 64G 16c: b 4G 1c, c 4G 1c\nh3 64G 16c: d 6G 1c, e 6G 1c"
    unbound = planned(text, policy=packing())
    assert len(asleep(unbound)) == 2
    limits = Limits(duration_per_run_s=0.7 * unbound.makespan_s)
    made = planned(text, policy=packing(limits=limits))
    assert len(asleep(made)) == 1
    assert len({one.source for one in made.migrations}) == 1
    given_up = [one.reason for one in made.sleep if "given up" in one.reason]
    assert given_up
    assert all("would not end within" in text for text in given_up)


def test_the_bytes_of_a_run_bind_too() -> None:
    made = planned(LOW, policy=packing(limits=Limits(bytes_per_run=10 * 2**30)))
    assert len(asleep(made)) == 1
    assert any("GiB" in one.reason for one in made.sleep)


def test_emptying_has_to_earn_back_its_migrations() -> None:
    made = planned(LOW, policy=packing(costs=Costs(payback_s=0.01)))
    assert made.migrations == ()
    assert "it would earn back its migrations only after" in why(made, "h2")
    assert planned(LOW, policy=packing(costs=Costs(payback_s=3600.0))).migrations


def test_what_holds_a_host_awake_is_said() -> None:
    held = planned(
        """
        h1 64G 16c: big 40G 2c
        h2 64G 16c: dongle 4G 1c, x 4G 1c
        h3 64G 16c: device 4G 1c !assigned_device
        h4 64G 16c: home 2G 1c
        """,
        NeverMove(vms=names("dongle")),
        LastResort(vms=names("home")),
        policy=packing(Consolidation(awake_at_least=1)),
    )
    assert "never_move" in why(held, "h2")
    assert "assigned_device" in why(held, "h3")
    assert why(held, "h4").startswith("home has no other host: ")
    assert "last resort" in why(held, "h4")
    assert held.migrations == () or {one.name for one in held.migrations} == {"big"}


def test_vms_that_live_on_one_host_keep_it_awake_even_if_they_are_off() -> None:
    seen = cluster("h1: a 8G 1c\nh2: b 8G off\nh3: c 8G off")
    local = tuple(dataclasses.replace(vm, clustered=vm.id != "c") for vm in seen.vms)
    made = planned(dataclasses.replace(seen, vms=local))
    assert asleep(made) == ["h1", "h2"], "h3 is on anyhow, so a goes there"
    assert why(made, "h3") == "c is off and not clustered: it lives on this host alone"


def test_rules_come_first_hard_and_soft() -> None:
    for hard in (True, False):
        made = planned(LOW, Apart(vms=names("a", "c"), hard=hard))
        assert len(asleep(made)) == 1
        ends = end_of(cluster(LOW), made)
        assert ends["a"] != ends["c"]
    avoided = planned(
        LOW,
        Avoid(vms=names("c", "d", "e"), hosts=names("h1"), hard=False),
        Avoid(vms=names("a", "b"), hosts=names("h2", "h3"), hard=False),
    )
    assert tier(avoided)[1] == 2
    repaired = planned(LOW, Avoid(vms=names("a"), hosts=names("h1"), hard=False))
    assert "a" in {one.name for one in repaired.migrations}


def test_sets_that_belong_together_leave_together() -> None:
    text = "h1 64G 16c: a 4G 2c, b 4G 2c\nh2 64G 16c: c 30G 1c\nh3 64G 16c: d 8G 2c"
    made = planned(text, Together(vms=names("a", "b")))
    ends = end_of(cluster(text), made)
    assert ends["a"] == ends["b"] == "h2"
    assert asleep(made) == ["h1", "h3"]


def test_a_host_that_others_migrate_a_vm_to_stays_awake() -> None:
    seen = cluster("h1: a 8G 1c\nh2: b 8G 1c\nh3:")
    moving = tuple(
        dataclasses.replace(vm, migrating_to="h3", blocked_by=("migrating",))
        if vm.id == "b"
        else vm
        for vm in seen.vms
    )
    made = planned(dataclasses.replace(seen, vms=moving))
    assert why(made, "h3") == "somebody else is migrating b to it"
    assert asleep(made) == ["h1"]


def test_a_repair_may_leave_fewer_hosts_with_vms_than_stay_awake() -> None:
    made = planned(
        "h1: a 4G 1c\nh2: b 8G 1c\nh3:",
        Together(vms=names("a", "b")),
        policy=packing(Consolidation(awake_at_least=2)),
    )
    assert len(made.migrations) == 1
    assert len(asleep(made)) == 1, "of two hosts without VMs one stays awake"


def test_an_unsafe_cluster_of_two_keeps_both_by_default() -> None:
    seen = "h1 64G 16c: a 8G 1c\nh2 64G 16c: b 8G 1c"
    assert planned(seen, policy=packing(Consolidation())).migrations == ()
    assert planned("h1: a 8G 1c").migrations == ()


def test_planning_again_finds_nothing_and_gives_the_same_hosts() -> None:
    made = planned(LOW)
    seen = cluster(LOW)
    again = planned(moved_to(seen, end_of(seen, made)))
    assert again.status is Status.NOTHING_TO_DO
    assert asleep(again) == asleep(made)
    assert again.stopped_by is StoppedBy.PROOF


def test_a_move_that_is_asked_for_may_wake_a_host_and_prefers_one_that_is_awake() -> None:
    seen = cluster("h1: a 8G 1c, b 8G 1c\nh2: c 8G 1c\nh3:")
    made = move(seen, packing(), "a", "h3", now=NOW)
    assert judge(seen, packing(), made) == ()
    assert move(seen, packing(), "a", None, now=NOW).migrations[0].target == "h2"


def test_overload_that_has_not_lasted_moves_nothing_and_empties_nothing() -> None:
    seen = cluster("h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c: c 8G 1c\nh3 64G 16c: d 8G 1c")
    short = Past(NOW, lasting={Trouble.OVERLOAD: frozenset(), Trouble.UNEVEN: frozenset()})
    assert plan(seen, packing(), now=NOW, past=short).migrations == ()
    long = Past(NOW, lasting={Trouble.OVERLOAD: frozenset({"h1"}), Trouble.UNEVEN: frozenset()})
    assert plan(seen, packing(), now=NOW, past=long).migrations


def test_what_was_moved_lately_keeps_its_host_awake() -> None:
    policy = packing(cooldown=Cooldown(vm_s=3600.0))
    past = Past(NOW, (PastMove("d", "h1", "h3", NOW, 4 * 2**30),))
    made = plan(cluster(LOW), policy, now=NOW, past=past)
    assert asleep(made) == ["h1", "h2"]
    assert "cool-down" in why(made, "h3")


def test_a_budget_of_a_day_is_kept_by_whole_hosts() -> None:
    policy = packing(limits=Limits(migrations_per_day=2))
    past = Past(NOW, (PastMove("a", "h2", "h1", NOW, 4 * 2**30),))
    made = plan(cluster(LOW), policy, now=NOW, past=past)
    assert {one.source for one in made.migrations} == {"h2"}, "one migration is left, h3 takes two"


def test_draining_comes_first_and_its_vms_go_where_hosts_are_awake() -> None:
    made = planned("h1 64G 16c draining: a 8G 1c\nh2 64G 16c: b 8G 1c\nh3 64G 16c:")
    assert [(one.name, one.target) for one in made.migrations] == [("a", "h2")]
    assert asleep(made) == ["h3"]


def test_small_hosts_are_emptied_before_a_large_one_that_costs_less() -> None:
    text = """
    big 256G 64c: a 4G 1c
    s1 48G 12c: b 8G 2c
    s2 48G 12c: c 8G 2c
    s3 48G 12c: d 8G 6c, e 8G 1c
    """
    made = planned(text)
    assert tier(made)[1] == 1
    assert asleep(made) == ["s1", "s2", "s3"]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_called_optimal_is_the_best_of_all_placements(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [f"h{at} {rng.choice([24, 32])}G 8c:" for at in range(3)]
    for vm in range(6):
        size, cores = rng.choice([2, 4, 8]), rng.choice([0.5, 1.0, 2.0, 3.0])
        at = rng.integers(3)
        lines[at] += f"{'' if lines[at].endswith(':') else ','} v{vm} {size}G {cores}c"
    seen = cluster("\n".join(lines), rules=(Apart(vms=names("v0", "v1")),))
    cap = [None, 2][seed % 2]
    policy = packing(limits=Limits(migrations_per_run=cap))
    made = planned(seen, policy=policy)
    mine, (best, _) = key(seen, policy, end_of(seen, made)), best_placements(seen, policy, cap)
    assert made.stopped_by is StoppedBy.PROOF
    assert mine[:7] == best[:7]
    assert mine[7] == pytest.approx(best[7], abs=1e-6)
    bound = tier(made)[2]
    assert bound is not None
    assert bound <= best[6]


def test_the_bound_holds_for_every_placement() -> None:
    seen = cluster("h1 64G 16c: a 20G 4c, b 20G 4c\nh2 48G 8c: c 20G 3c\nh3 32G 8c: d 10G 2c")
    problem = build(seen, packing(), now=NOW)
    least = min(
        measure(problem, place).awake
        for hosts in product(range(3), repeat=4)
        for place in [np.array(hosts)]
        if legal_end(problem, place) and measure(problem, place).crowding == 0
    )
    assert problem.sleepers.bound() <= least == 2


def crowd(hosts: int, vms: int, seed: int) -> Cluster:
    """A cluster half of which could sleep, with sizes and loads drawn."""
    rng = np.random.default_rng(seed)
    lines = [[f"h{at:02} 256G 32c:"] for at in range(hosts)]
    for vm in range(vms):
        size, cores = rng.choice([2, 4, 8, 16]), rng.choice([0.2, 0.5, 1.0, 2.0])
        lines[int(rng.integers(hosts))].append(f"v{vm:04} {size}G {cores}c,")
    return cluster("\n".join(" ".join(line).rstrip(",") for line in lines))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cluster_too_large_for_a_proof_comes_within_a_host_of_the_bound(seed: int) -> None:
    seen = crowd(16, 240, seed)
    made = planned(seen)
    before, after, bound = tier(made)
    assert before == 16
    assert bound is not None
    assert bound <= after <= bound + 1
    again = planned(moved_to(seen, end_of(seen, made)))
    assert again.migrations == ()


def test_models_find_what_host_by_host_does_not() -> None:
    """To empty h3, another VM has to make room for its own."""
    seen = cluster(
        """
        h1 100G 64c: a 60G 1c, b 14G 1c
        h2 100G 64c: c 40G 1c !replica, d 14G 1c, x 4G 1c
        h3 100G 64c: e 23G 1c
        """
    )
    policy = packing(Consolidation(margin=0.05, awake_at_least=1))  # 80 GiB
    problem = build(seen, policy, now=NOW)
    start = construct(problem, Work(1e6))
    assert measure(problem, start).awake == 3
    found = more_asleep(problem, start, Work(1e7), 0, "auto")
    assert measure(problem, found).awake == 2
    assert legal_end(problem, found)


def test_a_plan_that_works_against_its_goal_is_refused_by_the_judge() -> None:
    seen = cluster("h1 64G 16c: a 8G 1c, b 8G 7c\nh2 64G 16c: c 8G 5c\nh3:")
    relieves = plan(
        cluster("h1 64G 16c: a 8G 1c, b 8G 14c\nh2 64G 16c: c 8G 5c\nh3:"), packing(), now=NOW
    )
    (one,) = relieves.migrations

    def sent(*pairs: tuple[str, str, str]) -> Plan:
        moves = tuple(
            dataclasses.replace(
                one, id=f"m{at}", vm=vm, name=vm, source=source, target=target, after=()
            )
            for at, (vm, source, target) in enumerate(pairs)
        )
        return dataclasses.replace(relieves, migrations=moves)

    def codes(made: Plan, policy: Policy) -> set[Code]:
        return {found.code for found in goal_faults(seen, policy, made)}

    assert codes(sent(("a", "h1", "h3")), packing()) == {Code.AWAKE}, "it wakes a host"
    assert codes(sent(("a", "h1", "h2")), packing()) == {Code.AWAKE}, "and this saves nothing"
    assert codes(sent(("c", "h2", "h1")), packing()) == {Code.CROWDED}, "13 of 16 cores"
    both = packing(Consolidation(awake_at_least=2))
    assert Code.AWAKE in codes(sent(("c", "h2", "h1")), both)
    assert codes(sent(("a", "h1", "h3")), Policy()) == set(), "other goals are not about it"


def test_reserve_comes_off_before_hosts_are_filled() -> None:
    text = "h1 64G 16c: a 20G 1c\nh2 64G 16c: b 20G 1c"
    assert planned(text).migrations
    kept = packing(reserve=Reserve(memory_bytes=20 * 2**30))
    assert planned(text, policy=kept).migrations == ()


def test_the_order_of_the_snapshot_changes_nothing() -> None:
    seen = crowd(6, 40, 3)
    other = dataclasses.replace(seen, hosts=seen.hosts[::-1], vms=seen.vms[::-1])
    assert planned(seen) == planned(other)
    assert HostState.UP in {host.state for host in seen.hosts}
