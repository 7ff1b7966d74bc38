from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from balancer.errors import InputError, RefusedError
from balancer.model.cluster import Cluster, HostState
from balancer.model.plan import Plan, Status, StoppedBy
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import move, place, plan, why_not
from balancer.planner.bound import assignment_bound, decoupled_bound
from balancer.planner.construct import evacuate, mend
from balancer.planner.formulate import all_columns, formulate
from balancer.planner.ilp import Effort
from balancer.planner.neighbour import neighbours
from balancer.planner.problem import build
from balancer.planner.relax import relax, rounded
from balancer.planner.score import legal_end, measure
from balancer.planner.search import local, shake
from balancer.planner.state import State
from balancer.planner.tiers import solve_tiers
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Limits, Policy, Thresholds
from balancer.policy.rules import Allow, Apart, NeverMove, Together
from benchmarks.instances import generate
from tests.notation import cluster
from tests.unit.planner.oracle import NOW, end_of, faults, moved_to, tiers

HOT = """
h1 64G 16c: a 8G 5c, b 8G 5c, c 8G 5c
h2 64G 16c: d 8G 2c
h3 64G 16c: e 8G 2c
"""


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def hot(*rules: Rule) -> Cluster:
    return cluster(HOT, rules=rules)


def test_overload_is_relieved_and_the_reason_says_so_in_numbers() -> None:
    made = plan(hot(), Policy(), now=NOW)
    assert made.status is Status.OPTIMAL
    assert made.stopped_by is StoppedBy.PROOF
    assert {one.source for one in made.migrations} == {"h1"}
    assert made.migrations[0].reason == "relieves h1: CPU 94 % -> 31 %"
    assert made.score.closed == pytest.approx(1.0, abs=1e-4)
    assert [tier.name for tier in made.score.tiers] == [
        "drain", "rules", "overload", "soft rules", "balance"
    ]  # fmt: skip
    assert made.expires_at > made.created_at == NOW


def test_the_goals_go_only_as_far_as_they_say() -> None:
    assert plan(hot(), Policy(goal=Goal.RULES_ONLY), now=NOW).status is Status.NOTHING_TO_DO
    relieved = plan(hot(), Policy(goal=Goal.RELIEVE), now=NOW)
    assert len(relieved.migrations) == 1, "one move ends the overload"
    assert len(plan(hot(), Policy(), now=NOW).migrations) == 2


def test_within_the_dead_band_nothing_moves() -> None:
    made = plan(cluster("h1: a 4G 2c\nh2: b 4G 2c"), Policy(), now=NOW)
    assert made.status is Status.NOTHING_TO_DO
    assert made.stopped_by is StoppedBy.PROOF
    assert made.score.closed == 1.0


def test_a_drained_host_is_emptied_and_one_that_cannot_be_is_infeasible() -> None:
    text = "h1 draining: a 8G 1c, b 8G 1c !assigned_device\nh2:\nh3:"
    made = plan(cluster(text), Policy(), now=NOW)
    assert made.status is Status.INFEASIBLE
    assert [one.vm for one in made.migrations] == ["a"]
    assert made.migrations[0].reason == "evacuates h1, which is draining"
    assert [(one.vm, one.reason) for one in made.not_moved] == [
        ("b", "it is blocked by assigned_device")
    ]
    assert made.unresolved[0].subject == "h1"
    fine = plan(cluster(text.replace(" !assigned_device", "")), Policy(), now=NOW)
    assert fine.status is Status.OPTIMAL
    assert {one.target for one in fine.migrations} <= {"h2", "h3"}


def test_sets_kept_together_leave_a_draining_host_together() -> None:
    lines = ["h0 draining 256G: " + ", ".join(f"v{at} 1G" for at in range(60)) + ", a 1G, b 1G"]
    lines += [f"h{at} 64G:" for at in range(1, 16)]
    rules = (Together(vms=names("a", "b")), Together(vms=names("b", "v3")))
    policy = Policy(goal=Goal.RULES_ONLY)
    seen = cluster("\n".join(lines), rules=rules)
    made = plan(seen, policy, now=NOW)
    assert made.status is not Status.INFEASIBLE
    assert len(made.migrations) == 62, "its VMs and nothing else"
    end = end_of(seen, made)
    assert end["a"] == end["b"] == end["v3"]
    assert faults(seen, policy, made) == []


def test_a_drain_may_overload_where_nothing_else_is_left() -> None:
    seen = cluster("h1 draining 64G: a 30G 1c\nh2 64G: b 30G 1c")
    made = plan(seen, Policy(), now=NOW)
    assert [one.target for one in made.migrations] == ["h2"]
    assert faults(seen, Policy(), made) == []
    assert any("memory 94 %" in one.problem for one in made.unresolved)


