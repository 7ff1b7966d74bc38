"""Why a plan does not do something else with a VM.

Asked of the end of the plan, all others where it puts them: what stands against the other host
(facts, rules, room, the recent past); and where nothing does, what would be worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from balancer.errors import InputError
from balancer.model.cluster import Cluster
from balancer.model.effect import Gain
from balancer.model.past import Past
from balancer.model.plan import Plan
from balancer.planner.payback import why_unpaid
from balancer.planner.problem import Ints, Problem, build
from balancer.planner.restrain import exempted, restrain
from balancer.planner.score import (
    GAIN_MIN,
    LOST,
    LOST_LABELS,
    TIER_TOLERANCE,
    Measure,
    content,
    legal_end,
    measure,
    tier_names,
    told,
)
from balancer.planner.state import State
from balancer.planner.stays import obstacles, short_of, used_up, what_binds, what_keeps
from balancer.planner.timing import Timing
from balancer.planner.words import percent
from balancer.policy.policy import Goal, Policy

NAMES_SHOWN = 3
TIER_LABELS = {
    **dict(zip(LOST, LOST_LABELS, strict=True)),
    "resort": "last resort",
    "soft": "soft rules",
    "crowding": "filled above the ceiling",
    "awake": "hosts awake",
    "cost": "cost of moving",
}


@dataclass(frozen=True, slots=True)
class Instead:
    """A host that a VM does not end on, and why.

    Attributes:
        against: Facts and rules that forbid it, at the end of the plan.
        changes: Where nothing forbids it: by how much tiers would be worse, or better below zero.
        says: The same as one sentence.
    """

    host: str
    against: tuple[str, ...]
    changes: tuple[Gain, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a plan puts a VM, why, and why not elsewhere."""

    vm: str
    name: str
    host: str
    target: str  # the host it is on, unless the plan moves it
    reason: str
    instead: tuple[Instead, ...]


