"""Very many failures in a long plan: the judge looks at those that matter most, and says so."""

from __future__ import annotations

import pytest

from balancer.judge import Code, judge, unseen_on_the_way
from balancer.judge.drill import Drill
from balancer.judge.way import Way
from balancer.judged import plan_and_judge
from balancer.model.cluster import Cluster
from balancer.policy.policy import Policy, Reserve, Thresholds
from balancer.policy.survival import SETS_MAX, failures, further_failures
from tests.notation import cluster
from tests.unit.judge.plans import leg, plan_of

TWO = Policy(reserve=Reserve(host_failures=2))


def hosts(count: int, each: str = "10G", room: str = "40G") -> Cluster:
    """Hosts h00, h01 and so on, with one VM each; the later the larger."""
    return cluster("\n".join(f"h{at:02} {room}: v{at:02} {each}" for at in range(count)))


@pytest.fixture
def one_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("policy.survival", "judge.drill", "planner.drill"):
        monkeypatch.setattr(f"balancer.{module}.SETS_MAX_ON_THE_WAY", 1)


# While both a and b are under way, neither s nor t has a hole; t is the smaller.
SEEN = """
h1 20G x2: a 8G 0.5c, b 8G 0.5c
h2 28G x2: s 18G 12.7c
h3 20G x2:
h4 13G x2: t 11G 0.1c
"""


@pytest.mark.usefixtures("one_on_the_way")
def test_the_failures_on_which_most_restarts_are_looked_at_first() -> None:
    seen, policy = cluster(SEEN), Policy(reserve=Reserve(host_failures=1))
    drill, place = Drill(seen, policy), {vm.id: vm.host for vm in seen.vms}
    way = Way(drill, place, [("a", "h3"), ("b", "h3")])
    assert way.in_doubt == [frozenset({"h2"})]
    others = drill.in_doubt(place, [("a", "h3"), ("b", "h3")], beyond=True)
    assert others == [frozenset({"h1"}), frozenset({"h4"}), frozenset({"h3"})]
    at_once = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3"))
    assert Code.SURVIVAL_DURING in {one.code for one in judge(seen, policy, at_once)}
    assert unseen_on_the_way(seen, policy, at_once) == 3
    evened = plan_and_judge(seen, Policy(reserve=policy.reserve, thresholds=Thresholds(cpu=0.05)))
    assert evened.plan.migrations
    assert "that may come while the plan is under way" in " ".join(evened.warnings)


def test_a_plan_of_which_all_was_looked_at_has_nothing_unseen() -> None:
    seen, policy = cluster(SEEN), Policy(reserve=Reserve(host_failures=1))
    at_once = plan_of(seen, leg("a: h1 > h3"), leg("b: h1 > h3"))
    assert unseen_on_the_way(seen, policy, at_once) == 0
    assert unseen_on_the_way(seen, Policy(), at_once) == 0


def test_sets_too_many_to_be_rehearsed_are_those_on_which_least_restarts() -> None:
    lines = [f"h{at:02} 40G: v{at:02} {at % 7 + 1}G" for at in range(24)]
    seen = cluster("\n".join(lines))
    found, (rest, unknown) = failures(seen, TWO), further_failures(seen, TWO)
    assert len(found) == SETS_MAX
    assert {len(one) for one in found[:24]} == {1}
    assert len(set(found) | set(rest)) == 24 + 24 * 23 // 2
    assert unknown == 0

    def load(hosts: frozenset[str]) -> int:
        return sum(vm.memory_assigned_bytes for vm in seen.vms if vm.host in hosts)

    assert min(map(load, found[24:])) >= max(map(load, rest))
    assert len(failures(hosts(23), TWO)) == 23 * 22 // 2
    assert further_failures(hosts(23), TWO) == ((), 0)