def test_rules_are_repaired_and_cited_with_their_place() -> None:
    rule = Apart(vms=names("a", "b"), origin="policy.yaml:12", name="dc")
    seen = cluster("h1: a 4G, b 4G\nh2:\nh3:")
    made = plan(seen, Policy(rules=(rule,), goal=Goal.RULES_ONLY), now=NOW)
    assert [one.reason for one in made.migrations] == ["repairs apart [dc] (policy.yaml:12)"]


def test_a_torn_unit_is_gathered_even_if_all_of_it_has_to_move() -> None:
    seen = cluster(
        "h1 16G: a 8G, x 4G !locked\nh2 16G: b 8G, y 4G !locked\nh3 32G:",
        rules=(Together(vms=names("a", "b")),),
    )
    made = plan(seen, Policy(), now=NOW)
    assert {one.target for one in made.migrations} == {"h3"}
    problem = build(seen, Policy())
    state = State(problem)
    mend(state, Work(1e9), hard=True)
    assert measure(problem, state.place).rules == 0, "construction alone finds it too"


def test_room_is_made_for_a_repair() -> None:
    seen = cluster(
        "h1 32G: a 12G\nh2 16G: x 8G, z 1G\nh3 12G: w 1G",
        rules=(Allow(vms=names("a"), hosts=names("h2")),),
    )
    problem = build(seen, Policy())
    state = State(problem)
    mend(state, Work(1e9), hard=True)
    assert measure(problem, state.place).rules == 0
    assert legal_end(problem, state.place)
    assert faults(seen, Policy(), plan(seen, Policy(), now=NOW)) == []


def test_what_stays_broken_is_named_with_the_binding_rule() -> None:
    rules = (NeverMove(vms=names("a"), origin="p:1"), NeverMove(vms=names("b"), origin="p:2"))
    seen = cluster("h1: a, b\nh2:", rules=(*rules, Apart(vms=names("a", "b"), origin="p:3")))
    made = plan(seen, Policy(), now=NOW)
    assert made.migrations == ()
    assert {one.vm: one.reason for one in made.not_moved} == {
        "a": "never_move [a] (p:1) allows it no other host",
        "b": "never_move [b] (p:2) allows it no other host",
    }
    assert [one.subject for one in made.unresolved] == ["apart [a, b] (p:3)"]


@pytest.mark.parametrize("cap", [0, 1])
def test_the_cap_on_migrations_is_kept_and_named(cap: int) -> None:
    rule = Apart(vms=names("a", "b", "c"))
    made = plan(hot(rule), Policy(), now=NOW, max_migrations=cap)
    assert len(made.migrations) == cap
    assert any(f"cap of {cap} migration" in one.reason for one in made.not_moved)


def test_within_a_cap_on_bytes_the_best_plan_is_found_and_proven() -> None:
    free = plan(hot(), Policy(), now=NOW)
    limits = Limits(bytes_per_run=free.migrations[0].bytes + 1)
    made = plan(hot(), Policy(limits=limits), now=NOW)
    assert len(made.migrations) == 1
    assert made.status is Status.OPTIMAL
    assert faults(hot(), Policy(limits=limits), made) == []
    alone = plan(hot(), Policy(), now=NOW, max_migrations=1)
    assert made.score.after == alone.score.after


def test_a_cap_on_time_gives_up_what_gains_least() -> None:
    free = plan(hot(), Policy(), now=NOW)
    limits = Limits(duration_per_run_s=free.migrations[0].duration_s + 0.1)
    made = plan(hot(), Policy(limits=limits), now=NOW)
    assert len(made.migrations) == 1
    assert made.status is Status.FEASIBLE
    assert faults(hot(), Policy(limits=limits), made) == []
    assert len(made.not_moved) >= 1


def test_cbc_and_highs_agree_and_local_search_is_never_better() -> None:
    for goal in (Goal.BALANCE, Goal.RELIEVE):
        policy = Policy(goal=goal)
        found = [plan(hot(), policy, now=NOW, solver=solver) for solver in ("cbc", "highs")]
        assert found[0].score.after == pytest.approx(found[1].score.after, rel=3e-6)
        problem = build(hot(), policy)
        rough = measure(problem, local(problem, Work(1e9))).key(goal)
        exact = tiers(hot(), policy, end_of(hot(), found[1]))
        assert goal is not Goal.BALANCE or exact[-1] <= rough[-1] + 1e-9


