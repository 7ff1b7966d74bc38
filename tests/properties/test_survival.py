"""What holds for plans of policies that want failures survived, on random small clusters."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge import Code, judge, judge_start
from balancer.judge.drill import Drill, Loss
from balancer.judge.losses import lost
from balancer.judge.way import Way
from balancer.model.cluster import Cluster, HostState, Priority
from balancer.model.plan import Lost, Plan, StoppedBy
from balancer.planner import drain, plan
from balancer.planner.drill import Drill as WholeDrill
from balancer.planner.problem import Ints, Problem, build
from balancer.planner.watch import Watch
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Policy
from tests.properties.planner_clusters import among, clusters, policies
from tests.unit.planner.oracle import (
    NOW,
    best_placements,
    end_of,
    faults,
    key,
    moved_to,
    start_of,
    tiers,
)

few = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
GOALS = (Goal.BALANCE, Goal.RELIEVE, Goal.RULES_ONLY, Goal.CONSOLIDATE)


def asking(policy: Policy, failed: int, domain: str = "") -> Policy:
    reserve = dataclasses.replace(policy.reserve, host_failures=failed, domain_failure=domain)
    return dataclasses.replace(policy, reserve=reserve)


@st.composite
def mixed(draw: st.DrawFn, hosts_max: int = 4, vms_max: int = 7) -> Cluster:
    """A cluster of VMs of several priorities."""
    seen = draw(clusters(hosts_max=hosts_max, vms_max=vms_max))
    usual = [Priority.MEDIUM] * 3
    vms = (dataclasses.replace(vm, priority=draw(among(*usual, *Priority))) for vm in seen.vms)
    return dataclasses.replace(seen, vms=tuple(vms))


def weight(seen: Cluster, losses: Iterable[Loss]) -> Lost:
    """What is lost: bytes by priority, the highest first."""
    total = dict.fromkeys((Priority.HIGH, Priority.MEDIUM, Priority.LOW), 0)
    for loss in losses:
        vm = seen.vm_by_id[loss.vm]
        total[vm.priority] += vm.memory_startup_bytes or vm.memory_assigned_bytes
    return Lost(*total.values())


def planned(seen: Cluster, policy: Policy) -> Plan:
    try:
        return plan(seen, policy, now=NOW)
    except InputError:
        assume(condition=False)
        raise


def along(drill: Drill, seen: Cluster, made: Plan) -> list[list[Loss]]:
    """What is lost at each instant of a plan, all failures rehearsed at each."""
    place, flying, found = start_of(seen), set[tuple[str, str]](), list[list[Loss]]()
    moments = {one.start_s for one in made.migrations}
    moments |= {round(one.start_s + one.duration_s, 3) for one in made.migrations}
    for moment in sorted(moments):
        for one in made.migrations:
            if round(one.start_s + one.duration_s, 3) == moment:
                flying.remove((one.vm, one.target))
                place[one.vm] = one.target
                found.append(list(drill.losses(place, flying=sorted(flying))))
        for one in made.migrations:
            if one.start_s == moment:
                flying.add((one.vm, one.target))
                found.append(list(drill.losses(place, flying=sorted(flying))))
    return found


def starts_are_safe(seen: Cluster, policy: Policy, made: Plan) -> Iterator[bool]:
    """Whether each start is let through when all goes as forecast."""
    for one in made.migrations:
        ends = {m.id: round(m.start_s + m.duration_s, 3) for m in made.migrations}
        done = [m for m in made.migrations if ends[m.id] <= one.start_s]
        running = [
            m.id for m in made.migrations if m.start_s < one.start_s < ends[m.id] and m is not one
        ]
        before = made.migrations[: made.migrations.index(one)]
        running += [m.id for m in before if m.start_s == one.start_s]
        at = start_of(seen)
        for m in sorted(done, key=lambda m: ends[m.id]):
            at[m.vm] = m.target
        now = moved_to(seen, at)
        found = judge_start(now, policy, made, one.id, done=[m.id for m in done], running=running)
        yield not {f.code for f in found} & {Code.SURVIVAL_DURING, Code.SURVIVAL_END}


@few
@given(
    mixed(),
    policies(),
    st.sampled_from(GOALS),
    st.sampled_from([(1, ""), (2, ""), (1, "site"), (0, "site")]),
)
def test_a_plan_loses_no_more_than_was_lost_but_for_what_comes_first(
    seen: Cluster, policy: Policy, goal: Goal, asked: tuple[int, str]
) -> None:
    policy = dataclasses.replace(asking(policy, *asked), goal=goal)
    made = planned(seen, policy)
    assert judge(seen, policy, made) == ()
    assert faults(seen, policy, made) == []
    drill = Drill(seen, policy)
    was, now = (lost(drill, at) for at in (start_of(seen), end_of(seen, made)))
    if made.survival is None:
        assert was == now == []
        assert not drill.order or not drill.failures
        return
    told = made.survival
    assert (told.before, told.after) == (len(was), len(now))
    assert (told.lost_before, told.lost_after) == (weight(seen, was), weight(seen, now))
    evacuates = any(seen.host_by_name[m.source].state == "draining" for m in made.migrations)
    if evacuates:
        assert told.during is None
    else:
        way = [was] * (not made.migrations) + along(drill, seen, made)
        worst = max(weight(seen, one) for one in way)
        assert told.lost_during == worst <= max(weight(seen, was), weight(seen, now))
        assert told.during in {len(one) for one in way if weight(seen, one) == worst}
        assert all(starts_are_safe(seen, policy, made))
    before, after = (
        tiers(seen, policy, at)[: 2 if goal is Goal.RULES_ONLY else 3]
        for at in (start_of(seen), end_of(seen, made))
    )
    assert after < before or weight(seen, now) <= weight(seen, was)
    assert bool(now) == any("no host" in one.problem for one in made.unresolved)


@few
@given(mixed(hosts_max=3, vms_max=5), st.sampled_from([1, 2]))
def test_a_plan_called_optimal_is_the_best_of_those_that_lose_nothing(
    seen: Cluster, failed: int
) -> None:
    """Proven is only what is best without the tier, and loses nothing: so it is best with it."""
    policy = asking(Policy(), failed)
    made = planned(seen, policy)
    best, _ = best_placements(seen, policy, None)
    mine = key(seen, policy, end_of(seen, made))
    if made.stopped_by is StoppedBy.PROOF and made.migrations:
        assert made.survival is None or made.survival.after == 0
        assert mine[:5] == best[:5]
        assert mine[5] <= best[5] * (1 + 3e-6) + 2e-9
    if mine[:5] <= best[:5]:
        assert made.score.bound <= best[5] + 1e-9


@few
@given(
    mixed(),
    policies(),
    st.sampled_from([1, 2]),
    st.sampled_from(["use", "keep"]),
    st.integers(0, 3),
)
def test_a_drain_keeps_the_room_for_failures_only_where_it_is_to(
    seen: Cluster, policy: Policy, failed: int, keep: str, at: int
) -> None:
    policy, host = asking(policy, failed), seen.hosts[at % len(seen.hosts)]
    assume(host.state in (HostState.UP, HostState.PAUSED, HostState.DRAINING))
    try:
        found = drain(seen, policy, [host.name], now=NOW, keep_reserve=keep == "keep")
    except InputError:
        assume(condition=False)
        raise
    made = found.plan
    assert judge(found.cluster, found.policy, made) == ()
    drill = Drill(found.cluster, found.policy)
    was, now = (
        list(drill.losses(place))
        for place in (start_of(found.cluster), end_of(found.cluster, made))
    )
    whole = Drill(found.cluster, dataclasses.replace(found.policy, firm=False))
    told = len(list(whole.losses(end_of(found.cluster, made))))
    assert (0 if made.survival is None else made.survival.after) == told
    assert (made.survival is None) == (not whole.order or not whole.failures)
    if keep == "keep":
        ends = (start_of(found.cluster), end_of(found.cluster, made))
        rules_before, rules_after = (tiers(found.cluster, found.policy, one)[1] for one in ends)
        assert weight(seen, now) <= weight(seen, was) or rules_after < rules_before
    else:
        # What is beyond help now was no more survived before than it is later.
        present = build(seen, policy)
        names = [one.name for one in present.hosts]
        before = {
            Loss(frozenset(names[host] for host in one.failed), present.vms[one.vm].id)
            for one in WholeDrill(present, whole=True).losses(present.home)
        }
        said = [text for text in found.concessions if "no longer survived" in text]
        if found.policy.reserve == policy.reserve:
            assert bool(said) == bool(set(now) - before)


def task_of(seen: Cluster, policy: Policy) -> Problem:
    """Return the task, of rules that do not contradict each other."""
    try:
        return build(seen, policy)
    except InputError:
        assume(condition=False)
        raise


@few
@given(mixed(hosts_max=5, vms_max=9), policies(), st.sampled_from([1, 2]), st.data())
def test_each_instant_is_known_from_the_one_before_it(
    seen: Cluster, policy: Policy, failed: int, data: st.DataObject
) -> None:
    """Planner and judge rehearse only what an instant changes, and know the same as if all were."""
    policy = asking(policy, failed, data.draw(among("", "site")))
    problem = task_of(seen, policy)
    drill, place, names = Drill(seen, policy), start_of(seen), [h.name for h in problem.hosts]
    ids = [vm.id for vm in problem.vms]
    goes = {vm: data.draw(among(*names)) for vm in ids}
    moves = [(vm, to) for vm, to in goes.items() if to != place[vm]]
    indices = [(ids.index(vm), names.index(to)) for vm, to in moves]
    way = Way(drill, place, moves)
    watch = Watch(problem, Lost(2**62, 2**62, 2**62), indices, Work(1e9))
    flying: list[tuple[str, str]] = []
    for vm, to in data.draw(st.permutations([*moves, *moves])):
        move = (vm, to)
        if place[vm] == to:
            continue
        if move in flying:
            flying.remove(move)
            place[vm] = to
            way.end(vm, to)
            watch.end(ids.index(vm), names.index(to))
        else:
            assert watch.may_start(ids.index(vm), names.index(to))
            flying.append(move)
            way.start(vm, to)
            watch.start(ids.index(vm), names.index(to))
        whole = set(drill.losses(place, flying=flying))
        assert set(way.losses()) == whole
        mine = {(frozenset(names[h] for h in one.failed), ids[one.vm]) for one in watch.losses()}
        assert mine == {(one.failed, one.vm) for one in whole}


@few
@given(mixed(hosts_max=5, vms_max=9), policies(), st.sampled_from([1, 2]), st.data())
def test_a_placement_is_known_from_one_that_is_almost_the_same(
    seen: Cluster, policy: Policy, failed: int, data: st.DataObject
) -> None:
    """What is rehearsed only where moves have changed it is what is lost, as if all were."""
    policy = asking(policy, failed, data.draw(among("", "site")))
    problem = task_of(seen, policy)
    place, some = problem.home.copy(), len(problem.vms)
    ups = [None, None, problem.up & (np.arange(len(problem.hosts)) > 0)]
    for _ in range(12):
        for vm in data.draw(st.lists(st.integers(0, some - 1), min_size=1, max_size=2)):
            place[vm] = data.draw(st.integers(0, len(problem.hosts) - 1))
        takers = ups[data.draw(st.integers(0, 2))]
        anew = WholeDrill(problem)
        assert problem.drill.lost(place, takers) == anew.lost(place, takers)
        assert list(problem.drill.losses(place, takers)) == list(anew.losses(place, takers))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mixed(hosts_max=3, vms_max=5), policies(), st.integers(1, 2))
def test_what_is_beyond_help_is_lost_on_every_placement(
    seen: Cluster, policy: Policy, failed: int
) -> None:
    policy = asking(policy, failed)
    try:
        problem = build(seen, policy)
    except InputError:
        assume(condition=False)
        raise
    short = problem.drill.beyond
    assume(short or problem.drill.stuck)
    whole = WholeDrill(problem, whole=True)
    memory = whole.memory
    most = np.maximum(np.bincount(problem.home, memory, minlength=len(problem.hosts)), whole.room)
    highest = int(whole.rank.min())
    ways = [sorted({int(home), *np.flatnonzero(problem.up).tolist()}) for home in problem.home]
    for hosts in itertools.product(*ways):
        place = np.array(hosts, dtype=np.int64)
        held = np.bincount(place, memory, minlength=len(problem.hosts))
        if (held > most)[problem.up].any() or not _keeps_lists(problem, place):
            continue
        lost_then = {(one.failed, one.vm) for one in whole.losses(place)}
        for hosts_down, one in short.items():
            worst = max(one.rank, highest)
            mine = {vm for down, vm in lost_then if down == hosts_down}
            assert any(whole.rank[vm] <= worst for vm in mine), (place, hosts_down)
        for vm in problem.drill.stuck:
            assert place[vm] == problem.home[vm]
            sets = [down for down in whole.every if int(place[vm]) in down]
            assert {(down, vm) for down in sets} <= lost_then


def _keeps_lists(problem: Problem, place: Ints) -> bool:
    """Tell whether all that moved went where facts and lists let it be, and has room as a whole."""
    drill = problem.drill
    moved = np.flatnonzero(place != problem.home)
    fits = drill.room[place[moved]] >= drill.memory[moved]
    return bool((fits & drill.permits[drill.kind[moved], place[moved]]).all())
