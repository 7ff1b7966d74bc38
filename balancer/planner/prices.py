"""The price of the rules: what each thing relaxed alone would buy.

The search goes on from the end of the plan, once with nothing relaxed and once with each thing
relaxed, by as much work and with the same choices: the difference is the price. Where nothing
better was found the first of these ends stands, which is legal in the relaxed task too, so no price
is ever below zero. What a bound says about a relaxation is told beside what was found.

Of many rules most are in nobody's way. One search without any of them tells which it breaks, and
only those are looked at one by one; its bound holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from balancer.model.cluster import Cluster
from balancer.model.effect import Gain
from balancer.model.past import Past
from balancer.planner.carry import Carried
from balancer.planner.ilp import Solver
from balancer.planner.optimise import Found, once, optimise
from balancer.planner.plan import EFFORT, RESERVE_S, RESERVE_SHARE
from balancer.planner.problem import Ints, Problem, build
from balancer.planner.refit import finish, fitted
from balancer.planner.relaxed import (
    Kind,
    Relaxation,
    broken_rules,
    relaxations,
    same_places,
    same_task,
    without_rules,
)
from balancer.planner.restrain import exempt_less, restrain
from balancer.planner.score import Measure, better, content, legal_end, measure, tier_names
from balancer.planner.search import settle_ties
from balancer.planner.whynot import TIER_LABELS
from balancer.planner.work import Work
from balancer.policy.policy import Policy

EFFORT_EACH = 4e5  # of one relaxation, in units of work; small tasks end earlier, with a proof
RULES_FEW = 12  # that are looked at one by one without asking which matter
PLAN_SHARE = 0.4  # of a time limit, for the plan that is priced
NOTHING = 1e-7  # a difference of a tier that is worth no word; above what `better` heeds


@dataclass(frozen=True, slots=True)
class Price:
    """What one relaxation would buy.

    Attributes:
        kind: What sort of thing is relaxed.
        relaxed: What, in words.
        gains: By tier, most important first, what would be better by how much; what is the same is
            absent. The first is always above zero.
        migrations: How many more a plan would have.
        faster_s: How much sooner it would be over.
        at_most: No plan gains more in balance; None where no bound is known, or tiers above gain.
        proven: That nothing is gained in any tier.
    """

    kind: Kind
    relaxed: str
    gains: tuple[Gain, ...]
    migrations: int
    faster_s: float
    at_most: float | None
    proven: bool

    @property
    def buys(self) -> bool:
        """Whether it buys anything: a better end, or the same sooner."""
        return bool(self.gains) or self.faster_s > 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What relaxing one thing at a time would buy.

    Attributes:
        searched_on: What searching longer alone gained; prices are on top of it.
        migrations: Of the plan that is priced.
        makespan_s: Of that plan.
        prices: What buys most first.
        untried: What the time did not suffice for, in words.
    """

    searched_on: tuple[Gain, ...]
    migrations: int
    makespan_s: float
    prices: tuple[Price, ...]
    untried: tuple[str, ...]


@dataclass(frozen=True)
class _Base:
    """The plan that is priced: where all searches begin, and what goes on from there unrelaxed."""

    problem: Problem
    start: Ints
    wished: Ints  # where that search wanted to end, before caps on bytes and time
    carried: Carried


class _Tools:
    """How every search of one question is done."""

    def __init__(
        self,
        seed: int,
        solver: Solver,
        elapsed_s: Callable[[], float] | None,
        time_limit_s: float | None,
        interrupted: Callable[[], bool] | None,
    ) -> None:
        self.seed, self.solver = seed, solver
        self.elapsed_s, self.time_limit_s, self.interrupted = elapsed_s, time_limit_s, interrupted

    def work(self, units: float, vms: int, share: float = 1.0) -> Work:
        """Return a budget under the clock of the whole question."""
        limit_s = None if self.time_limit_s is None else share * self.time_limit_s
        work = Work(units, self.elapsed_s, limit_s, self.interrupted)
        work.reserve_s = RESERVE_SHARE * (limit_s or 0.0) + RESERVE_S * vms
        return work