def many(seed: int = 5) -> Cluster:
    rng = np.random.default_rng(seed)
    lines = []
    for host in range(7):
        vms = [
            f"v{host}x{vm} {rng.choice([2, 4, 8])}G {rng.uniform(0.1, 1.2):.2f}c"
            for vm in range(int(rng.integers(12, 24)))
        ]
        lines.append(f"h{host} 128G 16c: " + ", ".join(vms))
    return cluster("\n".join(lines), rules=(Apart(vms=names("v0x0", "v0x1", "v1x0")),))


def test_every_search_improves_and_every_bound_holds() -> None:
    problem = build(many(), Policy(), 5)
    start = local(problem, Work(1e9))
    vm, host = all_columns(problem)
    relaxed = assignment_bound(formulate(problem, vm, host, problem.home))
    assert relaxed.reduced_cost is not None
    loose = decoupled_bound(problem)
    assert 0 <= loose.value <= relaxed.value + 1e-9
    kept = measure(problem, start)
    generated = relax(problem, start, kept, Work(1e9))
    tight = assignment_bound(formulate(problem, vm, host, problem.home), kept)
    assert generated is not None
    assert 0.95 * tight.value <= generated.bound <= tight.value + 1e-9
    starts = [rounded(problem, start, generated, at, Work(1e9)) for at in (0.3, 0.5, 0.9)]
    shaken = shake(problem, start, generated.bound, Work(3e5), 1)
    near = neighbours(problem, start, Work(3e5), 1, "auto")
    whole = solve_tiers(formulate(problem, vm, host, start), start, Work(1e9), Effort(3000), "auto")
    values = [measure(problem, at).balance for at in (problem.home, start, shaken)]
    assert values == sorted(values, reverse=True)
    assert relaxed.value <= whole.bounds[-1] + 1e-6
    for at in (start, *starts, shaken, near, whole.place):
        assert legal_end(problem, at)
        assert measure(problem, at).balance >= relaxed.value


@pytest.mark.slow
def test_what_cbc_calls_proven_is_no_worse_than_what_highs_proves() -> None:
    """Left to itself CBC looks for nothing that is better by less than 1e-5."""
    seen, policy = generate(6, 60, 738), Policy(thresholds=Thresholds(memory=0.75))
    by_cbc, by_highs = (plan(seen, policy, now=NOW, solver=one) for one in ("cbc", "highs"))
    assert by_cbc.stopped_by is by_highs.stopped_by is StoppedBy.PROOF
    assert by_cbc.score.after == pytest.approx(by_highs.score.after, rel=2e-6)


def test_without_highs_the_bound_comes_from_cbc() -> None:
    problem = build(many(), Policy(), 5)
    assert decoupled_bound(problem, None, "cbc").value == pytest.approx(
        decoupled_bound(problem).value, abs=1e-5
    )


def test_a_larger_plan_is_legal_repeatable_and_stops_on_counted_work() -> None:
    policy = Policy(limits=Limits(migrations_per_run=5))
    made = plan(many(), policy, now=NOW)
    assert faults(many(), policy, made) == []
    assert 0 < made.score.closed <= 1
    assert plan(many(), policy, now=NOW) == made
    assert made.id.startswith("plan-")


def test_the_time_limit_and_the_interrupt_return_a_legal_plan() -> None:
    ticks = iter(range(10**9))
    late = plan(many(), Policy(), now=NOW, time_limit_s=10.0, elapsed_s=lambda: next(ticks) * 0.5)
    assert late.stopped_by is StoppedBy.TIME
    assert faults(many(), Policy(), late) == []
    stopped = plan(many(), Policy(), now=NOW, interrupted=lambda: True)
    assert stopped.stopped_by is StoppedBy.INTERRUPT
    assert faults(many(), Policy(), stopped) == []


def test_a_longer_time_limit_lets_the_search_do_more_and_a_shorter_one_no_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules["balancer.planner.plan"]  # the package has a function of that name
    monkeypatch.setattr(module, "EFFORT", 1e4)
    monkeypatch.setattr(module, "EFFORT_A_SECOND", 1e3)

    def made(time_limit_s: float | None, effort: float | None = None) -> Plan:
        return plan(
            many(),
            Policy(),
            now=NOW,
            time_limit_s=time_limit_s,
            elapsed_s=lambda: 0.0,  # the clock stands, so that work ends it, not time
            effort=effort,
        )

    default = made(None)
    assert default.stopped_by is StoppedBy.WORK
    assert made(5.0) == made(10.0) == default
    longer = made(60.0)
    assert longer.score.after < default.score.after
    assert longer == made(60.0, effort=6e4)
    assert made(60.0, effort=1e4) == default


