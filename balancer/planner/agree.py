"""Plans in which hosts agree: from what each host would choose, the best that fit together.

A plan says of each host which VMs leave it and which come. Choices that are good for one host are
found at prices (`lagrange`), or seen in plans; a linear model picks one for each host so that who
leaves one comes to another, within the cap. It is small, and its relaxation is nearly whole, since
each choice is: a solver takes a tenth of a second for what no exchange of a few moves would find.

VMs that a tier above balance asks about, and those of units that are not whole, stay where
the plan so far has them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.planner.ilp import Effort, Solver, arrays, highspy, quiet_highs, solve
from balancer.planner.lagrange import DEEPER, SETS_LAST, Choice, Dual
from balancer.planner.linear import INF, Linear
from balancer.planner.pool import whole_units
from balancer.planner.problem import MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.relax import free_vms
from balancer.planner.score import (
    GAIN_MIN,
    OVERLOAD_WEIGHT,
    ROUNDING,
    TIER_TOLERANCE,
    better,
    legal_end,
    measure,
    phi,
)
from balancer.planner.secure import secured
from balancer.planner.tiers import is_proven
from balancer.planner.work import Work

EACH = 20  # choices of a host that are taken at each evaluation
# Before hosts are asked to agree, at first and later.
EVALUATIONS_FIRST, EVALUATIONS = 5, 2
# Then prices go back to the best so far, but for a share that goes by the model of choices.
SHARES = (0.95, 0.8)
ROUNDS = 4  # of that, after which it is seen what they have proven
# Choices that the solver is given: so many at first, for each host, or less with little work left;
# of what trials have shown, for each host. Of that so many times the hosts are weighed at all.
PROMISING, PROMISING_HOST, PROMISING_UNITS, HEARD_HOST = 400, 12, 500.0, 8
HEARD_EACH = 60
EFFORT, CHOSEN = Effort(5, gap=0.0, few_cuts=True, presolve=True), 0.5  # nodes
NEWS = 0.1  # of what choices may still gain, below which the solver is not asked again
# Times what there is to gain: choices with a worse price are forgotten; of those at prices only
# where there are more than so many a host, since prices go by all that were ever tried.
FORGOTTEN, KEPT_HOST = 3.0, 100
DEEPEN = 0.1  # of what is left to prove: prices that prove less call for more sets
# Of a relaxation, for each choice, and for each pivot and coefficient.
ROOT_UNITS, COLUMN_UNITS, PIVOT_UNITS_MIN, PIVOT_UNITS = 10_000.0, 10.0, 5.0, 0.003
PIVOTS_MAX = 1_000_000
# HiGHS's name of the weights of edges with which relaxations of 50,000 coefficients take half the
# time, and small ones as long as before.
DEVEX = 1
# Of a model: for each coefficient to make it smaller; for each iteration at least, and for each of
# its coefficients; each time the solver looks up, after how many iterations that is to be reckoned
# with, and how many looks it may take.
REDUCING_UNITS, ITERATION_UNITS_MIN, ITERATION_UNITS = 10.0, 60.0, 0.012
LOOK_UNITS, LOOK_ITERATIONS, LOOKS_MAX = 10_000.0, 250, 100
# Of the work left: what a model may take, and up to which one in vain is followed by a larger one.
MODEL_SHARE, DOUBLED_SHARE = 0.5, 0.1


class Agreement:
    """Choices of hosts so far; `improve` looks for more and for a plan made of them."""

    def __init__(self, problem: Problem, dual: Dual) -> None:
        self.problem, self.dual, self.sets = problem, dual, dual.sets
        self.first = np.unique(self.sets.of_vm, return_index=True)[1]  # (I,) a VM of each set
        stuck = ~_free(problem)
        self.stuck = np.zeros(len(self.sets.home), dtype=bool)
        self.stuck[self.sets.of_vm[stuck]] = True
        # What each set counts in the caps over domains of hosts.
        self.counted: dict[int, list[tuple[int, float]]] = {}
        for number, group in enumerate(problem.groups):
            if group.limit is not None:
                sets = self.sets.of_vm[group.members]
                sizes = np.bincount(sets, group.size)
                for one in np.unique(sets).tolist():
                    self.counted.setdefault(one, []).append((number, float(sizes[one])))
        self.rounds, self.bound = 0, dual.bound  # rounds of prices, and what some had proven
        # J, and what choices might have come to, when the solver was last asked about all of them.
        self.asked = INF, INF
        self.cost: dict[Choice, float] = {}  # infinite where a host would be too full
        self.over: dict[Choice, float] = {}  # of those that overload their host, by how much
        self.heard: dict[Choice, None] = {}  # of trials, not among those yet
        self.shown: dict[Choice, None] = {}  # of trials, among those

    def improve(self, place: Ints, work: Work, solver: Solver) -> Ints:
        """Return a better place as soon as there is one; `place` after some rounds without.

        Args:
            place: A legal end.
            work: The budget.
            solver: Which solver.
        """
        value = measure(self.problem, place).balance
        for _ in range(ROUNDS):
            if self.is_settled(value) or not work.spend(0):
                break
            for _ in range(EVALUATIONS if self.rounds else EVALUATIONS_FIRST):
                found = self.dual.evaluate(work, EACH)
                if found is None:
                    break
                self._take(found, place)
                self.dual.climb(value)
            if work.cut_short():
                break
            self._deepen(value)
            tried = self._agreed(place, work, solver, shown=False)
            if not np.array_equal(tried, place):
                return tried
        return place

    def note(self, place: Ints, vms: Ints, targets: Ints) -> None:
        """Keep what hosts would do in a trial that puts `vms` (k,) on `targets` (k,)."""
        changed = sorted({*place[vms].tolist(), *targets.tolist()})
        at = place.copy()
        at[vms] = targets
        choices = self._choices_at(at)
        self.heard.update((choices[host], None) for host in changed)
        while len(self.heard) > HEARD_EACH * len(self.problem.hosts):  # the latest are kept
            del self.heard[next(iter(self.heard))]

    def combine(self, place: Ints, work: Work, solver: Solver) -> Ints:
        """Return the best plan of what trials have shown so far, or `place`.

        What hosts would choose at prices is left out: it seldom fits with that, and crowds it out.
        """
        heard, self.heard = list(self.heard), {}
        if not heard or not work.spend(0):
            return place
        self.shown.update(dict.fromkeys(self._take(heard, place)))
        return self._agreed(place, work, solver, shown=True)

    def is_settled(self, value: float) -> bool:
        """Tell whether a plan with this J is proven, or prices prove no more."""
        return self.proves(value) or self.dual.sets_max > SETS_LAST

    def proves(self, value: float) -> bool:
        """Tell whether no plan that keeps the tiers above has a J below this one."""
        return is_proven(value, self.dual.bound)

    def _deepen(self, value: float) -> None:
        """Look at more sets from now on, where a round of prices has proven little."""
        self.rounds += 1
        if self.rounds % ROUNDS == 0:
            if self.dual.bound - self.bound < DEEPEN * (value - self.dual.bound):
                self.dual.sets_max *= DEEPER
            self.bound = self.dual.bound

    def _take(self, choices: list[Choice], place: Ints) -> list[Choice]:
        """Keep and return choices, with what is stuck as it is at `place`."""
        if self.stuck.any():
            own = self._choices_at(place)
            choices = [self._with_stuck(one, own[one.host]) for one in choices]
        for one in choices:
            if one not in self.cost:
                self.cost[one] = self._cost(one)
        return choices

    def _with_stuck(self, one: Choice, own: Choice) -> Choice:
        stuck = self.stuck

        def joined(free: tuple[int, ...], held: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(
                sorted({*(s for s in free if not stuck[s]), *(s for s in held if stuck[s])})
            )

        return Choice(one.host, joined(one.leave, own.leave), joined(one.come, own.come))

    def _choices_at(self, place: Ints) -> list[Choice]:
        """Return what each host does in a plan."""
        home, at = self.sets.home, place[self.first]
        leave: list[list[int]] = [[] for _ in self.problem.hosts]
        come: list[list[int]] = [[] for _ in self.problem.hosts]
        for one in np.flatnonzero(at != home).tolist():
            leave[home[one]].append(one)
            come[at[one]].append(one)
        return [
            Choice(host, tuple(gone), tuple(came))
            for host, (gone, came) in enumerate(zip(leave, come, strict=True))
        ]

    def _cost(self, one: Choice) -> float:
        """Return a host's share of J, and of moving what comes to it."""
        problem, sets, host = self.problem, self.sets, one.host
        come, leave = list(one.come), list(one.leave)
        change = sets.weight[:, come].sum(axis=1) - sets.weight[:, leave].sum(axis=1)
        used = problem.before[:, host] + change * problem.scale[:, host]
        top = problem.limit[:, host] * (1 + ROUNDING) + 1e-12
        if (used > top).any() or (come and used[MEMORY] > 1.0 + ROUNDING):
            return INF
        cost = float(sets.cost[come].sum())
        if problem.up[host]:
            cost += float(phi(used - self.dual.mean[:, 0]).sum())
        if problem.play[host]:
            over = float(np.maximum(0.0, used - problem.threshold[:, 0]).sum())
            cost += OVERLOAD_WEIGHT * over
            if over > 0.0:
                self.over[one] = over
        return cost

    def _agreed(self, place: Ints, work: Work, solver: Solver, *, shown: bool) -> Ints:
        """Return the best plan of the choices so far, or `place`.

        Args:
            place: The best so far.
            work: The budget.
            solver: Which solver.
            shown: Of those that trials have shown. Else of all, if there is news of what they may
                come to, and their prices are taken over.
        """
        value, own = measure(self.problem, place).balance, self._choices_at(place)
        always = self._take([*own, *(Choice(one.host, (), ()) for one in own)], place)
        pool = dict.fromkeys([*(self.shown if shown else self.cost), *always])
        choices = [one for one in pool if self.cost[one] < INF and self._fits(one, own)]
        least, choices = self._promising(choices, place, value, work, lean=not shown)
        self._take(always, place)  # they may have been forgotten
        better_since = shown or value < self.asked[0] - GAIN_MIN
        known = value if better_since else min(value, self.asked[1])
        if value - least < GAIN_MIN or least >= known - NEWS * (value - least):
            return place
        if not shown:
            self.asked = value, least
        most = max(PROMISING, (HEARD_HOST if shown else PROMISING_HOST) * len(own))
        own = [one for one in own if self.cost[one] < INF]
        while not work.cut_short():
            most = min(most, int(work.left() / PROMISING_UNITS))
            if most < PROMISING:
                break
            begun = work.left()
            given = list(dict.fromkeys([*own, *choices[:most]]))
            found, ended = self._solved(given, own, place, work, solver)
            if not np.array_equal(found, place):
                return found
            if not ended or most >= len(choices) or work.left() < (1 - DOUBLED_SHARE) * begun:
                break
            most *= 2
        return place

    def _solved(
        self, choices: list[Choice], own: list[Choice], place: Ints, work: Work, solver: Solver
    ) -> tuple[Ints, bool]:
        """Return the best plan of a few choices, or `place`; and whether the solver came to an end.

        `own` are those of `place`, and the first of the choices.
        """
        problem, goal = self.problem, self.problem.policy.goal
        linear, cost = self._model(choices, place)[:2]
        start = [(at, 1.0) for at in range(len(own))]
        each = max(ITERATION_UNITS_MIN, ITERATION_UNITS * linear.entries)
        between = LOOK_UNITS + LOOK_ITERATIONS * each
        looks = min(LOOKS_MAX, int(MODEL_SHARE * work.left() / between))
        work.charge(REDUCING_UNITS * linear.entries)
        if looks < 1:
            return place, False
        effort = replace(
            EFFORT, seconds=work.seconds_left(), interrupted=work.interrupted, looks=looks
        )
        solution = solve(linear, cost, 0.0, start, effort, solver)
        work.charge(each * solution.iterations + LOOK_UNITS * solution.looks)
        if solution.x is None:
            return place, False
        at = self.sets.home.copy()
        for number in np.flatnonzero(solution.x > CHOSEN).tolist():
            at[list(choices[number].come)] = choices[number].host
        found = secured(problem, at[self.sets.of_vm], place)
        before, after = measure(problem, place), measure(problem, found)
        if better(after.key(goal), before.key(goal)) and legal_end(problem, found):
            return found, True
        return place, solution.looks <= looks

    def _fits(self, one: Choice, own: list[Choice]) -> bool:
        """Tell whether a choice leaves what is stuck where the plan so far has it."""
        if not self.stuck.any():
            return True
        return self._with_stuck(one, own[one.host]) == one

    def _promising(
        self, choices: list[Choice], place: Ints, value: float, work: Work, *, lean: bool
    ) -> tuple[float, list[Choice]]:
        """Return what fractions of choices come to, and those that a better plan could have.

        The best come first. Choices with a price far beyond what there is to gain are forgotten.
        Prices lean to those of the fractions, if they are to.
        """
        linear, cost, flow = self._model(choices, place)
        engine = quiet_highs()
        engine.setOptionValue("simplex_dual_edge_weight_strategy", DEVEX)
        engine.passModel(arrays(linear, cost))
        pivot_units = max(PIVOT_UNITS_MIN, PIVOT_UNITS * linear.entries)
        pivots_max = min(PIVOTS_MAX, int(MODEL_SHARE * max(0.0, work.left()) / pivot_units))
        engine.setOptionValue("simplex_iteration_limit", pivots_max)
        if (left := work.seconds_left()) is not None:
            engine.setOptionValue("time_limit", max(0.0, left))
        engine.run()
        info, solution = engine.getInfo(), engine.getSolution()
        work.charge(ROOT_UNITS + COLUMN_UNITS * len(choices))
        pivots = max(0, int(info.simplex_iteration_count))
        work.charge(pivot_units * pivots)
        price, dual = np.array(solution.col_dual), np.array(solution.row_dual)
        if engine.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return value, choices
        least, hosts = float(info.objective_function_value), len(self.problem.hosts)
        bad = np.flatnonzero(price > FORGOTTEN * max(0.0, value - least) + GAIN_MIN)
        if lean:  # the worst, and no more than have to go
            excess = max(0, len(choices) - int(KEPT_HOST * hosts))
            bad = bad[np.argsort(-price[bad], kind="stable")[:excess]]
        for at in bad.tolist():
            del self.cost[choices[at]]
            self.over.pop(choices[at], None)
            self.shown.pop(choices[at], None)
        if lean:
            share, caps = SHARES[self.rounds % len(SHARES)], hosts + len(flow)
            ends = caps + len(self.dual.caps)
            self.dual.lean(flow, dual[hosts:caps], -dual[caps:ends], share)
        best = np.argsort(price, kind="stable")
        best = best[price[best] <= value - least + GAIN_MIN]
        return least, [choices[at] for at in best.tolist()]

    def _model(self, choices: list[Choice], place: Ints) -> tuple[Linear, Floats, Ints]:
        """Write: one choice a host, who leaves comes, caps, rules that count VMs, overload.

        Returns the model, its costs, and the sets that its rows after the hosts' are about.
        """
        problem, sets = self.problem, self.sets
        linear = Linear()
        linear.variables(len(choices), 0.0, 1.0, integer=True)
        of_host: list[list[int]] = [[] for _ in problem.hosts]
        flow: dict[int, tuple[list[int], list[float]]] = {}
        cap: tuple[list[int], list[float]] = ([], [])
        for at, one in enumerate(choices):
            of_host[one.host].append(at)
            for sign, side in ((-1.0, one.leave), (1.0, one.come)):
                for moved in side:
                    index, value = flow.setdefault(moved, ([], []))
                    index.append(at)
                    value.append(sign)
            if one.come:
                cap[0].append(at)
                cap[1].append(float(sets.count[list(one.come)].sum()))
        for index in of_host:
            linear.row(1.0, 1.0, index, np.ones(len(index)))
        for _, (index, value) in sorted(flow.items()):
            linear.row(0.0, 0.0, index, value)
        linear.row(-INF, float(problem.cap), *cap)
        for size, most in zip(sets.size, problem.budgets.most.tolist(), strict=True):
            taken = [float(size[list(choices[at].come)].sum()) for at in cap[0]]
            linear.row(-INF, most, cap[0], taken)
        self._count(linear, choices, place)
        over = {at: self.over[one] for at, one in enumerate(choices) if one in self.over}
        if over:  # J would trade it for an even load
            most = measure(problem, place).overload + TIER_TOLERANCE
            linear.row(-INF, most, list(over), list(over.values()))
        cost = np.array([self.cost[one] for one in choices])
        return linear, cost, np.array(sorted(flow), dtype=np.int64)

    def _count(self, linear: Linear, choices: list[Choice], place: Ints) -> None:
        """Add what caps on VMs in domains of hosts allow: what they say, or what is there now."""
        terms: dict[tuple[int, int], dict[int, float]] = {}
        for at, one in enumerate(choices):
            for sign, side in ((-1.0, one.leave), (1.0, one.come)):
                for moved in side:
                    for number, size in self.counted.get(moved, ()):
                        domain = int(self.problem.groups[number].domain[one.host])
                        if domain >= 0:
                            row = terms.setdefault((number, domain), {})
                            row[at] = row.get(at, 0.0) + sign * size
        for (number, domain), row in sorted(terms.items()):
            group = self.problem.groups[number]
            there = group.counts(place)[domain]
            most = max(group.limit or 0, group.before[domain], there)
            room = float(most - group.before[domain])
            if sum(change for change in row.values() if change > 0) > room:
                linear.row(-INF, room, list(row), list(row.values()))


def _free(problem: Problem) -> Bools:
    """Return the (N,) VMs that may go wherever balance wants them, but for rules that count."""
    free = free_vms(problem)
    whole = {vm for unit in whole_units(problem) for vm in unit.tolist()}
    for group in problem.groups:
        if group.limit is None:
            free[[vm for vm in group.members.tolist() if vm not in whole]] = False
    return free