def prices(
    cluster: Cluster,
    policy: Policy,
    *,
    now: datetime,
    seed: int = 0,
    past: Past | None = None,
    elapsed_s: Callable[[], float] | None = None,
    time_limit_s: float | None = None,
    interrupted: Callable[[], bool] | None = None,
    effort: float = EFFORT,
    effort_each: float = EFFORT_EACH,
    solver: Solver = "auto",
    on_progress: Callable[[int, int, str], None] = lambda _done, _total, _text: None,
) -> Prices:
    """Plan, and price everything that could be relaxed, one thing at a time.

    Args:
        cluster: The snapshot.
        policy: The policy in force.
        now: When the plan is made.
        seed: Of the searches' choices.
        past: What led to this moment.
        elapsed_s: Seconds since the command started; needed for a time limit.
        time_limit_s: Seconds for the whole command.
        interrupted: Asked now and then; what is priced by then is returned once it says yes.
        effort: Counted work of the plan that is priced.
        effort_each: Of each relaxation.
        solver: HiGHS, CBC, or whichever is installed.
        on_progress: Told how many of how many are done, and what comes next.

    Raises:
        InputError: Rules contradict each other, or the goal cannot be planned.
    """
    tools = _Tools(seed, solver, elapsed_s, time_limit_s, interrupted)
    unbound, among = build(cluster, policy, now=now), None
    problem = content(restrain(unbound, past))
    base, searched_on = _base(problem, tools, effort, effort_each)
    while (less := exempt_less(problem, base.carried)) is not None:
        among = less
        problem = content(restrain(unbound, past, among))
        base, searched_on = _base(problem, tools, effort, effort_each)

    def task(cluster: Cluster, policy: Policy) -> Problem:
        made = restrain(build(cluster, policy, now=now), past, among)
        # Whatever is relaxed, the same is asked.
        return replace(made, policy=replace(made.policy, goal=problem.policy.goal))

    todo = relaxations(problem, cluster, policy, base.carried.place)
    idle = _idle(base, todo, task, tools, effort_each)
    found, untried = list(idle.values()), list[str]()
    todo = [one for at, one in enumerate(todo) if at not in idle]
    for number, one in enumerate(todo):
        on_progress(number, len(todo), one.text)
        if tools.work(effort_each, len(problem.vms)).cut_short():
            untried.append(one.text)
            continue
        found.append(_price(base, one, task(one.cluster, one.policy), tools, effort_each))
    on_progress(len(todo), len(todo), "")
    order = {name: at for at, name in enumerate(_labels(problem))}
    return Prices(
        searched_on=searched_on,
        migrations=len(base.carried.schedule.timed),
        makespan_s=base.carried.schedule.makespan_s,
        prices=tuple(sorted(found, key=lambda price: _worth(price, order))),
        untried=tuple(untried),
    )


def _base(
    problem: Problem, tools: _Tools, effort: float, effort_each: float
) -> tuple[_Base, tuple[Gain, ...]]:
    """Return the plan to be priced, and what searching on gained."""
    work = tools.work(effort, len(problem.vms), PLAN_SHARE)
    found = optimise(problem, work, tools.seed, tools.solver)
    found = replace(found, place=settle_ties(problem, found.place))
    found, carried = fitted(problem, found, work, effort, tools.seed, tools.solver)
    start = found.place
    if found.proven:
        return _Base(problem, start, start, carried), ()
    wished, more, _ = _searched(problem, start, tools, effort_each)
    first, second = measure(problem, carried.place), measure(problem, more.place)
    if not better(second.key(problem.policy.goal), first.key(problem.policy.goal)):
        return _Base(problem, start, start, carried), ()
    return _Base(problem, start, wished, more), _gains(problem, first, second)


def _idle(
    base: _Base,
    todo: list[Relaxation],
    task: Callable[[Cluster, Policy], Problem],
    tools: _Tools,
    effort: float,
) -> dict[int, Price]:
    """Return the prices of rules that even a plan without any rules does not break, by number."""
    rules = [one for one in todo if one.rule is not None]
    work = tools.work(2.0 * effort, len(base.problem.vms))
    if len(rules) <= RULES_FEW or work.cut_short():
        return {}
    free = task(*without_rules(rules))
    if not legal_end(free, base.start):
        return {}
    found = once(free, work, tools.seed + 1, tools.solver, start=base.start)
    breaks = broken_rules(base.problem, found.place)
    most = _at_most(found, measure(free, base.carried.place))
    return {
        at: Price(one.kind, one.text, (), 0, 0.0, most, proven=False)
        for at, one in enumerate(todo)
        if one.places and id(one.rule) not in breaks
    }