def test_planning_again_finds_nothing_where_nothing_was_proven() -> None:
    made = plan(many(), Policy(), now=NOW)
    assert made.migrations
    assert made.stopped_by is StoppedBy.WORK
    assert plan(moved_to(many(), end_of(many(), made)), Policy(), now=NOW).migrations == ()


def test_evacuation_prefers_hosts_below_their_threshold() -> None:
    seen = cluster("h1 draining: a 8G 8c\nh2: b 8G 8c\nh3: c 8G 1c")
    problem = build(seen, Policy())
    state = State(problem)
    evacuate(state, Work(1e9))
    assert problem.hosts[state.place[0]].name == "h3"


def test_move_takes_one_vm_where_it_may_go_and_refuses_with_the_rule() -> None:
    rule = Allow(vms=names("a"), hosts=names("h1", "h3"), origin="p:7")
    made = move(hot(rule), Policy(), "a", "h3", now=NOW)
    assert [(m.vm, m.target, m.reason) for m in made.migrations] == [("a", "h3", "asked for")]
    assert move(hot(rule), Policy(), "a", None, now=NOW).migrations[0].target == "h3"
    with pytest.raises(RefusedError, match=r"allow \[a\] \(p:7\) does not allow h2"):
        move(hot(rule), Policy(), "a", "h2", now=NOW)
    with pytest.raises(RefusedError, match="already"):
        move(hot(), Policy(), "a", "h1", now=NOW)
    with pytest.raises(RefusedError, match="cap of 0"):
        move(hot(), Policy(), "a", "h2", now=NOW, max_migrations=0)
    with pytest.raises(InputError, match="no VM"):
        move(hot(), Policy(), "zz", "h2", now=NOW)
    with pytest.raises(InputError, match="the hosts are: h1, h2, h3"):
        move(hot(), Policy(), "a", "h9", now=NOW)
    alone = cluster("h1: a 8G\nh2 4G:")
    with pytest.raises(RefusedError, match=r"4\.0 GiB of memory free, 8.0 are needed"):
        move(alone, Policy(), "a", None, now=NOW)


def test_place_ranks_hosts_and_says_what_stands_against_the_others() -> None:
    seen = cluster("h1 16G: a 12G\nh2 64G: b 8G\nh3 64G paused:\nh4 64G 16c: c 8G 12c")
    ranking = place(seen, Policy(), 2.0, 8 * 2**30)
    assert [one.host for one in ranking if not one.obstacle] == ["h2"]
    against = {one.host: one.obstacle for one in ranking if one.obstacle}
    assert against == {
        "h1": "h1 has 4.0 GiB of memory free, 8.0 are needed",
        "h3": "h3 is paused",
        "h4": "h4 would be overloaded: CPU 88 %, above 80 %",
    }
    assert ranking[0].reason == "CPU 1 % -> 13 %, memory 12 % -> 25 %"
    with pytest.raises(InputError, match="zero or more"):
        place(seen, Policy(), float("nan"), 1)


def test_why_not_lists_facts_and_rules() -> None:
    rules = (Allow(vms=names("a"), hosts=names("h1"), origin="p:1"),)
    seen = cluster("h1: a 8G !replica\nh2 4G:\nh3:", rules=rules)
    assert why_not(seen, Policy(), "a", "h2") == (
        "it is blocked by replica",
        "allow [a] (p:1) does not allow h2",
        "h2 has 4.0 GiB of memory free, 8.0 are needed",
    )
    assert why_not(cluster("h1: a\nh2:"), Policy(), "a", "h2") == ()
    with pytest.raises(InputError, match="no host"):
        why_not(seen, Policy(), "a", "h9")


def test_unknown_and_down_hosts_neither_give_nor_take() -> None:
    for state in (HostState.UNKNOWN, HostState.DOWN, HostState.PAUSED):
        seen = hot()
        hosts = tuple(
            dataclasses.replace(host, state=state) if host.name == "h2" else host
            for host in seen.hosts
        )
        made = plan(dataclasses.replace(seen, hosts=hosts), Policy(), now=NOW)
        assert {one.target for one in made.migrations} == {"h3"}


def test_planning_prints_nothing() -> None:
    code = (
        "from tests.unit.planner.test_plan import *\n"
        "plan(hot(), Policy(), now=NOW); decoupled_bound(build(hot(), Policy()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603 -- our own code
    assert (run.stdout, run.stderr) == ("", "")


def test_empty_clusters_are_planned() -> None:
    for text in ("h1:", "h1: a\n", "h1 down: a", "h1 draining:"):
        assert plan(cluster(text), Policy(), now=NOW).migrations == ()
