"""The planning task as a mixed-integer linear model.

A column is a pair (VM, host): the VM ends there. Staying at home is what is left when none of a
VM's columns is chosen, so it needs no variable. The model takes any set of columns; VMs without
one stay where a given placement has them. All columns make the exact model, few a
neighbourhood. Each tier of the goal is an expression, in order; J's piecewise-linear terms are
variables above their tangents, which minimisation presses down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.planner.awake_model import awake_tiers
from balancer.planner.groups import Group
from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import CPU, MEMORY, Floats, Ints, Problem
from balancer.planner.score import BREAKS, LOST, OVERLOAD_WEIGHT, ROUNDING, SLOPES, phi, tier_names
from balancer.planner.state import State
from balancer.policy.policy import Goal


@dataclass
class Formulation:
    """A model and what its parts mean.

    Attributes:
        vm, host: (C,) the columns; variable c is column c.
        base: (N,) placement when no column is chosen.
        tiers: One expression for each name in `score.tier_names`, in order; those of `score.LOST`
            are empty: the model knows nothing of failures, and what it finds is measured.
        used: (2, H) variable of each utilisation, -1 for hosts that no column touches.
    """

    problem: Problem
    linear: Linear
    vm: Ints
    host: Ints
    base: Ints
    tiers: tuple[Expression, ...]
    used: Ints

    def placement(self, x: Floats) -> Ints:
        """Return the placement that a solution chooses."""
        place = self.base.copy()
        chosen = np.flatnonzero(np.round(x[: len(self.vm)]))
        place[self.vm[chosen]] = self.host[chosen]
        return place

    def columns_at(self, place: Ints) -> Floats:
        """Return the (C,) column values of a placement."""
        return np.asarray(place[self.vm] == self.host, dtype=np.float64)


def formulate(problem: Problem, vm: Ints, host: Ints, place: Ints) -> Formulation:
    """Write the model over the columns (vm, host); VMs without a column stay as in `place`.

    Args:
        problem: The task.
        vm: (C,) VMs of the columns, sorted.
        host: (C,) hosts of the columns, never a VM's home, always allowed.
        place: (N,) where the others are.
    """
    base = place.copy()
    base[vm] = problem.home[vm]
    linear = Linear()
    linear.variables(len(vm), 0.0, 1.0, integer=True)
    builder = _Builder(problem, linear, vm, host, State(problem, base))
    builder.choices()
    builder.loads()
    builder.limits()
    for group, counts in zip(problem.groups, builder.state.counts, strict=True):
        builder.group(group, counts)
    builder.evenness()
    if problem.policy.goal is Goal.CONSOLIDATE:
        builder.tiers["crowding"], builder.tiers["awake"] = awake_tiers(
            linear, builder.state, vm, host, builder.used
        )
    tiers = tuple(builder.tiers[name] for name in tier_names(problem.policy.goal))
    return Formulation(problem, linear, vm, host, base, tiers, builder.used)


class _Builder:
    """Adds one part of the model after another; the tiers grow along."""

    def __init__(
        self, problem: Problem, linear: Linear, vm: Ints, host: Ints, state: State
    ) -> None:
        self.problem = problem
        self.linear = linear
        self.vm = vm
        self.host = host
        self.state = state
        self.home = problem.home[vm]
        self.columns = np.arange(len(vm), dtype=np.int64)
        self.mean = np.zeros(2, dtype=np.int64)
        self.mean_at: list[float | None] = [None, None]  # where it is a constant
        self.used = np.full(problem.before.shape, -1, dtype=np.int64)
        self.touched = np.unique(np.concatenate([host, self.home]))
        self.tiers = {
            name: Expression()
            for name in (
                "drain",
                "rules",
                *LOST,
                "overload",
                "resort",
                "soft",
                "cost",
                "balance",
            )
        }

    def choices(self) -> None:
        """One host a VM, the cap on moves and budgets, and the tiers that are sums over columns."""
        problem, state = self.problem, self.state
        for at in np.split(self.columns, np.flatnonzero(np.diff(self.vm)) + 1):
            if len(at) > 1:
                self.linear.row(-INF, 1.0, at, np.ones(len(at)))
        left = problem.cap - state.moves
        if left < len(np.unique(self.vm)):
            self.linear.row(-INF, float(max(0, left)), self.columns, np.ones(len(self.vm)))
        for size, room in zip(state.budgets.size, state.budgets.most - state.spent, strict=True):
            if size[np.unique(self.vm)].sum() > room:
                self.linear.row(-INF, max(0.0, float(room)), self.columns, size[self.vm])
        drained = problem.from_drain[self.vm].astype(float)
        present = int((problem.draining[state.place] & problem.is_load).sum())
        self.tiers["drain"] = _weighted(self.columns, -drained, present)
        at_home = state.place == problem.home
        self.tiers["rules"] = _weighted(
            self.columns, -problem.astray[self.vm].astype(float), problem.astray[at_home].sum()
        )
        reluctant = problem.reluctant[self.vm].astype(float)
        self.tiers["resort"] = _weighted(self.columns, reluctant, problem.reluctant[~at_home].sum())
        rows = problem.soft_row[self.vm]
        soft = problem.soft[rows, self.host] - problem.soft[rows, self.home]
        constant = problem.soft[problem.soft_row, state.place].sum()
        self.tiers["soft"] = _weighted(self.columns, soft, constant)
        price = problem.move_cost[self.vm]
        constant = problem.move_cost[~at_home].sum()
        self.tiers["cost"] = _weighted(self.columns, price, constant)
        self.tiers["balance"] = _weighted(self.columns, price, constant)

    def loads(self) -> None:
        """Utilisation of each touched host as a variable, and the means."""
        problem, used = self.problem, self.state.used()
        for resource in (CPU, MEMORY):
            for host in self.touched.tolist():
                variable = self.linear.variable(-INF, INF)
                self.used[resource, host] = variable
                arrive = self.columns[self.host == host]
                leave = self.columns[self.home == host]
                scale = problem.scale[resource, host]
                index = np.concatenate([arrive, leave, [variable]])
                sizes = problem.weight[resource, self.vm[index[:-1]]] * scale
                sign = np.repeat([1.0, -1.0], [len(arrive), len(leave)])
                start = -float(used[resource, host])
                self.linear.row(start, start, index, np.append(sizes * sign, -1.0))
            self._mean(resource)

    def _mean(self, resource: int) -> None:
        """The mean utilisation of up hosts: a constant unless drains or speeds move it."""
        problem = self.problem
        speed = np.array([host.cpu_speed for host in problem.hosts])
        if resource == MEMORY:
            speed = np.ones(len(speed))
        # In the host's own cores: load / speed over capacity.
        capacity = (1.0 / (problem.scale[resource] * speed))[problem.up].sum()
        load = ((self.state.load[resource] / speed)[problem.up]).sum()
        share = 1.0 / (speed * capacity) * problem.up if capacity > 0 else np.zeros(len(speed))
        mean = load / capacity if capacity > 0 else 0.0
        change = problem.weight[resource, self.vm] * (share[self.host] - share[self.home])
        variable = self.linear.variable(-INF, INF)
        self.mean[resource] = variable
        keep = np.abs(change) > ROUNDING
        self.mean_at[resource] = None if keep.any() else float(mean)
        index = np.append(self.columns[keep], variable)
        self.linear.row(-mean, -mean, index, np.append(change[keep], -1.0))

    def limits(self) -> None:
        """Clauses 5 and 6: no new overload, and a receiver's memory is usable memory."""
        problem = self.problem
        excusing = problem.from_drain[self.vm]
        for host in self.touched.tolist():
            here = self.host == host
            drains = self.columns[here & excusing]
            already = bool(self.state.excused[host])
            excuse = self.linear.variable(0.0, 1.0, integer=True) if len(drains) else -1
            if excuse >= 0 and not already:
                index, value = np.append(drains, excuse), np.append(-np.ones(len(drains)), 1.0)
                self.linear.row(-INF, 0.0, index, value)
            for resource in (CPU, MEMORY):
                variable = int(self.used[resource, host])
                limit = float(problem.limit[resource, host])
                most = 1.0 if resource == MEMORY else self._most(host)
                if resource == MEMORY and problem.before[MEMORY, host] > 1.0:
                    self._receiver(host, variable)
                    most = max(most, limit)
                if already:
                    self.linear.upper[variable] = most
                elif excuse >= 0 and most > limit:
                    self.linear.row(-INF, limit, [variable, excuse], [1.0, limit - most])
                else:
                    self.linear.upper[variable] = min(limit, most)

    def _most(self, host: int) -> float:
        """Return a utilisation of CPU that `host` cannot pass with these columns."""
        problem = self.problem
        arrive = problem.weight[CPU, self.vm[self.host == host]].sum()
        most = (self.state.load[CPU, host] + arrive) * problem.scale[CPU, host]
        return float(max(most, problem.limit[CPU, host]))

    def _receiver(self, host: int, variable: int) -> None:
        """A host that begins above its usable memory: if it receives, it must end within it."""
        before = float(self.problem.before[MEMORY, host])
        arrive = self.columns[self.host == host]
        if self.state.received[host]:
            self.linear.upper[variable] = 1.0
            return
        receives = self.linear.variable(0.0, 1.0, integer=True)
        for column in arrive.tolist():
            self.linear.row(-INF, 0.0, [column, receives], [1.0, -1.0])
        self.linear.row(-INF, before, [variable, receives], [1.0, before - 1.0])

    def group(self, group: Group, counts: Ints) -> None:
        """A cap or a unit: what binds, and what is broken as a tier."""
        tier = self.tiers["rules" if group.hard else "soft"]
        mine = np.isin(self.vm, group.members)
        source, target = group.domain[self.home], group.domain[self.host]
        mine &= source != target
        columns = self.columns[mine]
        if not len(columns):
            tier.constant += group.broken(counts)
        elif group.limit is None:
            self._unit(group, counts, columns, tier)
        else:
            self._cap(group, counts, columns, tier)

    def _cap(self, group: Group, counts: Ints, columns: Ints, tier: Expression) -> None:
        limit = group.limit or 0
        for domain in range(len(counts)):
            arrive = columns[group.domain[self.host[columns]] == domain]
            leave = columns[group.domain[self.home[columns]] == domain]
            count, most = int(counts[domain]), max(limit, int(group.before[domain]))
            tier_counts = not group.hard or most > limit
            if not len(arrive) and not len(leave):
                tier.constant += 0 if group.is_fact else max(0, count - limit)
                continue
            index = np.concatenate([arrive, leave])
            value = np.repeat([1.0, -1.0], [len(arrive), len(leave)])
            if group.is_fact:
                value *= group.size[np.searchsorted(group.members, self.vm[index])]
            if group.hard and count + value[: len(arrive)].sum() > most:
                self.linear.row(-INF, float(most - count), index, value)
            if tier_counts and not group.is_fact and count + len(arrive) > limit:
                excess = self.linear.variable(0.0, INF)
                self.linear.row(
                    -INF, float(limit - count), np.append(index, excess), np.append(value, -1.0)
                )
                tier.add([excess], [1.0])

    def _unit(self, group: Group, counts: Ints, columns: Ints, tier: Expression) -> None:
        """Occupied domains are variables above each VM that is there."""
        touched = np.union1d(group.domain[self.host[columns]], group.domain[self.home[columns]])
        touched = touched[touched >= 0]
        others = int((np.delete(counts, touched) > 0).sum())
        occupied = self.linear.variables(len(touched), 0.0, 1.0, integer=False)
        free = np.unique(self.vm[columns])
        for at, domain in zip(occupied.tolist(), touched.tolist(), strict=True):
            native = free[group.domain[self.problem.home[free]] == domain]
            if counts[domain] > len(native):
                self.linear.lower[at] = 1.0  # somebody without a column is there
                continue
            for column in columns[group.domain[self.host[columns]] == domain].tolist():
                self.linear.row(0.0, INF, [at, column], [1.0, -1.0])
            for vm in native.tolist():
                leave = columns[self.vm[columns] == vm]
                self.linear.row(1.0, INF, np.append(leave, at), np.ones(len(leave) + 1))
        if group.hard:
            most = float((group.before > 0).sum() - others)
            self.linear.row(-INF, most, occupied, np.ones(len(occupied)))
        extra = self.linear.variable(0.0, INF)
        index = np.append(occupied, extra)
        value = np.append(np.ones(len(occupied)), -1.0)
        self.linear.row(-INF, 1.0 - others, index, value)
        tier.add([extra], [1.0])

    def evenness(self) -> None:
        """Overload above the thresholds, and phi above its tangents."""
        problem = self.problem
        used = self.state.used()
        over = np.maximum(0.0, used - problem.threshold) * problem.play
        untouched = np.setdiff1d(np.arange(len(problem.hosts)), self.touched)
        constant = float(over[:, untouched].sum())
        self.tiers["overload"].constant += constant
        self.tiers["balance"].constant += OVERLOAD_WEIGHT * constant
        for resource in (CPU, MEMORY):
            for host in self.touched.tolist():
                if problem.play[host]:
                    self._overload(resource, host)
            for host in np.flatnonzero(problem.up).tolist():
                self._phi(resource, host, float(used[resource, host]))

    def _overload(self, resource: int, host: int) -> None:
        threshold = float(self.problem.threshold[resource, 0])
        over = self.linear.variable(0.0, INF)
        variable = int(self.used[resource, host])
        self.linear.row(-INF, threshold, [variable, over], [1.0, -1.0])
        self.tiers["overload"].add([over], [1.0])
        self.tiers["balance"].add([over], [OVERLOAD_WEIGHT])

    def _phi(self, resource: int, host: int, used: float) -> None:
        """Add phi(used - mean) to J; for a host that no column touches `used` is a number."""
        variable, mean = int(self.used[resource, host]), int(self.mean[resource])
        constant = self.mean_at[resource]
        if variable < 0 and constant is not None:
            self.tiers["balance"].constant += float(phi(np.array([used - constant]))[0])
            return
        index, value = add_phi(self.linear, self.tiers["balance"])
        if variable >= 0:
            self.linear.row(0.0, 0.0, [variable, mean, *index], [-1.0, 1.0, *value])
        else:
            self.linear.row(used, used, [mean, *index], [1.0, *value])


