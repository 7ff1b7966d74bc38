"""Hosts awake, in the model: a binary for each host that could be empty, and what it may hold."""

from __future__ import annotations

import numpy as np

from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import Ints
from balancer.planner.state import State


def awake_tiers(
    linear: Linear, state: State, vm: Ints, host: Ints, used: Ints
) -> tuple[Expression, Expression]:
    """Add what says which hosts are awake; return the tiers of crowding and of hosts awake.

    Args:
        linear: The model so far.
        state: The placement when no column is chosen.
        vm: (C,) VMs of the columns; variable c is column c.
        host: (C,) their hosts.
        used: (2, H) variable of each utilisation, -1 for hosts that no column touches.
    """
    problem, sleepers = state.problem, state.problem.sleepers
    crowding, counted = Expression(), Expression()
    touched = used[0] >= 0
    over = np.maximum(0.0, state.used() - sleepers.fill) * problem.play
    crowding.constant = float(over[:, ~touched].sum())
    carried = sleepers.carried(state.place)
    counted.constant = float((problem.up & (carried > 0))[~touched].sum())
    home = problem.home[vm]
    for at in np.flatnonzero(touched).tolist():
        awake = None
        if problem.up[at]:
            awake = _awake(linear, at, int(carried[at]), vm, np.flatnonzero(home == at), host)
            if awake is None:
                counted.constant += 1.0
            else:
                counted.add([awake], [1.0])
        if problem.play[at]:
            _filled(linear, crowding, state, at, awake, used)
    # Below the least there is nothing to gain.
    least = linear.variable(float(sleepers.floor), INF)
    pairs = sorted(counted.coefficients.items())
    index, value = [one for one, _ in pairs], [number for _, number in pairs]
    linear.row(-INF, -counted.constant, [*index, least], [*value, -1.0])
    return crowding, Expression({least: 1.0})


def _awake(
    linear: Linear, at: int, carried: int, vm: Ints, leaving: Ints, host: Ints
) -> int | None:
    """Return the variable that says if a host is awake; None where it is in any case.

    It is one above each VM that stays and each that comes: one row each, which is what makes the
    relaxation say more than that a host is a little awake.
    """
    natives = np.unique(vm[leaving])
    if carried > len(natives):
        return None
    awake = linear.variable(0.0, 1.0, integer=True)
    for native in natives.tolist():
        columns = leaving[vm[leaving] == native]
        linear.row(1.0, INF, [*columns.tolist(), awake], np.ones(len(columns) + 1))
    for column in np.flatnonzero(host == at).tolist():
        linear.row(0.0, INF, [awake, column], [1.0, -1.0])
    return awake


def _filled(
    linear: Linear, crowding: Expression, state: State, at: int, awake: int | None, used: Ints
) -> None:
    """A host that sleeps holds its own load, one that is awake its fill; the rest is crowding."""
    problem = state.problem
    for resource in (0, 1):
        fill = float(problem.sleepers.fill[resource, at])
        own = float(problem.fixed[resource, at] * problem.scale[resource, at])
        over = linear.variable(0.0, INF)
        crowding.add([over], [1.0])
        variable = int(used[resource, at])
        if awake is None:
            linear.row(-INF, fill, [variable, over], [1.0, -1.0])
        else:
            linear.row(-INF, own, [variable, over, awake], [1.0, -1.0, own - fill])
