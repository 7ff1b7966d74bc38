"""Why something that must be cannot be: the smallest set of rules and facts in conflict.

Asked for each host that a plan leaves undrained, and for each hard rule that it leaves broken. The
conflict is proven on a model that demands less than a plan does (`claims`), so it holds for every
plan; where the model finds a way, nothing is proven and no conflict is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from balancer.planner.claims import Claim, Claims
from balancer.planner.ilp import Solver
from balancer.planner.problem import Ints, Problem
from balancer.planner.quarrel import Subject, quarrel
from balancer.planner.smallest import minimal, smallest
from balancer.planner.words import cite, hosts_of
from balancer.policy.said import Said

CONFLICTS_MAX = 8
SINGLY = 8  # VMs of a drained host that are asked about each by itself
ASKED_MAX = 40  # models made for one plan
ROUNDS = 40  # of looking for a smaller one
SMALL = 12  # claims beyond which nobody looks for fewer


@dataclass(frozen=True, slots=True)
class Conflict:
    """Claims that cannot all hold.

    Attributes:
        subject: What must be and cannot: a host that is drained, or a rule.
        members: Musts, rules, facts and limits.
        minimal: Whether it is proven that without any one of them the others can hold.
        smallest: Whether it is proven that no smaller set is in conflict.
    """

    subject: str
    members: tuple[Claim, ...]
    minimal: bool
    smallest: bool


def conflicts(
    problem: Problem, place: Ints, *, others_stay: bool = False, solver: Solver = "auto"
) -> tuple[Conflict, ...]:
    """Return a smallest conflict for each thing that must be and is not so at `place`.

    Args:
        problem: The task.
        place: The end of its plan; what is well there is demanded to stay so.
        others_stay: Only what leaves draining hosts moves, as in a drain.
        solver: Which solver.
    """
    found: dict[frozenset[str], Conflict] = {}
    asked = 0

    def seek(subject: Subject) -> bool:
        nonlocal asked
        asked += 1
        oracle = quarrel(problem, place, subject, others_stay=others_stay, solver=solver)
        if not oracle.fails(frozenset(range(len(oracle.claims)))):
            return False
        # What keeps one VM on a drained host is told by itself; the others may be too many.
        alone = subject.vms[:SINGLY] if subject.drained >= 0 and len(subject.vms) > 1 else ()
        stuck = {vm for vm in alone if seek(replace(subject, vms=(vm,)))}
        if stuck:
            rest = tuple(vm for vm in subject.vms if vm not in stuck)
            return bool(rest) and seek(replace(subject, vms=rest))
        conflict = _conflict(oracle, subject.text)
        told = frozenset(one.text for one in conflict.members if one.kind != "must")
        found.setdefault(told, conflict)
        return True

    for subject in subjects(problem, place):
        if len(found) >= CONFLICTS_MAX or asked >= ASKED_MAX:
            break
        seek(subject)
    return tuple(found.values())[:CONFLICTS_MAX]


def _conflict(oracle: Claims, subject: str) -> Conflict:
    """Return a conflict of the claims of a model, which cannot all hold."""
    small, proven = minimal(range(len(oracle.claims)), oracle), False
    is_minimal = not oracle.tired
    if is_minimal and len(small) <= SMALL:
        small, proven = smallest(small, oracle, ROUNDS, oracle.solver)
    members = tuple(oracle.claims[at] for at in sorted(small))
    return Conflict(subject, members, is_minimal, proven)


def subjects(problem: Problem, place: Ints) -> Iterator[Subject]:
    """Yield what must be and is not so at `place`."""
    left = problem.from_drain & problem.draining[place]
    for host in np.unique(place[left]).tolist():
        vms = np.flatnonzero(left & (place == host)).tolist()
        yield Subject(f"{problem.hosts[host].name} is drained", tuple(vms), drained=host)
    strays: dict[int, list[int]] = {}
    lists: dict[int, Said] = {}
    for vm in np.flatnonzero((problem.astray > 0) & (place == problem.home)).tolist():
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if one.hard and problem.hosts[place[vm]].name not in hosts_of(one):
                strays.setdefault(id(one.rule), []).append(vm)
                lists[id(one.rule)] = one
    for key, vms in strays.items():
        yield Subject(cite(lists[key].rule), tuple(vms), rule=lists[key].rule)
    for index, group in enumerate(problem.groups):
        if group.hard and group.broken(group.counts(place)):
            members = group.guilty(group.counts(place), place) if group.crowd else group.members
            yield Subject(cite(group.said.rule), tuple(members.tolist()), group=index)
