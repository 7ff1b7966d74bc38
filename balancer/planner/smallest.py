"""Smallest conflicts: of claims that cannot all hold, those that matter.

Nothing here knows what a claim is. An oracle tells of a set of claims whether they can all hold,
and which claims have to go for the others to hold. A minimal conflict (none of it can be left out)
is found by halving; a smallest one by hitting sets: every conflict has a claim of every set of
claims whose going would mend everything, so the smallest set that hits all of those is no larger
than the smallest conflict, and is one once it is in conflict itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from balancer.planner.ilp import Effort, Solver, solve
from balancer.planner.linear import INF, Linear

HITTING_NODES = 500


class Oracle(Protocol):
    """What can hold together. Claims are numbers."""

    def fails(self, kept: frozenset[int]) -> bool:
        """Tell whether it is proven that not all of `kept` can hold."""

    def correction(self, kept: frozenset[int]) -> frozenset[int] | None:
        """Return few claims besides `kept` without which all others can hold; None: not known."""


def minimal(claims: Sequence[int], oracle: Oracle) -> frozenset[int]:
    """Return claims in conflict of which none can be left out; `claims` are in conflict."""
    return frozenset(_halve((), claims, oracle, grown=False))


def _halve(
    base: tuple[int, ...], claims: Sequence[int], oracle: Oracle, *, grown: bool
) -> tuple[int, ...]:
    """Return those of `claims` that a minimal conflict takes besides `base`."""
    if grown and oracle.fails(frozenset(base)):
        return ()
    if len(claims) == 1:
        return tuple(claims)
    middle = len(claims) // 2
    first, second = tuple(claims[:middle]), tuple(claims[middle:])
    late = _halve((*base, *first), second, oracle, grown=True)
    early = _halve((*base, *late), first, oracle, grown=bool(late))
    return (*early, *late)


def smallest(
    found: frozenset[int], oracle: Oracle, rounds: int, solver: Solver = "auto"
) -> tuple[frozenset[int], bool]:
    """Return a conflict as small as any, and whether that is proven, from a minimal one.

    Args:
        found: A minimal conflict.
        oracle: What can hold together.
        rounds: Corrections to ask for at most.
        solver: Which solver.
    """
    corrections: list[frozenset[int]] = []
    for _ in range(rounds):
        hit = hitting_set(corrections, solver)
        if hit is None:
            return found, False
        if len(hit) >= len(found):
            return found, True
        correction = oracle.correction(hit)
        if correction:
            corrections.append(correction)
        elif oracle.fails(hit):
            return hit, True
        else:
            return found, False
    return found, False


def hitting_set(sets: Sequence[frozenset[int]], solver: Solver = "auto") -> frozenset[int] | None:
    """Return a smallest set that has a member of each of `sets`; None if that was not proven."""
    universe = sorted(frozenset[int]().union(*sets))
    if not universe:
        return frozenset()
    at = {claim: index for index, claim in enumerate(universe)}
    linear = Linear()
    linear.variables(len(universe), 0.0, 1.0, integer=True)
    for one in sets:
        linear.row(1.0, INF, sorted(at[claim] for claim in one), np.ones(len(one)))
    cost = np.ones(len(universe))
    answer = solve(linear, cost, 0.0, [], Effort(HITTING_NODES), solver)
    if answer.x is None or answer.bound < float(np.round(answer.x).sum()) - 1 + 1e-6:
        return None
    return frozenset(universe[index] for index in np.flatnonzero(np.round(answer.x)).tolist())
