"""A mixed-integer linear model as arrays: what is formulated once and handed to any solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from balancer.planner.problem import Bools, Floats, Ints

INF = float("inf")


@dataclass
class Expression:
    """A linear expression: sum of coefficients times variables, plus a constant."""

    coefficients: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0

    def add(self, variables: Sequence[int] | Ints, coefficients: Sequence[float] | Floats) -> None:
        """Add terms; a variable named twice gets the sum."""
        for variable, coefficient in zip(variables, coefficients, strict=True):
            at = int(variable)
            self.coefficients[at] = self.coefficients.get(at, 0.0) + float(coefficient)

    def value(self, x: Floats) -> float:
        """Return its value at `x`."""
        return self.constant + sum(c * float(x[v]) for v, c in self.coefficients.items())


@dataclass
class Linear:
    """Variables with bounds and integrality, and rows lower <= a x <= upper; built in place."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    row_index: list[Ints] = field(default_factory=list)
    row_value: list[Floats] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """How many coefficients its rows have: what an iteration of a solver goes by."""
        return sum(len(index) for index in self.row_index)

    def variables(self, count: int, lower: float, upper: float, *, integer: bool) -> Ints:
        """Add `count` alike variables and return their indices."""
        first = len(self.lower)
        self.lower.extend([lower] * count)
        self.upper.extend([upper] * count)
        self.integer.extend([integer] * count)
        return np.arange(first, first + count, dtype=np.int64)

    def variable(self, lower: float = 0.0, upper: float = INF, *, integer: bool = False) -> int:
        """Add one variable and return its index."""
        return int(self.variables(1, lower, upper, integer=integer)[0])

    def row(
        self,
        lower: float,
        upper: float,
        index: Sequence[int] | Ints,
        value: Sequence[float] | Floats,
    ) -> int:
        """Add a row; each variable at most once in it. Returns the row's index."""
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        self.row_index.append(np.asarray(index, dtype=np.int64))
        self.row_value.append(np.asarray(value, dtype=np.float64))
        return len(self.row_lower) - 1

    def bound(self, expression: Expression, upper: float) -> int:
        """Add the row expression <= upper; a constant needs none and gives -1."""
        pairs = sorted(expression.coefficients.items())
        if not pairs:
            return -1
        index, value = [v for v, _ in pairs], [c for _, c in pairs]
        return self.row(-INF, upper - expression.constant, index, value)

    def cost(self, expression: Expression) -> Floats:
        """Return the (n,) objective coefficients of an expression."""
        cost = np.zeros(len(self.lower))
        for variable, coefficient in expression.coefficients.items():
            cost[variable] = coefficient
        return cost

    def integrality(self) -> Bools:
        """Return the (n,) variables that must be whole."""
        return np.array(self.integer, dtype=bool)

    def matrix(self) -> tuple[Ints, Ints, Floats]:
        """Return the rows in compressed form: starts (rows + 1), indices and values."""
        starts = np.zeros(len(self.row_index) + 1, dtype=np.int64)
        np.cumsum([len(index) for index in self.row_index], out=starts[1:])
        if not self.row_index:
            return starts, np.zeros(0, dtype=np.int64), np.zeros(0)
        return starts, np.concatenate(self.row_index), np.concatenate(self.row_value)
