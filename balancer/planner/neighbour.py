"""The ILP at every size: exact where all columns fit, over the best columns, by neighbourhoods.

A neighbourhood is a few hosts whose VMs may be placed anew among them while all else stays: an
exact small model instead of a large one that never ends. Which hosts, is chosen by what they
cost now, with a share of chance from the plan's seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.planner.formulate import all_columns, count_columns, formulate
from balancer.planner.ilp import Effort, Solver
from balancer.planner.problem import Bools, Floats, Ints, Problem
from balancer.planner.relax import Relaxed
from balancer.planner.score import OVERLOAD_WEIGHT, host_costs, means, measure
from balancer.planner.state import State
from balancer.planner.tiers import TierSolution, solve_tiers
from balancer.planner.work import Work
from balancer.policy.policy import Goal

EXACT_COLUMNS = 700  # 4 x 60 has 180, 6 x 100 has 500: proven in a second or few
EXACT_EFFORT = Effort(4000, few_cuts=True)  # nodes
UNPROVEN_NODES = 200
WHOLE_COLUMNS = 7000  # 16 x 400 has 5,900
WHOLE_NODES = 100_000  # looks end it before
# Of the whole: a look at least, and for each column; for each column the least that it is worth
# beginning with, the root relaxation with cuts; and the search before.
WHOLE_LOOK_UNITS, WHOLE_LOOK_UNITS_COLUMN = 8000.0, 1.0
WHOLE_UNITS_COLUMN, SEARCH_UNITS_COLUMN = 340.0, 500.0
PARTS_COLUMNS = 2400  # up to which HiGHS solves parts of the whole; at 16 x 400 one takes minutes
POOL_UNITS = 1.5e6  # of a model of the columns with the best prices
# How many they are; what their model is reckoned to take between two looks, and what it may take of
# all that is left.
POOL_COLUMNS, POOL_NODES, POOL_LOOK_UNITS, POOL_SHARE = 800, 4000, 2000.0, 0.9
WORTH_WHOLE = 3  # times as many columns make a model of the whole a larger one
NEIGHBOUR_COLUMNS = 240  # beyond, three hosts instead of four, then VMs are left out
PRICED_COLUMNS, PRICED_HOSTS = 400, 4  # where prices tell which columns are worth a place
NEIGHBOUR_EFFORT = Effort(8)  # nodes
STALE_MAX = 24  # neighbourhoods in a row without a gain before the search is over


def is_small(problem: Problem) -> bool:
    """Tell whether the whole task can be solved to the proof."""
    return 0 < count_columns(problem) <= EXACT_COLUMNS


def is_medium(problem: Problem) -> bool:
    """Tell whether a task with work enough goes into one model, whole or its best columns."""
    return 0 < count_columns(problem) <= WHOLE_COLUMNS


def exact(
    problem: Problem, place: Ints, work: Work, solver: Solver, *, proof: bool = True
) -> TierSolution:
    """Solve a small task as a whole, or without a `proof` as far as better plans mostly are."""
    vm, host = all_columns(problem)
    effort = EXACT_EFFORT if proof else replace(EXACT_EFFORT, nodes=UNPROVEN_NODES)
    return solve_tiers(formulate(problem, vm, host, place), place, work, effort, solver)


def search_before_whole(problem: Problem) -> float:
    """Return the units of search after which more of it gains little."""
    return SEARCH_UNITS_COLUMN * count_columns(problem)


def has_room_for_whole(problem: Problem, work: Work, units_before: float) -> bool:
    """Tell whether a medium task can be solved as a whole after so many units of other work."""
    columns = count_columns(problem)
    if problem.policy.goal is not Goal.BALANCE or columns <= EXACT_COLUMNS:
        return False
    return _has_room(columns, work, units_before + WHOLE_UNITS_COLUMN * columns)


def has_room_for_pool(problem: Problem, work: Work, *, before_whole: bool) -> bool:
    """Tell whether the best columns of a medium task can go into one model within the work.

    They had better not where a model of the whole is to follow that is hardly larger.
    """
    columns = count_columns(problem)
    if before_whole and columns < WORTH_WHOLE * POOL_COLUMNS:
        return False
    return _has_room(columns, work, POOL_UNITS)


def _has_room(columns: int, work: Work, units: float) -> bool:
    left = work.seconds_left()
    if work.units < units or (left is not None and left * 1e6 < units):
        return False
    return 0 < columns <= WHOLE_COLUMNS


def whole(
    problem: Problem,
    place: Ints,
    relaxed: Relaxed | None,
    work: Work,
    solver: Solver,
    most_units: float,
) -> TierSolution:
    """Solve a medium task as far as the work goes: a better plan and a bound with cuts.

    The relaxation is weak where VMs are few and large; the solver's cuts (covers of the rows
    that say a host's load) and its branching are what closes part of the gap.

    Args:
        problem: The task.
        place: A legal end.
        relaxed: Of columns with a worse price than what is left to gain on `place` it is known
            that they are in no plan with a lower J: they are left out, and the bound ends at it.
        work: The budget.
        solver: Which solver.
        most_units: What looks are reckoned from; the budgets that `work` is a part of may pay.
    """
    vm, host = _worthwhile(problem, place, relaxed)
    look_units = WHOLE_LOOK_UNITS + WHOLE_LOOK_UNITS_COLUMN * len(vm)
    parts = len(vm) <= PARTS_COLUMNS
    effort = Effort(WHOLE_NODES, looks=int(most_units / look_units), parts=parts)
    model = formulate(problem, vm, host, place)
    solved = solve_tiers(model, place, work, effort, solver, look_units)
    *upper, bound = solved.bounds
    bound = min(bound, measure(problem, place).balance)
    return replace(solved, bounds=(*upper, bound))


def pooled(
    problem: Problem, place: Ints, relaxed: Relaxed | None, work: Work, solver: Solver
) -> Ints:
    """Return the best plan over the columns with the best prices, or `place`.

    Unlike moves and hosts' choices this knows all tiers: which of several VMs had better leave for
    a rule's sake, or what brings a host below its threshold. With so few columns it mostly ends.
    """
    vm, host = _worthwhile(problem, place, relaxed, POOL_COLUMNS)
    looks = int(POOL_SHARE * work.left() / POOL_LOOK_UNITS)
    part, left = work.part(work.units), work.seconds_left()
    if left is not None:
        part.reserve_s += (1 - POOL_SHARE) * left
    model = formulate(problem, vm, host, place)
    effort = Effort(POOL_NODES, looks=looks, few_cuts=True, proof=False)
    return solve_tiers(model, place, part, effort, solver).place


def _worthwhile(
    problem: Problem, place: Ints, relaxed: Relaxed | None, most: int | None = None
) -> tuple[Ints, Ints]:
    """Return the columns of `place` and those that a better plan could have; the `most` best."""
    vm, host = all_columns(problem)
    if relaxed is None:
        return vm, host
    price = np.where(place[vm] == host, -np.inf, relaxed.reduced_cost[vm, host])
    left = measure(problem, place).balance - relaxed.prices.bound
    keep = np.argsort(price, kind="stable")[:most]
    keep = np.sort(keep[price[keep] <= left])
    return vm[keep], host[keep]


def neighbours(
    problem: Problem,
    place: Ints,
    work: Work,
    seed: int,
    solver: Solver,
    reduced_cost: Floats | None = None,
) -> Ints:
    """Improve `place` neighbourhood by neighbourhood until the work is done or nothing is won.

    Args:
        problem: The task.
        place: A legal end.
        work: The budget.
        seed: Of the choice of hosts.
        solver: Which solver.
        reduced_cost: (N, H) of a relaxation: which columns are worth a place in a model.
    """
    rng, size = np.random.default_rng(seed), _size(problem)
    stale = 0
    goal = problem.policy.goal
    key = measure(problem, place).key(goal)
    tried: set[tuple[int, ...]] = set()
    while stale < STALE_MAX and work.spend(1000):
        hosts = _pick(problem, place, rng, PRICED_HOSTS if reduced_cost is not None else size)
        name = tuple(np.flatnonzero(hosts).tolist())
        if name in tried:
            stale += 1
            continue
        if reduced_cost is None:
            vm, host = _columns(problem, place, hosts, rng)
        else:
            vm, host = _priced(problem, place, hosts, reduced_cost)
        if not len(vm):
            stale += 1
            continue
        formulation = formulate(problem, vm, host, place)
        place = solve_tiers(formulation, place, work, NEIGHBOUR_EFFORT, solver).place
        new = measure(problem, place).key(goal)
        if new < key:
            key, stale = new, 0
            tried.clear()
        else:
            stale += 1
            tried.add(name)
    return place


def _priced(problem: Problem, place: Ints, hosts: Bools, reduced_cost: Floats) -> tuple[Ints, Ints]:
    """Return the moves made from and to `hosts`, and the columns there with the best prices."""
    moved = place != problem.home
    made = np.flatnonzero(moved & (hosts[place] | hosts[problem.home]))
    able = np.flatnonzero(hosts[problem.home] | (moved & hosts[place]))
    price = np.where(hosts, reduced_cost[able], np.inf)
    price[np.isin(able, made), place[able][np.isin(able, made)]] = np.inf  # taken already
    most = min(max(0, PRICED_COLUMNS - len(made)), int(np.isfinite(price).sum()))
    best = np.argsort(price, axis=None, kind="stable")[:most]
    row, host = np.divmod(best, price.shape[1])
    vm, host = np.append(made, able[row]), np.append(place[made], host)
    order = np.lexsort([host, vm])
    return vm[order], host[order]


def _pick(problem: Problem, place: Ints, rng: np.random.Generator, size: int) -> Bools:
    """Choose hosts: one that is costly (or stands in a tier's way), and others by chance."""
    state = State(problem, place)
    cost = host_costs(problem, state.used(), means(problem, place), OVERLOAD_WEIGHT).sum(axis=0)
    cost = cost + problem.draining * np.bincount(
        place, problem.from_drain.astype(float), minlength=len(cost)
    )
    if problem.policy.goal is not Goal.BALANCE:
        cost = cost + state.received
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.broken(counts):
            cost[place[group.members]] += 1.0
    chosen = np.zeros(len(cost), dtype=bool)
    able = problem.play & (problem.up | (cost > 0))
    weight = np.where(able, cost + 1e-9 + 0.2 * cost[able].mean() if able.any() else 0.0, 0.0)
    for _ in range(min(size, int(able.sum()))):
        left = np.where(chosen, 0.0, weight)
        if left.sum() <= 0:
            break
        chosen[int(rng.choice(len(cost), p=left / left.sum()))] = True
        weight = np.where(able, 0.3 * weight + 0.7 * weight.mean(), 0.0)
    return chosen


def _size(problem: Problem) -> int:
    """Return how many hosts make a neighbourhood here: as many as keep the model small."""
    each = len(problem.movable) / max(1, int(problem.play.sum()))
    return 4 if 4 * 3 * each <= NEIGHBOUR_COLUMNS else 3


def _columns(
    problem: Problem, place: Ints, hosts: Bools, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Return the columns of the VMs that are on `hosts`, to `hosts`; some of them if too many."""
    on = np.flatnonzero(hosts[place])
    # A VM whose home is elsewhere may go home too: its place is one of `hosts`, so nothing else
    # changes but its home, whose load the model then follows.
    on = on[np.isin(on, problem.movable)]
    most = NEIGHBOUR_COLUMNS // max(1, int(hosts.sum()) - 1)
    if len(on) > most:
        moved = on[(place[on] != problem.home[on]) | problem.draining[place[on]]]
        rest = np.setdiff1d(on, moved)
        taken = rng.permutation(len(rest))[: max(0, most - len(moved))]
        on = np.sort(np.concatenate([moved[:most], rest[taken]]))
    vm, host = all_columns(problem, on)
    keep = hosts[host]
    return vm[keep], host[keep]
