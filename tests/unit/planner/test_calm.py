"""Cool-downs, budgets, hold time and payback: who is left alone, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from balancer.judge import judge
from balancer.judge.finding import Code
from balancer.model.cluster import Cluster
from balancer.model.past import Past, PastMove, Trouble
from balancer.model.plan import Plan, Status
from balancer.model.rule import SelectBy, Selector
from balancer.planner import plan
from balancer.planner.whynot import Inquiry
from balancer.policy.policy import Goal, Limits, Policy
from balancer.policy.rules import Allow, Apart, Spread, Together, Within
from balancer.policy.stability import Cooldown, Costs
from tests.notation import cluster
from tests.unit.planner.oracle import NOW

HOT = cluster("""
h1 64G 16c: a 8G 5c, b 8G 5c, c 8G 5c
h2 64G 16c: d 8G 2c
h3 64G 16c: e 8G 2c
""")
COOL = Policy(cooldown=Cooldown(vm_s=4 * 3600.0, host_s=1800.0, undo_s=86400.0))
GIB = 2**30


def ago(minutes: float, vm: str, source: str, target: str, *, done: bool = True) -> PastMove:
    return PastMove(vm, source, target, NOW - timedelta(minutes=minutes), 8 * GIB, done)


def past(*moves: PastMove, **more: object) -> Past:
    return replace(Past(NOW, moves), **more)  # type: ignore[arg-type]


def planned(seen: Cluster, policy: Policy, lately: Past) -> Plan:
    made = plan(seen, policy, now=NOW, past=lately)
    assert judge(seen, policy, made, past=lately) == ()
    return made


def moved(made: Plan) -> set[str]:
    return {one.vm for one in made.migrations}


def against(seen: Cluster, policy: Policy, lately: Past) -> set[Code]:
    """Return what the judge has against the plan that knows nothing of the past."""
    made = plan(seen, policy, now=NOW)
    return {one.code for one in judge(seen, policy, made, past=lately)}


def test_a_vm_in_its_cooldown_stays_and_the_plan_says_why() -> None:
    hot = cluster("h1 64G 16c: a 8G 7c, b 8G 7c\nh2 64G 16c: d 8G 2c\nh3 64G 16c: e 8G 2c")
    lately = past(ago(60, "a", "h9", "h1"), ago(60, "b", "h9", "h1"))
    made = planned(hot, COOL, lately)
    assert moved(made) == set()
    assert {one.reason for one in made.not_moved} == {
        "it was migrated 1 h 00 min ago and is left alone for 4h (cool-down)"
    }
    assert moved(planned(hot, COOL, past(ago(241, "a", "h9", "h1")))) != set()
    assert against(hot, COOL, lately) == {Code.COOLDOWN}


def test_a_host_in_its_cooldown_neither_gives_nor_takes() -> None:
    lately = past(ago(10, "x", "h9", "h2"))
    assert {one.target for one in planned(HOT, COOL, lately).migrations} == {"h3"}
    assert moved(planned(HOT, COOL, past(ago(10, "x", "h9", "h1")))) == set()
    assert against(HOT, COOL, lately) == {Code.COOLDOWN}


def test_a_move_is_not_undone() -> None:
    two = cluster("h1 64G 16c: a 8G 8c, b 8G 7c\nh2 64G 16c: c 8G 1c")
    lately = past(ago(600, "a", "h2", "h1"), ago(600, "b", "h2", "h1"))
    made = planned(two, COOL, lately)
    assert moved(made) == set()
    assert made.not_moved[0].reason == (
        "it was migrated off h2 10 h 00 min ago and does not go back within 1d"
    )
    assert against(two, COOL, lately) == {Code.UNDONE}


def test_a_move_that_failed_cools_nobody_down() -> None:
    lately = past(*(ago(10, vm, "h1", "h2", done=False) for vm in "abc"))
    assert moved(planned(HOT, COOL, lately)) != set()


def test_drains_and_repairs_are_exempt_and_take_along_whom_they_must() -> None:
    draining = cluster("h1 draining: a 8G 1c\nh2: b 8G 1c")
    assert moved(planned(draining, COOL, past(ago(1, "a", "h2", "h1")))) == {"a"}
    pair = (Selector(SelectBy.EXACT, "a"), Selector(SelectBy.EXACT, "b"))
    h2 = (Selector(SelectBy.EXACT, "h2"),)
    lately = past(ago(1, "a", "h2", "h1"), ago(1, "b", "h2", "h1"))
    on_one = cluster("h1: a 8G 1c, b 8G 1c\nh2: c 8G 1c")
    apart = replace(COOL, rules=(Apart(vms=pair),))
    assert len(moved(planned(on_one, apart, lately))) == 1
    strays = replace(COOL, rules=(Allow(vms=pair[:1], hosts=h2), Together(vms=pair)))
    assert moved(planned(on_one, strays, lately)) == {"a", "b"}


SITES = "h1 64G 16c @Site=A: a 8G 7c, b 8G 7c\nh2 64G 16c @Site=A:\nh3 64G 16c @Site=B: {}"


def spread(*vms: str) -> Policy:
    chosen = tuple(Selector(SelectBy.EXACT, vm) for vm in vms)
    return replace(COOL, rules=(Spread(vms=chosen, domain="site", max_per_domain=1),))


def test_a_rule_that_no_plan_mends_excuses_no_move() -> None:
    """Three on two sites, one on each at the most: for good, and relief could go anywhere."""
    seen, policy = cluster(SITES.format("c 8G 1c")), spread("a", "b", "c")
    lately = past(ago(60, "a", "h2", "h1"), ago(60, "b", "h2", "h1"))
    made = planned(seen, policy, lately)
    assert moved(made) == set()
    assert {one.reason for one in made.not_moved} == {
        "it was migrated 1 h 00 min ago and is left alone for 4h (cool-down)"
    }
    assert against(seen, policy, lately) == {Code.COOLDOWN, Code.UNDONE}
    free = planned(seen, policy, past(ago(60, "a", "h2", "h1")))
    assert moved(free) == {"b"}, "who was not moved may relieve the host"
    limits = replace(policy, cooldown=Cooldown(), limits=Limits(migrations_per_day=1))
    assert moved(planned(seen, limits, past(ago(60, "x", "h8", "h9")))) == set()
    assert against(seen, limits, past(ago(60, "x", "h8", "h9"))) == {Code.CAP_DAY}


def test_a_rule_that_can_be_mended_in_part_excuses_that() -> None:
    seen, policy = cluster(SITES.format("d 8G 1c")), spread("a", "b")
    lately = past(*(ago(60, vm, "h2", "h1") for vm in "ab"), ago(1, "d", "h1", "h3"))
    (one,) = planned(seen, policy, lately).migrations
    assert (one.target, one.reason.split(" [")[0]) == ("h3", "repairs spread")
    three = cluster(SITES.format("d 8G 1c").replace("h2 64G 16c @Site=A:", "h2 @Site=A: c 8G 1c"))
    assert len(planned(three, spread("a", "b", "c"), lately).migrations) == 1


def test_who_is_to_take_others_along_has_to_move() -> None:
    """One VM is where it may not be and cannot leave: the others of its site are left alone."""
    seen = cluster(SITES.format("d 8G 1c").replace("b 8G 7c", "b 8G 7c, c 8G 1c !assigned_device"))
    abc = tuple(Selector(SelectBy.EXACT, vm) for vm in "abc")
    stray = Allow(vms=abc[2:], hosts=(Selector(SelectBy.EXACT, "h2"),))
    policy = replace(COOL, rules=(stray, Within(vms=abc, domain="site")))
    lately = past(ago(60, "a", "h2", "h1"), ago(60, "b", "h2", "h1"))
    assert moved(planned(seen, policy, lately)) == set()
    assert against(seen, policy, lately) == {Code.COOLDOWN, Code.UNDONE}
    freed = cluster(SITES.format("d 8G 1c").replace("b 8G 7c", "b 8G 7c, c 8G 1c"))
    assert "c" in moved(planned(freed, policy, lately))


def test_an_answer_names_the_cooldown_where_a_move_would_mend_nothing() -> None:
    seen, policy = cluster(SITES.format("c 8G 1c")), spread("a", "b", "c")
    lately = past(ago(60, "a", "h2", "h1"), ago(60, "b", "h2", "h1"))
    asked = Inquiry(seen, policy, planned(seen, policy, lately), lately)
    (instead,) = asked.vm("a", "h2").instead
    assert instead.against == (
        "it was migrated 1 h 00 min ago and is left alone for 4h (cool-down)",
        "it was migrated off h2 1 h 00 min ago and does not go back within 1d",
    )


def test_what_the_day_has_left_is_not_passed() -> None:
    limits = replace(COOL, cooldown=Cooldown(), limits=Limits(migrations_per_day=3))
    lately = past(ago(100, "x", "h8", "h9"), ago(90, "y", "h8", "h9"), ago(1500, "z", "h8", "h9"))
    assert len(planned(HOT, limits, lately).migrations) == 1
    used_up = past(*lately.moves, ago(5, "v", "h8", "h9", done=False))
    made = planned(HOT, limits, used_up)
    assert moved(made) == set()
    assert "the budget of 3 migrations a day is used up" in {one.reason for one in made.not_moved}
    assert against(HOT, limits, lately) == {Code.CAP_DAY}


def test_bytes_of_a_day_are_capped_but_never_a_drain() -> None:
    limits = Policy(limits=Limits(bytes_per_day=12 * GIB))
    assert len(planned(HOT, limits, past()).migrations) == 1
    draining = cluster("h1 draining: a 8G 1c, b 8G 1c\nh2: c 8G 1c")
    assert moved(planned(draining, limits, past(ago(60, "x", "h8", "h9")))) == {"a", "b"}


def lasting(*, overload: str = "", uneven: str = "") -> dict[Trouble, frozenset[str]]:
    return {
        Trouble.OVERLOAD: frozenset(filter(None, [overload])),
        Trouble.UNEVEN: frozenset(filter(None, [uneven])),
    }


def test_what_has_not_lasted_is_left_and_named() -> None:
    made = planned(HOT, Policy(), past(lasting=lasting(), hold_s=1800.0))
    assert (moved(made), made.status) == (set(), Status.NOTHING_TO_DO)
    assert made.unresolved[0].reason == "it has not lasted for 30m yet"
    assert moved(planned(HOT, Policy(), past(lasting=lasting(overload="h1"), hold_s=1800.0)))
    uneven = cluster("h1 64G 16c: a 8G 4c, b 8G 4c\nh2 64G 16c:")
    assert not moved(planned(uneven, Policy(), past(lasting=lasting(overload="h1"))))
    assert moved(planned(uneven, Policy(), past(lasting=lasting(uneven="h1"))))


def test_a_short_history_holds_load_back_but_not_rules() -> None:
    short = past(short_of="history goes back 5m")
    made = planned(HOT, Policy(), short)
    assert moved(made) == set()
    assert made.unresolved[0].reason == "history goes back 5m"
    pair = (Selector(SelectBy.EXACT, "a"), Selector(SelectBy.EXACT, "b"))
    assert moved(planned(HOT, Policy(rules=(Apart(vms=pair),)), short))


def test_a_gain_that_lasts_briefly_has_to_be_larger() -> None:
    uneven = cluster("h1 64G 16c: a 8G 3c, b 8G 3c\nh2 64G 16c:")
    assert moved(plan(uneven, Policy(costs=Costs(lifetime_s=86400.0)), now=NOW))
    assert not moved(plan(uneven, Policy(costs=Costs(lifetime_s=600.0)), now=NOW))


@pytest.mark.parametrize("failures", [0, 60])
def test_a_pair_of_hosts_that_keeps_failing_does_not_pay(failures: int) -> None:
    """The same move pays where migrations arrive, and not where nearly all of them fail."""
    uneven = cluster("h1 64G 16c: a 8G 4c, b 8G 4c\nh2 64G 16c:")
    policy = Policy(costs=Costs(payback_s=300.0))
    lately = past(
        *(ago(2000, "x", "h1", "h2", done=False) for _ in range(failures)),
    )
    made = planned(uneven, policy, lately)
    if not failures:
        assert len(made.migrations) == 1
        return
    assert not made.migrations
    assert "it would earn back its cost only after" in made.not_moved[0].reason
    assert "92 % risk" in made.not_moved[0].reason


def test_relief_need_not_pay_back() -> None:
    policy = Policy(costs=Costs(payback_s=0.001), goal=Goal.BALANCE)
    assert moved(planned(HOT, policy, past()))
