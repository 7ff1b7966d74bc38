"""The assignment relaxation by column generation: a bound, prices, and a placement to start from.

The linear model has a column for every (VM, host), but a solution uses a few hundred of them. So
it is solved over a pool, and numpy prices all N x H columns at once against the duals: those
that would better it join the pool. Each host and resource has a row that says its load, and phi
in segments of its slopes. At any time duals give a bound for all columns, pooled or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.planner.formulate import add_phi
from balancer.planner.ilp import highspy, quiet_highs
from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import CPU, MEMORY, Floats, Ints, Problem
from balancer.planner.score import OVERLOAD_WEIGHT, Measure, means
from balancer.planner.state import State
from balancer.planner.work import Work

COLUMNS_FIRST, COLUMNS_SECOND = 800, 400  # a round: best columns of as many VMs, and their next
ROUNDS_MAX = 80
GAP_RELATIVE = 2e-5  # of J, within which the pool is good enough
REDUCED_COST_MIN = 1e-9
ROUND_UP = (0.5, 0.6, 0.7, 0.85)  # shares of a VM from which rounding moves it
FOCUS = 1500  # VMs that are worth looking at further: those with the lowest reduced costs
# Units: a simplex iteration for each load row, and pricing one column.
ROW_UNITS, PRICE_UNITS = 0.25, 0.05
PRIMAL, DUAL = 4, 1  # HiGHS's names of the simplex methods
# What a linear solver may be wrong by: it comes off the bound, which is to hold.
SAFETY_RELATIVE, SAFETY = 1e-7, 1e-9


@dataclass(frozen=True)
class Relaxed:
    """What the relaxation gave.

    Attributes:
        bound: No plan that keeps the tiers above has a lower J.
        reduced_cost: (N, H) of every column, infinite where not allowed.
        share: (N, H) how much of each VM the solution puts on each host away from home.
    """

    bound: float
    reduced_cost: Floats
    share: Floats


def relax(problem: Problem, place: Ints, kept: Measure, work: Work) -> Relaxed | None:
    """Solve the relaxation, from the columns of `place`; None if there was no time for a bound.

    Args:
        problem: The task.
        place: A legal end that is as good as `kept` in the tiers above balance.
        kept: The tiers that every plan bounded is at least as good in.
        work: The budget.
    """
    pool = _Pool(problem, kept)
    moved = np.flatnonzero(place != problem.home)
    pool.add(moved, place[moved])
    bound, found = 0.0, None
    for _ in range(ROUNDS_MAX):
        answer = pool.solve(work)
        if answer is None:
            break
        cost, value = answer
        bound = max(bound, pool.bound(cost, value))
        found = Relaxed(bound, cost, pool.share())
        if not pool.grow(cost) or value - bound <= GAP_RELATIVE * abs(value):
            break
    return found


class _Pool:
    """The model over the columns so far, alive in the solver between rounds."""

    def __init__(self, problem: Problem, kept: Measure) -> None:
        self.problem = problem
        count, hosts = problem.allowed.shape
        self.load_row = np.zeros((2, hosts), dtype=np.int64)
        self.kept_rows: dict[int, list[tuple[int, float]]] = {}
        linear, cost = self._hosts(kept)
        self.columns_before, self.rows = len(linear.lower), len(linear.row_lower)
        self.vm_row = np.full(count, -1, dtype=np.int64)
        self.vm = np.zeros(0, dtype=np.int64)
        self.host = np.zeros(0, dtype=np.int64)
        self.open = problem.allowed & ~problem.draining[None, :]
        self.open[np.arange(count), problem.home] = False
        self.pooled = np.zeros_like(self.open)
        self.engine = quiet_highs()
        for name, option in (
            ("presolve", "off"),
            ("simplex_scale_strategy", 0),
            ("simplex_strategy", PRIMAL),
        ):
            self.engine.setOptionValue(name, option)
        self.engine.passModel(arrays(linear, cost))
        self.x = np.zeros(0)

    def _hosts(self, kept: Measure) -> tuple[Linear, Floats]:
        """Write the part without columns: loads, means, phi, overload, the cap, what is kept."""
        problem = self.problem
        linear, objective = Linear(), Expression()
        mean_now = means(problem, problem.home)
        drains = bool(problem.from_drain.any())
        for resource in (CPU, MEMORY):
            mean = linear.variable(-INF, INF)
            used = linear.variables(len(problem.hosts), -INF, INF, integer=False)
            for host, variable in enumerate(used.tolist()):
                start = -float(problem.before[resource, host])
                self.load_row[resource, host] = linear.row(start, start, [variable], [-1.0])
                top = float(problem.limit[resource, host])
                if drains:
                    top = INF if resource == CPU else max(1.0, top)
                linear.upper[variable] = top
                if problem.up[host]:
                    index, value = add_phi(linear, objective)
                    linear.row(0.0, 0.0, [variable, mean, *index], [-1.0, 1.0, *value])
                threshold = float(problem.threshold[resource, 0])
                if problem.play[host] and top > threshold:
                    over = linear.variable(0.0, INF)
                    linear.row(-INF, threshold, [variable, over], [1.0, -1.0])
                    objective.add([over], [OVERLOAD_WEIGHT])
            if problem.mean_is_constant or not problem.up.any():
                linear.lower[mean] = linear.upper[mean] = float(mean_now[resource, 0])
            else:
                _mean_row(problem, linear, resource, mean, used)
        self.cap_row = linear.row(-INF, float(problem.cap), [], [])
        self._keep(linear, kept)
        return linear, linear.cost(objective)

    def _keep(self, linear: Linear, kept: Measure) -> None:
        """Demand the departures without which drains and hard rules end worse than in `kept`."""
        problem = self.problem

        def departures(least: float, vms: Ints, coefficient: Floats, *excess: int) -> None:
            row = linear.row(least, INF, list(excess), np.ones(len(excess)))
            for vm, value in zip(vms.tolist(), coefficient.tolist(), strict=True):
                self.kept_rows.setdefault(vm, []).append((row, value))

        drained = np.flatnonzero(problem.from_drain)
        if len(drained):
            departures(float(len(drained) - kept.drain), drained, np.ones(len(drained)))
        excesses: list[int] = []
        for group in problem.groups:
            if not group.hard or not group.broken(group.before):
                continue
            at = group.domain[problem.home[group.members]]
            if group.limit is None:  # a domain less needs a departure at least
                parts = [(group.broken(group.before), group.members)]
            else:
                over = np.flatnonzero(group.before > group.limit).tolist()
                parts = [(int(group.before[d] - group.limit), group.members[at == d]) for d in over]
            for least, vms in parts:
                excesses.append(linear.variable(0.0, INF))
                departures(float(least), vms, np.ones(len(vms)), excesses[-1])
        # Excesses that remain, and host lists still broken, are at most what is kept.
        astray = np.flatnonzero(problem.astray)
        weight = problem.astray[astray].astype(float)
        if len(astray) or excesses:
            row = linear.row(
                float(weight.sum()) - kept.rules, INF, excesses, -np.ones(len(excesses))
            )
            for vm, value in zip(astray.tolist(), weight.tolist(), strict=True):
                self.kept_rows.setdefault(vm, []).append((row, value))

    def add(self, vm: Ints, host: Ints) -> None:
        """Take columns into the pool, with a row for each VM that has none yet."""
        problem, engine = self.problem, self.engine
        fresh = np.unique(vm[self.vm_row[vm] < 0])
        if len(fresh):
            none = np.zeros(0, dtype=np.int32)
            starts = np.zeros(len(fresh), dtype=np.int32)
            least, most = np.full(len(fresh), -INF), np.ones(len(fresh))
            engine.addRows(len(fresh), least, most, 0, starts, none, np.zeros(0))
            self.vm_row[fresh] = self.rows + np.arange(len(fresh))
            self.rows += len(fresh)
        home = problem.home[vm]
        index = [np.full(len(vm), self.cap_row), self.vm_row[vm]]
        value = [np.ones(len(vm)), np.ones(len(vm))]
        for resource in (CPU, MEMORY):
            size = problem.weight[resource, vm]
            index += [self.load_row[resource, host], self.load_row[resource, home]]
            value += [size * problem.scale[resource, host], -size * problem.scale[resource, home]]
        flat = np.stack(index, axis=1), np.stack(value, axis=1)
        rows = [
            list(zip(*pair, strict=True)) for pair in zip(*(f.tolist() for f in flat), strict=True)
        ]
        for terms, one in zip(rows, vm.tolist(), strict=True):
            terms.extend(self.kept_rows.get(one, ()))
        starts = np.cumsum([0, *(len(terms) for terms in rows)])[:-1].astype(np.int32)
        entries = [entry for terms in rows for entry in terms]
        engine.addCols(
            len(vm),
            problem.move_cost[vm],
            np.zeros(len(vm)),
            np.ones(len(vm)),
            len(entries),
            starts,
            np.array([row for row, _ in entries], dtype=np.int32),
            np.array([number for _, number in entries], dtype=float),
        )
        self.vm, self.host = np.append(self.vm, vm), np.append(self.host, host)
        self.pooled[vm, host] = True

    def solve(self, work: Work) -> tuple[Floats, float] | None:
        """Return reduced costs of all columns and the value over the pool, or None when cut."""
        problem, engine = self.problem, self.engine
        if not work.spend(PRICE_UNITS * self.open.size):
            return None
        if (left := work.seconds_left()) is not None:
            engine.setOptionValue("time_limit", engine.getRunTime() + left)
        engine.run()
        info = engine.getInfo()
        iterations = max(0, int(info.simplex_iteration_count))
        work.spend(ROW_UNITS * iterations * self.load_row.size)
        if engine.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = engine.getSolution()
        self.x = np.array(solution.col_value)[self.columns_before :]
        dual = np.array(solution.row_dual)
        price = problem.scale * dual[self.load_row]
        cost = problem.move_cost[:, None] - problem.weight.T @ price
        own = np.where(self.vm_row >= 0, dual[self.vm_row], 0.0) + dual[self.cap_row]
        for vm, terms in self.kept_rows.items():
            own[vm] += sum(dual[row] * value for row, value in terms)
        cost += ((problem.weight * price[:, problem.home]).sum(axis=0) - own)[:, None]
        cost[~self.open] = INF
        return cost, float(info.objective_function_value)

    def bound(self, cost: Floats, value: float) -> float:
        """Return what no choice of columns can get below, at the present duals.

        Each VM goes to one host at most and no more VMs move than the cap allows, so no more
        than each one's lowest reduced cost can be gained.
        """
        gains = np.minimum(cost.min(axis=1, initial=0.0), 0.0)
        most = min(len(gains), problem_cap(self.problem))
        lowest = np.sort(gains)[:most].sum()
        return max(0.0, float(value + lowest) - SAFETY - SAFETY_RELATIVE * abs(value))

    def grow(self, cost: Floats) -> bool:
        """Add the columns that would gain most; return whether there were any."""
        left = np.where(self.pooled, INF, cost)
        rows = np.arange(len(left))
        chosen: list[tuple[Ints, Ints]] = []
        for most in (COLUMNS_FIRST, COLUMNS_SECOND):
            host = left.argmin(axis=1)
            gain = left[rows, host]
            vm = np.flatnonzero(gain < -REDUCED_COST_MIN)
            vm = np.sort(vm[np.argsort(gain[vm], kind="stable")[:most]])
            chosen.append((vm, host[vm]))
            left[rows, host] = INF
        vms, hosts = (np.concatenate(part) for part in zip(*chosen, strict=True))
        if len(vms):
            self.add(vms, hosts)
        return bool(len(vms))

    def share(self) -> Floats:
        """Return the solution as (N, H)."""
        share = np.zeros(self.open.shape)
        share[self.vm[: len(self.x)], self.host[: len(self.x)]] = self.x
        return share


def problem_cap(problem: Problem) -> int:
    """Return how many VMs can end elsewhere."""
    return max(0, min(problem.cap, len(problem.movable)))


def _mean_row(problem: Problem, linear: Linear, resource: int, mean: int, used: Ints) -> None:
    """The mean utilisation of up hosts, in their own cores or bytes."""
    speed = np.array([host.cpu_speed if resource == CPU else 1.0 for host in problem.hosts])
    capacity = (1.0 / (problem.scale[resource] * speed)) * problem.up
    up = np.flatnonzero(problem.up)
    index = np.append(used[up], mean)
    linear.row(0.0, 0.0, index, np.append(capacity[up] / capacity.sum(), -1.0))


def arrays(linear: Linear, cost: Floats) -> Any:
    """Return a linear model as HiGHS takes it."""
    model: Any = highspy.HighsLp()
    starts, index, value = linear.matrix()
    model.num_col_, model.num_row_ = len(linear.lower), len(linear.row_lower)
    model.col_cost_ = cost
    model.col_lower_, model.col_upper_ = np.array(linear.lower), np.array(linear.upper)
    model.row_lower_, model.row_upper_ = np.array(linear.row_lower), np.array(linear.row_upper)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = starts.astype(np.int32)
    model.a_matrix_.index_ = index.astype(np.int32)
    model.a_matrix_.value_ = value
    return model


def focus(problem: Problem, place: Ints, relaxed: Relaxed) -> Ints:
    """Return the movable VMs, or of many those that are moved or that prices speak for."""
    rows = problem.movable
    if len(rows) <= FOCUS:
        return rows
    lowest = relaxed.reduced_cost.min(axis=1)[rows]
    lowest[place[rows] != problem.home[rows]] = -INF
    return np.sort(rows[np.argsort(lowest, kind="stable")[:FOCUS]])


def rounded(problem: Problem, place: Ints, relaxed: Relaxed, round_up: float, work: Work) -> Ints:
    """Return a legal end that follows the relaxation where it is decided, largest VMs first.

    VMs that rules count are left as in `place`: their tiers are settled, and fractions of them
    mean nothing.
    """
    free = ~problem.ruled & ~problem.from_drain
    target = relaxed.share.argmax(axis=1)
    follow = free & (relaxed.share.max(axis=1, initial=0.0) >= round_up)
    wanted = np.where(follow, target, np.where(free, problem.home, place))
    state = State(problem)
    size = (problem.weight * problem.scale.mean(axis=1, keepdims=True)).max(axis=0)
    left = np.flatnonzero(wanted != problem.home)
    # What others still have to leave for may fit in a later turn.
    left = left[np.lexsort([left, -size[left], free[left]])]
    while len(left):
        later: list[int] = []
        for vm in left.tolist():
            if state.moves >= problem.cap or not work.spend(40):
                return state.place
            host = int(wanted[vm])
            fits = state.fits(vm, even_overload=True)[host]
            if fits and state.rule_change(vm).legal[host]:
                state.move(vm, host)
            else:
                later.append(vm)
        if len(later) == len(left):
            break
        left = np.array(later, dtype=np.int64)
    return state.place
