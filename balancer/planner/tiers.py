"""Solve a formulation tier by tier: each minimised with those above it held.

Strict tiers, not weights: a weight large enough to rank overload above balance ruins the
numbers, one small enough trades them off. A tier that is at zero already needs no solve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from balancer.planner.formulate import Formulation
from balancer.planner.ilp import Effort, Solver, solve
from balancer.planner.problem import Ints
from balancer.planner.score import LOST, TIER_TOLERANCE, better, legal_end, measure, tier_names
from balancer.planner.secure import secured
from balancer.planner.work import Work
from balancer.policy.policy import Goal

PROVEN_RELATIVE = 1e-6  # the gap within which a plan is called optimal
# Units of work (about microseconds) of a simplex iteration, for each column and at least, of
# handing over one column, and of a model.
ITERATION_UNITS, ITERATION_UNITS_MIN = 0.085, 60.0
COLUMN_UNITS, MODEL_UNITS = 25.0, 12_000.0
PARTS_ITERATION_UNITS = 300.0  # where parts of a model are solved: without a look in between
LOOK_UNITS = 500.0  # of a look, where they are counted: what lies between is not all iterations


@dataclass(frozen=True)
class TierSolution:
    """The best placement found and, for each tier, a bound that holds for this model's columns."""

    place: Ints
    bounds: tuple[float, ...]
    proven: bool


def is_proven(value: float, bound: float) -> bool:
    """Tell whether a lower bound of J leaves nothing to be gained on `value`."""
    return value - bound <= PROVEN_RELATIVE * abs(value)


def model_units(columns: int) -> float:
    """Return what making a model of so many columns is charged; with less left none is made."""
    return MODEL_UNITS + COLUMN_UNITS * columns


def solve_tiers(
    formulation: Formulation,
    place: Ints,
    work: Work,
    effort: Effort,
    solver: Solver,
    look_units: float = LOOK_UNITS,
) -> TierSolution:
    """Improve `place`, tier by tier. `place` must be reachable with the model's columns.

    Args:
        formulation: The model.
        place: A legal end.
        work: The budget.
        effort: Of each tier's solve; `looks` are those of all tiers. Seconds, the user and how
            near is near enough are not taken from it: J is small, and has no gap but a relative.
        solver: Which solver.
        look_units: What the model is charged for a look at least, where looks are counted.
    """
    problem = formulation.problem
    goal = problem.policy.goal
    key = measure(problem, place).key(goal)
    bounds: list[float] = []
    names = tier_names(goal)
    looks = effort.looks
    least = PARTS_ITERATION_UNITS if effort.parts else ITERATION_UNITS_MIN
    each = max(least, ITERATION_UNITS * len(formulation.vm))
    for at, tier in enumerate(formulation.tiers):
        last = at == len(formulation.tiers) - 1
        bound = 0.0
        if names[at] in LOST:  # the model knows nothing of failures
            bounds.append(bound)
            continue
        if last or key[at] > TIER_TOLERANCE:
            if not work.spend(model_units(len(formulation.vm))):
                bounds.extend([0.0] * (len(formulation.tiers) - at))
                break
            start = list(enumerate(formulation.columns_at(place).tolist()))
            linear = formulation.linear
            solution = solve(
                linear,
                linear.cost(tier),
                tier.constant,
                start,
                replace(
                    effort,
                    seconds=work.seconds_left(),
                    interrupted=work.interrupted,
                    looks=looks,
                    gap=0.0 if last else TIER_TOLERANCE / 2,
                ),
                solver,
            )
            spent = each * solution.iterations
            if looks is not None:  # elsewhere HiGHS is only watched where Ctrl-C is
                # What lies between looks of small models is not all iterations.
                spent = max(spent + LOOK_UNITS * solution.looks, look_units * solution.looks)
                looks = max(0, looks - solution.looks)
            work.charge(spent)
            bound = max(0.0, solution.bound)
            if solution.x is not None:
                found = formulation.placement(solution.x)
                found = secured(problem, found, place, with_less=True)  # the columns stay the same
                found_key = measure(problem, found).key(goal)
                if better(found_key, key) and legal_end(problem, found):
                    place, key = found, found_key
        bounds.append(bound)
        if not last:
            slack = TIER_TOLERANCE / 10 if tier is formulation.tiers[-2] else 1e-8
            formulation.linear.bound(tier, key[at] + slack)
    # Where J only decides between equals, nobody asked for the proof of it.
    asked = len(key) - (goal is Goal.CONSOLIDATE)
    proven = all(
        value - bound <= PROVEN_RELATIVE * abs(value) + TIER_TOLERANCE
        for value, bound in list(zip(key, bounds, strict=True))[:asked]
    )
    return TierSolution(place, tuple(bounds), proven and bool(np.isfinite(key).all()))