def _searched(
    problem: Problem, start: Ints, tools: _Tools, effort: float
) -> tuple[Ints, Carried, Found]:
    """Return where a search from `start` wanted to end, what of it can be carried out, and it."""
    work = tools.work(effort, len(problem.vms))
    found = once(problem, work, tools.seed + 1, tools.solver, start=start)
    found = replace(found, place=settle_ties(problem, found.place))
    found, carried = fitted(problem, found, work, effort, tools.seed + 1, tools.solver)
    return found.place, carried, found


def _price(base: _Base, one: Relaxation, relaxed: Problem, tools: _Tools, effort: float) -> Price:
    """Return what a relaxation buys."""
    if one.kind == "slots" and same_places(base.problem, relaxed):
        return _sooner(base, one, relaxed, tools)
    if same_task(base.problem, relaxed):
        return Price(one.kind, one.text, (), 0, 0.0, None, proven=True)
    goal = relaxed.policy.goal
    before = measure(relaxed, base.carried.place)
    start = base.start if legal_end(relaxed, base.start) else base.carried.place
    _, carried, found = _searched(relaxed, start, tools, effort)
    # Asked before the plan that is priced may stand in: of what that search found and no schedule
    # could keep, another part may still be worth something.
    sure = found.proven and not carried.dropped
    after = measure(relaxed, carried.place)
    if not better(after.key(goal), before.key(goal)):
        after, carried = before, base.carried
    gains = _gains(relaxed, before, after)
    if one.kind in ("memory", "reserve"):
        gains = _with_freed(base, relaxed, before, after)
    balance = sum(gain.by for gain in gains if gain.tier == "balance")
    return Price(
        kind=one.kind,
        relaxed=one.text,
        gains=gains,
        migrations=len(carried.schedule.timed) - len(base.carried.schedule.timed),
        faster_s=0.0,
        at_most=max(0.0, balance) if sure else _at_most(found, before),
        proven=sure and not gains,
    )


def _sooner(base: _Base, one: Relaxation, relaxed: Problem, tools: _Tools) -> Price:
    """Return how much sooner the same moves are over."""
    work = tools.work(0.0, len(relaxed.vms))
    carried = finish(relaxed, base.wished, work, tools.solver)
    before, after = measure(relaxed, base.carried.place), measure(relaxed, carried.place)
    goal = relaxed.policy.goal
    if better(before.key(goal), after.key(goal)):
        carried, after = base.carried, before
    gains = _gains(relaxed, before, after)
    sooner = base.carried.schedule.makespan_s - carried.schedule.makespan_s
    more = len(carried.schedule.timed) - len(base.carried.schedule.timed)
    faster_s = max(0.0, round(sooner, 3)) if not gains else 0.0
    return Price(one.kind, one.text, gains, more, faster_s, None, proven=False)


def _labels(problem: Problem) -> tuple[str, ...]:
    return tuple(TIER_LABELS.get(name, name) for name in tier_names(problem.policy.goal))


def _gains(problem: Problem, before: Measure, after: Measure) -> tuple[Gain, ...]:
    """Return what is better at `after`, tier by tier; what is worse below a better one too."""
    goal = problem.policy.goal
    pairs = zip(_labels(problem), before.key(goal), after.key(goal), strict=True)
    return tuple(
        Gain(name, round(was - now, 9)) for name, was, now in pairs if abs(was - now) > NOTHING
    )


def _with_freed(base: _Base, relaxed: Problem, before: Measure, after: Measure) -> tuple[Gain, ...]:
    """Return the gains together with the overload that more room ends by itself."""
    was = measure(base.problem, base.carried.place)
    return _gains(relaxed, replace(before, overload=max(was.overload, before.overload)), after)


def _at_most(found: Found, before: Measure) -> float | None:
    """Return what no plan gains more of in balance, where the search has a bound that says so."""
    bounds = [bound.value for bound in found.balance]
    # Bounds hold for plans that keep what the search kept: nothing less than the plan has.
    if not bounds or found.kept is None or _above(found.kept) != _above(before):
        return None
    return round(max(0.0, before.balance - max(bounds)), 9)


def _above(of: Measure) -> tuple[float, ...]:
    """Return the tiers above balance."""
    return of.drain, of.rules, round(of.overload, 6), *of.lost, of.resort, round(of.soft, 6)


def _worth(price: Price, order: dict[str, int]) -> tuple[object, ...]:
    """Return a key by which what buys most comes first."""
    by_tier = [0.0] * len(order)
    for gain in price.gains:
        if gain.tier in order:
            by_tier[order[gain.tier]] = -gain.by
    return (not price.buys, *by_tier, -price.faster_s, price.relaxed)
