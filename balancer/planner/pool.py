"""The linear model of the relaxation over a growing pool of columns, alive in the solver.

A column says that a set of VMs, most of them single ones, goes to a host. VMs that a hard rule
holds together on one host, and that are there, go together or not at all; with columns of their
own the model would tear them apart, which no plan can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.construct import bound_together
from balancer.planner.formulate import add_phi
from balancer.planner.ilp import arrays, highspy, quiet_highs
from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import CPU, MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.score import OVERLOAD_WEIGHT, Measure, means
from balancer.planner.work import Work

COLUMNS_FIRST, COLUMNS_SECOND = 800, 400  # a round: best columns of as many VMs, and their next
REDUCED_COST_MIN = 1e-9
# Units: a simplex iteration for each load row, and pricing one column.
ROW_UNITS, PRICE_UNITS = 0.5, 0.07
PRIMAL, DUAL = 4, 1  # HiGHS's names of the simplex methods
# What a linear solver may be wrong by: it comes off the bound, which is to hold.
SAFETY_RELATIVE, SAFETY = 1e-7, 1e-9


@dataclass(frozen=True)
class Sets:
    """What moves as one.

    Attributes:
        of_vm: (N,) set of each VM.
        count: (I,) its VMs.
        size: (B, I) what moving it takes of each of the task's budgets.
        home, weight, cost: (I,), (2, I), (I,) where it is, its load, and what moving it costs.
        open: (I, H) where else it may go.
    """

    of_vm: Ints
    count: Ints
    size: Floats
    home: Ints
    weight: Floats
    cost: Floats
    open: Bools

    @classmethod
    def of(cls, problem: Problem) -> Sets:
        """Read a task: sets that are whole and may only end on one host, and single VMs."""
        first = np.arange(len(problem.vms))
        for members in whole_units(problem):
            first[members] = members.min()
        kept, of_vm, count = np.unique(first, return_inverse=True, return_counts=True)
        open_ = problem.allowed & ~problem.draining[None, :]
        open_[np.arange(len(first)), problem.home] = False
        opened = open_[kept]
        np.logical_and.at(opened, of_vm, open_)
        opened[count > problem.cap] = False
        size = np.zeros((len(problem.budgets.names), len(kept)))
        for at, row in enumerate(problem.budgets.size):
            size[at] = np.bincount(of_vm, row, minlength=len(kept))
        opened[(size > problem.budgets.most[:, None]).any(axis=0)] = False
        return cls(
            of_vm,
            count.astype(np.int64),
            size,
            problem.home[kept],
            np.stack([np.bincount(of_vm, row, minlength=len(kept)) for row in problem.weight]),
            np.bincount(of_vm, problem.move_cost, minlength=len(kept)).astype(float),
            opened,
        )


@dataclass(frozen=True)
class Prices:
    """What a solution over the pool says of all columns.

    Attributes:
        value: The least J over the pool.
        bound: What no choice of columns, pooled or not, can get below.
        cost: (I, H) reduced costs, infinite where a set may not go.
        load: (2, H) duals of the loads: minus what J grows by with each utilisation.
        caps: (1 + B,) what one move more, and one more of each budget, would be worth.
        own: (I,) what it costs that a set goes to one host at most; not positive.
    """

    value: float
    bound: float
    cost: Floats
    load: Floats
    caps: Floats
    own: Floats


def whole_units(problem: Problem) -> list[Ints]:
    """Return the sets of VMs that are on one host and that hard rules keep on one."""
    single = [
        group
        for group in problem.groups
        if group.limit is None and group.hard and group.is_whole_on_one_host
    ]
    return [members for members, _ in bound_together(single)]


class Pool:
    """The model over the columns so far, alive in the solver between rounds."""

    def __init__(self, problem: Problem, kept: Measure) -> None:
        self.problem = problem
        self.sets = sets = Sets.of(problem)
        count, hosts = len(sets.home), len(problem.hosts)
        self.load_row = np.zeros((2, hosts), dtype=np.int64)
        self.kept_rows: dict[int, dict[int, float]] = {}
        linear, cost = self._hosts(kept)
        self.columns_before, self.rows = len(linear.lower), len(linear.row_lower)
        self.set_row = np.full(count, -1, dtype=np.int64)
        self.at = np.zeros(0, dtype=np.int64)
        self.host = np.zeros(0, dtype=np.int64)
        self.pooled = np.zeros_like(sets.open)
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
        """Write the part without columns: loads, means, phi, overload, caps, what is kept."""
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
        most = problem.budgets.most.tolist()
        self.budget_rows = [linear.row(-INF, one, [], []) for one in most]
        self._keep(linear, kept)
        return linear, linear.cost(objective)

    def _keep(self, linear: Linear, kept: Measure) -> None:
        """Demand the departures without which drains and hard rules end worse than in `kept`."""
        problem = self.problem

        def departures(least: float, vms: Ints, coefficient: Floats, *excess: int) -> None:
            row = linear.row(least, INF, list(excess), np.ones(len(excess)))
            self._tell(row, vms, coefficient)

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
            self._tell(row, astray, weight)

    def _tell(self, row: int, vms: Ints, coefficient: Floats) -> None:
        """Note what each set's columns have in a row that counts departures."""
        for vm, value in zip(vms.tolist(), coefficient.tolist(), strict=True):
            terms = self.kept_rows.setdefault(int(self.sets.of_vm[vm]), {})
            terms[row] = terms.get(row, 0.0) + value

    def add(self, at: Ints, host: Ints) -> None:
        """Take columns (set, host) into the pool, with a row for each set that has none yet."""
        problem, engine, sets = self.problem, self.engine, self.sets
        fresh = np.unique(at[self.set_row[at] < 0])
        if len(fresh):
            none = np.zeros(0, dtype=np.int32)
            starts = np.zeros(len(fresh), dtype=np.int32)
            least, most = np.full(len(fresh), -INF), np.ones(len(fresh))
            engine.addRows(len(fresh), least, most, 0, starts, none, np.zeros(0))
            self.set_row[fresh] = self.rows + np.arange(len(fresh))
            self.rows += len(fresh)
        home = sets.home[at]
        index = [np.full(len(at), self.cap_row), self.set_row[at]]
        value = [sets.count[at].astype(float), np.ones(len(at))]
        index += [np.full(len(at), row) for row in self.budget_rows]
        value += list(sets.size[:, at])
        for resource in (CPU, MEMORY):
            size = sets.weight[resource, at]
            index += [self.load_row[resource, host], self.load_row[resource, home]]
            value += [size * problem.scale[resource, host], -size * problem.scale[resource, home]]
        flat = np.stack(index, axis=1), np.stack(value, axis=1)
        rows = [
            list(zip(*pair, strict=True)) for pair in zip(*(f.tolist() for f in flat), strict=True)
        ]
        for terms, one in zip(rows, at.tolist(), strict=True):
            terms.extend(self.kept_rows.get(one, {}).items())
        starts = np.cumsum([0, *(len(terms) for terms in rows)])[:-1].astype(np.int32)
        entries = [entry for terms in rows for entry in terms]
        engine.addCols(
            len(at),
            sets.cost[at],
            np.zeros(len(at)),
            np.full(len(at), INF),  # the row of its set says 1
            len(entries),
            starts,
            np.array([row for row, _ in entries], dtype=np.int32),
            np.array([number for _, number in entries], dtype=float),
        )
        self.at, self.host = np.append(self.at, at), np.append(self.host, host)
        self.pooled[at, host] = True

    def solve(self, work: Work) -> Prices | None:
        """Return the prices of all columns and the value over the pool, or None when cut."""
        problem, engine = self.problem, self.engine
        if not work.spend(PRICE_UNITS * self.sets.open.size) or not self._run(work):
            return None
        sets, dual = self.sets, np.array(engine.getSolution().row_dual)
        price = problem.scale * dual[self.load_row]
        cost = sets.cost[:, None] - sets.weight.T @ price
        own = np.where(self.set_row >= 0, dual[self.set_row], 0.0)
        gain = own + sets.count * dual[self.cap_row]
        for row, size in zip(self.budget_rows, sets.size, strict=True):
            gain += size * dual[row]
        for at, terms in self.kept_rows.items():
            gain[at] += sum(dual[row] * value for row, value in terms.items())
        cost += ((sets.weight * price[:, sets.home]).sum(axis=0) - gain)[:, None]
        cost[~sets.open] = INF
        value = float(engine.getInfo().objective_function_value)
        caps = np.maximum(0.0, -dual[[self.cap_row, *self.budget_rows]])
        return Prices(value, self._bound(cost, value), cost, dual[self.load_row], caps, own)

    def _run(self, work: Work) -> bool:
        """Let the solver run; tell whether it came to an optimum, which is then in `x`."""
        engine = self.engine
        if (left := work.seconds_left()) is not None:
            engine.setOptionValue("time_limit", engine.getRunTime() + left)
        engine.run()
        iterations = max(0, int(engine.getInfo().simplex_iteration_count))
        work.spend(ROW_UNITS * iterations * self.load_row.size)
        if engine.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return False
        self.x = np.array(engine.getSolution().col_value)[self.columns_before :]
        return True

    def hold(self, lower: Floats, upper: Floats, work: Work) -> bool:
        """Solve again with bounds on the columns; tell whether there is a solution."""
        columns = self.columns_before + np.arange(len(lower), dtype=np.int32)
        self.engine.changeColsBounds(len(lower), columns, lower, upper)
        self.engine.setOptionValue("simplex_strategy", DUAL)
        return self._run(work)

    def _bound(self, cost: Floats, value: float) -> float:
        """Return what no choice of columns can get below, at the present duals.

        Each set goes to one host at most and no more sets move than the cap allows VMs, so no
        more than each one's lowest reduced cost can be gained.
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
            at = np.flatnonzero(gain < -REDUCED_COST_MIN)
            at = np.sort(at[np.argsort(gain[at], kind="stable")[:most]])
            chosen.append((at, host[at]))
            left[rows, host] = INF
        at, hosts = (np.concatenate(part) for part in zip(*chosen, strict=True))
        if len(at):
            self.add(at, hosts)
        return bool(len(at))


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