def add_phi(linear: Linear, objective: Expression) -> tuple[list[int], list[float]]:
    """Add phi(d) to an objective; return the terms that sum to d.

    Phi is convex, so its slopes fill in their order by themselves: one row for a deviation,
    where a row for each tangent on each side would make the simplex method's basis 12 times as
    large, and hide the knapsack in the row of loads from the solver's cuts.
    """
    index = [linear.variable(-BREAKS[0], BREAKS[0])]
    value = [1.0]
    for slope, width in zip(SLOPES, np.diff((*BREAKS, INF)).tolist(), strict=True):
        for sign in (1.0, -1.0):
            segment = linear.variable(0.0, width)
            objective.add([segment], [slope])
            index.append(segment)
            value.append(sign)
    return index, value


def _weighted(columns: Ints, weights: Floats, constant: float) -> Expression:
    expression = Expression(constant=float(constant))
    keep = np.abs(weights) > 0
    expression.add(columns[keep], weights[keep])
    return expression


def count_columns(problem: Problem) -> int:
    """Return how many columns `all_columns` has of all VMs, without making them."""
    rows, into = problem.movable, ~problem.draining
    allowed, home = problem.allowed[rows], problem.home[rows]
    at_home = allowed[np.arange(len(rows)), home] & into[home]
    return int(allowed.sum(axis=0) @ into) - int(at_home.sum())


def all_columns(problem: Problem, vms: Ints | None = None) -> tuple[Ints, Ints]:
    """Return every legal (VM, host) away from home, sorted, of all VMs or of some."""
    rows = problem.movable if vms is None else vms
    allowed = problem.allowed[rows].copy()
    allowed[np.arange(len(rows)), problem.home[rows]] = False
    allowed &= ~problem.draining[None, :]
    at, host = np.nonzero(allowed)
    return rows[at].astype(np.int64), host.astype(np.int64)
