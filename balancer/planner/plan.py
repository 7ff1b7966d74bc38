"""The planner's front: from a snapshot and a policy to a plan, or a refusal with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from balancer.errors import InputError, RefusedError
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.model.plan import Migration, Plan, Score, Status, StoppedBy, Tier
from balancer.planner import explain
from balancer.planner.awake_told import sleep_of
from balancer.planner.carry import Carried, carry
from balancer.planner.effects import effects
from balancer.planner.ilp import Solver
from balancer.planner.leftover import not_moved, unresolved
from balancer.planner.optimise import Found, balance_bound, optimise
from balancer.planner.problem import Bools, Ints, Problem, build, utilisation
from balancer.planner.refit import FINISH_UNITS, fitted, may_be_needed
from balancer.planner.restrain import exempt_less, may_be_less, restrain
from balancer.planner.score import (
    LOST,
    LOST_LABELS,
    TIER_TOLERANCE,
    Measure,
    comes_first,
    content,
    legal_end,
    lost,
    measure,
    overloaded,
    tier_names,
    told,
)
from balancer.planner.search import settle_ties
from balancer.planner.state import State
from balancer.planner.stays import curb, obstacles, short_of, what_keeps
from balancer.planner.survival import losses, not_survived, survival_of
from balancer.planner.timing import makespan_bound
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Policy

PROOF_GAP = 1e-6  # of J: twice what the solver leaves
# About five seconds on one core of 2026: enough for 64 hosts and 8,000 VMs to within a few
# percent of the bound; small clusters are proven optimal in a fraction of it.
EFFORT = 3.5e6
# Of a longer time limit: less than most machines do, since what is set aside for proofs would be
# lost if the seconds ended first.
EFFORT_A_SECOND = 6e5
BOUND_UNITS = 5e6  # of a bound, where the search has none
# Seconds of a time limit that are kept for what follows the search: a share, also where failures
# are to be rehearsed on the way or bytes may call for another search, or where a rule that cannot
# be mended would call for a whole one; and for each VM.
RESERVE_SHARE, RESERVE_SHARE_MORE, RESERVE_SHARE_TWICE, RESERVE_S = 0.05, 0.2, 0.6, 4e-5
# Looks at failures that planner and judge will take for the way, and the most kept for that.
RESERVE_LOOKS, RESERVE_LOOKS_SHARE = 2.0, 0.15


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a plan carries to say what it was made from, and when."""

    now: datetime
    snapshot_sha256: str


def plan(
    cluster: Cluster,
    policy: Policy,
    *,
    now: datetime,
    seed: int = 0,
    past: Past | None = None,
    max_migrations: int | None = None,
    snapshot_sha256: str = "",
    elapsed_s: Callable[[], float] | None = None,
    time_limit_s: float | None = None,
    interrupted: Callable[[], bool] | None = None,
    effort: float | None = None,
    solver: Solver = "auto",
) -> Plan:
    """Plan the migrations that bring `cluster` within `policy`, and prove how good they are.

    Args:
        cluster: The snapshot.
        policy: Goals, thresholds, rules and caps.
        now: When the plan is made; it expires after the policy's lifetime.
        seed: Of the search's choices, zero or more. Same input and seed, same plan, unless the
            time limit or an interrupt ended the search.
        past: What led to this moment: cool-downs, budgets and the hold time go by it. Without it
            they are off.
        max_migrations: The command line's cap; the lowest of all caps wins.
        snapshot_sha256: Of the snapshot document, carried into the plan.
        elapsed_s: Seconds since the command started; needed for a time limit.
        time_limit_s: Seconds for the whole command.
        interrupted: Asked now and then; the best plan so far is returned once it says yes.
        effort: Counted work of the search, in units of about a microsecond. By default three and
            a half million, or what a longer time limit allows. The search ends earlier where it
            has a proof or finds nothing more.
        solver: HiGHS, CBC, or whichever is installed.

    Raises:
        InputError: Rules contradict each other.
    """
    task = build(cluster, policy, max_migrations, now=now)
    effort = max(EFFORT, EFFORT_A_SECOND * (time_limit_s or 0.0)) if effort is None else effort
    among: Bools | None = None
    while True:
        problem = content(restrain(task, past, among))
        work = Work(effort, elapsed_s, time_limit_s, interrupted)
        work.reserve_s = _reserve_s(problem, work, twice=among is None and may_be_less(problem))
        found = optimise(problem, work, seed, solver)
        found = replace(found, place=settle_ties(problem, found.place))
        found, carried = fitted(problem, found, work, effort, seed, solver)
        among = exempt_less(problem, carried)
        if among is None:
            return assemble(problem, found, carried, work, Stamp(now, snapshot_sha256), solver)


