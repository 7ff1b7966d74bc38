"""The door to PuLP and its solvers: HiGHS in memory with a start solution, else CBC.

PuLP 3's own in-memory HiGHS has no warm start, adds rows one by one and does not know the
status of a solve that met its node limit; a subclass mends all three. A solver's word on
optimality is not taken: the caller compares what it measured with the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pulp

from balancer.errors import InputError
from balancer.planner.linear import INF, Linear
from balancer.planner.problem import Floats

highspy: Any
try:
    import highspy
except ImportError:  # CBC comes with PuLP and solves the same model
    highspy = None

Solver = Literal["auto", "highs", "cbc"]

GAP_RELATIVE = 5e-7  # half of what "optimal" promises
SEED = 0  # of the solver's own choices: fixed, so that the same model gives the same answer
FEW_CUTS = 100  # and conflicts; where so many are kept HiGHS looks for no more of some kinds
PARTS_EFFORT = 0.05  # share of all iterations that parts of a model may take; HiGHS's own default
CBC_ITERATIONS = 1000  # what a run of CBC counts as: starting it takes longer than a small model
# Rows and bounds of an answer hold to this; the default of 1e-7 is 100 KB of a 1 TB host.
FEASIBILITY = 1e-9


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: counted limits, and seconds and the user where there are such.

    Attributes:
        nodes: Of branch and bound.
        seconds: Left on the clock, where there is a time limit.
        interrupted: Asked whether to stop with what there is; HiGHS only.
        looks: How often HiGHS may look whether it is to stop, before it does. It tells nobody how
            many iterations it has made so far, but looks after so many of them.
        gap: Of the objective as it is, within which an answer is good enough; HiGHS only.
        few_cuts: Whether to keep a hundred cuts, not ten thousand; HiGHS only. Small models, and
            those in which hosts choose among sets of VMs, take half the time so. A proof for 16
            hosts needs the others.
        presolve: Whether to make the model smaller first; HiGHS only. Where hosts choose among
            sets of VMs much follows from little, and what took ten seconds takes a tenth of one.
            Where VMs choose hosts, it takes longer than it saves.
        parts: Whether parts of the model are solved in between, where its relaxation and the best
            answer differ; HiGHS only. That finds what no exchange of a few moves does. But in the
            middle of a part HiGHS does not look whether it is to stop: one of a large model may
            take minutes.
        proof: Whether a proof is worked for; HiGHS only. If not, branches are not solved before one
            is taken, so that more of them are, and cuts are looked for in each: without a proof,
            better answers are found so.
    """

    nodes: int
    seconds: float | None = None
    interrupted: Callable[[], bool] | None = None
    looks: int | None = None
    gap: float = 1e-6
    few_cuts: bool = False
    presolve: bool = False
    parts: bool = False
    proof: bool = True


@dataclass(frozen=True, slots=True)
class Solution:
    """An answer: values where a solution was found, a proven lower bound where known, the work."""

    x: Floats | None
    bound: float
    iterations: int
    looks: int = 0


def highs_is_there() -> bool:
    """Tell whether HiGHS can be used in this installation."""
    return highspy is not None


def uses_highs(solver: Solver) -> bool:
    """Tell whether a model goes to HiGHS."""
    return solver != "cbc" and highs_is_there()


def quiet_highs() -> Any:
    """Return a HiGHS that prints nothing.

    The public class registers callbacks first of all, which prints a banner to standard output
    before it can be told not to; its base has all that is needed.
    """
    engine = highspy._Highs()  # noqa: SLF001 -- the only way to set the flag in time
    engine.setOptionValue("output_flag", False)
    engine.setOptionValue("threads", 1)
    engine.setOptionValue("random_seed", SEED)
    return engine


def arrays(linear: Linear, cost: Floats) -> Any:
    """Return a linear model as HiGHS takes it."""
    model: Any = highspy.HighsLp()
    starts, index, value = linear.matrix()
    model.num_col_, model.num_row_ = len(linear.lower), len(linear.row_lower)
    model.col_cost_ = cost
    model.col_lower_, model.col_upper_ = np.array(linear.lower), np.array(linear.upper)
    model.row_lower_, model.row_upper_ = np.array(linear.row_lower), np.array(linear.row_upper)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = starts.astype(np.int32)
    model.a_matrix_.index_ = index.astype(np.int32)
    model.a_matrix_.value_ = value
    return model


