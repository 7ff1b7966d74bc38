"""Ruin and recreate: undo the moves around a few hosts, descend again, keep what is better.

Undone together, the moves between a few hosts leave room for others that no exchange of two
would reach. What comes out a little worse is accepted too, less and less as the work is used
up, so that the search does not stay in the first valley; the best placement seen is the result.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.descent import BALANCE_GAIN, Descent
from balancer.planner.problem import Ints
from balancer.planner.work import Work

HOSTS = 4  # whose moves are undone
UNDONE_SHARE, UNDONE_MAX = 0.6, 24  # of those moves
# How much worse is accepted at first, as a share of what the bound leaves to be won.
WORSE_SHARE = 0.005
TRIAL_UNITS, APPLY_UNITS, ROW_UNITS = 600.0, 250.0, 0.4


def ruin_and_recreate(engine: Descent, bound: float, value: float, work: Work, seed: int) -> Ints:
    """Return the best placement found from the engine's, until the work is done.

    Args:
        engine: Gains at a local optimum; it ends somewhere near the result.
        bound: A lower bound of J.
        value: J of the engine's placement.
        work: The budget; all of it is used.
        seed: Of the choice of hosts and moves.
    """
    rng = np.random.default_rng(seed)
    best, lowest, total = engine.state.place.copy(), value, work.units
    apply_units = APPLY_UNITS + ROW_UNITS * len(engine.rows)
    while work.spend(TRIAL_UNITS):
        undone = _chosen(engine, rng)
        if not len(undone):
            break
        log, change = _retried(engine, undone)
        work.charge(apply_units * len(log))
        worse = WORSE_SHARE * max(0.0, value - bound) * max(0.0, work.units / total)
        if change < worse * float(rng.random()) - BALANCE_GAIN:
            value += change
            if value < lowest - BALANCE_GAIN:
                best, lowest = engine.state.place.copy(), value
            continue
        for vm, host in reversed(log):
            engine.apply(vm, host)
        work.charge(apply_units * len(log))
    return best


def _chosen(engine: Descent, rng: np.random.Generator) -> Ints:
    """Return VMs to send home: most of those that moves brought to or took from a few hosts."""
    place, home = engine.state.place[engine.rows], engine.home
    moved = np.flatnonzero((place != home) & ~engine.ruled & np.isfinite(engine.undo_gains()))
    if not len(moved):
        return moved
    count = len(engine.state.problem.hosts)
    chosen = np.zeros(count, dtype=bool)
    first = int(rng.choice(moved))
    chosen[[home[first], place[first]]] = True
    chosen[rng.integers(count, size=HOSTS - 2)] = True
    near = moved[chosen[place[moved]] | chosen[home[moved]]]
    near = near[(rng.random(len(near)) < UNDONE_SHARE) | (near == first)]
    if len(near) > UNDONE_MAX:
        near = np.sort(rng.permutation(near)[:UNDONE_MAX])
    return engine.rows[near]


def _retried(engine: Descent, vms: Ints) -> tuple[list[tuple[int, int]], float]:
    """Send VMs home and descend; return each VM moved with where it was, and the change of J."""
    log: list[tuple[int, int]] = []
    change = 0.0
    for vm in vms.tolist():
        row = engine.row_of[vm]
        gain = engine.into[row, engine.home[row]]
        if np.isfinite(gain):  # home may have been filled by those before
            log.append((vm, int(engine.state.place[vm])))
            change += engine.apply(vm, int(engine.home[row]))
    while (gain := engine.step()) is not None and engine.last is not None:
        log.append(engine.last)
        change += gain
    return log, change