def _reserve_s(problem: Problem, work: Work, *, twice: bool) -> float:
    """Return the seconds of a time limit that are kept for what follows the search.

    Args:
        problem: The task.
        work: The clock.
        twice: Whether another search may follow.
    """
    more = problem.policy.reserve.for_failures or may_be_needed(problem)
    share = RESERVE_SHARE_MORE if more else RESERVE_SHARE
    if twice:
        share = RESERVE_SHARE_TWICE
    limit_s = work.time_limit_s or 0.0
    kept_s = share * limit_s + RESERVE_S * len(problem.vms)
    if work.elapsed_s is not None and limit_s and problem.policy.reserve.for_failures:
        begun_s = work.elapsed_s()
        lost(problem, problem.home)  # it is remembered: the search asks for it first of all
        look_s = RESERVE_LOOKS * (work.elapsed_s() - begun_s)
        kept_s += min(RESERVE_LOOKS_SHARE * limit_s, look_s)
    return kept_s


def move(
    cluster: Cluster,
    policy: Policy,
    vm_id: str,
    target: str | None,
    *,
    now: datetime,
    max_migrations: int | None = None,
    snapshot_sha256: str = "",
    solver: Solver = "auto",
) -> Plan:
    """Plan the move of one VM to `target`, or to the best host where None.

    Raises:
        InputError: No such VM or host.
        RefusedError: A fact or a rule stands against it; the message says which.
    """
    problem = build(cluster, policy, max_migrations, now=now)
    vm = _index_of_vm(problem, vm_id)
    state = State(problem)
    name = problem.vms[vm].name
    if problem.cap < 1:
        raise RefusedError(f"cannot move {name}: the cap of {problem.cap} migrations forbids it")
    if target is None:
        host = _best_host(state, vm)
    else:
        host = _index_of_host(problem, target)
        against = obstacles(state, vm, host)
        if against:
            raise RefusedError(f"cannot move {name} to {target}: {'; '.join(against)}")
    if short := short_of(state, vm):
        raise RefusedError(f"cannot move {name}: {short}")
    place = problem.home.copy()
    place[vm] = host
    if not legal_end(problem, place):
        raise RefusedError(f"cannot move {name} to {problem.hosts[host].name}: a rule forbids it")
    less_safe = lost(problem, place) > lost(problem, problem.home)
    if less_safe and not comes_first(problem, place, problem.home):
        first = not_survived(problem, place, had=losses(problem, problem.home))[0]
        why = f"{first.subject}: {first.problem} ({first.reason})"
        text = f"that takes room kept for failures: {why}"
        raise RefusedError(
            f"cannot move {name} to {problem.hosts[host].name}: {text}",
            remedy="name another host, or lower `host_failures` in the policy's `reserve`",
        )
    work = Work(FINISH_UNITS)
    carried = carry(problem, place, work, solver, asked_for=True)
    if carried.dropped:
        raise RefusedError(f"cannot move {name}: {carried.dropped[vm]}")
    stamp = Stamp(now, snapshot_sha256)
    return assemble(problem, Found(place), carried, work, stamp, solver, asked_for=True)


def _index_of_vm(problem: Problem, vm_id: str) -> int:
    for at, vm in enumerate(problem.vms):
        if vm.id == vm_id:
            return at
    raise InputError(f"no VM with id {vm_id!r}", remedy="give the id as the snapshot has it")


def _index_of_host(problem: Problem, name: str) -> int:
    for at, host in enumerate(problem.hosts):
        if host.name == name:
            return at
    known = ", ".join(host.name for host in problem.hosts)
    raise InputError(f"no host named {name!r}", remedy=f"the hosts are: {known}")


