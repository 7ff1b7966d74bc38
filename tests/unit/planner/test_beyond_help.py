"""What no placement survives: said once, and nothing else goes by it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from balancer.cli.output import show_plan
from balancer.formats.plan import parse_plan, plan_to_json
from balancer.judge import judge
from balancer.model.cluster import Cluster, Priority
from balancer.model.plan import Plan, Status
from balancer.model.rule import SelectBy, Selector
from balancer.planner import drain, plan
from balancer.planner.problem import build
from balancer.planner.score import NOTHING_LOST, lost, unsure
from balancer.planner.secure import secured
from balancer.policy.beyond import crowds, shortages, stuck
from balancer.policy.policy import Goal, Limits, Policy, Reserve
from balancer.policy.rules import Apart, AsOne, Pin
from balancer.policy.survival import failures, restart_rules
from tests.notation import GIB, cluster
from tests.unit.judge.plans import NOW

ANY_ONE = Reserve(host_failures=1)
POLICY = Policy(reserve=ANY_ONE)


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def made(seen: Cluster, policy: Policy = POLICY) -> Plan:
    found = plan(seen, policy, now=NOW)
    assert judge(seen, policy, found) == ()
    assert parse_plan(plan_to_json(found), "plan") == found
    return found


def said(found: Plan) -> list[str]:
    assert found.survival is not None
    return [f"{one.problem} ({one.reason})" for one in found.survival.beyond_help]


@pytest.mark.parametrize(
    ("drawn", "missing"),
    [
        ("h1 20G: a 12G, b 4G", "16.0 GiB of memory are missing"),
        ("h1 20G: a 12G, b 4G\nh2 20G: c 12G", "8.0 GiB of memory are missing"),
        ("h1 20G: a 12G\nh2 24G: c 14G", "2.0 GiB to 6.0 GiB of memory are missing"),
        (
            "h1 20G: a 11G\nh2 20G: b 11G\nh3 20G: c 11G",
            "1 of the VMs of 11.0 GiB and more is without a place",
        ),
    ],
    ids=["one node", "two nodes, too full", "two nodes of two sizes", "large VMs"],
)
def test_what_no_placement_survives_is_said_once(drawn: str, missing: str) -> None:
    found = made(cluster(drawn))
    text = "the failure of any 1 host is not survived by any placement"
    assert said(found) == [f"{text} ({missing})"]
    assert (found.unresolved, found.not_moved) == ((), ())
    assert found.status is Status.NOTHING_TO_DO
    assert found.survival is not None
    assert (found.survival.before, found.survival.after) == (0, 0)
    document = json.loads(plan_to_json(found))["survival"]["beyond_help"]
    assert document == [{"subject": "survivability", "problem": text, "reason": missing}]


def test_it_is_one_line_of_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(made(cluster("h1 20G: a 12G, b 4G\nh2 20G: c 12G")))
    lines = " ".join(capsys.readouterr().out.split())
    assert lines == (
        "Nothing to do on test: nothing that a plan could mend. beyond any plan: the failure of"
        " any 1 host is not survived by any placement (8.0 GiB of memory are missing)"
    )


@pytest.mark.parametrize("goal", [Goal.RELIEVE, Goal.BALANCE])
def test_a_full_cluster_is_relieved_and_evened_out_as_if_nobody_had_asked(goal: Goal) -> None:
    """Every move here changes what would be lost: of that no placement makes nothing."""
    seen = cluster("h1 40G 8c: a 12G 4c, b 9G 3c, c 4G 0.5c\nh2 40G 8c: d 17G 1c, e 3G 0.2c")
    plain, asked = made(seen, Policy(goal=goal)), made(seen, Policy(goal=goal, reserve=ANY_ONE))
    assert plain.migrations
    assert [(one.vm, one.target) for one in asked.migrations] == [
        (one.vm, one.target) for one in plain.migrations
    ]
    assert asked.score.after == plain.score.after


def test_only_the_failures_are_named_that_are_beyond_help() -> None:
    seen = cluster("h1 64G: a 18G, b 10G, e 10G\nh2 20G: c 4G\nh3 20G: d 4G")
    (text,) = said(made(seen, dataclasses.replace(POLICY, goal=Goal.RULES_ONLY)))
    assert text.startswith("the failure of h1 is not survived by any placement (6.0 GiB of memory")


def test_what_is_more_important_is_still_counted() -> None:
    """The low ones cannot all restart; the high one can, as long as its hole is kept."""
    lines = "h1 20G 4c: a 8G 1c, b 8G 1c\nh2 20G 4c: s 10G 0.1c\nh3 20G 4c: t 8G 0.1c, u 8G 0.1c"
    seen = cluster(lines)
    ranks = {"s": Priority.HIGH, "b": Priority.LOW}
    vms = tuple(dataclasses.replace(vm, priority=ranks.get(vm.id, Priority.LOW)) for vm in seen.vms)
    seen = dataclasses.replace(seen, vms=vms)
    found = shortages(seen, POLICY, failures(seen, POLICY))
    assert {one.rank for one in found.values()} == {2}
    assert said(made(seen))[0].startswith(
        "the failure of any 1 host, for VMs of low priority, is not survived"
    )


def test_vms_apart_on_as_many_hosts_share_what_is_left() -> None:
    """Two domain controllers on two hosts: nobody leaves the second off when a host has failed."""
    rule = Apart(vms=pick("a", "b"))
    found = made(cluster("h1 20G: a 4G\nh2 20G: b 4G", rules=(rule,)))
    assert found.status is Status.NOTHING_TO_DO
    (text,) = said(found)
    assert text == (
        "apart [a, b] cannot be kept by any placement once any 1 host has failed"
        " (there are more VMs than places left, which they share as evenly as can be)"
    )
    assert said(made(cluster("h1 20G: a 4G\nh2 20G: b 4G\nh3 20G:", rules=(rule,)))) == []


def test_a_cap_is_raised_only_by_what_no_placement_keeps() -> None:
    rule = Apart(vms=pick(*"abcde"), max_per_host=2)
    seen = cluster("h1 20G: a 1G, b 1G\nh2 20G: c 1G, d 1G\nh3 20G: e 1G", rules=(rule,))
    (crowd,) = crowds(seen, restart_rules(seen, POLICY), 2).values()
    assert crowd.when(frozenset()).limit == 2
    assert crowd.when(frozenset({"h1"})).limit == 3
    assert crowd.when(frozenset({"h1", "h2"})).limit == 5
    assert crowd.when(frozenset({"h1", "h2", "h3"})).limit == 2, "nothing is left to share"


def test_a_vm_that_has_but_one_host_is_said_once() -> None:
    rule = Pin(vms=pick("a"), hosts=pick("h1"))
    found = made(cluster("h1 20G: a 4G, c 2G\nh2 20G: b 4G", rules=(rule,)))
    assert found.status is Status.NOTHING_TO_DO
    (text,) = said(found)
    assert text == (
        "a (4.0 GiB) finds no host if its own fails"
        " (facts, rules or size leave no second one, whatever moves)"
    )


def test_of_vms_that_restart_as_one_all_have_to_be_stuck() -> None:
    rules = (Pin(vms=pick("a"), hosts=pick("h1")), AsOne(vms=pick("a", "b")))
    seen = cluster("h1 20G: a 4G, b 2G\nh2 20G:", rules=rules)
    assert stuck(seen, POLICY) == frozenset()
    assert stuck(dataclasses.replace(seen, rules=rules[:1]), POLICY) == {"a"}


def test_a_vm_that_only_one_host_has_room_for_is_stuck() -> None:
    seen = cluster("h1 40G: a 24G\nh2 20G: b 4G")
    assert stuck(seen, POLICY) == {"a"}
    small = tuple(dataclasses.replace(vm, memory_startup_bytes=4 * GIB) for vm in seen.vms)
    assert stuck(dataclasses.replace(seen, vms=small), POLICY) == frozenset()


def test_a_drain_names_what_it_takes_away_host_by_host() -> None:
    seen = cluster("h1 20G: a 4G\nh2 20G: b 8G")
    found = drain(seen, POLICY, ["h1"], now=NOW)
    assert found.plan.survival is not None
    assert found.plan.survival.beyond_help == ()
    assert [text.partition(":")[0] for text in found.concessions] == ["no longer survived"]
    assert shortages(found.cluster, POLICY, failures(found.cluster, POLICY)) == {}


def test_nothing_is_beyond_help_where_a_paused_host_has_the_room() -> None:
    """What is on a host that is not up stays there, unless it is that host which fails."""
    seen = cluster("h1 20G: a 12G\nh2 20G paused: b 12G\nh3 20G: c 4G")
    found = shortages(seen, POLICY, failures(seen, POLICY))
    assert found == {}


# 23 hosts with most to restart, in small VMs, so that of the pairs only theirs are rehearsed; c0 to
# c2 have a large VM each, and there are two holes for these.
MANY = "\n".join(
    (
        *(f"b{at:02} 40G: " + ", ".join(f"v{at}-{n} 5G" for n in range(5)) for at in range(23)),
        *(f"c{at} 40G: s{at} 21G" for at in range(3)),
        *(f"e{at} 40G:" for at in range(2)),
    )
)


def test_what_is_not_rehearsed_is_not_put_in_doubt_either() -> None:
    problem = build(cluster(MANY), Policy(reserve=Reserve(host_failures=2)))
    place = problem.home.copy()
    assert unsure(problem, place) == 0
    small = [at for at, vm in enumerate(problem.vms) if vm.name in ("v0-0", "v1-0", "v2-0", "v3-0")]
    place[small] = len(problem.hosts) - 1
    assert lost(problem, place) == NOTHING_LOST
    assert unsure(problem, place) == 6  # two of c0 to c2, or one of them and e0
    kept = secured(problem, place, problem.home)
    assert unsure(problem, kept) == 0
    assert (kept != problem.home).sum() > 0


def test_what_nobody_has_looked_into_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    full = MANY.replace("e1 40G:", "e1 40G: x 20G")
    policy = Policy(reserve=Reserve(host_failures=2), limits=Limits(migrations_per_run=0))
    found = made(cluster(full), policy)
    assert found.survival is not None
    assert (found.survival.after, found.survival.unseen) == (0, 10)
    assert json.loads(plan_to_json(found))["survival"]["unseen"] == 10
    show_plan(found)
    assert "not looked into: 10 sets of hosts" in capsys.readouterr().out
