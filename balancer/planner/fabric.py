"""A fabric: many clusters planned by one call, each for itself, since no VM crosses from one.

One cluster is built, planned and dropped at a time, so the memory taken is that of the largest,
not of all of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial

from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.planner.ilp import Solver
from balancer.planner.plan import EFFORT, plan
from balancer.policy.policy import Policy


def plan_fabric(
    clusters: Iterable[Cluster],
    policy: Policy,
    *,
    now: datetime,
    seed: int = 0,
    effort: float = EFFORT,
    max_migrations: int | None = None,
    processes: int = 1,
    solver: Solver = "auto",
) -> Iterator[Plan]:
    """Plan each of `clusters` and yield the plans in their order.

    Args:
        clusters: May be a generator: with one process each is asked for when its turn comes.
        policy: Of all of them; its caps are of each cluster.
        now: When the plans are made.
        seed: The same for each cluster.
        effort: Counted work for each cluster, see `plan`.
        max_migrations: Of each cluster.
        processes: How many to plan at a time. The plans are the same whatever it is.
        solver: HiGHS, CBC, or whichever is installed.

    Raises:
        InputError: Rules of a cluster contradict each other.
    """
    each = partial(
        plan,
        policy=policy,
        now=now,
        seed=seed,
        effort=effort,
        max_migrations=max_migrations,
        solver=solver,
    )
    if processes <= 1:
        yield from map(each, clusters)
        return
    # Fresh processes: a solver's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(each, clusters)
