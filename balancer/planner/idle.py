"""Hosts without VMs, in words: those that a plan empties, and those that are missed."""

from __future__ import annotations

import numpy as np

from balancer.model.cluster import HostState
from balancer.model.rule import AllowedHosts
from balancer.planner.problem import Ints, Problem
from balancer.policy.policy import Goal


def empties(problem: Problem, place: Ints, source: int) -> str:
    """Return that a plan empties a host so that it may sleep; empty if that is not what it does."""
    if problem.policy.goal is not Goal.CONSOLIDATE or not problem.up[source]:
        return ""
    if problem.sleepers.carried(place)[source]:
        return ""
    return f"empties {problem.hosts[source].name}: it may sleep"


def who_could(problem: Problem, host: int) -> str:
    """Return which host that is out of play could take load off an overloaded one; or nothing."""
    for other in np.flatnonzero(~problem.play).tolist():
        one = problem.hosts[other]
        if one.state in (HostState.DOWN, HostState.PAUSED) and _could_take(problem, host, other):
            return f"; {one.name}, which is {one.state.value}, could take load if it were up"
    return ""


def _could_take(problem: Problem, host: int, other: int) -> bool:
    """Tell whether rules and size let a VM of `host` go to `other`, were it up and empty."""
    name = problem.hosts[other].name
    able = problem.movable[problem.home[problem.movable] == host]
    fits = ((problem.weight[:, able] * problem.scale[:, [other]]) <= problem.threshold).all(axis=0)
    return any(
        all(
            not said.hard or not isinstance(said.form, AllowedHosts) or name in said.form.hosts
            for said in problem.lists_of_vm.get(problem.vms[vm].id, ())
        )
        for vm in able[fits].tolist()
    )