def _best_host(state: State, vm: int) -> int:
    problem = state.problem
    ranked: list[tuple[tuple[float, ...], int]] = []
    goal = Goal.CONSOLIDATE if problem.policy.goal is Goal.CONSOLIDATE else Goal.BALANCE
    for host in range(len(problem.hosts)):
        if not obstacles(state, vm, host):
            place = problem.home.copy()
            place[vm] = host
            ranked.append((measure(problem, place).key(goal), host))
    if not ranked:
        name = problem.vms[vm].name
        raise RefusedError(f"cannot move {name}: {what_keeps(state, vm)}")
    return min(ranked)[1]


def assemble(
    problem: Problem,
    found: Found,
    carried: Carried,
    work: Work,
    stamp: Stamp,
    solver: Solver,
    *,
    asked_for: bool = False,
) -> Plan:
    """Put a plan together from where VMs end and how they get there."""
    place = carried.place
    # Where nothing can move there is nothing to search: the present is its own proof.
    still = problem.cap < 1 or not len(problem.movable)
    proven = (found.proven or still) and not carried.dropped
    migrations = _migrations(problem, carried, asked_for=asked_for)
    if still:
        found = Found(place, measure(problem, place).key(problem.policy.goal), proven=True)
    trusted = found if proven else replace(found, place=place, bounds=None)
    score = _score(problem, place, trusted, work.apart(BOUND_UNITS), solver, still=still)
    stopped = StoppedBy.PROOF if proven or asked_for else StoppedBy.WORK
    if not proven and work.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT):
        stopped = work.stopped_by
    cut_short = stopped in (StoppedBy.TIME, StoppedBy.INTERRUPT)
    curbed = curb(carried.dropped, cut_short=cut_short)
    legs = [one.leg for one in carried.schedule.timed]
    makespan_s = carried.schedule.makespan_s
    made = Plan(
        cluster=problem.cluster.name,
        id="",
        created_at=stamp.now,
        expires_at=stamp.now + timedelta(seconds=problem.policy.plan_lifetime_s),
        snapshot_sha256=stamp.snapshot_sha256,
        policy_sha256=problem.policy.sha256,
        status=_status(problem, place, proven=proven, moves=bool(migrations), cut_short=cut_short),
        stopped_by=stopped,
        score=score,
        makespan_s=makespan_s,
        makespan_bound_s=min(makespan_s, round(makespan_bound(carried.timing, legs), 3))
        if legs
        else 0.0,
        migrations=migrations,
        settings=carried.settings,
        not_moved=()
        if asked_for
        else not_moved(problem, place, carried.dropped, curbed, brief=cut_short),
        unresolved=unresolved(problem, place, curbed),
        sleep=() if asked_for else sleep_of(problem, place, carried.dropped, curbed),
        survival=survival_of(problem, place, carried.lost),
    )
    return named(made)


def _status(problem: Problem, place: Ints, *, proven: bool, moves: bool, cut_short: bool) -> Status:
    """Return the answer: overload or a broken rule that stays is feasible, and no more.

    So is a drain that the search was stopped before, where nothing says that it cannot be.
    """
    after = measure(problem, place)
    hot = overloaded(problem, utilisation(problem, place)).any()
    wrong = after.rules or any(after.lost) or (hot and problem.policy.goal is not Goal.RULES_ONLY)
    if after.drain and not (cut_short and _may_yet_drain(problem, place)):
        return Status.INFEASIBLE
    if after.drain or wrong or (cut_short and not moves):
        return Status.FEASIBLE
    if not moves:
        return Status.NOTHING_TO_DO
    return Status.OPTIMAL if proven else Status.FEASIBLE


def _may_yet_drain(problem: Problem, place: Ints) -> bool:
    """Tell whether each VM that is left on a draining host may go somewhere, and the cap allows."""
    left = problem.draining[place] & problem.is_load
    somewhere = problem.allowed[left].sum(axis=1) > 1
    return bool(somewhere.all()) and int(problem.from_drain.sum()) <= problem.cap


def named(made: Plan) -> Plan:
    """Give the plan an id that follows from what it says and what it was made from."""
    digest = hashlib.sha256(repr(made).encode()).hexdigest()
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return Plan(**(fields | {"id": f"plan-{digest[:16]}"}))


