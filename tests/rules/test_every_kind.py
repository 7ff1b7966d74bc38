"""Each kind of rule on every placement of four VMs on three hosts, from every start.

h1 and h2 are on one site and h3 on another. d starts on h1: the rules that speak of it name no
hosts, so for them all hosts are alike.

What a rule means is said here in plain words' logic, a second time and without forms. The judge,
the planner's measure, its running differences and its ILP must all come to the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import highspy
import numpy as np
import pytest

from balancer.judge import Code, judge
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner.formulate import all_columns, formulate
from balancer.planner.ilp import arrays, quiet_highs
from balancer.planner.problem import Ints, build
from balancer.planner.score import legal_end, measure, tier_names
from balancer.planner.search import local
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Policy
from balancer.policy.rules import (
    KINDS,
    Allow,
    Apart,
    AsOne,
    Avoid,
    BalancerVm,
    HostReserve,
    LastResort,
    Licence,
    MaxVms,
    NeverMove,
    OneAtATime,
    OnlyDuring,
    Pin,
    Prefer,
    Priority,
    Spread,
    Together,
    Within,
)
from balancer.policy.windows import Span
from tests.notation import cluster
from tests.unit.judge.plans import NOW, leg, plan_of

HOSTS = ("h1", "h2", "h3")
SITES = (("h1", "h2"), ("h3",))
EACH = (("h1",), ("h2",), ("h3",))
VMS = ("a", "b", "c", "d")
PLACEMENTS = tuple(dict(zip(VMS, hosts, strict=True)) for hosts in product(HOSTS, repeat=4))
STARTS = PLACEMENTS[::3]
assert {at["d"] for at in STARTS} == {"h1"}
Placement = Mapping[str, str]
Flight = Mapping[str, tuple[str, ...]]  # a VM in flight is on both of its hosts
Domains = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Case:
    """A rule, when an end is worse than the start allows, and how often an end breaks it.

    `in_flight` tells whether a moment on the way is worse; without it the end alone decides.
    `out_of_turn` tells whether it is against the rule to begin all migrations at once. `code` is
    what the judge says of an end that is worse.
    """

    rule: Rule
    is_worse: Callable[[Placement, Placement], bool]
    count: Callable[[Placement, Placement], int]
    in_flight: Callable[[Placement, Flight], bool] | None = None
    out_of_turn: Callable[[Placement, Placement], bool] = lambda was, now: False
    code: Code = Code.RULE_END


def pick(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


def capped(rule: Rule, vms: str, most: int, domains: Domains) -> Case:
    """A domain may have `most` of the VMs, or as many as it had."""

    def number(at: Flight, domain: tuple[str, ...]) -> int:
        return len([vm for vm in vms if any(host in domain for host in at[vm])])

    def worse(was: Placement, at: Flight) -> bool:
        return any(
            number(at, domain) > max(most, number(settled(was), domain)) for domain in domains
        )

    def excess(was: Placement, now: Placement) -> int:
        del was
        return sum(max(0, number(settled(now), domain) - most) for domain in domains)

    return Case(rule, lambda was, now: worse(was, settled(now)), excess, worse)


def settled(at: Placement) -> Flight:
    return {vm: (host,) for vm, host in at.items()}


def gathered(rule: Rule, vms: str, domains: Domains) -> Case:
    """The VMs may be in as many domains as they were."""

    def number(at: Flight) -> int:
        there = {host for vm in vms for host in at[vm]}
        return len([domain for domain in domains if there & set(domain)])

    def worse(was: Placement, at: Flight) -> bool:
        return number(at) > number(settled(was))

    def extra(was: Placement, now: Placement) -> int:
        del was
        return number(settled(now)) - 1

    return Case(rule, lambda was, now: worse(was, settled(now)), extra, worse)


def listed(rule: Rule, vms: str, hosts: tuple[str, ...]) -> Case:
    """No VM is taken to where it is not allowed."""
    return Case(
        rule,
        lambda was, now: any(now[vm] != was[vm] and now[vm] not in hosts for vm in vms),
        lambda was, now: len([vm for vm in vms if now[vm] not in hosts]),
    )


def moved(was: Placement, now: Placement) -> int:
    return len([vm for vm in "ad" if now[vm] != was[vm]])


def unpinned(was: Placement, now: Placement) -> bool:
    """One was taken off a host it belongs on, or from elsewhere to where it does not belong."""
    return any(
        now[vm] != was[vm] and (was[vm] in ("h1", "h2") or now[vm] not in ("h1", "h2"))
        for vm in "bc"
    )


def out_of_place(was: Placement, now: Placement) -> int:
    return len(
        [
            vm
            for vm in "bc"
            if now[vm] not in ("h1", "h2") or (was[vm] in ("h1", "h2") and now[vm] != was[vm])
        ]
    )


def timed(
    rule: Rule, out_of_turn: Callable[[Placement, Placement], bool] = lambda was, now: False
) -> Case:
    """A rule on when VMs move: wherever they end, it is not broken."""
    return Case(rule, lambda was, now: False, lambda was, now: 0, None, out_of_turn)


def movers(was: Placement, now: Placement) -> set[str]:
    return {vm for vm in VMS if now[vm] != was[vm]}


AB, ABC = pick("a", "b"), pick("a", "b", "c")
CASES: dict[str, Case] = {
    "allow": listed(Allow(vms=AB, hosts=pick("h1", "h2")), "ab", ("h1", "h2")),
    "apart": capped(Apart(vms=ABC), "abc", 1, EACH),
    "apart by two": capped(Apart(vms=pick(*VMS), max_per_host=2), "abcd", 2, EACH),
    "as_one": gathered(AsOne(vms=ABC), "abc", EACH),
    "avoid": listed(Avoid(vms=ABC, hosts=pick("h3")), "abc", ("h1", "h2")),
    "balancer_vm": timed(BalancerVm(vms=pick("a")), lambda was, now: {"a"} < movers(was, now)),
    "last_resort": timed(LastResort(vms=AB)),
    "licence": listed(Licence(vms=AB, hosts=pick("h2", "h3")), "ab", ("h2", "h3")),
    "max_vms": capped(MaxVms(hosts=pick("h1", "h3"), limit=1), "abcd", 1, (("h1",), ("h3",))),
    "never_move": Case(NeverMove(vms=pick("a", "d")), lambda *at: moved(*at) > 0, moved),
    "one_at_a_time": timed(
        OneAtATime(vms=ABC), lambda was, now: len(movers(was, now) & {*"abc"}) > 1
    ),
    "only_during": Case(
        OnlyDuring(vms=ABC, windows=(Span(from_minute=0, to_minute=60),)),  # NOW is at noon
        lambda was, now: bool(movers(was, now) & {*"abc"}),
        lambda was, now: len(movers(was, now) & {*"abc"}),
        code=Code.WINDOW,
    ),
    "pin": Case(Pin(vms=pick("b", "c"), hosts=pick("h1", "h2")), unpinned, out_of_place),
    "prefer": listed(Prefer(vms=ABC, hosts=pick("h2")), "abc", ("h2",)),
    "prefer, by tie-break": timed(Prefer(vms=ABC, hosts=pick("h2"), tie_break=True)),
    "priority": timed(Priority(vms=ABC)),
    "reserve": timed(HostReserve(hosts=pick("h1"), cpu=0.1)),
    "spread evenly": capped(Spread(vms=pick(*VMS), domain="site"), "abcd", 2, SITES),
    "spread": capped(Spread(vms=ABC, domain="Site", max_per_domain=1), "abc", 1, SITES),
    "spread over hosts": capped(Spread(vms=pick(*VMS), domain="host"), "abcd", 2, EACH),
    "together": gathered(Together(vms=ABC), "abc", EACH),
    "within": gathered(Within(vms=ABC, domain="site"), "abc", SITES),
    "within one": listed(Within(vms=AB, domain="site:a"), "ab", ("h1", "h2")),
}
BOTH_WAYS = [
    pytest.param(name, hard, id=f"{name}, {'hard' if hard else 'soft'}")
    for name, case in CASES.items()
    for hard in (True, False)
    if hard == case.rule.hard or "hard" not in case.rule.withheld
]


def placed(at: Placement, rule: Rule) -> Cluster:
    lines = [
        f"{host} 64G @Site={'A' if host in SITES[0] else 'B'}: "
        + ", ".join(f"{vm} 1G" for vm in VMS if at[vm] == host)
        for host in HOSTS
    ]
    return cluster("\n".join(lines), rules=(rule,))


def indices(at: Placement) -> Ints:
    return np.array([HOSTS.index(at[vm]) for vm in VMS], dtype=np.int64)


def towards(seen: Cluster, was: Placement, now: Placement) -> Plan:
    moves = [leg(f"{vm}: {was[vm]} > {now[vm]}") for vm in VMS if was[vm] != now[vm]]
    return plan_of(seen, *moves)


def test_every_kind_is_here() -> None:
    assert {case.rule.kind for case in CASES.values()} == set(KINDS)


@pytest.mark.parametrize(("name", "hard"), BOTH_WAYS)
def test_the_judge_means_the_end_that_the_rule_says(name: str, hard: bool) -> None:  # noqa: FBT001
    case = CASES[name]
    rule = dataclasses.replace(case.rule, hard=hard, during=False)
    for was in STARTS[:: 1 if hard else 4]:
        seen = placed(was, rule)
        for now in PLACEMENTS:
            found = {finding.code for finding in judge(seen, Policy(), towards(seen, was, now))}
            wrong = {case.code} if hard and case.is_worse(was, now) else set()
            late = {Code.RULE_DURING} if case.out_of_turn(was, now) else set()
            assert found == wrong | late, (was, now)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, case in CASES.items()
        if case.rule.hard and case.rule.during and case.code is Code.RULE_END
    ],
)
def test_the_judge_means_what_the_rule_says_at_every_instant(name: str) -> None:
    """All migrations at once: any of the VMs may be before, in or after its flight."""
    case = CASES[name]
    rule = dataclasses.replace(case.rule, during=True)
    for was in STARTS:
        seen = placed(was, rule)
        for now in PLACEMENTS[::2]:
            found = {finding.code for finding in judge(seen, Policy(), towards(seen, was, now))}
            flights = [((was[vm],), (was[vm], now[vm]), (now[vm],)) for vm in VMS]
            states = [dict(zip(VMS, at, strict=True)) for at in product(*flights)]
            if case.in_flight is not None:
                broken = any(case.in_flight(was, state) for state in states)
            else:
                broken = case.is_worse(was, now) or case.out_of_turn(was, now)
            assert (Code.RULE_DURING in found) == broken, (was, now)


@pytest.mark.parametrize(("name", "hard"), BOTH_WAYS)
def test_the_planner_means_what_the_rule_says(name: str, hard: bool) -> None:  # noqa: FBT001
    case = CASES[name]
    rule = dataclasses.replace(case.rule, hard=hard, during=False)
    for was in STARTS[:: 1 if hard else 4]:
        problem = build(placed(was, rule), Policy(), now=NOW)
        for now in PLACEMENTS:
            legal = legal_end(problem, indices(now))
            assert legal == (not (hard and case.is_worse(was, now))), (was, now)
            if legal:
                score = measure(problem, indices(now))
                broken = case.count(was, now)
                assert (score.rules, score.soft) == ((broken, 0) if hard else (0, broken))


@pytest.mark.parametrize(("name", "hard"), BOTH_WAYS)
def test_running_differences_are_what_measuring_gives(name: str, hard: bool) -> None:  # noqa: FBT001
    """Every single move from every legal placement, as the local searches see it."""
    rule = dataclasses.replace(CASES[name].rule, hard=hard, during=False)
    for was in STARTS[::9]:
        problem = build(placed(was, rule), Policy(), now=NOW)
        for now in PLACEMENTS[::2]:
            place = indices(now)
            if not legal_end(problem, place):
                continue
            state, before = State(problem, place), measure(problem, place)
            for vm in range(len(VMS)):
                change = state.rule_change(vm)
                for host in range(len(HOSTS)):
                    if host == place[vm]:
                        continue
                    after = place.copy()
                    after[vm] = host
                    assert change.legal[host] == legal_end(problem, after)
                    if change.legal[host]:
                        score = measure(problem, after)
                        steps = score.rules - before.rules, score.soft - before.soft
                        assert (change.hard[host], change.soft[host]) == steps, (was, now, vm, host)


@pytest.mark.parametrize(("name", "hard"), BOTH_WAYS)
def test_the_ilp_means_what_the_rule_says(name: str, hard: bool) -> None:  # noqa: FBT001
    case = CASES[name]
    rule = dataclasses.replace(case.rule, hard=hard, during=False)
    for was in STARTS[::9]:
        problem = build(placed(was, rule), Policy(), now=NOW)
        formulation = formulate(problem, *all_columns(problem), problem.home)
        tiers = dict(zip(tier_names(Policy().goal), formulation.tiers, strict=True))
        for tier in ("rules", "soft"):
            cost = formulation.linear.cost(tiers[tier])
            engine = quiet_highs()
            engine.passModel(arrays(formulation.linear, cost))
            for now in PLACEMENTS:
                x = formulation.columns_at(indices(now))
                if not np.array_equal(formulation.placement(x), indices(now)):
                    assert hard  # there is no column for it
                    assert case.is_worse(was, now)
                    continue
                columns = np.arange(len(x), dtype=np.int32)
                engine.changeColsBounds(len(x), columns, x, x)
                engine.run()
                solved = engine.getModelStatus() == highspy.HighsModelStatus.kOptimal
                assert solved == (not (hard and case.is_worse(was, now))), (was, now)
                if solved:
                    value = engine.getInfo().objective_function_value + tiers[tier].constant
                    wanted = case.count(was, now) if (tier == "rules") == hard else 0
                    assert value == pytest.approx(wanted, abs=1e-6), (was, now)


@pytest.mark.parametrize(("name", "hard"), BOTH_WAYS)
def test_local_search_repairs_all_that_can_be_repaired(name: str, hard: bool) -> None:  # noqa: FBT001
    case = CASES[name]
    rule = dataclasses.replace(case.rule, hard=hard)
    for was in STARTS[::2]:
        problem = build(placed(was, rule), Policy(), now=NOW)
        found = local(problem, Work(1e6))
        legal = [now for now in PLACEMENTS if not (hard and case.is_worse(was, now))]
        now = {vm: HOSTS[at] for vm, at in zip(VMS, found.tolist(), strict=True)}
        assert now in legal, (was, now)
        assert case.count(was, now) == min(case.count(was, one) for one in legal), (was, now)