def solve(
    linear: Linear,
    cost: Floats,
    constant: float,
    start: Sequence[tuple[int, float]],
    effort: Effort,
    solver: Solver = "auto",
) -> Solution:
    """Minimise `cost` x + `constant`; `start` gives values of some variables to begin from.

    Raises:
        InputError: HiGHS was asked for by name and is not installed.
    """
    if solver == "highs" and not highs_is_there():
        raise InputError(
            "the solver HiGHS is not installed",
            remedy="pip install highspy, or let `auto` take CBC",
        )
    if uses_highs(solver):
        engine = _WarmHighs(linear, cost, constant, start, effort)
        # The arrays go over as they are; to write them out for PuLP takes longer than many a solve.
        pulp.LpProblem("plan", pulp.LpMinimize).solve(engine)
        return Solution(engine.values(), engine.bound, engine.iterations, engine.looks)
    model, variables = _pulp_model(linear, cost, constant)
    return _solve_with_cbc(model, variables, start, effort)


def _pulp_model(
    linear: Linear, cost: Floats, constant: float
) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    model = pulp.LpProblem("plan", pulp.LpMinimize)
    variables = [
        pulp.LpVariable(
            f"x{at}",
            None if lower == -INF else lower,
            None if upper == INF else upper,
            pulp.LpInteger if whole else pulp.LpContinuous,
        )
        for at, (lower, upper, whole) in enumerate(
            zip(linear.lower, linear.upper, linear.integer, strict=True)
        )
    ]
    model.addVariables(variables)
    terms = [(variables[at], float(cost[at])) for at in np.flatnonzero(cost).tolist()]
    model.setObjective(pulp.LpAffineExpression(terms, constant=constant))
    for number, (low, high, index, value) in enumerate(
        zip(linear.row_lower, linear.row_upper, linear.row_index, linear.row_value, strict=True)
    ):
        pairs = [(variables[v], c) for v, c in zip(index.tolist(), value.tolist(), strict=True)]
        sense, side = _side(low, high)
        row = pulp.LpConstraint(pulp.LpAffineExpression(pairs), sense, f"r{number}", side)
        model.addConstraint(row)
    return model, variables


def _side(low: float, high: float) -> tuple[int, float]:
    if low == high:
        return pulp.LpConstraintEQ, low
    return (pulp.LpConstraintLE, high) if low == -INF else (pulp.LpConstraintGE, low)


def _solve_with_cbc(
    model: pulp.LpProblem,
    variables: list[pulp.LpVariable],
    start: Sequence[tuple[int, float]],
    effort: Effort,
) -> Solution:
    # CBC wants a value for every variable; those not given are set so that presolve repairs them.
    for variable in variables:
        low, high = variable.lowBound, variable.upBound
        variable.setInitialValue(max(low or 0.0, min(0.0, high if high is not None else 0.0)))
    for at, value in start:
        variables[at].setInitialValue(value)
    engine = pulp.PULP_CBC_CMD(
        msg=False,
        threads=1,
        gapRel=GAP_RELATIVE,
        timeLimit=effort.seconds,
        warmStart=bool(start),
        # By itself CBC looks for nothing that is better by less than 1e-5, and calls that optimal.
        options=[
            f"maxNodes {effort.nodes}",
            f"randomSeed {SEED + 1}",
            "primalTolerance 1e-9",
            "increment 1e-9",
        ],
    )
    model.solve(engine)
    if model.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return Solution(None, -INF, CBC_ITERATIONS)
    x = np.array([float(variable.value() or 0.0) for variable in variables])
    proven = model.sol_status == pulp.LpSolutionOptimal
    value = float(pulp.value(model.objective) or 0.0)
    # CBC's bound does not come through PuLP; at a proven optimum the gap allowed gives one.
    bound = value - GAP_RELATIVE * abs(value) if proven else -INF
    return Solution(x, bound, CBC_ITERATIONS)


