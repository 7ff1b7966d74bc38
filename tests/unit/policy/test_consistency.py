"""Rules that cannot hold together are found before planning; those that can are let be."""

from __future__ import annotations

import pytest

from balancer.errors import InputError
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
    "held where it should not be": (
        "never_move: {vms: [a]}",
        "allow: {vms: [a], hosts: [h2]}",
    ),
}


@pytest.mark.parametrize("rules", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradicting_rules_are_named_both_with_their_lines(rules: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        refuse_contradictions(SEEN, policy(*rules))
    named = [line for line in range(3, 3 + len(rules)) if f"yaml:{line})" in caught.value.message]
    assert len(named) == 2, caught.value.message


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
