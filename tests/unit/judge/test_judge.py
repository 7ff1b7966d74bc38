"""Each clause of the decision record: a legal plan, and the smallest change that it forbids."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from balancer.judge import Code, Finding, judge
from balancer.model.cluster import (
    Cluster,
    Host,
    ManagedBy,
    MigrationNetwork,
    MigrationSettings,
    Transport,
    Vm,
)
from balancer.model.plan import Kind, Plan, SettingChange
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.policy import Limits, Policy, Reserve, TransportPolicy
from balancer.policy.rules import Allow, Apart, NeverMove, Together
from tests.notation import GIB, cluster
from tests.unit.judge.plans import leg, plan_of, with_changed

WRITES = Policy(transport=TransportPolicy(write_settings=True))
SEEN = cluster(
    """
    h1 64G 16c: a 8G 1c, b 8G 1c, dead 4G off
    h2 64G 16c: c 8G 1c
    h3 64G 16c paused: d 8G 1c
    """
)
PLAN = plan_of(SEEN, leg("a: h1 > h2"), leg("b: h1 > h2", "a"))
OVER = plan_of(
    cluster("h1:a 8G\nh2:\nh3:"),
    leg("a: h1 > h2", id="a1", stopover=True),
    leg("a: h2 > h3", "a1", id="a2"),
)


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def codes(
    seen: Cluster, plan: Plan, policy: Policy | None = None, max_migrations: int | None = None
) -> set[Code]:
    found = judge(seen, policy or Policy(), plan, max_migrations=max_migrations)
    return {finding.code for finding in found}


def test_a_finding_says_what_about_whom_in_a_sentence() -> None:
    assert judge(SEEN, Policy(), PLAN) == ()
    changed = with_changed(PLAN, "b", target="h3")
    assert judge(SEEN, Policy(), changed) == (
        Finding(Code.TARGET, "b", "b cannot go there: h3 is paused"),
    )


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("a", {"vm": "nobody"}, {Code.UNKNOWN_VM}),
        ("a", {"vm": "dead"}, {Code.IMMOVABLE}),
        ("b", {"vm": "d", "source": "h3"}, {Code.IMMOVABLE}),
        ("a", {"source": "h3"}, {Code.NOT_ON_SOURCE}),
        ("a", {"vm": "c"}, {Code.NOT_ON_SOURCE}),
        ("a", {"target": "h1"}, {Code.TARGET}),
        ("a", {"target": "h9"}, {Code.UNKNOWN_HOST}),
        ("a", {"vm": "b"}, {Code.STOPOVER}),
        ("a", {"stopover": True}, {Code.STOPOVER}),
        ("a", {"kind": Kind.QUICK}, {Code.KIND}),
        ("a", {"transport": Transport.SMB}, {Code.TRANSPORT}),
        ("b", {"after": ("c",)}, {Code.UNKNOWN_AFTER}),
        ("a", {"after": ("b",)}, {Code.CYCLE}),
        ("a", {"after": ("a",)}, {Code.CYCLE}),
        ("a", {"id": "b"}, {Code.DUPLICATE_ID, Code.UNKNOWN_AFTER}),
        ("b", {"start_s": 9.0}, {Code.FORECAST}),
        ("a", {"start_s": float("nan")}, {Code.FORECAST}),
        ("b", {"duration_s": 11.0}, {Code.FORECAST}),  # ends after the plan's makespan
        ("a", {"reason": " "}, {Code.REASON}),
        ("a", {"bytes": 0}, {Code.BYTES}),
    ],
)
def test_one_migration_changed(name: str, change: dict[str, Any], expected: set[Code]) -> None:
    assert codes(SEEN, PLAN) == set()
    assert codes(SEEN, with_changed(PLAN, name, **change)) == expected


def test_hosts_need_a_common_network() -> None:
    other = MigrationSettings(networks=(MigrationNetwork("elsewhere"),))
    hosts = tuple(
        dataclasses.replace(host, migration=other) if host.name == "h2" else host
        for host in SEEN.hosts
    )
    assert codes(dataclasses.replace(SEEN, hosts=hosts), PLAN) == {Code.NETWORK}


def test_a_plan_is_for_one_cluster() -> None:
    assert codes(SEEN, dataclasses.replace(PLAN, cluster="other")) == {Code.WRONG_CLUSTER}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a1", {"stopover": False}),
        ("a2", {"stopover": True}),
        ("a2", {"after": ()}),
        ("a2", {"source": "h1"}),
    ],
)
def test_a_stopover_leads_on(name: str, change: dict[str, Any]) -> None:
    seen = cluster("h1:a 8G\nh2:\nh3:")
    assert codes(seen, OVER) == set()
    assert codes(seen, with_changed(OVER, name, **change)) == {Code.STOPOVER}


def test_two_migrations_of_a_vm_are_the_most_and_a_lone_stopover_is_none() -> None:
    seen = cluster("h1:a 8G\nh2:\nh3:")
    third = dataclasses.replace(OVER.migrations[1], id="a3", source="h3", target="h1")
    longer = dataclasses.replace(OVER, migrations=(*OVER.migrations, third))
    assert codes(seen, longer) == {Code.STOPOVER}
    alone = dataclasses.replace(OVER, migrations=OVER.migrations[:1])
    assert codes(seen, alone) == {Code.STOPOVER}


SMB = tuple(SettingChange(name, "transport", "compression", "smb") for name in ("h1", "h2"))


@pytest.mark.parametrize(
    "settings",
    [
        (*SMB, SMB[0]),
        (*SMB, SettingChange("h9", "transport", "compression", "smb")),
        (*SMB, SettingChange("h3", "colour", "compression", "smb")),
        (*SMB, SettingChange("h3", "transport", "tcp", "smb")),
        (*SMB, SettingChange("h3", "transport", "compression", "pigeon")),
    ],
    ids=["twice", "unknown host", "unknown setting", "not what it was", "unknown value"],
)
def test_settings_that_cannot_be_written(settings: tuple[SettingChange, ...]) -> None:
    good = plan_of(SEEN, leg("a: h1 > h2"), settings=SMB)
    assert good.migrations[0].transport is Transport.SMB
    assert codes(SEEN, good, WRITES) == set()
    assert codes(SEEN, good) == {Code.SETTINGS}  # the policy does not allow it
    assert codes(SEEN, dataclasses.replace(good, settings=settings), WRITES) == {Code.SETTINGS}


def test_the_transport_is_what_both_ends_give() -> None:
    good = plan_of(SEEN, leg("a: h1 > h2"), settings=SMB)
    half = dataclasses.replace(good, settings=SMB[:1])  # SMB at one end falls back to TCP
    assert codes(SEEN, half, WRITES) == {Code.TRANSPORT}
    assert codes(SEEN, with_changed(half, "a", transport=Transport.TCP), WRITES) == set()


def test_what_network_atc_manages_is_not_written() -> None:
    managed = MigrationSettings(managed_by=ManagedBy.NETWORK_ATC)
    hosts = tuple(dataclasses.replace(host, migration=managed) for host in SEEN.hosts)
    good = plan_of(SEEN, leg("a: h1 > h2"), settings=SMB)
    assert codes(dataclasses.replace(SEEN, hosts=hosts), good, WRITES) == {Code.SETTINGS}


@pytest.mark.parametrize(
    ("enough", "too_little", "expected"),
    [
        (Limits(migrations_per_run=2), Limits(migrations_per_run=1), Code.CAP_MIGRATIONS),
        (Limits(bytes_per_run=16 * GIB), Limits(bytes_per_run=16 * GIB - 1), Code.CAP_BYTES),
        (Limits(duration_per_run_s=20), Limits(duration_per_run_s=19.9), Code.CAP_DURATION),
    ],
)
def test_caps(enough: Limits, too_little: Limits, expected: Code) -> None:
    assert codes(SEEN, PLAN, Policy(limits=enough)) == set()
    assert codes(SEEN, PLAN, Policy(limits=too_little)) == {expected}


def test_the_command_lines_cap_and_bytes_that_a_plan_makes_small() -> None:
    assert codes(SEEN, PLAN, max_migrations=2) == set()
    assert codes(SEEN, PLAN, max_migrations=1) == {Code.CAP_MIGRATIONS}
    lying = with_changed(PLAN, "a", bytes=1)
    assert codes(SEEN, lying, Policy(limits=Limits(bytes_per_run=16 * GIB - 1))) == {Code.CAP_BYTES}


def test_memory_at_the_end() -> None:
    """Within the threshold of 100 %, so that only clause 5 speaks."""
    policy = Policy(thresholds=dataclasses.replace(Policy().thresholds, memory=9.0))
    fits, full = (cluster(f"h1: a {size}G\nh2 16G: b 8G") for size in (8, 8.5))
    assert codes(fits, plan_of(fits, leg("a: h1 > h2")), policy) == set()
    found = codes(full, plan_of(full, leg("a: h1 > h2")), policy)
    assert found == {Code.MEMORY_END, Code.MEMORY_DURING}


def test_memory_reserved_is_not_there() -> None:
    seen = cluster("h1: a 8G\nh2 64G: b 8G")
    plan = plan_of(seen, leg("a: h1 > h2"))
    assert codes(seen, plan, Policy(reserve=Reserve(memory_bytes=44 * GIB))) == set()
    found = codes(seen, plan, Policy(reserve=Reserve(memory_bytes=50 * GIB)))
    assert found == {Code.MEMORY_END, Code.MEMORY_DURING, Code.OVERLOAD}


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        ("h1: a 1G 4c\nh2 16c: b 1G 8.8c", "h1: a 1G 4c\nh2 16c: b 1G 8.9c"),
        ("h1: a 4G\nh2 100G: b 81G", "h1: a 4G\nh2 100G: b 81.1G"),
        # Above the threshold already: no more than it was.
        ("h1: a 1G 4c\nh2 16c: b 1G 15c, c 1G 4c", "h1: a 1G 4.1c\nh2 16c: b 1G 15c, c 1G 4c"),
    ],
    ids=["cpu", "memory", "already overloaded"],
)
def test_no_new_overload(fits: str, too_much: str) -> None:
    for text, expected in ((fits, set[Code]()), (too_much, {Code.OVERLOAD})):
        seen = cluster(text)
        legs = [leg("a: h1 > h2")]
        legs += [leg("c: h2 > h1")] if "c" in seen.vm_by_id else []
        assert codes(seen, plan_of(seen, *legs)) == expected


def test_cores_that_belong_to_the_host_count_and_speed_converts() -> None:
    seen = cluster("h1: a 1G 4c\nh2 16c: b 1G 4c")
    plan = plan_of(seen, leg("a: h1 > h2"))
    for used, speed, expected in (
        (8.8, 1.0, set[Code]()),
        (8.9, 1.0, {Code.OVERLOAD}),
        (10.8, 2.0, set[Code]()),
        (10.9, 2.0, {Code.OVERLOAD}),
    ):
        here, there = seen.hosts
        there = dataclasses.replace(there, cpu_used_cores=used, cpu_speed=speed)
        assert codes(dataclasses.replace(seen, hosts=(here, there)), plan) == expected


def test_a_host_that_takes_in_the_drained_may_be_overloaded() -> None:
    for state, expected in (("draining", set[Code]()), ("", {Code.OVERLOAD})):
        seen = cluster(f"h1 {state}: a 1G 9c\nh2 16c: b 1G 9c")
        assert codes(seen, plan_of(seen, leg("a: h1 > h2"))) == expected


def ruled(text: str, *rules: Rule) -> Cluster:
    return cluster(text, rules=rules)


def test_allowed_hosts_at_the_end_and_on_the_way() -> None:
    for during in (False, True):
        rule = Allow(vms=pick("a"), hosts=pick("h1", "h3"), during=during)
        seen = ruled("h1: a 8G\nh2:\nh3:", rule)
        assert codes(seen, plan_of(seen, leg("a: h1 > h3"))) == set()
        # Over h2, which is not allowed: at the end it does not matter, on the way it does.
        assert codes(seen, OVER) == ({Code.RULE_DURING} if during else set())
        found = codes(seen, plan_of(seen, leg("a: h1 > h2")))
        assert found == ({Code.RULE_END, Code.RULE_DURING} if during else {Code.RULE_END})


def test_a_broken_rule_is_not_broken_elsewhere() -> None:
    seen = ruled("h1:\nh2: a\nh3:", Allow(vms=pick("a"), hosts=pick("h1")))
    assert codes(seen, plan_of(seen, leg("a: h2 > h1"))) == set()
    found = codes(seen, plan_of(seen, leg("a: h2 > h3")))
    assert found == {Code.RULE_END, Code.RULE_DURING}


def test_a_soft_rule_is_no_matter_of_legality() -> None:
    for hard in (False, True):
        seen = ruled("h1: a\nh2:", NeverMove(vms=pick("a"), hard=hard))
        found = codes(seen, plan_of(seen, leg("a: h1 > h2")))
        assert found == ({Code.RULE_END, Code.RULE_DURING} if hard else set())


def test_a_cap_on_the_way() -> None:
    for during in (False, True):
        seen = ruled("h1: a\nh2: b\nh3:", Apart(vms=pick("a", "b"), during=during))
        one_by_one = plan_of(seen, leg("b: h2 > h3"), leg("a: h1 > h2", "b"))
        at_once = plan_of(seen, leg("b: h2 > h3"), leg("a: h1 > h2"))
        assert codes(seen, one_by_one) == set()
        assert codes(seen, at_once) == ({Code.RULE_DURING} if during else set())
        found = codes(seen, plan_of(seen, leg("a: h1 > h2")))
        assert found == ({Code.RULE_END, Code.RULE_DURING} if during else {Code.RULE_END})


def test_off_vms_count_in_rules_though_not_in_memory() -> None:
    seen = ruled("h1: a\nh2 4G: b 4G off", Apart(vms=pick("a", "b")))
    assert codes(seen, plan_of(seen, leg("a: h1 > h2"))) >= {Code.RULE_END}
    free = cluster("h1: a 3G\nh2 4G: b 4G off")
    assert codes(free, plan_of(free, leg("a: h1 > h2"))) == set()


def test_a_unit_at_the_end_and_on_the_way() -> None:
    for during in (False, True):
        seen = ruled("h1: a, b\nh2:\nh3:", Together(vms=pick("a", "b"), during=during))
        both = plan_of(seen, leg("a: h1 > h2"), leg("b: h1 > h2"))
        assert codes(seen, both) == ({Code.RULE_DURING} if during else set())
        one = plan_of(seen, leg("a: h1 > h2"))
        assert codes(seen, one) == (
            {Code.RULE_END, Code.RULE_DURING} if during else {Code.RULE_END}
        )


def test_a_unit_that_is_apart_may_move_through_as_many_domains_as_it_has() -> None:
    seen = ruled("h1: a\nh2: b\nh3:", Together(vms=pick("a", "b"), during=True))
    first = leg("a: h1 > h2", id="a1", stopover=True)
    onward = [leg("a: h2 > h3", "a1", id="a2"), leg("b: h2 > h3", "a1")]
    assert codes(seen, plan_of(seen, first, *onward)) == set()
    hasty = with_changed(plan_of(seen, first, *onward), "b", after=())
    assert codes(seen, hasty) == {Code.RULE_DURING}


@pytest.mark.parametrize(("width", "expected"), [(10, set()), (11, {Code.RULE_DURING})])
def test_what_cannot_be_gone_through_is_refused(width: int, expected: set[Code]) -> None:
    """As each VM joins the others on h, another leaves for a new host: 2 to the width states."""
    numbers = range(width)
    lines = [f"g{at}: a{at} 1G" for at in numbers] + [f"n{at}:" for at in numbers]
    lines.append("h 64G: z 1G, " + ", ".join(f"b{at} 1G" for at in numbers))
    everyone = [f"{kind}{at}" for kind in "ab" for at in numbers] + ["z"]
    seen = ruled("\n".join(lines), Together(vms=pick(*everyone), during=True))
    legs = [leg(f"a{at}: g{at} > h") for at in numbers]
    legs += [leg(f"b{at}: h > n{at}", f"a{at}") for at in numbers]
    assert codes(seen, plan_of(seen, *legs)) == expected
    early = with_changed(plan_of(seen, *legs), f"b{width - 1}", after=())
    assert codes(seen, early) == {Code.RULE_DURING}


def test_memory_in_every_order_and_what_the_finding_says() -> None:
    seen = cluster("h1 64G: a 30G\nh2 64G: b 30G, c 10G\nh3 64G:")
    departs, arrives = leg("b: h2 > h3"), leg("a: h1 > h2", "b")
    assert codes(seen, plan_of(seen, departs, arrives)) == set()
    (found,) = judge(seen, Policy(), plan_of(seen, departs, leg("a: h1 > h2")))
    assert found == Finding(
        Code.MEMORY_DURING,
        "h2",
        "h2 could hold 70.0 GiB, 64.0 GiB at most are allowed: "
        "a can be there or on the way while b is not gone",
    )


def test_two_arrivals_that_each_fit_do_not_fit_together() -> None:
    """It is not enough that each arrival waits for a departure: they may wait for the same one."""
    seen = cluster("h1 16G: a 6G, b 6G\nh2 16G: c 6G, d 6G\nh3 64G:")
    policy = Policy(thresholds=dataclasses.replace(Policy().thresholds, memory=1.0))
    out = [leg("c: h2 > h3"), leg("d: h2 > h3")]
    good = plan_of(seen, *out, leg("a: h1 > h2", "c"), leg("b: h1 > h2", "d"))
    assert codes(seen, good, policy) == set()
    bad = plan_of(seen, *out, leg("a: h1 > h2", "c"), leg("b: h1 > h2", "c"))
    assert codes(seen, bad, policy) == {Code.MEMORY_DURING}


def test_a_plan_of_nothing_is_legal_and_of_garbage_is_not() -> None:
    assert judge(SEEN, Policy(), plan_of(SEEN)) == ()
    garbage = with_changed(
        PLAN, "a", vm="?", source="?", target="", after=("?", "a", "b"), bytes=-1, reason=""
    )
    assert codes(SEEN, garbage) == {Code.UNKNOWN_VM, Code.UNKNOWN_HOST, Code.UNKNOWN_AFTER}


def test_a_plan_as_large_as_they_come_is_judged_in_well_under_a_second() -> None:
    """64 hosts x 8,000 VMs, 400 migrations in a ring with as much precedence as can be."""
    hosts = tuple(Host(f"h{at:02}", 512.0, 512 * GIB) for at in range(64))
    vms = tuple(Vm(f"v{at}", f"v{at}", f"h{at % 64:02}", 0.1, 4 * GIB) for at in range(8000))
    seen = Cluster("large", hosts, vms)
    legs = [
        leg(f"v{at}: h{at % 64:02} > h{(at + 1 + at // 64) % 64:02}", *(f"v{n}" for n in range(at)))
        for at in range(400)
    ]
    policy = Policy(thresholds=dataclasses.replace(Policy().thresholds, memory=1.0))
    plan = plan_of(seen, *legs)
    at_once = dataclasses.replace(
        plan, migrations=tuple(dataclasses.replace(one, after=()) for one in plan.migrations)
    )
    for each in (plan, at_once):
        started = time.process_time()
        assert Code.RULE_DURING not in codes(seen, each, policy)
        assert time.process_time() - started < 0.8