class _WarmHighs(pulp.HiGHS):  # type: ignore[misc]  # PuLP is untyped
    """PuLP's in-memory HiGHS with arrays, a start solution, counted limits and the bound."""

    def __init__(
        self,
        linear: Linear,
        cost: Floats,
        constant: float,
        start: Sequence[tuple[int, float]],
        effort: Effort,
    ) -> None:
        super().__init__(msg=False)
        self.linear = linear
        self.cost = cost
        self.constant = constant
        self.start = start
        self.effort = effort
        self.bound = -INF
        self.iterations = self.looks = 0
        self.found: Floats | None = None

    def values(self) -> Floats | None:
        """Return the solution in the order of the model's variables, or None."""
        return self.found

    def createAndConfigureSolver(self, lp: Any) -> None:  # noqa: N802 -- PuLP's name
        """Make a silent solver with counted limits."""
        lp.solverModel = quiet_highs()
        # Heuristics that solve parts of a large model take most of the time, and find nothing: the
        # start comes from searches that are better at it. Cuts at nodes delay a proof, and so does
        # presolve where VMs choose: at 16 x 400 a third of the gap is left without both in equal
        # time.
        options: dict[str, float | int | str] = {
            "presolve": "on" if self.effort.presolve else "off",
            "mip_allow_cut_separation_at_nodes": not self.effort.proof,
            "mip_heuristic_effort": PARTS_EFFORT if self.effort.parts else 0.0,
            "mip_heuristic_run_rins": self.effort.parts,
            "mip_heuristic_run_rens": False,
            "mip_heuristic_run_root_reduced_cost": self.effort.parts,
            "mip_rel_gap": GAP_RELATIVE,
            "mip_abs_gap": self.effort.gap,
            "mip_max_nodes": self.effort.nodes,
            "primal_feasibility_tolerance": FEASIBILITY,
            "mip_feasibility_tolerance": FEASIBILITY,
        }
        if self.effort.few_cuts:
            options["mip_pool_soft_limit"] = FEW_CUTS
        if not self.effort.proof:
            options["mip_pscost_minreliable"] = 0  # how often one is tried before its cost is known
        if self.effort.seconds is not None:
            options["time_limit"] = max(0.0, float(self.effort.seconds))
        for name, value in options.items():
            lp.solverModel.setOptionValue(name, value)
        if self.effort.interrupted is not None or self.effort.looks is not None:
            lp.solverModel.setCallback(self._ask, None)
            lp.solverModel.startCallback(highspy.cb.HighsCallbackType.kCallbackMipInterrupt)

    def _ask(self, _kind: Any, _message: str, _out: Any, answer: Any, _data: Any) -> None:
        """Tell the solver to stop with what there is: the user wants the plan, or it was enough."""
        self.looks += 1
        enough = self.effort.looks is not None and self.looks > self.effort.looks
        if enough or (self.effort.interrupted is not None and self.effort.interrupted()):
            answer.user_interrupt = True

    def buildSolverModel(self, lp: Any) -> None:  # noqa: N802 -- PuLP's name
        """Hand over the arrays that the model was written from, and the start with them."""
        linear = self.linear
        model = arrays(linear, self.cost)
        model.offset_ = self.constant
        kinds = highspy.HighsVarType
        model.integrality_ = [
            kinds.kInteger if whole else kinds.kContinuous for whole in linear.integer
        ]
        lp.solverModel.passModel(model)
        if self.start:
            index = np.array([at for at, _ in self.start], dtype=np.int32)
            value = np.array([value for _, value in self.start], dtype=float)
            lp.solverModel.setSolution(len(index), index, value)

    def findSolutionValues(self, lp: Any) -> tuple[int, int]:  # noqa: N802 -- PuLP's name
        """Read the solution, the bound and the work, whatever the status is called."""
        info = lp.solverModel.getInfo()
        self.iterations = max(0, int(info.simplex_iteration_count))
        status = lp.solverModel.getModelStatus()
        self.bound = float(info.mip_dual_bound)
        if not np.isfinite(self.bound):
            self.bound = -INF
        if int(info.primal_solution_status) == int(highspy.SolutionStatus.kSolutionStatusFeasible):
            self.found = np.array(lp.solverModel.getSolution().col_value)
            if status == highspy.HighsModelStatus.kOptimal:
                return pulp.LpStatusOptimal, pulp.LpSolutionOptimal
            return pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible
        return pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound
