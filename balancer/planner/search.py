"""Local search from a constructed placement: exchange, undo and redo, and trimming.

`local` runs the tiers in their order. Each part leaves the tiers above its own no worse; the
whole is measured from scratch and kept only if it is better.
"""

from __future__ import annotations

import numpy as np

from balancer.planner.construct import best_target, evacuate, mend
from balancer.planner.descent import BALANCE_GAIN, Descent, descend
from balancer.planner.problem import CPU, MEMORY, Floats, Ints, Problem
from balancer.planner.score import (
    OVERLOAD_WEIGHT,
    better,
    host_costs,
    legal_end,
    means,
    measure,
    phi,
)
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Goal

SWAP_HOSTS = 4  # hosts with the highest cost whose VMs are exchanged with all other hosts
SWAP_ROUNDS = 60
SWAP_VMS = 40  # of a host: exchanging is about differences in size, and these span them
REDO_TRIALS = 60  # undone moves tried a round, those that gained least first
REDO_ROUNDS = 6


def local(problem: Problem, work: Work, start: Ints | None = None) -> Ints:
    """Return the best placement that construction and local search find from `start`."""
    goal = problem.policy.goal
    state = State(problem, start)
    best, best_key = state.place.copy(), measure(problem, state.place).key(goal)
    stages = [_upper]
    if goal is Goal.BALANCE:
        stages += [_balance, _polish]
    for stage in stages:
        stage(state, work)
        key = measure(problem, state.place).key(goal)
        if better(key, best_key) and legal_end(problem, state.place):
            best, best_key = state.place.copy(), key
        else:
            state = State(problem, best)  # means moved, and what seemed a gain was none
    return trim(problem, best, work)


def _upper(state: State, work: Work) -> None:
    problem = state.problem
    evacuate(state, work)
    mend(state, work, hard=True)
    if problem.policy.goal is not Goal.RULES_ONLY and _is_overloaded(state):
        descend(state, work, relief=True)
    if problem.policy.goal is Goal.BALANCE:
        mend(state, work, hard=False)


def _is_overloaded(state: State) -> bool:
    problem = state.problem
    return bool(((state.used() > problem.threshold) & problem.play).any())


def _balance(state: State, work: Work) -> None:
    descend(state, work)


def _polish(state: State, work: Work) -> None:
    """Exchange VMs, and undo moves for better ones, until neither pays."""
    problem = state.problem
    for _ in range(REDO_ROUNDS):
        gained = _swaps(state, work)
        if state.moves >= problem.cap:
            gained |= _redo(state, work)
        if not gained:
            return
        descend(state, work)


def _redo(state: State, work: Work) -> bool:
    """With the cap used up: undo the moves that gained least where another gains more."""
    engine = Descent(state)
    gained = False
    undo = engine.undo_gains()
    order = np.argsort(undo, kind="stable")[:REDO_TRIALS]
    for row in order[np.isfinite(undo[order])].tolist():
        if not work.spend(100 + len(engine.rows)):
            return gained
        vm = int(engine.rows[row])
        at, home = int(state.place[vm]), int(engine.home[row])
        loss = float(engine.undo_gains()[row])
        if at == home or not np.isfinite(loss):
            continue
        engine.apply(vm, home)
        gain = engine.step()
        if gain is not None and gain + loss < -BALANCE_GAIN:
            gained = True
            continue
        if gain is not None and engine.last is not None:
            engine.apply(*engine.last)
        if state.place[vm] != at:
            engine.apply(vm, at)
    return gained


def _swaps(state: State, work: Work) -> bool:
    """Exchange pairs of VMs between costly hosts and all others while that pays."""
    problem = state.problem
    gained = False
    tried: set[tuple[int, int]] = set()
    for _ in range(SWAP_ROUNDS):
        used, mean = state.used(), means(problem, state.place)
        cost = host_costs(problem, used, mean, OVERLOAD_WEIGHT).sum(axis=0)
        order = sorted(np.flatnonzero(problem.play).tolist(), key=lambda host: (-cost[host], host))
        best: tuple[float, int, int] | None = None
        for one in order[:SWAP_HOSTS]:
            for other in order[::-1]:
                if other == one or (one, other) in tried:
                    continue
                if not work.spend(1500):
                    return gained
                found = _best_swap(state, one, other, mean)
                if found is None:
                    tried.add((one, other))
                elif best is None or found < best:
                    best = found
            if best is not None:
                break
        if best is None:
            return gained
        _, a, b = best
        hosts = int(state.place[a]), int(state.place[b])
        state.move(a, hosts[1])
        state.move(b, hosts[0])
        tried = {pair for pair in tried if not set(pair) & set(hosts)}
        gained = True
    return gained


