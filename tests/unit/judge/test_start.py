"""What stops one migration just before it starts, and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import pytest

from balancer.judge import Code, judge, judge_start
from balancer.judge.moment import Foreign
from balancer.model.cluster import Cluster, HostState, ManagedBy, MigrationSettings, Transport
from balancer.model.plan import Plan, SettingChange
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.policy import Policy, TransportPolicy
from balancer.policy.rules import Allow, Apart, NeverMove, Pin, Together
from tests.notation import GIB, cluster
from tests.unit.judge.plans import leg, plan_of

BEFORE = cluster("h1 64G: a 20G 2c, b 20G 2c\nh2 64G: c 20G 2c\nh3 64G: d 20G 2c")
PLAN = plan_of(BEFORE, leg("c: h2 > h3"), leg("a: h1 > h2", "c"), leg("b: h1 > h2"))


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def codes(
    now: Cluster,
    starting: str,
    *,
    plan: Plan = PLAN,
    policy: Policy | None = None,
    done: Collection[str] = (),
    running: Collection[str] = (),
    dropped: Collection[str] = (),
    foreign: Collection[Foreign] = (),
) -> set[Code]:
    found = judge_start(
        now,
        policy or Policy(),
        plan,
        starting,
        done=done,
        running=running,
        dropped=dropped,
        foreign=foreign,
    )
    assert all(finding.message for finding in found)
    return {finding.code for finding in found}


def changed(seen: Cluster, vm: str, **changes: Any) -> Cluster:
    return dataclasses.replace(
        seen,
        vms=tuple(dataclasses.replace(v, **changes) if v.id == vm else v for v in seen.vms),
    )


def host_changed(seen: Cluster, host: str, **changes: Any) -> Cluster:
    return dataclasses.replace(
        seen,
        hosts=tuple(dataclasses.replace(h, **changes) if h.name == host else h for h in seen.hosts),
    )


def test_the_first_may_start_and_what_waits_may_not() -> None:
    assert codes(BEFORE, "b") == set()
    assert codes(BEFORE, "c") == set()
    assert codes(BEFORE, "a") == {Code.NOT_NEXT}
    assert codes(BEFORE, "a", running=["c"]) == {Code.NOT_NEXT}
    assert codes(changed(BEFORE, "c", host="h3"), "a", done=["c"]) == set()


@pytest.mark.parametrize("where", ["done", "running", "dropped"])
def test_a_migration_starts_once(where: str) -> None:
    progress: dict[str, Any] = {where: ["b"]}
    assert codes(BEFORE, "b", **progress) == {Code.NOT_NEXT}


def test_garbage_is_refused() -> None:
    assert codes(BEFORE, "?") == {Code.UNKNOWN_MIGRATION}
    assert codes(BEFORE, "b", running=["?"]) == {Code.UNKNOWN_MIGRATION}
    gone = dataclasses.replace(BEFORE, vms=tuple(vm for vm in BEFORE.vms if vm.id != "b"))
    assert codes(gone, "b") == {Code.UNKNOWN_VM}
    fewer = cluster("h1 64G: a 20G 2c, b 20G 2c\nh3 64G: d 20G 2c")
    assert codes(fewer, "b") == {Code.UNKNOWN_HOST}
    circle = plan_of(BEFORE, leg("a: h1 > h2"))
    (a,) = circle.migrations
    circle = dataclasses.replace(circle, migrations=(dataclasses.replace(a, after=("a",)),))
    assert codes(BEFORE, "a", plan=circle) >= {Code.CYCLE}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"host": "h3"}, {Code.NOT_ON_SOURCE}),
        ({"blocked_by": ("operation_running",)}, {Code.IMMOVABLE}),
        ({"memory_assigned_bytes": 29 * GIB}, set[Code]()),
        ({"memory_assigned_bytes": 31 * GIB}, {Code.GROWN}),
        ({"cpu_used_cores": 13.0}, {Code.OVERLOAD}),
    ],
)
def test_what_became_of_the_vm(change: dict[str, Any], expected: set[Code]) -> None:
    only = plan_of(BEFORE, leg("c: h2 > h3"), leg("b: h1 > h2"))
    assert codes(changed(BEFORE, "b", **change), "b", plan=only) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"state": HostState.PAUSED}, {Code.TARGET}),
        ({"migration": MigrationSettings(enabled=False)}, {Code.TARGET}),
        ({"migration": MigrationSettings(networks=())}, {Code.NETWORK}),
        ({"cpu_used_cores": 15.0}, {Code.OVERLOAD}),
        ({"memory_bytes": 39 * GIB}, {Code.MEMORY_DURING, Code.MEMORY_END, Code.OVERLOAD}),
    ],
)
def test_what_became_of_the_target(change: dict[str, Any], expected: set[Code]) -> None:
    only = plan_of(BEFORE, leg("b: h1 > h2"))
    assert codes(host_changed(BEFORE, "h2", **change), "b", plan=only) == expected


def test_what_happens_elsewhere_does_not_matter() -> None:
    now = host_changed(changed(BEFORE, "d", cpu_used_cores=16.0), "h3", state=HostState.UNKNOWN)
    assert codes(now, "b", foreign=[("d", "h3", "h1"), ("stranger", "h8", "h9")]) == set()


def test_what_is_arriving_counts_and_what_is_leaving_still_does() -> None:
    roomy = cluster("h1 64G: a 20G, b 20G\nh2 64G: c 20G\nh3 64G: d 20G")
    plan = plan_of(roomy, leg("c: h2 > h3"), leg("a: h1 > h2"), leg("b: h1 > h2"))
    assert codes(roomy, "b", plan=plan) == set()
    assert codes(roomy, "b", plan=plan, running=["a"]) == set()  # 60 of 64 GiB
    tight = host_changed(roomy, "h2", memory_bytes=59 * GIB)
    assert codes(tight, "b", plan=plan, running=["c"]) == set()
    assert codes(tight, "b", plan=plan, running=["a", "c"]) == {Code.MEMORY_DURING}


def test_other_peoples_migrations_count_on_both_hosts() -> None:
    tight = host_changed(BEFORE, "h2", memory_bytes=59 * GIB)
    plan = plan_of(BEFORE, leg("b: h1 > h2"))
    assert codes(tight, "b", plan=plan) == set()
    arriving = {Code.MEMORY_DURING, Code.MEMORY_END, Code.OVERLOAD}
    assert codes(tight, "b", plan=plan, foreign=[("d", "h3", "h2")]) == arriving
    assert codes(tight, "b", plan=plan, foreign=[("d", "h3", None)]) == arriving
    # A departure is not yet room.
    full = host_changed(BEFORE, "h2", memory_bytes=39 * GIB)
    assert codes(full, "b", plan=plan, foreign=[("c", "h2", "h3")]) == arriving
    assert codes(tight, "b", plan=plan, foreign=[("stranger", "h3", "h2")]) == {Code.MEMORY_DURING}
    assert codes(BEFORE, "b", plan=plan, foreign=[("b", "h1", "h3")]) == {Code.IMMOVABLE}


def test_a_departure_that_was_given_up_is_not_counted_on() -> None:
    tight = host_changed(BEFORE, "h2", memory_bytes=48 * GIB)
    plan = plan_of(BEFORE, leg("c: h2 > h3"), leg("b: h1 > h2"))
    assert judge(tight, Policy(), plan) == ()
    assert codes(tight, "b", plan=plan) == set()
    tighter = changed(tight, "b", memory_assigned_bytes=22 * GIB)  # 42 GiB: above the threshold
    assert codes(tighter, "b", plan=plan) == set()
    assert codes(tighter, "b", plan=plan, dropped=["c"]) == {Code.OVERLOAD}


def test_the_copying_of_our_own_migrations_is_no_lasting_load() -> None:
    """h2 is measured at 14 cores, of which VMs explain 2; compressing takes some of the rest."""
    busy = host_changed(BEFORE, "h2", cpu_used_cores=14.0, memory_bytes=99 * GIB)
    plan = plan_of(BEFORE, leg("d: h3 > h2"), leg("b: h1 > h2"))
    assert codes(busy, "b", plan=plan) == {Code.OVERLOAD}
    assert codes(busy, "b", plan=plan, running=["d"]) == set()


def test_a_stopover_is_not_entered_when_it_leads_nowhere() -> None:
    seen = cluster("h1:a 8G\nh2:\nh3:")
    plan = plan_of(
        seen,
        leg("a: h1 > h2", id="a1", stopover=True),
        leg("a: h2 > h3", "a1", id="a2"),
    )
    assert codes(seen, "a1", plan=plan) == set()
    assert codes(seen, "a1", plan=plan, dropped=["a2"]) == {Code.STOPOVER}
    assert codes(changed(seen, "a", host="h2"), "a2", plan=plan, done=["a1"]) == set()


def test_the_transport_is_what_the_hosts_give_now() -> None:
    policy = Policy(transport=TransportPolicy(write_settings=True))
    wishes = tuple(SettingChange(h, "transport", "compression", "smb") for h in ("h1", "h2"))
    plan = plan_of(BEFORE, leg("b: h1 > h2"), settings=wishes)
    smb = MigrationSettings(transport=Transport.SMB)
    tcp = MigrationSettings(transport=Transport.TCP)
    managed = MigrationSettings(managed_by=ManagedBy.NETWORK_ATC)
    for settings, expected in (
        (smb, set[Code]()),  # written already
        (tcp, {Code.SETTINGS}),  # somebody else wrote it
        (managed, {Code.SETTINGS}),
    ):
        now = host_changed(BEFORE, "h2", migration=settings)
        assert codes(now, "b", plan=plan, policy=policy) == expected
    assert codes(BEFORE, "b", plan=plan) == {Code.SETTINGS}  # the policy does not allow it
    as_set = plan_of(BEFORE, leg("b: h1 > h2"))
    now = host_changed(BEFORE, "h1", migration=tcp)
    assert codes(now, "b", plan=as_set) == {Code.TRANSPORT}


def ruled(*rules: Rule) -> Cluster:
    return dataclasses.replace(BEFORE, rules=rules)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (NeverMove(vms=pick("d")), set()),
        (NeverMove(vms=pick("b")), {Code.RULE_DURING, Code.RULE_END}),
        (NeverMove(vms=pick("b"), hard=False), set()),
        (Allow(vms=pick("b"), hosts=pick("h3"), during=False), {Code.RULE_END}),
        (Apart(vms=pick("b", "c")), {Code.RULE_DURING}),  # c is still there, though it will leave
        (Apart(vms=pick("b", "c"), during=False), set()),
        (Apart(vms=pick("b", "c"), max_per_host=2), set()),
        (Together(vms=pick("a", "b")), set()),
        (Together(vms=pick("a", "b"), during=True), {Code.RULE_DURING}),
        (Together(vms=pick("b", "d")), set()),
        (Together(vms=pick("b", "d"), during=True), {Code.RULE_DURING}),
    ],
    ids=lambda value: str(value) if isinstance(value, Rule) else "+".join(sorted(value)),
)
def test_rules_given_since_the_plan_was_made(rule: Rule, expected: set[Code]) -> None:
    assert codes(ruled(rule), "b") == expected


def test_a_set_is_not_torn_when_its_rest_was_given_up() -> None:
    now = changed(ruled(Together(vms=pick("a", "b"))), "c", host="h3")
    assert codes(now, "b", done=["c"], dropped=["a"]) == {Code.RULE_END}


def test_rules_mean_by_before_what_was_before_the_plan() -> None:
    """Pinned to h2 or h3, from outside: a stop-over on the one does not hold the VM there."""
    seen = cluster("h1: a\nh2:\nh3:", rules=(Pin(vms=pick("a"), hosts=pick("h2", "h3")),))
    plan = plan_of(
        seen,
        leg("a: h1 > h2", id="a1", stopover=True),
        leg("a: h2 > h3", "a1", id="a2"),
    )
    assert judge(seen, Policy(), plan) == ()
    assert codes(changed(seen, "a", host="h2"), "a2", plan=plan, done=["a1"]) == set()


def test_memory_may_be_what_it_was_before_the_plan() -> None:
    """h2 holds more than the reserve leaves; when b has gone, c may come although it is full."""
    seen = cluster("h1 64G: c 4G\nh2 64G: a 30G, b 10G, e 4G\nh3 64G:")
    policy = Policy(reserve=dataclasses.replace(Policy().reserve, memory_bytes=24 * GIB))
    plan = plan_of(seen, leg("b: h2 > h3"), leg("e: h2 > h3"), leg("c: h1 > h2", "e"))
    assert judge(seen, policy, plan) == ()
    now = changed(seen, "e", host="h3")
    assert codes(now, "c", plan=plan, policy=policy, done=["e"], running=["b"]) == set()
    grown = changed(now, "c", memory_assigned_bytes=5 * GIB)
    found = codes(grown, "c", plan=plan, policy=policy, done=["e"], running=["b"])
    assert found == {Code.MEMORY_DURING}
