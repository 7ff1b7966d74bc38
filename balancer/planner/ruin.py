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

HOSTS_LEAST, HOSTS_MOST = 3, 7  # whose moves are undone
SHARE_LEAST, SHARE_MOST, UNDONE_MAX = 0.3, 0.9, 24  # of those moves
# How much worse is accepted at first, as a share of what the bound leaves to be won on a host.
WORSE_SHARE = 0.3
# Units of a trial, for each row, and for each row and host; of a step, and for each row.
TRIAL_UNITS, TRIAL_ROW_UNITS, TRIAL_PAIR_UNITS = 250.0, 0.6, 0.007
STEP_UNITS, STEP_ROW_UNITS = 80.0, 0.13


def ruin_and_recreate(engine: Descent, bound: float, work: Work, seed: int) -> Ints:
    """Return the best placement found from the engine's, until the work is done.

    Args:
        engine: Gains at a local optimum; it ends somewhere near the result.
        bound: A lower bound of J.
        work: The budget; all of it is used.
        seed: Of the choice of hosts and moves.
    """
    rng = np.random.default_rng(seed)
    kept, value, total = engine.snapshot(), engine.value(), work.units
    best, lowest = kept, value
    trial_units = TRIAL_UNITS + TRIAL_ROW_UNITS * len(engine.rows)
    trial_units += TRIAL_PAIR_UNITS * engine.into.size
    step_units = STEP_UNITS + STEP_ROW_UNITS * len(engine.rows)
    hosts = len(engine.state.problem.hosts)
    while work.spend(trial_units):
        undone = _chosen(engine, rng)
        if not len(undone):
            break
        engine.send_home(undone)
        steps = 0
        while engine.step() is not None:
            steps += 1
        work.charge(step_units * steps)
        change = engine.value() - value
        worse = WORSE_SHARE / hosts * max(0.0, value - bound) * max(0.0, work.units / total)
        if change < worse * float(rng.random()) - BALANCE_GAIN:
            kept, value = engine.snapshot(), value + change
            if value < lowest - BALANCE_GAIN:
                best, lowest = kept, value
        else:
            engine.restore(kept)
    return best.state.place


def _chosen(engine: Descent, rng: np.random.Generator) -> Ints:
    """Return VMs to send home: most of those that moves brought to or took from a few hosts."""
    place, home = engine.place, engine.home
    moved = np.flatnonzero((place != home) & ~engine.ruled & np.isfinite(engine.undo_gains()))
    if not len(moved):
        return moved
    count = len(engine.state.problem.hosts)
    chosen = np.zeros(count, dtype=bool)
    first = int(rng.choice(moved))
    chosen[[home[first], place[first]]] = True
    others = int(rng.integers(HOSTS_LEAST - 2, HOSTS_MOST - 1))
    chosen[rng.integers(count, size=others)] = True
    near = moved[chosen[place[moved]] | chosen[home[moved]]]
    share = rng.uniform(SHARE_LEAST, SHARE_MOST)
    near = near[(rng.random(len(near)) < share) | (near == first)]
    if len(near) > UNDONE_MAX:
        near = np.sort(rng.permutation(near)[:UNDONE_MAX])
    return engine.rows[near]
