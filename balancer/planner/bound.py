"""Proven lower bounds of J: linear relaxations, solved by HiGHS from arrays.

Two relaxations. The assignment relaxation is the ILP's own model with fractions of VMs allowed.
The decoupled one lets what leaves arrive anywhere, in any mixture: a variable for each VM and
two for each host, so it takes a fraction of a second at any size, and is weaker. Both may be
given tiers that the plan must keep, and both hold for every plan that is legal under the cap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.formulate import Formulation, add_phi
from balancer.planner.ilp import (
    Effort,
    Solver,
    arrays,
    highspy,
    quiet_highs,
    solve,
    uses_highs,
)
from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import CPU, MEMORY, Floats, Ints, Problem
from balancer.planner.score import (
    OVERLOAD_WEIGHT,
    TIER_TOLERANCE,
    Measure,
    tier_names,
)

ASSIGNMENT_COLUMNS = 8000  # beyond, the decoupled relaxation: a second against a fraction of one
# What a linear solver may be wrong by: it comes off the bound, which is to hold.
SAFETY_RELATIVE, SAFETY = 1e-7, 1e-9


@dataclass(frozen=True)
class Bound:
    """A lower bound, how it was found, and the reduced costs of the columns if there were any."""

    value: float
    kind: str
    reduced_cost: Floats | None = None


def assignment_bound(
    formulation: Formulation, kept: Measure | None = None, solver: Solver = "auto"
) -> Bound:
    """Return the bound of J from the formulation's own relaxation; see `decoupled_bound`."""
    tier = formulation.tiers[-1]
    if kept is not None:
        problem = formulation.problem
        goal = problem.policy.goal
        named = zip(tier_names(goal), formulation.tiers, kept.key(goal), strict=True)
        for name, expression, value in named:
            # Cost, and what only breaks its ties, are no goals of the administrator's.
            counts = name in ("drain", "rules", "overload", "resort")
            if counts or (name == "soft" and goal.mends_soft_rules):
                formulation.linear.bound(expression, value + TIER_TOLERANCE)
    value, reduced = _relaxed(formulation.linear, tier, solver)
    columns = len(formulation.vm)
    return Bound(value, "assignment LP", None if reduced is None else reduced[:columns])


def decoupled_bound(
    problem: Problem, kept: Measure | None = None, solver: Solver = "auto"
) -> Bound:
    """Return the bound of J when load may leave VM by VM and arrive as it likes.

    Args:
        problem: The task.
        kept: Tiers above balance that count: only plans at least as good in them are bounded.
        solver: Which solver.
    """
    linear = Linear()
    vms = problem.movable
    receiving = np.flatnonzero(problem.allowed[vms].any(axis=0) & problem.up)
    leaves = linear.variables(len(vms), 0.0, 1.0, integer=False)
    if problem.cap < len(vms):
        linear.row(-INF, float(problem.cap), leaves, np.ones(len(vms)))
    for size, most in zip(problem.budgets.size, problem.budgets.most.tolist(), strict=True):
        linear.row(-INF, most, leaves, size[vms])
    objective = Expression()
    objective.add(leaves, problem.move_cost[vms])
    if kept is not None:
        _keep(problem, linear, dict(zip(vms.tolist(), leaves.tolist(), strict=True)), kept)
    used, inflow = _loads(problem, linear, vms, leaves, receiving)
    for resource in (CPU, MEMORY):
        mean = _mean(problem, linear, resource, used)
        for host in range(len(problem.hosts)):
            if problem.up[host]:
                _phi(linear, objective, int(used[resource, host]), mean)
            if problem.play[host]:
                over = linear.variable(0.0, INF)
                threshold = float(problem.threshold[resource, 0])
                linear.row(-INF, threshold, [int(used[resource, host]), over], [1.0, -1.0])
                objective.add([over], [OVERLOAD_WEIGHT])
        weights = problem.weight[resource, vms]
        unit = float(weights.max(initial=1.0)) or 1.0
        arrive = inflow[resource]
        sizes = 1.0 / problem.scale[resource, receiving] / unit
        index = np.concatenate([arrive, leaves])
        linear.row(0.0, 0.0, index, np.concatenate([sizes, -weights / unit]))
    value, _ = _relaxed(linear, objective, solver)
    return Bound(value, "decoupled LP")


