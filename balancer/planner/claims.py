"""What rules, facts and musts claim of VMs: a small model in which each claim can be given up.

A column says that a VM ends on a host; a claim forbids columns, or bounds sums of them, unless it
is given up. VMs that a question is not about are not told apart: they are loads that flow to
wherever there is room, which is less than they demand. So what cannot be here cannot be at all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from balancer.planner.ilp import Effort, Solver, solve
from balancer.planner.linear import INF, Linear
from balancer.planner.problem import Floats

ASKED_MAX, COLUMNS_LEAST = 150_000, 1000  # questions times the columns of their model
NODES = 400  # of one question to the solver
LACK_WEIGHT = 1e3
LACK_MIN = 1e-6  # of VMs without a place, GiB or cores; below, everything has one

Kind = Literal["must", "rule", "fact", "limit"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that holds unless it is given up, in words."""

    kind: Kind
    text: str


@dataclass
class Claims:
    """A model in which claims can be given up; built in place, then asked.

    Attributes:
        claims: In the order in which they were first made.
        lack: Variables that say what has no place; all zero where everything has one.
        asked: How many questions were put to the solver.
    """

    linear: Linear = field(default_factory=Linear)
    claims: list[Claim] = field(default_factory=list)
    lack: list[int] = field(default_factory=list)
    solver: Solver = "auto"
    asked: int = 0
    _index: dict[Hashable, int] = field(default_factory=dict)
    _given_up: list[int] = field(default_factory=list)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """What each claim was made by, in their order."""
        return tuple(self._index)

    def claim(self, key: Hashable, kind: Kind, text: str) -> int:
        """Return the number of the claim that `key` stands for, made on first sight."""
        if key not in self._index:
            self._index[key] = len(self.claims)
            self.claims.append(Claim(kind, text))
            self._given_up.append(self.linear.variable(0.0, 1.0, integer=True))
        return self._index[key]

    def place(self, columns: Sequence[int]) -> None:
        """Demand that one of `columns` is chosen: a VM is somewhere."""
        lack = self.linear.variable(0.0, 1.0)
        self.lack.append(lack)
        self.linear.row(1.0, 1.0, [*columns, lack], np.ones(len(columns) + 1))

    def flow(self, total: float, columns: Sequence[int]) -> None:
        """Demand that `columns` sum up to `total`."""
        lack = self.linear.variable(0.0, INF)
        self.lack.append(lack)
        self.linear.row(total, total, [*columns, lack], np.ones(len(columns) + 1))

    def forbid(self, claim: int, columns: Iterable[int]) -> None:
        """Have a claim forbid columns of one VM."""
        index = [*columns, self._given_up[claim]]
        self.linear.row(-INF, 0.0, index, np.append(np.ones(len(index) - 1), -1.0))

    def most(
        self,
        claim: int,
        most: float,
        index: Sequence[int],
        value: Sequence[float],
        top: float | None = None,
    ) -> None:
        """Have a claim bound a sum of columns from above.

        Args:
            claim: Whose it is.
            most: The bound.
            index: The columns.
            value: Their coefficients, zero or more.
            top: What the sum never passes; by default what the columns' own bounds say.
        """
        if top is None:
            upper = self.linear.upper
            top = sum(c * upper[at] for at, c in zip(index, value, strict=True))
        if top > most:
            self.linear.row(-INF, most, [*index, self._given_up[claim]], [*value, most - top])

    def fails(self, kept: frozenset[int]) -> bool:
        """Tell whether it is proven that not all of `kept` can hold."""
        self._keep(kept, 1.0)
        cost = np.zeros(len(self.linear.lower))
        cost[self.lack] = 1.0
        return self._solve(cost)[1] > LACK_MIN

    def correction(self, kept: frozenset[int]) -> frozenset[int] | None:
        """Return few claims besides `kept` without which all others can hold; None: not known."""
        self._keep(kept, 0.0)
        cost = np.zeros(len(self.linear.lower))
        cost[self._given_up] = 1.0
        cost[self.lack] = LACK_WEIGHT * len(self.claims)  # outweighs all claims
        x, _ = self._solve(cost)
        if x is None or x[self.lack].sum() > LACK_MIN:
            return None
        return frozenset(at for at, one in enumerate(self._given_up) if x[one] > LACK_MIN)

    def _keep(self, kept: frozenset[int], least: float) -> None:
        """Fix the claims of `kept`; the others are given up as far as `least` says."""
        for at, variable in enumerate(self._given_up):
            self.linear.lower[variable] = 0.0 if at in kept else least
            self.linear.upper[variable] = 0.0 if at in kept else 1.0

    @property
    def tired(self) -> bool:
        """Whether it was asked as much as a conflict is worth; it then proves nothing more."""
        return self.asked * max(COLUMNS_LEAST, len(self.linear.lower)) >= ASKED_MAX

    def _solve(self, cost: Floats) -> tuple[Floats | None, float]:
        if self.tired:
            return None, -INF
        self.asked += 1
        answer = solve(self.linear, cost, 0.0, [], Effort(NODES), self.solver)
        return answer.x, answer.bound