def _migrations(problem: Problem, carried: Carried, *, asked_for: bool) -> tuple[Migration, ...]:
    story = explain.Story.of(problem, carried.place)
    timed = carried.schedule.timed
    width = len(str(len(timed)))
    names = [f"m{number:0{width}}" for number in range(1, len(timed) + 1)]
    made: list[Migration] = []
    for name, one, effect in zip(names, timed, effects(problem, carried), strict=True):
        vm = problem.vms[one.leg.vm]
        if one.stopover:
            reason = explain.stopover_reason(story, one.leg.vm)
        else:
            reason = "asked for" if asked_for else explain.reason(story, one.leg.vm)
        made.append(
            Migration(
                id=name,
                vm=vm.id,
                name=vm.name,
                source=problem.hosts[one.leg.source].name,
                target=problem.hosts[one.leg.target].name,
                transport=one.leg.transport,
                bytes=one.bytes,
                start_s=one.start_s,
                duration_s=round(one.end_s - one.start_s, 3),
                reason=reason,
                after=tuple(names[at] for at in one.after),
                stopover=one.stopover,
                effect=effect,
            )
        )
    return tuple(made)


def _score(
    problem: Problem, place: Ints, found: Found, work: Work, solver: Solver, *, still: bool
) -> Score:
    """Measure both ends and bound J from below; `found` has bounds only where they hold."""
    before, after = measure(problem, problem.home), measure(problem, place)
    bounds = found.balance if found.kept is not None and _keeps(after, found.kept) else ()
    bound = max(bounds, key=lambda one: one.value, default=None)
    if bound is None:
        bound = balance_bound(problem, place, after, work, solver)
    value, kind = bound.value, bound.kind
    exact = found.bounds is not None and problem.policy.goal is Goal.BALANCE
    if exact and found.bounds is not None and found.bounds[-1] > value:
        value, kind = found.bounds[-1], "branch and bound"
    value = min(value, after.balance)
    # A proof holds up to the solver's gap; that is no gain still to be had.
    if still or (exact and after.balance - value <= PROOF_GAP * max(1.0, after.balance)):
        value = after.balance
    # Doing nothing is legal too, so a bound of J alone is never above what J is.
    floor = min(value, before.balance)
    gap = before.balance - floor
    closed = (before.balance - after.balance) / gap if gap > 0 else 1.0
    return Score(
        before=before.balance,
        after=after.balance,
        bound=floor,
        bound_kind=kind,
        closed=closed,
        tiers=_tiers(problem, before, after, found, value),
    )


def _keeps(after: Measure, kept: Measure) -> bool:
    """Tell whether a plan is as good as `kept` above balance, so that bounds of J hold for it."""
    return (
        after.drain <= kept.drain
        and after.rules <= kept.rules
        and after.overload <= kept.overload + TIER_TOLERANCE
        and after.resort <= kept.resort
        and after.soft <= kept.soft + TIER_TOLERANCE
    )


def _tiers(
    problem: Problem, before: Measure, after: Measure, found: Found, balance: float
) -> tuple[Tier, ...]:
    """List the goal's tiers; a tier that ends at zero is its own bound."""
    goal = problem.policy.goal
    shown = {"drain": "drain", "rules": "rules", "overload": "overload"}
    if problem.policy.reserve.for_failures:
        here = set(problem.drill.rank[problem.drill.ranked].tolist())
        shown |= {LOST[rank]: LOST_LABELS[rank] for rank in here}
    if problem.reluctant.any():
        shown["resort"] = "last resort"
    if goal.mends_soft_rules:
        shown["soft"] = "soft rules"
    if goal is Goal.CONSOLIDATE:
        shown |= {"crowding": "filled above the ceiling"} if after.crowding else {}
        shown["awake"] = "hosts awake"
    tiers: list[Tier] = []
    for at, name in enumerate(tier_names(goal)):
        if name not in shown:
            continue
        start, end = (told(name, one.key(goal)[at]) for one in (before, after))
        bound: float | None = 0.0 if end == 0 else None
        if bound is None and found.bounds is not None:
            bound = min(end, told(name, found.bounds[at]))
        if name == "awake":
            bound = max(bound or 0.0, float(problem.sleepers.bound(after.crowding)))
        tiers.append(Tier(shown[name], start, end, bound))
    if goal is Goal.BALANCE:
        tiers.append(Tier("balance", before.balance, after.balance, balance))
    return tuple(tiers)