def _keep(problem: Problem, linear: Linear, leaves: dict[int, int], kept: Measure) -> None:
    """Demand the departures without which drains and hard rules end worse than in `kept`."""
    drained = [leaves[vm] for vm in np.flatnonzero(problem.from_drain).tolist() if vm in leaves]
    if drained:
        least = float(problem.from_drain.sum()) - kept.drain
        linear.row(least, INF, drained, np.ones(len(drained)))
    broken = Expression(constant=float(problem.astray.sum()))
    for vm in np.flatnonzero(problem.astray).tolist():
        if vm in leaves:
            broken.add([leaves[vm]], [-float(problem.astray[vm])])
    for group in problem.groups:
        if group.limit is None or not group.hard or group.is_fact:
            continue
        at = group.domain[problem.home[group.members]]
        for domain in np.flatnonzero(group.before > group.limit).tolist():
            mine = [leaves[vm] for vm in group.members[at == domain].tolist() if vm in leaves]
            excess = linear.variable(0.0, INF)
            least = float(group.before[domain] - group.limit)
            linear.row(least, INF, [*mine, excess], np.ones(len(mine) + 1))
            broken.add([excess], [1.0])
    linear.bound(broken, float(kept.rules))


def _loads(
    problem: Problem, linear: Linear, vms: Ints, leaves: Ints, receiving: Ints
) -> tuple[Ints, tuple[Ints, Ints]]:
    """Add a utilisation for each host, and inflow (in utilisation) for those that receive."""
    used = np.zeros(problem.before.shape, dtype=np.int64)
    inflow = tuple(linear.variables(len(receiving), 0.0, INF, integer=False) for _ in (CPU, MEMORY))
    at = {host: number for number, host in enumerate(receiving.tolist())}
    for resource in (CPU, MEMORY):
        for host in range(len(problem.hosts)):
            variable = linear.variable(-INF, INF)
            used[resource, host] = variable
            mine = problem.home[vms] == host
            sizes = problem.weight[resource, vms[mine]] * problem.scale[resource, host]
            index, value = [*leaves[mine].tolist(), variable], [*(-sizes).tolist(), -1.0]
            if host in at:
                index.append(int(inflow[resource][at[host]]))
                value.append(1.0)
            start = -float(problem.before[resource, host])
            linear.row(start, start, index, value)
    return used, (inflow[0], inflow[1])


def _mean(problem: Problem, linear: Linear, resource: int, used: Ints) -> int:
    """Add the mean utilisation of up hosts, in their own cores or bytes."""
    speed = np.array([host.cpu_speed if resource == CPU else 1.0 for host in problem.hosts])
    capacity = (1.0 / (problem.scale[resource] * speed)) * problem.up
    total = capacity.sum()
    mean = linear.variable(-INF, INF)
    up = np.flatnonzero(problem.up)
    if not len(up):
        linear.row(0.0, 0.0, [mean], [1.0])
        return mean
    index = np.append(used[resource, up], mean)
    linear.row(0.0, 0.0, index, np.append(capacity[up] / total, -1.0))
    return mean


def _phi(linear: Linear, objective: Expression, used: int, mean: int) -> None:
    index, value = add_phi(linear, objective)
    linear.row(0.0, 0.0, [used, mean, *index], [-1.0, 1.0, *value])


def _relaxed(linear: Linear, objective: Expression, solver: Solver) -> tuple[float, Floats | None]:
    """Minimise without integrality; return a value that is surely no higher than the minimum."""
    cost = linear.cost(objective)
    if uses_highs(solver):
        value, reduced = _highs_lp(linear, cost)
        value += objective.constant
    else:
        whole, linear.integer = linear.integer, [False] * len(linear.integer)
        solution = solve(linear, cost, objective.constant, (), Effort(1), "cbc")
        linear.integer = whole
        value, reduced = solution.bound, None
    return max(0.0, value - SAFETY - SAFETY_RELATIVE * abs(value)), reduced


def _highs_lp(linear: Linear, cost: Floats) -> tuple[float, Floats | None]:
    engine = quiet_highs()
    engine.passModel(arrays(linear, cost))
    engine.run()
    if engine.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return 0.0, None  # J is never negative, so this is a bound too
    return float(engine.getInfo().objective_function_value), np.array(engine.getSolution().col_dual)
