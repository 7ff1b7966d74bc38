"""What VMs want and do not get: processors they wait for, memory they ask for, their number."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from balancer.cli.output import utilisation
from balancer.judge import Code, judge, judge_start
from balancer.model.cluster import Cluster
from balancer.model.plan import Status
from balancer.planner import drain, plan, why_not
from balancer.planner.problem import CPU, MEMORY, build
from balancer.policy.policy import Goal, Policy, Reserve, Thresholds
from benchmarks.instances import generate
from tests.notation import GIB, cluster
from tests.unit.judge.plans import leg, plan_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RELIEVE = Policy(goal=Goal.RELIEVE)
TWO_EACH = Policy(thresholds=Thresholds(vcpus_per_core=2.0))


def with_vms(seen: Cluster, **facts: dict[str, Any]) -> Cluster:
    """Return the cluster with facts of VMs: `key={vm: value}`."""
    vms = seen.vms
    for key, values in facts.items():
        vms = tuple(
            dataclasses.replace(vm, **{key: values[vm.id]}) if vm.id in values else vm for vm in vms
        )
    return dataclasses.replace(seen, vms=vms)


def test_a_host_whose_vms_wait_for_processors_is_overloaded() -> None:
    seen = cluster("h1 64G 8c: a 4G 3c, b 4G 3c\nh2 64G 8c:")  # 75 %, and more is wanted
    assert plan(seen, RELIEVE, now=NOW).status is Status.NOTHING_TO_DO
    waits = with_vms(seen, cpu_wait_cores={"a": 0.6, "b": 0.2})
    made = plan(waits, RELIEVE, now=NOW)
    assert judge(waits, RELIEVE, made) == ()
    assert [one.target for one in made.migrations] == ["h2"]
    # What others wait for counts on a target as well.
    full = with_vms(cluster("h1 64G 8c: a 4G 3c\nh2 64G 8c: b 4G 3c"), cpu_wait_cores={"b": 0.5})
    (finding,) = judge(full, RELIEVE, plan_of(full, leg("a: h1 > h2")))
    assert finding.code is Code.OVERLOAD


def test_what_a_vm_waits_for_is_no_load_of_the_host_itself() -> None:
    seen = with_vms(cluster("h1 64G 8c: a 4G 3c\nh2 64G 8c:"), cpu_wait_cores={"a": 1.0})
    hosts = tuple(dataclasses.replace(host, cpu_used_cores=3.5) for host in seen.hosts[:1])
    seen = dataclasses.replace(seen, hosts=(*hosts, *seen.hosts[1:]))
    problem = build(seen, Policy())
    assert problem.before[CPU].tolist() == [pytest.approx(4.5 / 8), 0.0]
    after = problem.at(problem.home + 1)  # measured there, as if it had moved
    assert after.before[CPU].tolist() == [pytest.approx(0.5 / 8), pytest.approx(0.5)]


def test_memory_that_is_asked_for_counts_where_it_is_more_than_there_is() -> None:
    seen = cluster("h1 20G 8c: a 8G, b 8G\nh2 20G 8c:")  # 80 %
    policy = dataclasses.replace(RELIEVE, thresholds=Thresholds(memory=0.85))
    assert plan(seen, policy, now=NOW).migrations == ()
    less = with_vms(seen, memory_demand_bytes={"a": 5 * GIB})
    assert plan(less, policy, now=NOW).migrations == ()
    more = with_vms(seen, memory_demand_bytes={"a": 10 * GIB})
    made = plan(more, policy, now=NOW)
    assert judge(more, policy, made) == ()
    assert len(made.migrations) == 1
    assert build(more, policy).before[MEMORY, 0] == pytest.approx(0.9)


def test_a_vm_goes_where_there_is_room_for_what_it_asks_for() -> None:
    seen = with_vms(cluster("h1 64G: a 8G\nh2 9G:"), memory_demand_bytes={"a": 10 * GIB})
    (finding, *_) = judge(seen, Policy(), plan_of(seen, leg("a: h1 > h2")))
    assert finding.code in (Code.MEMORY_DURING, Code.MEMORY_END)
    assert why_not(seen, Policy(), "a", "h2")


FULL = cluster("h1 64G 4c: a 4G 1.9c, b 4G 1.9c\nh2 64G 4c: c 4G 0.1c\nh3 64G 2c:")


def test_no_host_comes_to_more_virtual_processors_than_it_may() -> None:
    seen = with_vms(FULL, vcpus={"a": 4, "b": 4, "c": 6})
    free = plan(seen, RELIEVE, now=NOW)
    assert [one.target for one in free.migrations] == ["h2"]
    policy = dataclasses.replace(RELIEVE, thresholds=TWO_EACH.thresholds)
    assert plan(seen, policy, now=NOW).migrations == ()
    assert Code.VIRTUAL_PROCESSORS in {one.code for one in judge(seen, policy, free)}
    started = judge_start(seen, policy, free, free.migrations[0].id, done=(), running=())
    assert Code.VIRTUAL_PROCESSORS in {one.code for one in started}
    (text,) = why_not(seen, policy, "a", "h2")
    assert text == "h2 would have more than 2 virtual processors for each logical one"
    # Two fewer on h2, and it fits.
    seen = with_vms(seen, vcpus={"c": 4})
    made = plan(seen, policy, now=NOW)
    assert [one.target for one in made.migrations] == ["h2"]
    assert judge(seen, policy, made) == ()


def test_a_host_above_the_ratio_stays_as_it_is_and_vms_that_are_off_want_no_processors() -> None:
    seen = with_vms(FULL, vcpus={"a": 8, "b": 8, "c": 4})
    policy = dataclasses.replace(TWO_EACH, goal=Goal.RULES_ONLY)
    assert plan(seen, policy, now=NOW).migrations == ()
    away = plan_of(seen, leg("a: h1 > h2"))
    assert Code.VIRTUAL_PROCESSORS in {one.code for one in judge(seen, policy, away)}
    off = cluster("h1 64G 4c: a 4G 1.9c, b 4G 1.9c\nh2 64G 4c: c 4G off\nh3 64G 2c:")
    seen = with_vms(off, vcpus={"a": 4, "b": 4, "c": 64})
    assert judge(seen, policy, plan_of(seen, leg("a: h1 > h2"))) == ()


def test_planner_and_judge_agree_on_every_placement_of_four_vms_on_three_hosts() -> None:
    seen = with_vms(
        cluster("h1 64G 4c: a 4G 0.1c, b 4G 0.1c\nh2 64G 2c: c 4G 0.1c\nh3 64G 1c: d 4G 0.1c"),
        vcpus={"a": 4, "b": 2, "c": 1, "d": 3},
    )
    problem = build(seen, TWO_EACH)
    names = [host.name for host in problem.hosts]
    start = problem.home.tolist()
    refused = 0
    for place in itertools.product(range(3), repeat=4):
        moves = [
            leg(f"{vm.id}: {names[start[at]]} > {names[to]}")
            for at, (vm, to) in enumerate(zip(problem.vms, place, strict=True))
            if to != start[at]
        ]
        # One after another, whoever leaves before whoever comes: only the end counts here.
        legal = all(group.legal(group.counts(problem.home * 0 + place)) for group in problem.groups)
        ends = dict.fromkeys(names, 0)
        for vm, to in zip(problem.vms, place, strict=True):
            ends[names[to]] += vm.vcpus or 0
        most = {"h1": 8, "h2": 4, "h3": 3}  # of h3, which begins above its two, what it has
        assert legal == all(ends[host] <= most[host] for host in names)
        found = {one.code for one in judge(seen, TWO_EACH, plan_of(seen, *moves))} if moves else ()
        if not legal:
            assert Code.VIRTUAL_PROCESSORS in found
            refused += 1
    assert refused > 20


def test_a_large_cluster_is_balanced_within_the_ratio() -> None:
    seen = generate(8, 120, 1)
    seen = dataclasses.replace(
        seen,
        vms=tuple(
            dataclasses.replace(vm, vcpus=max(1, vm.memory_assigned_bytes // (4 * GIB)))
            for vm in seen.vms
        ),
    )
    mean = sum(vm.vcpus or 0 for vm in seen.vms) / sum(host.cpu_cores for host in seen.hosts)
    policy = Policy(thresholds=Thresholds(vcpus_per_core=1.05 * mean))
    made = plan(seen, policy, now=NOW, max_migrations=8, effort=3e5)
    assert judge(seen, policy, made) == ()
    free = plan(seen, Policy(), now=NOW, max_migrations=8, effort=3e5)
    assert {one.code for one in judge(seen, policy, free)} == {Code.VIRTUAL_PROCESSORS}
    assert made.score.after < 0.3 * made.score.before


@pytest.mark.parametrize("fact", ["vcpus", "cpu_reserved_cores"])
def test_what_others_bring_takes_its_place(fact: str) -> None:
    seen = cluster(
        "h1 64G 4c: a 4G 1.9c, b 4G 1.9c\nh2 64G 4c: c 4G 0.1c\nh3 9G 4c: d 4G 0.1c >h2, e 4G 0.1c"
    )
    counts = {"a": 2, "b": 2, "c": 1, "d": 2, "e": 1}
    seen = with_vms(seen, **{fact: counts})
    policy = Policy(goal=Goal.RELIEVE, thresholds=Thresholds(vcpus_per_core=1.0))
    made = plan(seen, policy, now=NOW)
    assert judge(seen, policy, made) == ()
    assert any("processors" in text for text in why_not(seen, policy, "a", "h2"))
    onto = plan_of(seen, leg("a: h1 > h2"))
    code = Code.VIRTUAL_PROCESSORS if fact == "vcpus" else Code.CPU_RESERVE
    assert code in {one.code for one in judge(seen, policy, onto)}


def test_tables_show_the_load_that_plans_go_by() -> None:
    seen = cluster("h1 20G 8c: a 8G 3c, b 8G 3c\nh2 20G 8c:")
    seen = with_vms(seen, cpu_wait_cores={"a": 1.0}, memory_demand_bytes={"b": 11 * GIB})
    problem = build(seen, Policy())
    shown = utilisation(seen, Policy(), "h1")
    assert shown == pytest.approx(tuple(problem.before[:, 0].tolist()))


def test_a_drain_says_that_it_uses_the_reserve_for_what_a_vm_asks_for() -> None:
    seen = with_vms(cluster("h1 64G: a 8G\nh2 20G:"), memory_demand_bytes={"a": 18 * GIB})
    policy = Policy(reserve=Reserve(memory_bytes=4 * GIB))
    found = drain(seen, policy, ["h1"], now=NOW)
    assert any("2.0 GiB of the memory reserve of h2" in one for one in found.concessions)
