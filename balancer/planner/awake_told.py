"""Which hosts may sleep when a plan is done, and what keeps each of the others awake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from balancer.model.plan import Sleep
from balancer.planner.empty import empty, harmless
from balancer.planner.problem import GIB, MEMORY, Bools, Ints, Problem
from balancer.planner.score import lost, measure
from balancer.planner.state import State
from balancer.planner.stays import obstacles, what_keeps
from balancer.planner.survival import what_may_fail
from balancer.planner.words import cite, counted, percent
from balancer.planner.work import Work
from balancer.policy.policy import Goal

EMPTIED, EMPTY = "emptied by this plan", "carries no VM"
ATTEMPT_UNITS = 1e6  # of looking once more for what stands in the way of one host


def sleep_of(
    problem: Problem, place: Ints, dropped: Mapping[int, str], curbed: str = ""
) -> tuple[Sleep, ...]:
    """Return for each host that is up whether it may sleep, and why; of consolidation only.

    Args:
        problem: The task.
        place: The plan's end.
        dropped: Why VMs that were to be moved stay after all.
        curbed: What kept the plan from doing more; empty if nothing did.
    """
    if problem.policy.goal is not Goal.CONSOLIDATE:
        return ()
    up = np.flatnonzero(problem.up).tolist()
    sleepers = problem.sleepers
    awake, before = sleepers.awake(place), sleepers.awake(problem.home)
    spare = max(0, len(up) - sleepers.floor)
    votes = len(up) - (len(problem.hosts) // 2 + 1)  # nodes that may go and leave a majority
    clustered = any(vm.clustered for vm in problem.vms)
    why = _Awake(problem, place, dropped, curbed)
    told: list[Sleep] = []
    asleep = 0
    for host in up:
        name = problem.hosts[host].name
        if awake[host]:
            told.append(Sleep(name, may_sleep=False, reason=why.of(host)))
        elif asleep >= spare:
            told.append(Sleep(name, may_sleep=False, reason=f"{EMPTY}; {why.floor()}"))
        else:
            asleep += 1
            reason = EMPTIED if before[host] else EMPTY
            if clustered and asleep > votes:
                reason += (
                    "; without it fewer than half of the nodes are on: put them to sleep one at "
                    "a time, so that the votes can follow"
                )
            told.append(Sleep(name, may_sleep=True, reason=reason))
    return tuple(told)


class _Awake:
    """Says why hosts stay awake at the end of one plan."""

    def __init__(
        self, problem: Problem, place: Ints, dropped: Mapping[int, str], curbed: str
    ) -> None:
        self.problem = problem
        self.dropped = dropped
        self.curbed = curbed
        self.state = State(problem, place)
        self.awake = problem.sleepers.awake(place)
        self.least = problem.sleepers.bound(measure(problem, place).crowding)

    def floor(self) -> str:
        """Return that so many stay awake whatever the load."""
        packed, floor = self.problem.policy.consolidation, self.problem.sleepers.floor
        key = "majority" if floor > packed.awake_at_least else "awake_at_least"
        return f"the policy keeps {counted(floor, 'host')} awake (consolidate.{key})"

    def of(self, host: int) -> str:
        """Return the binding reason."""
        problem, place = self.problem, self.state.place
        there = np.flatnonzero((place == host) & problem.sleepers.keepers)
        bound = there[problem.allowed[there].sum(axis=1) <= 1]
        if len(bound):
            return self._bound(bound)
        if coming := problem.cluster.arriving_on.get(problem.hosts[host].name, ()):
            return f"somebody else is migrating {coming[0].name} to it"
        given_up = [self.dropped[vm] for vm in there.tolist() if vm in self.dropped]
        if given_up:
            return f"emptying it was given up: {given_up[0]}"
        if int(self.awake.sum()) <= problem.sleepers.floor:
            return self.floor()
        return self._short_of_moves(host, there) or self._needed(host)

    def _needed(self, host: int) -> str:
        """Return that the load needs it, or what stands in the way of one of its VMs."""
        count = int(self.awake.sum())
        if count <= self.least:
            hosts = counted(count, "host")
            needed, at = self.problem.sleepers.by_rule
            if needed == count:
                return f"{cite(self.problem.groups[at].said.rule)} needs {hosts}"
            return f"the load needs {hosts} awake"
        state = State(self.problem, self.state.place)
        blocking = empty(state, host, Work(ATTEMPT_UNITS)).blocking
        if blocking is None and lost(self.problem, state.place) > lost(
            self.problem, self.state.place
        ):
            return f"{what_may_fail(self.problem.policy.reserve)} may fail only while it is awake"
        if blocking is None:
            return self.curbed or "no better plan was found"
        return self._blocked(state, blocking, host)

    def _bound(self, vms: Ints) -> str:
        """Return why the first of VMs that can go nowhere cannot, and how many more there are."""
        problem, vm = self.problem, int(vms[0])
        one = problem.vms[vm]
        more = f" (and {len(vms) - 1} more)" if len(vms) > 1 else ""
        if not one.is_load:
            alone = "" if one.clustered else " and not clustered: it lives on this host alone"
            return f"{one.name} is {one.state.value}{alone}{more}"
        return f"{one.name} cannot leave it: {what_keeps(self.state, vm)}{more}"

    def _short_of_moves(self, host: int, there: Ints) -> str:
        problem = self.problem
        needed = there[problem.home[there] == host]
        left = problem.cap - self.state.moves
        if len(needed) > left:
            moves = counted(len(needed), "migration")
            return f"emptying it takes {moves}, the cap of {problem.cap} leaves {max(0, left)}"
        budgets = problem.budgets
        for row, spent, most, name, in_gib in zip(
            budgets.size, self.state.spent, budgets.most, budgets.names, budgets.in_gib, strict=True
        ):
            takes = float(row[needed].sum())
            if takes > most - spent:
                what = (
                    f"copies {takes:.0f} GiB" if in_gib else f"moves {takes:.0f} of those it binds"
                )
                return f"emptying it {what}, {name} leaves {max(0.0, most - spent):.0f}"
        return ""

    def _blocked(self, state: State, vm: int, host: int) -> str:
        """Return why one VM found no place on any other host that is awake."""
        problem = self.problem
        name = problem.vms[vm].name
        targets = self.awake.copy()
        targets[host] = False
        able = harmless(state, vm) & targets & problem.allowed[vm]
        if not able.any():
            return f"{name} has no other host: {self._against(state, vm, targets)}"
        cpu, memory = (percent(float(one)) for one in problem.sleepers.ceiling[:, 0])
        cores = problem.vms[vm].cpu_demand_cores
        size = problem.weight[MEMORY, vm] / GIB
        return (
            f"no host awake has room for {name} ({cores:.1f} cores, {size:.1f} GiB) and the rest "
            f"below {cpu} of its CPU and {memory} of its memory"
        )

    def _against(self, state: State, vm: int, targets: Bools) -> str:
        """Return the rule or fact that most of the hosts awake are ruled out by."""
        problem = self.problem
        found = Counter(
            next(iter(obstacles(state, vm, at)), "") for at in np.flatnonzero(targets).tolist()
        )
        words = [text for text, _ in found.most_common() if text]
        if words:
            return words[0]
        if problem.reluctant[vm]:
            return "it moves as a last resort only"
        return "a soft rule stands against it" if targets.any() else "no other is awake"
