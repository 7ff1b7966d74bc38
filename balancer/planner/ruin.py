"""Ruin and recreate: undo the moves around a few hosts, descend again, keep what is better.

Undone together, the moves between a few hosts leave room for others that no exchange of two
would reach. What comes out a little worse is accepted too, less and less as the work is used
up, so that the search does not stay in the first valley; the best placement seen is the result.

Many trials are made at once, each on a few hosts of its own (`trials`). Those that are accepted
and change other hosts than those before them are made, one after the other; the rest is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from balancer.planner.descent import BALANCE_GAIN, Descent
from balancer.planner.problem import Bools, Ints
from balancer.planner.score import TIER_TOLERANCE
from balancer.planner.trials import Trials
from balancer.planner.work import Work

TRIALS, HOSTS = 24, 12  # at once; that each looks at
RUINED_LEAST, RUINED_MOST = 3, 7  # of them, whose moves are undone
SHARE_LEAST, SHARE_MOST, UNDONE_MAX = 0.3, 0.9, 24  # of those moves
# How much worse is accepted at first, as a share of what the bound leaves to be won on a host.
WORSE_SHARE = 0.1
NEAR_SHARE = 8.0  # how much worse is still told of, likewise
Note = Callable[[Ints, Ints, Ints], None]
# Units of all trials, for each VM that is looked at, and for each VM and host of one.
TRIALS_UNITS, ROW_UNITS, PAIR_UNITS = 3000.0, 1.0, 0.1


def ruin_and_recreate(
    engine: Descent, bound: float, work: Work, seed: int, note: Note | None = None
) -> Ints:
    """Return the best placement found from the engine's, until the work is done.

    Args:
        engine: Where from, and where VMs under rules may go; its state ends near the result.
        bound: A lower bound of J.
        work: The budget; all of it is used.
        seed: Of the choice of hosts and moves.
        note: Told of trials that are about as good as what they came from: the placement, VMs,
            and the hosts that a trial would put them on.
    """
    rng = np.random.default_rng(seed)
    state, hosts = engine.state, len(engine.state.problem.hosts)
    value, total = engine.value(), work.units
    best, lowest, overload = state.place.copy(), value, state.overload()
    while work.spend(TRIALS_UNITS + ROW_UNITS * len(engine.rows)):
        trials = _ruined(engine, rng)
        if trials is None:
            break
        work.charge(PAIR_UNITS * trials.into.size)
        change = trials.descend(work)
        share = max(0.0, value - bound) / hosts
        if note is not None:
            for trial in np.flatnonzero(change < NEAR_SHARE * share).tolist():
                rows, target = trials.moves_of(trial)
                note(state.place, engine.rows[rows], target)
        worse = WORSE_SHARE * share * max(0.0, work.units / total)
        accepted = change < worse * rng.random(len(change)) - BALANCE_GAIN
        taken = np.zeros(hosts, dtype=bool)
        for trial in np.flatnonzero(accepted).tolist():
            if _take(engine, *trials.moves_of(trial), taken, overload):
                value += float(change[trial])
                relieved = state.overload() < overload - TIER_TOLERANCE
                overload = min(overload, state.overload())
                if relieved or value < lowest - BALANCE_GAIN:
                    best, lowest = state.place.copy(), value
    return best


def _take(engine: Descent, rows: Ints, target: Ints, taken: Bools, overload: float) -> bool:
    """Make the moves of a trial and mark their hosts as taken; return whether that was possible.

    It is not where a trial before it has taken one of them, or the moves break a rule together or
    leave more than `overload`, which J would trade for an even load. Of the engine only where VMs
    are and may go is kept up to date: its gains are not asked for here.
    """
    state, problem = engine.state, engine.state.problem
    vms, source = engine.rows[rows], engine.place[rows]
    touched = np.union1d(source, target)
    if taken[touched].any():
        return False
    made = 0
    for row, vm, host in zip(rows.tolist(), vms.tolist(), target.tolist(), strict=True):
        if engine.ruled[row] and engine.forbidden(row)[host]:
            break
        state.move(vm, host)
        made += 1
    legal = made == len(rows) and state.within() and state.overload() <= overload + TIER_TOLERANCE
    if not legal or not all(problem.groups[at].legal(state.counts[at]) for at in problem.crowds):
        for vm, host in zip(vms[:made].tolist(), source[:made].tolist(), strict=True):
            state.move(vm, host)
        return False
    engine.place[rows] = target
    engine.block_mates(vms)
    taken[touched] = True
    return True


def _ruined(engine: Descent, rng: np.random.Generator) -> Trials | None:
    """Choose hosts for each trial, and undo most of what moves brought to or took from some."""
    place, home, count = engine.place, engine.home, len(engine.state.problem.hosts)
    undoable = (place != home) & ~engine.ruled & ~engine.blocked[np.arange(len(place)), home]
    moved = np.flatnonzero(undoable)
    if not len(moved):
        return None
    each = np.arange(TRIALS)
    first = rng.choice(moved, size=TRIALS)
    # Hosts to be ruined come first, then those that undoable moves tie to them, then any others.
    rank = rng.random((TRIALS, count))
    rank[each, home[first]] = rank[each, place[first]] = -1.0
    number = rng.integers(RUINED_LEAST, RUINED_MOST, size=(TRIALS, 1))
    ruined = rank.argsort(axis=1).argsort(axis=1) < number
    tied = np.zeros((count, count))
    tied[home[moved], place[moved]] = tied[place[moved], home[moved]] = 1.0
    rank -= np.where(ruined, 2.0, ruined @ tied > 0)
    trials = Trials(engine, np.sort(rank.argsort(axis=1)[:, :HOSTS], axis=1))
    rows = trials.rows
    near = trials.there & undoable[rows] & (trials.home >= 0)
    near &= ruined[each[:, None], place[rows]] | ruined[each[:, None], home[rows]]
    share = rng.uniform(SHARE_LEAST, SHARE_MOST, size=(TRIALS, 1))
    undone = near & ((rng.random(rows.shape) < share) | (rows == first[:, None]))
    trials.undo(undone & (np.cumsum(undone, axis=1) <= UNDONE_MAX))
    return trials
