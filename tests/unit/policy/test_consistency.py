"""Rules that cannot hold together are found before planning; those that can are let be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from balancer.errors import InputError
from balancer.policy.clash import Claim, Clash, find_clash
from balancer.policy.consistency import refuse_contradictions, rule_warnings
from balancer.policy.load import parse_policy
from balancer.policy.policy import Policy
from tests.notation import cluster

SEEN = cluster(
    """
    h1 64G @Site=A @Rack=1: a, b
    h2 64G @Site=A @Rack=2: c
    h3 64G @Site=B @Rack=1: d
    h4 64G: e
    """
)


def policy(*rules: str) -> Policy:
    lines = "".join(f"  - {rule}\n" for rule in rules)
    return parse_policy(f"version: 1\nrules:\n{lines}", "policy.yaml")


CONTRADICTIONS = {
    "together and apart": ("together: {vms: [a, b]}", "apart: {vms: [a, b]}"),
    "disjoint lists": ("allow: {vms: [a], hosts: [h1]}", "avoid: {vms: [a], hosts: [h1]}"),
    "pinned off its licence": (
        "pin: {vms: [a], hosts: [h1]}",
        "licence: {vms: [a], hosts: [h2, h3]}",
    ),
    "together, each elsewhere": (
        "allow: {vms: [a], hosts: [h1]}",
        "together: {vms: [a, b]}",
        "allow: {vms: [b], hosts: [h2]}",
    ),
    "a chain of sets": (
        "allow: {vms: [a], hosts: [h1]}",
        "allow: {vms: [d], hosts: [h3]}",
        "together: {vms: [a, b]}",
        "together: {vms: [b, c]}",
        "together: {vms: [c, d]}",
    ),
    "more than the places": (
        "allow: {vms: [a, b, c], hosts: [h1, h2]}",
        "apart: {vms: [a, b, c]}",
    ),
    "more than the host takes": (
        "allow: {vms: [a, b], hosts: [h1]}",
        "max_vms: {hosts: [h1], limit: 1}",
    ),
    "one site is too small": (
        "within: {vms: [a, b, c], domain: site}",
        "apart: {vms: [a, b, c]}",
        "avoid: {vms: [a], hosts: [h4]}",
        "allow: {vms: [b], hosts: [h3]}",
    ),
    "on one site and over sites": (
        "within: {vms: [a, b, c], domain: site}",
        "spread: {vms: [a, b, c], domain: site, max_per_domain: 2}",
        "avoid: {vms: [a, b, c], hosts: [h4]}",
    ),
    "on the other site": (
        "within: {vms: [a], domain: 'Site:A'}",
        "allow: {vms: [a], hosts: [h3, h4]}",
    ),
    "lists that need a third": (
        "within: {vms: [a], domain: 'Site:A'}",
        "allow: {vms: [a], hosts: [h1, h3]}",
        "allow: {vms: [a], hosts: [h2, h3]}",
    ),
    "a host is free, but not to all of the set": (
        "max_vms: {hosts: [h1, h2], limit: 1}",
        "as_one: {vms: [a, b]}",
        "allow: {vms: [b], hosts: [h1, h2]}",
    ),
    "sets that share a VM": (
        "together: {vms: [a, b]}",
        "apart: {vms: [a, c]}",
        "together: {vms: [b, c]}",
    ),
    "on one host, so on one site": (
        "together: {vms: [a, b]}",
        "within: {vms: [b, c], domain: site}",
        "spread: {vms: [a, c], domain: site, max_per_domain: 1}",
        "avoid: {vms: [a], hosts: [h4]}",
    ),
    "more rules than it takes": (
        "avoid: {vms: [{glob: '*'}], hosts: [h4]}",
        "apart: {vms: [a, c, d]}",
        "together: {vms: [a, b]}",
        "max_vms: {hosts: [h1, h2, h3, h4], limit: 4}",
        "apart: {vms: [a, b]}",
        "allow: {vms: [b], hosts: [h1, h2]}",
    ),
    "at once and in turn": ("as_one: {vms: [a, b]}", "one_at_a_time: {vms: [a, b]}"),
    "at once, by way of a third, and in turn": (
        "as_one: {vms: [a, b]}",
        "as_one: {vms: [b, c]}",
        "one_at_a_time: {vms: [a, c]}",
    ),
    "a part of a set moves last": ("balancer_vm: {vms: [a]}", "as_one: {vms: [a, b]}"),
    "at once in hours that never meet": (
        "as_one: {vms: [a, b]}",
        "only_during: {vms: [a], windows: [{days: [sat]}]}",
        "only_during: {vms: [b], windows: [{days: [mon, tue]}]}",
    ),
    "one VM in hours that never meet": (
        "only_during: {vms: [a], windows: [{from: 22:00, to: 02:00}]}",
        "only_during: {vms: [a], windows: [{from: 02:00, to: 22:00}]}",
    ),
}
CONSISTENT = {
    "two on a site of two hosts": (
        "within: {vms: [a, c], domain: site}",
        "apart: {vms: [a, c]}",
    ),
    "a set with room": ("together: {vms: [a, b]}", "apart: {vms: [a, b, c], max_per_host: 2}"),
    "one of them soft": ("together: {vms: [a, b]}", "apart: {vms: [a, b], hard: false}"),
    "preferred elsewhere": ("allow: {vms: [a], hosts: [h1]}", "prefer: {vms: [a], hosts: [h2]}"),
    "a host nobody has": ("allow: {vms: [a], hosts: [ghost]}", "allow: {vms: [a], hosts: [h1]}"),
    "hosts that no cap counts": (
        "allow: {vms: [a, b], hosts: [h1, h2]}",
        "max_vms: {hosts: [h1], limit: 1}",
    ),
    "sets that share no VM": (
        "together: {vms: [a, b]}",
        "together: {vms: [c, d]}",
        "apart: {vms: [a, c]}",
    ),
    "on one site, so on one host": (
        "within: {vms: [a, b], domain: site}",
        "together: {vms: [b, c]}",
        "apart: {vms: [a, c]}",
    ),
    "at once in hours that meet for one": (
        "as_one: {vms: [a, b]}",
        "only_during: {vms: [a], windows: [{days: [fri], from: 22:00, to: 06:00}]}",
        "only_during: {vms: [b], windows: [{days: [sat], to: 00:30}, {days: [mon]}]}",
    ),
    "at once in hours that are over": (
        "as_one: {vms: [a, b]}",
        "only_during: {vms: [a], windows: [{last_date: 2020-01-01}]}",
        "only_during: {vms: [b], windows: [{days: [mon]}]}",
    ),
    "at once in hours that never come": (
        "as_one: {vms: [a, b]}",
        "only_during: {vms: [a], windows: [{days: [mon], last_date: 0001-01-06}]}",
        "only_during: {vms: [b], windows: [{days: [mon]}]}",
    ),
    "held where it should not be": (
        "never_move: {vms: [a]}",
        "allow: {vms: [a], hosts: [h2]}",
    ),
}


def named(rules: Sequence[str]) -> list[str]:
    """Return those of contradicting rules that the error names by their lines."""
    with pytest.raises(InputError, match="rules contradict each other") as caught:
        refuse_contradictions(SEEN, policy(*rules))
    message = caught.value.message
    return [rule for line, rule in enumerate(rules, 3) if f"(policy.yaml:{line})" in message]


@pytest.mark.parametrize("rules", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_all_rules_are_named_that_a_contradiction_takes_and_no_other(
    rules: tuple[str, ...],
) -> None:
    guilty = named(rules)
    assert named(guilty) == guilty, "alone they do as well"
    for one in guilty:
        refuse_contradictions(SEEN, policy(*(rule for rule in guilty if rule != one)))


def test_a_contradiction_says_how_many_cannot_hold_and_when() -> None:
    def message(rules: tuple[str, ...]) -> str:
        with pytest.raises(InputError) as caught:
            refuse_contradictions(SEEN, policy(*rules))
        return caught.value.message

    assert message(CONTRADICTIONS["together and apart"]) == (
        "rules contradict each other: together [a, b] (policy.yaml:3) and apart [a, b] "
        "(policy.yaml:4) cannot both hold for VM 'a' (a)"
    )
    assert message(CONTRADICTIONS["lists that need a third"]) == (
        "rules contradict each other: within [a] (policy.yaml:3), allow [a] (policy.yaml:4) and "
        "allow [a] (policy.yaml:5) cannot all hold for VM 'a' (a)"
    )
    hours = message(CONTRADICTIONS["at once in hours that never meet"])
    assert hours.endswith("cannot all hold when VM 'a' (a) moves")


def test_of_very_many_rules_the_rare_ones_are_named_and_the_others_counted() -> None:
    seen = cluster("h1: " + ", ".join(f"v{at}" for at in range(30)) + "\nh2:")
    lists = [f"allow: {{vms: [{vm.id}], hosts: [h1]}}" for vm in seen.vms]
    rules = policy(*lists, "max_vms: {hosts: [h1], limit: 20}")
    with pytest.raises(
        InputError, match=r"allow \[v0\] \(.*max_vms \[h1\] .* and 10 more "
    ) as caught:
        refuse_contradictions(seen, rules)
    assert caught.value.message.count("policy.yaml") == 12


def test_a_contradiction_among_many_rules_is_found_with_few_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = cluster(
        "\n".join(f"h{at}: " + ", ".join(f"v{at}x{n}" for n in range(9)) for at in range(9))
    )
    others = [f"allow: {{vms: [{vm.id}], hosts: [h1, h2, h3]}}" for vm in seen.vms]
    rules = policy(
        "within: {vms: [{glob: 'v*'}], domain: host}",
        *others,
        *others,
        "avoid: {vms: [v7x7], hosts: [h1, h2]}",
        "avoid: {vms: [v3x3], hosts: [h3]}",
    )
    checks: list[int] = []

    def counted(claims: Iterable[Claim], everywhere: frozenset[str]) -> Clash | None:
        checks.append(len(listed := list(claims)))
        return find_clash(listed, everywhere)

    monkeypatch.setattr("balancer.policy.clash.find_clash", counted)
    with pytest.raises(InputError, match=r"within .* allow \[v7x7\] .* avoid \[v7x7\] .* avoid"):
        refuse_contradictions(seen, rules)
    assert len(checks) < 30
    assert sum(checks) < 400, "of rules that are about other VMs there is nothing to find out"


@pytest.mark.parametrize("rules", CONSISTENT.values(), ids=CONSISTENT)
def test_rules_that_can_hold_together_are_let_be(rules: tuple[str, ...]) -> None:
    refuse_contradictions(SEEN, policy(*rules))


def test_a_vm_held_where_it_should_not_be_is_warned_of() -> None:
    (warning,) = rule_warnings(SEEN, policy(*CONSISTENT["held where it should not be"]))
    assert "policy.yaml:3" in warning
    assert "policy.yaml:4" in warning


def test_a_level_that_no_host_has_is_warned_of() -> None:
    rules = ("spread: {vms: [a], domain: chassis}", "within: {vms: [a], domain: 'Site:C'}")
    first, second = rule_warnings(SEEN, policy(*rules))
    assert "no host is in a chassis" in first
    assert "no host is in Site:C" in second


WARNINGS = {
    "apart, and held where they are": (
        ("apart: {vms: [a, b, c]}", "never_move: {vms: [a, b]}"),
        (
            "apart [a, b, c] (policy.yaml:3) wants no more than 1 of a and b on h1, and "
            "never_move [a, b] (policy.yaml:4) keeps them there"
        ),
    ),
    "together, and held where they are": (
        ("never_move: {vms: [a]}", "together: {vms: [a, c]}", "never_move: {vms: [c]}"),
        (
            "together [a, c] (policy.yaml:4) wants a (on h1) and c (on h2) together, and "
            "never_move [a] (policy.yaml:3) and never_move [c] (policy.yaml:5) keep them there"
        ),
    ),
    "a word that looks like a pattern": (
        ("never_move: {vms: ['zz*']}",),
        (
            "policy.yaml:3: rule never_move [zz*]: no VM matches zz*; the rule does not bind it; "
            'to match names write {glob: "zz*"}'
        ),
    ),
    "hosts that look like a pattern": (
        ("allow: {vms: [a], hosts: ['h?']}",),
        'policy.yaml:3: rule allow [a]: no host matches h?; to match names write {glob: "h?"}',
    ),
    "nowhere to be": (
        ("avoid: {vms: [a], hosts: [{glob: 'h*'}], hard: false}",),
        "policy.yaml:3: rule avoid [a]: it leaves the VMs no host at all",
    ),
    "a wish that a hard rule leaves nothing of": (
        (
            "allow: {vms: [a, b], hosts: [h1, h2], hard: false}",
            "avoid: {vms: [a], hosts: [h1]}",
            "allow: {vms: [a, b], hosts: [h3, h1]}",
        ),
        "allow [a, b] (policy.yaml:3) allows no host that hard rules leave a",
    ),
    "more than there is": (
        ("reserve: {hosts: [h2, h3], memory: 64 GiB}",),
        "policy.yaml:3: rule reserve [h2, h3]: it leaves no memory on h2, h3",
    ),
    "hours that are over": (
        ("only_during: {vms: [a], windows: [{last_date: 2026-06-30}]}",),
        "policy.yaml:3: rule only_during [a]: none of its windows opens within 800 days",
    ),
}
NO_WARNINGS = {
    "held where they may be": (
        "never_move: {vms: [a, b, c]}",
        "apart: {vms: [a, c]}",
        "apart: {vms: [a, b, c], max_per_host: 2}",
        "together: {vms: [a, b]}",
        "within: {vms: [b, c], domain: site}",
    ),
    "one of them may move": ("never_move: {vms: [a]}", "apart: {vms: [a, b]}"),
    "a wish that some hosts are left of": (
        "allow: {vms: [a], hosts: [h1, h2], hard: false}",
        "avoid: {vms: [a], hosts: [h1]}",
    ),
    "only preferred": ("prefer: {vms: [a], hosts: [h1]}", "avoid: {vms: [a], hosts: [h1]}"),
    "nearly all": ("reserve: {hosts: [h1], memory: 63 GiB}",),
    "hours to come": ("only_during: {vms: [a], windows: [{first_date: 2027-01-01}]}",),
}
DATED = replace(SEEN, taken_at=datetime(2026, 7, 2, 12, tzinfo=UTC))


@pytest.mark.parametrize(("rules", "told"), WARNINGS.values(), ids=WARNINGS)
def test_what_does_less_than_its_writer_may_think_is_warned_of(
    rules: tuple[str, ...], told: str
) -> None:
    assert rule_warnings(DATED, policy(*rules)) == (told,)


@pytest.mark.parametrize("rules", NO_WARNINGS.values(), ids=NO_WARNINGS)
def test_what_does_as_it_says_is_not(rules: tuple[str, ...]) -> None:
    assert rule_warnings(DATED, policy(*rules)) == ()


def test_hours_are_said_to_be_over_only_where_the_time_is_known() -> None:
    rules, _ = WARNINGS["hours that are over"]
    assert rule_warnings(SEEN, policy(*rules)) == ()


def test_a_policy_that_leaves_no_memory_or_no_hours_is_warned_of() -> None:
    def warned(text: str) -> tuple[str, ...]:
        return rule_warnings(DATED, parse_policy(f"version: 1\n{text}\n", "policy.yaml"))

    assert warned("reserve: {memory: 64 GiB}") == (
        "reserve: it leaves no memory on h1, h2, h3 and h4",
    )
    assert warned("reserve: {memory: 63 GiB}") == ()
    over = ("windows and blackouts: no migration may run within 800 days",)
    assert warned("windows: [{last_date: 2026-07-01}]") == over
    assert warned("blackouts: [{to: 24:00}]") == over
    assert warned("windows: [{last_date: 2026-07-02}]") == ()
    weekend = "windows: [{days: [sat, sun]}]\nrules:\n  - only_during: {vms: [a], windows: "
    assert warned(weekend + "[{days: [mon]}]}") == (
        "only_during [a] (policy.yaml:4) has no window that is open when one of the policy's is",
    )
    assert warned(weekend + "[{days: [fri], from: 23:00, to: 01:00}]}") == ()
