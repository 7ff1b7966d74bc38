"""Each kind of rule on every placement of four VMs on three hosts, from every start.

d starts on h1: the rules that speak of it name no hosts, so for them all hosts are alike.

What a rule means is said here in plain words' logic, a second time and without forms; the judge
and the planner's lowering must both come to the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pytest

from balancer.judge import Code, judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner.problem import build
from balancer.planner.score import legal_end, measure
from balancer.policy.policy import Policy
from balancer.policy.rules import KINDS, Allow, Apart, Avoid, NeverMove, Pin, Together
from tests.notation import cluster
from tests.unit.judge.plans import leg, plan_of

HOSTS = ("h1", "h2", "h3")
VMS = ("a", "b", "c", "d")
PLACEMENTS = tuple(dict(zip(VMS, hosts, strict=True)) for hosts in product(HOSTS, repeat=4))
STARTS = PLACEMENTS[::3]
assert {at["d"] for at in STARTS} == {"h1"}
Placement = Mapping[str, str]


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def most_on_one(at: Placement, vms: str, host: str) -> int:
    return len([vm for vm in vms if at[vm] == host])


def crowded(vms: str, most: int) -> Callable[[Placement, Placement], bool]:
    """A host has more of the VMs than may be together, and more than it had."""
    return lambda was, now: any(
        most_on_one(now, vms, host) > max(most, most_on_one(was, vms, host)) for host in HOSTS
    )


def scattered(was: Placement, now: Placement) -> bool:
    """The three are on more hosts than they were."""
    return len({now[vm] for vm in "abc"}) > len({was[vm] for vm in "abc"})


def strayed(was: Placement, now: Placement) -> bool:
    """One of the two was taken to where it is not allowed."""
    return any(now[vm] != was[vm] and now[vm] not in ("h1", "h2") for vm in "ab")


def taken_there(was: Placement, now: Placement) -> bool:
    """One of the three was taken to the host to avoid."""
    return any(now[vm] != was[vm] and now[vm] == "h3" for vm in "abc")


def moved(was: Placement, now: Placement) -> bool:
    return any(now[vm] != was[vm] for vm in "ad")


def unpinned(was: Placement, now: Placement) -> bool:
    """One was taken off a host it belongs on, or from elsewhere to where it does not belong."""
    return any(
        now[vm] != was[vm] and (was[vm] in ("h1", "h2") or now[vm] not in ("h1", "h2"))
        for vm in "bc"
    )


def outside(vms: str, hosts: tuple[str, ...]) -> Callable[[Placement, Placement], int]:
    return lambda was, now: len([vm for vm in vms if now[vm] not in hosts])


def excess(vms: str, most: int) -> Callable[[Placement, Placement], int]:
    return lambda was, now: sum(max(0, most_on_one(now, vms, host) - most) for host in HOSTS)


# Each rule, when an end is worse than the start allows, and how often an end breaks it.
CASES: dict[
    str,
    tuple[Rule, Callable[[Placement, Placement], bool], Callable[[Placement, Placement], int]],
] = {
    "allow": (
        Allow(vms=pick("a", "b"), hosts=pick("h1", "h2")),
        strayed,
        outside("ab", ("h1", "h2")),
    ),
    "apart": (Apart(vms=pick("a", "b", "c")), crowded("abc", 1), excess("abc", 1)),
    "apart by two": (
        Apart(vms=pick("a", "b", "c", "d"), max_per_host=2),
        crowded("abcd", 2),
        excess("abcd", 2),
    ),
    "avoid": (
        Avoid(vms=pick("a", "b", "c"), hosts=pick("h3")),
        taken_there,
        outside("abc", ("h1", "h2")),
    ),
    "never_move": (
        NeverMove(vms=pick("a", "d")),
        moved,
        lambda was, now: len([vm for vm in "ad" if was[vm] != now[vm]]),
    ),
    "pin": (
        Pin(vms=pick("b", "c"), hosts=pick("h1", "h2")),
        unpinned,
        lambda was, now: len(
            [
                vm
                for vm in "bc"
                if now[vm] not in ("h1", "h2") or (was[vm] in ("h1", "h2") and now[vm] != was[vm])
            ]
        ),
    ),
    "together": (
        Together(vms=pick("a", "b", "c")),
        scattered,
        lambda was, now: len({now[vm] for vm in "abc"}) - 1,
    ),
}


def placed(at: Placement, rule: Rule) -> Cluster:
    lines = [
        f"{host} 64G: " + ", ".join(f"{vm} 1G" for vm in VMS if at[vm] == host) for host in HOSTS
    ]
    return cluster("\n".join(lines), rules=(rule,))


def towards(seen: Cluster, was: Placement, now: Placement) -> Plan:
    moves = [leg(f"{vm}: {was[vm]} > {now[vm]}") for vm in VMS if was[vm] != now[vm]]
    return plan_of(seen, *moves)


def test_every_kind_is_here() -> None:
    assert {rule.kind for rule, _, _ in CASES.values()} == set(KINDS)


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("case", CASES)
def test_the_judge_means_the_end_that_the_rule_says(case: str, hard: bool) -> None:  # noqa: FBT001
    rule, is_worse, _ = CASES[case]
    rule = dataclasses.replace(rule, hard=hard, during=False)
    for was in STARTS[:: 1 if hard else 4]:
        seen = placed(was, rule)
        for now in PLACEMENTS:
            found = {finding.code for finding in judge(seen, Policy(), towards(seen, was, now))}
            assert found == ({Code.RULE_END} if hard and is_worse(was, now) else set()), (was, now)


@pytest.mark.parametrize("case", CASES)
def test_the_judge_means_what_the_rule_says_at_every_instant(case: str) -> None:
    """All migrations at once: any of the VMs may be before, in or after its flight."""
    rule, is_worse, _ = CASES[case]
    rule = dataclasses.replace(rule, during=True)
    for was in STARTS:
        seen = placed(was, rule)
        for now in PLACEMENTS[::2]:
            found = {finding.code for finding in judge(seen, Policy(), towards(seen, was, now))}
            flights = [((was[vm],), (was[vm], now[vm]), (now[vm],)) for vm in VMS]
            states = [dict(zip(VMS, at, strict=True)) for at in product(*flights)]
            if rule.kind in {"apart", "together"}:
                broken = any(_worse_in_flight(rule, was, state) for state in states)
            else:
                broken = is_worse(was, now)
            assert (Code.RULE_DURING in found) == broken, (was, now)


def _worse_in_flight(rule: Rule, was: Placement, at: Mapping[str, tuple[str, ...]]) -> bool:
    """Count a VM in flight on both of its hosts."""
    vms = [str(selector) for selector in rule.vms]
    if isinstance(rule, Apart):
        return any(
            len([vm for vm in vms if host in at[vm]])
            > max(rule.max_per_host, len([vm for vm in vms if was[vm] == host]))
            for host in HOSTS
        )
    return len({host for vm in vms for host in at[vm]}) > len({was[vm] for vm in vms})


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("case", CASES)
def test_the_planner_means_what_the_rule_says(case: str, hard: bool) -> None:  # noqa: FBT001
    rule, is_worse, count = CASES[case]
    rule = dataclasses.replace(rule, hard=hard)
    for was in STARTS[:: 1 if hard else 4]:
        problem = build(placed(was, rule), Policy())
        for now in PLACEMENTS:
            place = np.array([HOSTS.index(now[vm]) for vm in VMS], dtype=np.int64)
            legal = legal_end(problem, place)
            assert legal == (not (hard and is_worse(was, now))), (was, now)
            if legal:
                score = measure(problem, place)
                broken = count(was, now)
                assert (score.rules, score.soft) == ((broken, 0) if hard else (0, broken))
