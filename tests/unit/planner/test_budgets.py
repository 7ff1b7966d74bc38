"""Caps on bytes as part of the search: what they buy, who goes first, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.errors import RefusedError
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.model.plan import Status
from balancer.model.rule import SelectBy, Selector
from balancer.planner import move, plan
from balancer.planner.conflict import conflicts
from balancer.planner.problem import build
from balancer.planner.refit import may_be_needed
from balancer.planner.restrain import restrain
from balancer.planner.whynot import Inquiry, place_of
from balancer.policy.policy import Limits, Policy
from balancer.policy.rules import Apart
from benchmarks.instances import generate
from tests.notation import cluster
from tests.unit.planner.oracle import NOW

GIB = 2**30


def idle(seen: Cluster) -> Cluster:
    """The same with VMs that write nothing: their memory is copied once."""
    return replace(seen, vms=tuple(replace(vm, dirty_bytes_per_s=0.0) for vm in seen.vms))


def capped(gib: float, **more: int) -> Policy:
    return Policy(limits=Limits(bytes_per_run=int(gib * GIB), **more))


@pytest.mark.parametrize(("writes", "gib"), [(False, 300), (True, 700)])
def test_a_cap_on_bytes_is_searched_under_and_not_trimmed_to(*, writes: bool, gib: int) -> None:
    """Trimming left 0.202 under 300 GiB, and 4.48 under 700 where much is written meanwhile."""
    seen = generate(16, 400, 1)
    seen = seen if writes else idle(seen)
    policy = capped(gib, migrations_per_run=20)
    made = plan(seen, policy, now=NOW, effort=2e6)
    assert judge(seen, policy, made) == ()
    assert made.score.after <= 1.2 * made.score.bound
    assert made.score.after < 0.14


def test_time_is_kept_for_another_search_only_where_a_schedule_may_copy_more() -> None:
    seen = generate(4, 60, 1)
    policy = capped(20, migrations_per_run=6)
    assert may_be_needed(build(seen, policy))
    assert not may_be_needed(build(idle(seen), policy)), "but for stop-overs memory is copied once"
    assert not may_be_needed(build(seen, capped(4000))), "the cap cannot bind"


def test_what_is_broken_or_too_full_has_the_bytes_first() -> None:
    """Of 8 GiB, a repair takes four and relief the rest; a and b would even out far more."""
    seen = idle(
        cluster(
            "h1 64G 16c: a 8G 4c, b 8G 4c, x 4G 0.1c, y 4G 0.1c, z 4G 5.5c\n"
            "h2 64G 16c: c 2G 0.1c\nh3 64G 16c: d 2G 0.1c"
        )
    )
    apart = Apart(vms=tuple(Selector(SelectBy.EXACT, name) for name in "xy"))
    policy = replace(capped(8.0), rules=(apart,))
    made = plan(seen, policy, now=NOW)
    assert judge(seen, policy, made) == ()
    moved = {one.vm for one in made.migrations}
    assert len(moved & {"x", "y"}) == 1
    assert "z" in moved
    assert len(moved) == 2
    assert made.status is Status.OPTIMAL


def test_off_a_draining_host_the_small_go_where_not_all_may() -> None:
    seen = idle(cluster("h1 draining: a 16G 1c, b 4G 1c, c 3G 1c\nh2 64G 16c:\nh3 64G 16c:"))
    made = plan(seen, capped(8.0), now=NOW)
    assert {one.vm for one in made.migrations} == {"b", "c"}
    (stays,) = made.not_moved
    assert stays.reason == "the cap of 8.0 GiB a run is used up"


def test_a_cap_on_bytes_is_part_of_a_conflict() -> None:
    seen = idle(cluster("h1 draining: a 16G 1c, b 4G 1c\nh2 64G 16c: c 1G 0.1c\nh3 64G 16c:"))
    problem = build(seen, capped(8.0))
    (found,) = conflicts(problem, place_of(problem, plan(seen, capped(8.0), now=NOW)))
    assert "the cap of 8.0 GiB a run" in {one.text for one in found.members}
    assert found.smallest
    assert conflicts(build(seen, capped(20.0)), problem.home) == ()


def test_a_vm_that_is_too_large_for_what_is_left_says_so() -> None:
    seen = idle(cluster("h1 draining: a 16G 1c, b 4G 1c\nh2 64G 16c: c 1G 0.1c\nh3 64G 16c:"))
    policy = capped(8.0)
    made = plan(seen, policy, now=NOW)
    text = "moving it copies 16.0 GiB, the cap of 8.0 GiB a run leaves 4.0"
    assert [one.reason for one in made.not_moved] == [text]
    (other,) = Inquiry(seen, policy, made).vm("a", "h2").instead
    assert other.says == text
    with pytest.raises(RefusedError, match=r"the cap of 8\.0 GiB a run leaves 8\.0"):
        move(seen, policy, "a", "h2", now=NOW)


def test_a_day_s_moves_are_for_those_it_binds() -> None:
    """Two that mend a rule are exempt; the cap on moves alone would let five go."""
    seen = cluster("h1 64G 16c: a 4G 1c, b 4G 1c, c 4G 5c, d 4G 5c\nh2 64G 16c:\nh3 64G 16c:")
    apart = Apart(vms=tuple(Selector(SelectBy.EXACT, name) for name in "ab"))
    policy = Policy(limits=Limits(migrations_per_day=1), rules=(apart,))
    problem = restrain(build(seen, policy, now=NOW), Past(NOW))
    assert problem.cap == 5
    assert problem.budgets.names == ("the budget of 1 migrations a day",)
    assert problem.budgets.size.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    made = plan(seen, policy, now=NOW, past=Past(NOW))
    assert judge(seen, policy, made, past=Past(NOW)) == ()
    assert len({one.vm for one in made.migrations} & {"c", "d"}) == 1


def test_caps_that_cannot_bind_are_no_budgets() -> None:
    seen = idle(cluster("h1 64G 16c: a 8G 4c, b 8G 3c\nh2 64G 16c: c 8G 1c"))
    assert not build(seen, capped(24.0)).budgets
    assert build(seen, capped(23.9)).budgets
    assert not build(seen, Policy()).budgets
