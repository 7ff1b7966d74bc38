"""Hosts that are awake because VMs need them: what the goal of consolidation counts and bounds.

Shapes as in `balancer.planner.problem`. A host counts if it is up and carries a VM that needs it on
(`keeps_awake`); hosts that somebody paused, drains or switched off are not the plan's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from balancer.policy.capacity import awake_at_least, filled_up_to, keeps_awake

if TYPE_CHECKING:  # a task has this as a part of it
    from balancer.planner.groups import Group
    from balancer.planner.problem import Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MEMORY = 1
COUNTED = 1e-9  # shares of a sum of capacities that rounding may be wrong by


@dataclass(frozen=True)
class Sleepers:
    """What of a task decides which hosts may sleep.

    Attributes:
        problem: The task.
    """

    problem: Problem

    @cached_property
    def keepers(self) -> Bools:
        """(N,) VMs that need their host to be on."""
        return np.array([keeps_awake(vm) for vm in self.problem.vms], dtype=bool)

    @cached_property
    def ceiling(self) -> Floats:
        """(2, 1) shares up to which hosts are filled so that others may sleep."""
        shares = np.array([filled_up_to(self.problem.policy)]).T
        shares[MEMORY] = np.minimum(shares[MEMORY], 1.0)
        return np.asarray(shares, dtype=float)

    @cached_property
    def fill(self) -> Floats:
        """(2, H) shares to which a host may be filled: the ceiling, or what it was."""
        return np.maximum(self.ceiling, self.problem.before)

    @cached_property
    def floor(self) -> int:
        """Hosts that stay awake in any case; emptying more gains nothing."""
        return awake_at_least(self.problem.cluster, self.problem.policy)

    @cached_property
    def arriving(self) -> Ints:
        """(H,) VMs that migrations of others bring to each host."""
        coming = self.problem.cluster.arriving_on
        return np.array([len(coming.get(host.name, ())) for host in self.problem.hosts])

    def carried(self, place: Ints) -> Ints:
        """Return the (H,) number of VMs on each host, or under way to it, that need it to be on."""
        hosts = len(self.problem.hosts)
        count = np.bincount(place[self.keepers], minlength=hosts) + self.arriving
        return np.asarray(count, dtype=np.int64)

    def awake(self, place: Ints) -> Bools:
        """Return the (H,) hosts that are up and carry something."""
        return self.problem.up & (self.carried(place) > 0)

    def count(self, place: Ints) -> int:
        """Return how many hosts are awake, and no less than have to be."""
        return max(self.floor, int(self.awake(place).sum()))

    def crowding(self, used: Floats) -> float:
        """Return by how much hosts are filled above the ceiling, or above what they were."""
        over = np.maximum(0.0, used - self.fill) * self.problem.play
        return float(over.sum())

    @cached_property
    def stuck(self) -> Bools:
        """(H,) hosts that no plan can empty: a VM there, or on its way, cannot go elsewhere."""
        problem = self.problem
        bound = self.keepers & (problem.allowed.sum(axis=1) <= 1)
        held = np.bincount(problem.home[bound], minlength=len(problem.hosts)) + self.arriving > 0
        found: Bools = held & problem.up
        return found

    def bound(self, crowding: float = 0.0) -> int:
        """Return how many hosts every plan leaves awake at the least.

        What is not to be moved stays; the load has to fit on those that are awake; rules keep VMs
        on different ones; and each host that is emptied takes as many migrations as it has VMs.

        Args:
            crowding: Of plans that fill hosts above the ceiling, for a better reason, those count
                that do so by no more than this.
        """
        least = max(self.floor, int(self.stuck.sum()), self._by_cap(), self.by_rule[0])
        return max(least, *(self._by_load(resource, crowding) for resource in (0, 1)))

    @cached_property
    def by_rule(self) -> tuple[int, int]:
        """How many hosts the hard rule that needs most of them needs, and its index; or 0, -1.

        A cap lets so many of its VMs onto each domain, or as many as were there: so they are in
        so many domains at the least, and each of these has a host that is awake.
        """
        most = (0, -1)
        for at, group in enumerate(self.problem.groups):
            if group.hard and group.limit is not None and not group.is_fact:
                most = max(most, (self._spread(group), at))
        return most

    def _spread(self, group: Group) -> int:
        problem = self.problem
        up = problem.up
        if (up & (group.domain < 0)).any():
            return 0  # where it does not count, all of them may be
        away = ~up[problem.home[group.members]]
        count = int((self.keepers[group.members] & ~away).sum())
        domains = np.unique(group.domain[up])
        room = np.sort(np.maximum(group.limit or 0, group.before[domains]))[::-1]
        return min(len(room), int((np.cumsum(room) < count).sum()) + 1) if count else 0

    def _by_cap(self) -> int:
        carried = self.carried(self.problem.home)
        awake = self.problem.up & (carried > 0)
        cost = np.sort(carried[awake & ~self.stuck])
        emptied = int((np.cumsum(cost) <= self.problem.cap).sum())
        return int(awake.sum()) - emptied

    def _by_load(self, resource: int, crowding: float) -> int:
        """Return how many hosts it takes to hold the load, the largest first, were it a liquid."""
        problem = self.problem
        weight = problem.weight[resource]
        capacity = 1.0 / problem.scale[resource]
        room = np.maximum(0.0, self.fill[resource] * capacity - problem.fixed[resource])
        # Load that is bound to hosts that are not up needs none that are.
        elsewhere = ~problem.up[problem.home] & (problem.allowed.sum(axis=1) <= 1)
        left = float(weight[~elsewhere].sum()) * (1 - COUNTED) - crowding * float(capacity.max())
        left -= float(room[~problem.up & problem.play].sum())
        order = np.concatenate(
            [np.sort(room[self.stuck])[::-1], np.sort(room[problem.up & ~self.stuck])[::-1]]
        )
        held = np.cumsum(order)
        return min(len(order), int((held < left).sum()) + 1) if left > 0 else 0