class Inquiry:
    """Questions about one plan; `cluster`, `policy` and `past` are those it was made from."""

    def __init__(
        self,
        cluster: Cluster,
        policy: Policy,
        plan: Plan,
        past: Past | None = None,
    ) -> None:
        """Read a task and a plan for it.

        Raises:
            InputError: Rules contradict each other, or the plan is not for this cluster.
        """
        task = build(cluster, policy, now=plan.created_at)
        self.wanted = policy.goal
        self.problem: Problem = content(restrain(task, past))
        self.plan = plan
        self.hosts = {host.name: at for at, host in enumerate(self.problem.hosts)}
        self.vms = {vm.id: at for at, vm in enumerate(self.problem.vms)}
        self.place = place_of(self.problem, plan)

    @cached_property
    def end(self) -> State:
        """The end of the plan; not to be changed."""
        return State(self.problem, self.place)

    @cached_property
    def after(self) -> Measure:
        """How good the end is."""
        return measure(self.problem, self.place)

    def vm(self, vm_id: str, *hosts: str) -> Whereabouts:
        """Say where the plan puts a VM, and why not on `hosts`: by default on none of the others.

        Raises:
            InputError: No such VM or host.
        """
        if vm_id not in self.vms:
            raise InputError(
                f"no VM with id {vm_id!r}", remedy="give the id as the snapshot has it"
            )
        vm = self.vms[vm_id]
        one, target = self.problem.vms[vm], self.problem.hosts[self.place[vm]].name
        others = hosts or tuple(name for name in self.hosts if name != target)
        instead = tuple(self._instead(vm, self.index(host)) for host in others)
        return Whereabouts(one.id, one.name, one.host, target, self._reason(vm), instead)

    def index(self, host: str) -> int:
        """Return the index of a host.

        Raises:
            InputError: No such host.
        """
        if host not in self.hosts:
            known = ", ".join(self.hosts)
            raise InputError(f"no host named {host!r}", remedy=f"the hosts are: {known}")
        return self.hosts[host]

    def restraint(self) -> str:
        """Return why the plan does not even out the load though the policy would; empty if so."""
        problem = self.problem
        if problem.calm.restraint:
            return problem.calm.restraint
        if self.wanted is Goal.BALANCE and problem.policy.goal is not Goal.BALANCE:
            band = percent(problem.policy.thresholds.imbalance)
            return f"every host is within {band} of the mean, and nothing moves to even that out"
        return ""

    def _reason(self, vm: int) -> str:
        """Return why the plan moves a VM, or what keeps it."""
        name = self.problem.vms[vm].id
        moves = [one.reason for one in self.plan.migrations if one.vm == name]
        stays = [one.reason for one in self.plan.not_moved if one.vm == name]
        if moves or stays:
            return (moves or stays)[-1]
        if self.place[vm] != self.problem.home[vm]:
            return "the plan moves it"
        return what_binds(self.end, vm)[0] or self.restraint() or what_keeps(self.end, vm)

    def _instead(self, vm: int, host: int) -> Instead:
        problem = self.problem
        name, home = problem.hosts[host].name, int(problem.home[vm])
        if host == self.place[vm]:
            says = f"it is on {name} already" if host == home else f"the plan puts it on {name}"
            return Instead(name, (says,), (), says)
        against = () if host == home else self._against(vm, host)
        if against:
            return Instead(name, against, (), "; ".join(against))
        trial = self.place.copy()
        trial[vm] = host
        if not legal_end(problem, trial):
            says = "a rule, the cap or the load of a host does not allow it"
            if self.place[vm] == home and self.after.moves >= problem.cap:
                says = used_up(problem)
            elif short := short_of(self.end, vm):
                says = short
            return Instead(name, (says,), (), says)
        changes, says = self._compare(vm, trial)
        return Instead(name, (), changes, says)

    def _against(self, vm: int, host: int) -> tuple[str, ...]:
        """Return what forbids a host at the end of the plan, the VM itself left where it is."""
        problem = self.problem
        end = State(problem, self.place)
        end.move(vm, int(problem.home[vm]))
        calm = self._calm_against(vm, host)
        found = tuple(dict.fromkeys((*calm, *obstacles(end, vm, host))))
        if not found or calm or obstacles(State(problem), vm, host):
            return found
        came = np.flatnonzero((self.place == host) & (problem.home != host)).tolist()
        names = [problem.vms[other].name for other in came if other != vm]
        shown = ", ".join(names[:NAMES_SHOWN])
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        last = f"{found[-1]}; the plan sends {shown}{more} there" if names else found[-1]
        return (*found[:-1], last)

    def _calm_against(self, vm: int, host: int) -> tuple[str, ...]:
        """Return what the past has against a host; being there may mend what a VM is exempt for."""
        problem, calm = self.problem, self.problem.calm
        if calm.past is None:
            return ()
        trial = self.place.copy()
        trial[vm] = host
        held = replace(calm, exempt=calm.exempt & exempted(problem, trial))
        return held.against(vm, int(problem.home[vm]), host)

    def _compare(self, vm: int, trial: Ints) -> tuple[tuple[Gain, ...], str]:
        """Return the tiers that differ where a VM is elsewhere, and what the first of them says."""
        problem, goal = self.problem, self.problem.policy.goal
        other, names = measure(problem, trial), tier_names(goal)
        pairs = list(zip(names, self.after.key(goal), other.key(goal), strict=True))
        differing = [
            (name, now, then)
            for name, now, then in pairs
            if abs(then - now) > (GAIN_MIN if name == "balance" else TIER_TOLERANCE)
        ]
        changes = tuple(
            Gain(TIER_LABELS.get(name, name), round(told(name, then - now), 9))
            for name, now, then in differing
        )
        here = problem.hosts[self.place[vm]].name
        if not differing:
            return changes, f"it would be as good as {here}"
        name, now, then = differing[0]
        shown = f"{_number(told(name, now))} -> {_number(told(name, then))}"
        text = f"{TIER_LABELS.get(name, name)} {shown}"
        if name == "balance":
            text = self._of_balance(other)
        if then < now:
            return changes, f"it would be better ({text}), but {self._why_missed(vm, trial)}"
        restraint = self.restraint() if name == "cost" else ""
        return changes, f"it would be worse: {text}" + (f"; {restraint}" if restraint else "")

    def _of_balance(self, other: Measure) -> str:
        """Return what J becomes, and of what."""
        after = self.after
        gain = (after.balance - after.cost) - (other.balance - other.cost)
        cost = other.cost - after.cost
        text = f"balance score {_number(after.balance)} -> {_number(other.balance)}"
        if abs(cost) <= GAIN_MIN:
            return text
        verb = "gains" if gain >= 0 else "loses"
        price = f"costs {_number(cost)} more" if cost > 0 else f"costs {_number(-cost)} less"
        return f"{text}, for it {verb} {_number(abs(gain))} and {price} to move"

    def _why_missed(self, vm: int, trial: Ints) -> str:
        """Return why a plan that would be better was not made."""
        problem = self.problem
        stays = self.place[vm] == problem.home[vm]
        if stays and problem.policy.goal is Goal.BALANCE:
            unpaid = why_unpaid(Timing(problem), trial, self.place, vm)
            if unpaid:
                return unpaid
        budget = problem.calm.day_moves
        if stays and budget is not None and problem.calm.binds(vm):
            moved = np.flatnonzero(self.place != problem.home).tolist()
            if sum(problem.calm.binds(other) for other in moved) >= budget:
                return "the budget of migrations a day is used up"
        for one in self.plan.not_moved:
            if one.vm == problem.vms[vm].id:
                return one.reason
        return f"the search did not find it before it ended ({self.plan.stopped_by})"


def place_of(problem: Problem, plan: Plan) -> Ints:
    """Return where a plan puts each VM.

    Raises:
        InputError: It moves VMs or names hosts that are not there.
    """
    hosts = {host.name: at for at, host in enumerate(problem.hosts)}
    vms = {vm.id: at for at, vm in enumerate(problem.vms)}
    place = problem.home.copy()
    for one in plan.migrations:
        if one.vm not in vms or not {one.source, one.target} <= hosts.keys():
            raise InputError(
                f"the plan moves {one.name} from {one.source} to {one.target}, which are not in "
                "this cluster",
                remedy="give the snapshot that the plan was made from",
            )
        place[vms[one.vm]] = hosts[one.target]
    return place


def _number(value: float) -> str:
    return f"{value:.4g}"
