"""What a plan says of itself is true: status, numbers, reasons, settings."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from balancer.errors import InputError
from balancer.formats.plan import parse_plan, plan_to_json
from balancer.migration.forecast import forecast
from balancer.model.cluster import Cluster, ManagedBy, MigrationSettings, Transport
from balancer.model.plan import Plan, Status, StoppedBy
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import plan
from balancer.planner.words import beyond, percent
from balancer.policy.policy import Goal, Limits, Policy, Prefer, TransportPolicy
from balancer.policy.rules import Allow, Apart, AsOne, Avoid, NeverMove, Pin, Spread, Together
from tests.notation import GIB, cluster
from tests.unit.planner.oracle import NOW

HOT = "h1 64G 16c: a 4G 5c, b 4G 5c, c 4G 5c\nh2 64G 16c:"


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def planned(text: str | Cluster, *rules: Rule, policy: Policy | None = None) -> Plan:
    seen = cluster(text, rules=rules) if isinstance(text, str) else text
    return plan(seen, policy or Policy(), now=NOW)


def test_overload_that_stays_is_feasible_and_not_nothing_to_do() -> None:
    alone = planned("h1 64G 16c: a 4G 15c")
    assert alone.status is Status.FEASIBLE
    assert alone.stopped_by is StoppedBy.PROOF, "where nothing can move nothing is searched"
    assert alone.score.bound == alone.score.after == alone.score.before
    assert alone.score.closed == 1.0
    capped = planned(HOT, policy=Policy(limits=Limits(migrations_per_run=0)))
    assert (capped.status, capped.score.closed) == (Status.FEASIBLE, 1.0)
    rules_only = planned(HOT, policy=Policy(goal=Goal.RULES_ONLY))
    assert rules_only.status is Status.NOTHING_TO_DO, "overload is not its business"


def test_a_search_that_was_cut_short_does_not_say_that_there_is_nothing_to_do() -> None:
    made = plan(cluster(HOT), Policy(), now=NOW, elapsed_s=lambda: 9.0, time_limit_s=1.0)
    assert made.migrations == ()
    assert (made.status, made.stopped_by) == (Status.FEASIBLE, StoppedBy.TIME)
    assert {one.reason for one in made.not_moved} == {"the search was stopped before it got to it"}


def test_a_drain_that_the_search_was_stopped_before_is_not_infeasible() -> None:
    def stopped(text: str, policy: Policy) -> Plan:
        return plan(cluster(text), policy, now=NOW, elapsed_s=lambda: 9.0, time_limit_s=1.0)

    made = stopped("h1 draining: a, b\nh2:", Policy())
    assert (made.status, made.stopped_by) == (Status.FEASIBLE, StoppedBy.TIME)
    assert [one.reason for one in made.unresolved] == ["the search was stopped before it got to it"]
    # What no search would change is no, however soon it was stopped.
    fact = stopped("h1 draining: a, b !assigned_device\nh2:", Policy())
    capped = stopped("h1 draining: a, b\nh2:", Policy(limits=Limits(migrations_per_run=1)))
    assert fact.status is capped.status is Status.INFEASIBLE


def test_what_a_cap_held_back_names_the_cap_wherever_it_is_told() -> None:
    made = planned(HOT, policy=Policy(limits=Limits(bytes_per_run=1)))
    told = {one.reason for one in made.not_moved} | {one.reason for one in made.unresolved}
    assert told == {"moving it copies 4.1 GiB, the cap of 0.0 GiB a run leaves 0.0"}


def test_a_host_overloaded_by_a_drain_says_so() -> None:
    made = planned("h1 draining: a 60G 1c\nh2 64G 16c:")
    assert [one.subject for one in made.unresolved] == ["h2"]
    assert made.unresolved[0].reason == "it had to take VMs that leave a draining host"


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.81, "81 % is above 80 %"),
        (0.8006, "80.1 % is above 80 %"),
        (0.80001, "80.001 % is above 80 %"),
        (1e300, "over 99999 % is above 80 %"),
    ],
)
def test_a_share_beyond_a_limit_shows_that_it_is(share: float, told: str) -> None:
    assert beyond(share, 0.8, " is above ") == told


def test_absurd_shares_are_cut() -> None:
    assert percent(1e306) == "over 99999 %"


def test_one_that_goes_along_names_the_one_that_has_to() -> None:
    rules = (Together(vms=names("a", "b")), Allow(vms=names("a"), hosts=names("h2")))
    made = planned("h1: a 4G 1c, b 4G 1c\nh2:", *rules)
    told = {one.vm: one.reason for one in made.migrations}
    assert told == {
        "a": "repairs allow [a]",
        "b": "stays with a, which has to move: together [a, b]",
    }


@pytest.mark.parametrize("goal", [Goal.BALANCE, Goal.RELIEVE, Goal.RULES_ONLY])
def test_a_host_is_relieved_only_where_its_overload_is_less(goal: Goal) -> None:
    text = "h1 32G: a 8G 3c, b 8G 6c, d 8G 3c\nh2 32G: c 12G 0.5c, e 8G 1c, f 8G 0.5c"
    policy = Policy(goal=goal, rules=(AsOne(vms=names("b", "c")),))
    first, second = planned(text, policy=policy).migrations
    assert first.reason == "makes room on h2 for other migrations of this plan"
    assert first.effect is not None
    assert first.effect.repairs == ()
    assert second.reason == "repairs as_one [b, c]"


def test_a_change_by_a_hair_shows() -> None:
    (one,) = planned("h1 100G: a 86G !assigned_device, b 0.01G\nh2 100G:").migrations
    assert one.reason == "relieves h1: memory 86.01 % -> 86.00 %"


@pytest.mark.parametrize(
    "rules",
    [
        (Pin(vms=names("a", "b"), hosts=names("h2")),),
        (Pin(vms=names("a"), hosts=names("h2")), Allow(vms=names("b"), hosts=names("h2"))),
        (Avoid(vms=names("a", "b"), hosts=names("h1", "h3")),),
    ],
)
def test_vms_kept_apart_and_confined_to_one_host_are_a_contradiction(
    rules: tuple[Rule, ...],
) -> None:
    apart = Apart(vms=names("a", "b"))
    listed = r".* and ".join(re.escape(str(rule)) for rule in rules)
    with pytest.raises(
        InputError, match=rf"contradict each other: apart \[a, b\].*{listed} cannot"
    ):
        planned("h1: a 4G 1c, b 4G 1c\nh2:\nh3:", apart, *rules)


def test_too_few_hosts_for_a_rule_alone_is_no_contradiction() -> None:
    made = planned("h1: a, b, c\nh2:", Apart(vms=names("a", "b", "c")))
    assert made.status is Status.FEASIBLE
    assert [one.reason for one in made.unresolved] == ["3 VMs have 2 places"]
    roomy = Apart(vms=names("a", "b", "c"), max_per_host=2)
    enough = Allow(vms=names("a", "b", "c"), hosts=names("h1", "h2"))
    assert planned("h1: a, b, c\nh2:\nh3:", roomy, enough).unresolved == ()


def test_a_vm_held_by_one_rule_names_that_rule_before_others() -> None:
    rules = (NeverMove(vms=names("a")), Apart(vms=names("a", "b")), NeverMove(vms=names("b")))
    made = planned("h1: a, b\nh2:", *rules)
    assert [one.reason for one in made.not_moved] == [
        "never_move [a] allows it no other host",
        "never_move [b] allows it no other host",
    ]


def with_transports(of: dict[str, MigrationSettings]) -> Cluster:
    seen = cluster(HOT)
    return replace(seen, hosts=tuple(replace(host, migration=of[host.name]) for host in seen.hosts))


@pytest.mark.parametrize("prefer", [Prefer.AUTO, Prefer.TCP])
def test_only_settings_that_change_a_transport_are_written(prefer: Prefer) -> None:
    compression = MigrationSettings(transport=Transport.COMPRESSION)
    managed = replace(compression, managed_by=ManagedBy.NETWORK_ATC)
    writing = Policy(transport=TransportPolicy(prefer=prefer, write_settings=True))
    made = planned(with_transports({"h1": compression, "h2": managed}), policy=writing)
    assert [(one.host, one.during) for one in made.settings] == [("h1", "tcp")]
    made = planned(with_transports({"h1": managed, "h2": compression}), policy=writing)
    assert made.settings == (), "the source decides, and it cannot be set"


def test_numbers_beyond_computing_are_refused_and_large_ones_planned() -> None:
    huge = cluster(HOT)
    vms = tuple(replace(vm, cpu_used_cores=1e308) for vm in huge.vms)
    with pytest.raises(InputError, match="too far apart"):
        planned(replace(huge, vms=vms))
    hosts = tuple(replace(host, cpu_cores=1e-290) for host in huge.hosts[:1])
    vms = huge.vms[:1]
    made = planned(replace(huge, hosts=(*hosts, *huge.hosts[1:]), vms=vms))
    assert made.migrations[0].reason == "relieves h1: CPU over 99999 % -> 0 %"


def test_a_forecast_is_never_more_than_a_document_holds() -> None:
    assert forecast(2**62, 1e300, 1e9).bytes == 2**63 - 1
    seen = cluster("h1: a, b\nh2:")
    big = 2**61
    hosts = tuple(replace(host, memory_bytes=2**63 - 1) for host in seen.hosts)
    vms = tuple(replace(vm, memory_assigned_bytes=big) for vm in seen.vms)
    made = planned(replace(seen, hosts=hosts, vms=vms))
    assert parse_plan(plan_to_json(made), "p") == made


def test_a_move_within_a_domain_repairs_no_spread_over_domains() -> None:
    text = "h1 @Site=A: a 4G, b 4G, c 4G, d 4G\nh2 @Site=A:\nh3 @Site=B:"
    rule = Spread(vms=names("a", "b", "c"), domain="site", max_per_domain=2)
    made = {one.target: one for one in planned(text, rule).migrations}
    assert made["h3"].reason.startswith("repairs spread [a, b, c]")
    assert made["h2"].reason.startswith("evens out memory: ")
    assert made["h2"].effect is not None
    assert made["h2"].effect.repairs == ()


UNEVEN = "h1: a 40G 6c, b 8G 6c\nh2: c 4G 1c"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(duration_per_run_s=5.0), {"b": "it would not end within 5 s"}),
        (Limits(migrations_per_run=0), dict.fromkeys("ab", "the cap of 0 migrations is used up")),
        (
            Limits(bytes_per_run=4 * GIB),
            {
                "a": "moving it copies 43.8 GiB, the cap of 4.0 GiB a run leaves 4.0",
                "b": "moving it copies 8.1 GiB, the cap of 4.0 GiB a run leaves 4.0",
            },
        ),
        (Limits(bytes_per_run=12 * GIB), {}),
    ],
    ids=["duration", "migrations", "bytes", "enough"],
)
def test_a_cap_by_which_nothing_moves_is_named(limits: Limits, told: dict[str, str]) -> None:
    made = planned(UNEVEN, policy=Policy(limits=limits))
    assert {one.vm: one.reason for one in made.not_moved} == told
    assert (made.status is Status.NOTHING_TO_DO) is bool(told)


def test_what_a_cap_leaves_is_told_with_digits_enough_to_see_that_it_is_less() -> None:
    policy = Policy(goal=Goal.RELIEVE, limits=Limits(bytes_per_run=int(4.14 * GIB)))
    (reason,) = {one.reason for one in planned(HOT, policy=policy).not_moved}
    assert reason == "moving it copies 4.142 GiB, the cap of 4.1 GiB a run leaves 4.140"


def test_a_cap_of_one_is_one_migration() -> None:
    policy = Policy(limits=Limits(migrations_per_run=1))
    made = planned("h1: a 4G 7c, b 4G 6c, c 4G 7c\nh2: d 1G 1c\nh3:", policy=policy)
    assert {one.reason for one in made.not_moved} == {"the cap of 1 migration is used up"}


@pytest.mark.parametrize("text", ["h1: a 4G 1c\nh2: b 4G 1c", "h1: a 40G 6c\nh2:"])
def test_a_cap_without_which_nothing_would_move_either_is_not_named(text: str) -> None:
    assert planned(text, policy=Policy(limits=Limits(migrations_per_run=0))).not_moved == ()