def _best_swap(state: State, one: int, other: int, mean: Floats) -> tuple[float, int, int] | None:
    """Return the best exchange between two hosts as (gain, VM, VM), or None if none pays."""
    problem = state.problem
    free = ~problem.ruled
    a = np.flatnonzero((state.place == one) & problem.allowed[:, other] & free)
    b = np.flatnonzero((state.place == other) & problem.allowed[:, one] & free)
    a, b = (_some(problem, vms[problem.home[vms] != to]) for vms, to in ((a, other), (b, one)))
    if not len(a) or not len(b):
        return None
    # First moves cost and count; VMs on their way home (excluded) would refund.
    first_a, first_b = state.place[a] == problem.home[a], state.place[b] == problem.home[b]
    price = np.where(first_a, problem.move_cost[a], 0.0)[:, None]
    price = price + np.where(first_b, problem.move_cost[b], 0.0)[None, :]
    extra = first_a[:, None].astype(int) + first_b[None, :]
    shift = problem.weight[:, b][:, None, :] - problem.weight[:, a][:, :, None]
    gain = price
    legal = state.moves + extra <= problem.cap
    for host, sign in ((one, 1.0), (other, -1.0)):
        scale = problem.scale[:, host][:, None, None]
        now = (state.load[:, host] * problem.scale[:, host])[:, None, None]
        after = now + sign * shift * scale
        top = np.maximum(state.ceiling()[:, host], 0.0)[:, None, None]
        legal &= (after <= top).all(axis=0)
        if problem.up[host]:
            m = mean[:, :, None]
            gain = gain + (phi(after - m) - phi(now - m)).sum(axis=0)
        t = problem.threshold[:, :, None]
        over = np.maximum(0.0, after - t) - np.maximum(0.0, now - t)
        gain = gain + OVERLOAD_WEIGHT * over.sum(axis=0)
    gain = np.where(legal, gain, np.inf)
    at = int(gain.argmin())
    row, column = divmod(at, len(b))
    if not gain[row, column] < -BALANCE_GAIN:
        return None
    return float(gain[row, column]), int(a[row]), int(b[column])


def _some(problem: Problem, vms: Ints) -> Ints:
    """Return at most `SWAP_VMS` of the VMs, spread evenly over their sizes."""
    if len(vms) <= SWAP_VMS:
        return vms
    order = vms[np.lexsort([vms, problem.weight[MEMORY, vms], problem.weight[CPU, vms]])]
    return np.sort(order[np.linspace(0, len(order) - 1, SWAP_VMS).astype(np.int64)])


def trim(problem: Problem, place: Ints, work: Work) -> Ints:
    """Take back moves that the goal does not need, dearest first, and settle for cheaper targets.

    For goals short of balance this is what keeps everything else where it is; for balance it
    finds little, since a move that does not pay is not made.
    """
    goal = problem.policy.goal
    state = State(problem, place)
    key = measure(problem, place).key(goal)
    moved = np.flatnonzero(place != problem.home)
    order = moved[np.lexsort([moved, -problem.move_cost[moved]])].tolist()
    for vm in order:
        if not work.spend(300):
            break
        at = int(state.place[vm])
        for target in (int(problem.home[vm]), _retarget(state, vm)):
            if target is None or target == at:
                continue
            state.move(vm, target)
            after = measure(problem, state.place).key(goal)
            if better(after, key) and legal_end(problem, state.place):
                key = after
                break
            state.move(vm, at)
    return state.place


def _retarget(state: State, vm: int) -> int | None:
    """Return the best other target for a VM that has to move."""
    change = state.rule_change(vm)
    legal = change.legal & (change.hard <= 0) & state.fits(vm, even_overload=True)
    legal[state.problem.home[vm]] = False
    found = best_target(state, vm, means(state.problem, state.place), change, legal)
    return None if found is None else found[0]
