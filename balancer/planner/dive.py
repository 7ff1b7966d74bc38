"""A dive: from the relaxation down to whole VMs, deciding a few at a time.

Rounding decides all VMs by one solution, and what is lost with each adds up. Here the linear
model is solved anew after a few were decided, so that the others make up for it.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.problem import Ints, Problem
from balancer.planner.relax import Relaxed, free_vms, settled
from balancer.planner.work import Work

WHOLE = 1e-6  # within which a share counts as none, or all
SHARE_DECIDED = 0.1  # of those that are undecided, at a time
SURE, HALF = 0.9, 0.5


def dive(problem: Problem, place: Ints, relaxed: Relaxed, work: Work) -> Ints:
    """Return a legal end that the relaxation leads to.

    Args:
        problem: The task.
        place: A legal end; VMs that rules count stay as they are there.
        relaxed: The relaxation; its pool is left with what was decided.
        work: The budget.
    """
    pool = relaxed.pool
    first = np.unique(pool.sets.of_vm, return_index=True)[1]
    vm, host = first[pool.at], pool.host  # of a set, any will do
    fixed = ~free_vms(problem)
    given = fixed[vm]
    lower = np.where(given, place[vm] == host, False).astype(float)
    upper = np.where(given, lower, 1.0)
    share = np.zeros(len(vm))
    share[: len(pool.x)] = pool.x
    while pool.hold(lower, upper, work):
        share = pool.x
        open_ = np.flatnonzero((lower < upper) & (share > WHOLE) & (share < 1.0 - WHOLE))
        if not len(open_) or not work.spend(0):
            break
        order = open_[np.argsort(-share[open_], kind="stable")]
        count = max(1, int(SHARE_DECIDED * len(order)), int((share[order] >= SURE).sum()))
        lower[order[:count]] = 1.0
    follow = share >= HALF
    target = pool.sets.home.copy()
    target[pool.at[follow]] = host[follow]
    wanted = np.where(fixed, place, target[pool.sets.of_vm])
    return settled(problem, wanted, work)
