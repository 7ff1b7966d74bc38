"""Why: for each migration what it is for, for each VM that stays what kept it there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from balancer.model.plan import NotMoved, Unresolved
from balancer.model.rule import AllowedHosts, Rule
from balancer.planner.construct import suspects
from balancer.planner.problem import CPU, GIB, MEMORY, Floats, Ints, Problem, utilisation
from balancer.planner.score import means, overloaded
from balancer.planner.state import State
from balancer.policy.capacity import why_immovable, why_no_target
from balancer.policy.policy import Goal
from balancer.policy.said import Said

RESOURCES = {CPU: "CPU", MEMORY: "memory"}
# Reasons name this many hosts before they count the rest.
REASONS_SHOWN = 3


@dataclass(frozen=True)
class Story:
    """The cluster before and after, as reasons need it."""

    problem: Problem
    place: Ints
    before: Floats
    after: Floats

    @staticmethod
    def of(problem: Problem, place: Ints) -> Story:
        """Measure both ends of a plan."""
        return Story(problem, place, problem.before, utilisation(problem, place))


def cite(rule: Rule) -> str:
    """Return how a rule is named in a sentence: its kind, subject and place."""
    return f"{rule} ({rule.origin})" if rule.origin else str(rule)


def hosts_of(one: Said) -> frozenset[str]:
    """Return the hosts that a list allows; empty for what is no list."""
    return one.form.hosts if isinstance(one.form, AllowedHosts) else frozenset()


def percent(share: float) -> str:
    """Return a share as whole percent; one more digit where a threshold would hide it."""
    return f"{100 * share:.0f} %"


def reason(story: Story, vm: int) -> str:
    """Return why `vm` moves, in one sentence with numbers."""
    problem = story.problem
    source, target = int(problem.home[vm]), int(story.place[vm])
    name = problem.hosts[source].name
    if problem.from_drain[vm]:
        return f"evacuates {name}, which is draining"
    if repaired := repairs(problem, story.place, vm):
        return "repairs " + ", ".join(repaired)
    for resource, label in RESOURCES.items():
        if overloaded(problem, story.before)[resource, source]:
            return f"relieves {name}: {label} {_change(story, resource, source)}"
    if repaired := repairs(problem, story.place, vm, hard=False):
        return "repairs " + ", ".join(repaired)
    if problem.policy.goal is not Goal.BALANCE or _only_makes_room(story, source):
        return f"makes room on {name} for other migrations of this plan"
    resource = _evened(story, source, target)
    ends = ", ".join(
        f"{problem.hosts[host].name} {_change(story, resource, host)}" for host in (source, target)
    )
    return f"evens out {RESOURCES[resource]}: {ends}"


def stopover_reason(story: Story, vm: int) -> str:
    """Return why `vm` steps over a third host."""
    problem = story.problem
    source, target = problem.hosts[problem.home[vm]].name, problem.hosts[story.place[vm]].name
    return f"stop-over: {target} is full until {source} has room; {reason(story, vm)}"


def _change(story: Story, resource: int, host: int) -> str:
    before, after = story.before[resource, host], story.after[resource, host]
    return f"{percent(before)} -> {percent(after)}"


def repairs(problem: Problem, place: Ints, vm: int, *, hard: bool = True) -> tuple[str, ...]:
    """Return the rules about `vm` that are less broken at `place` than they are."""
    found: list[str] = []
    source, target = (problem.hosts[at[vm]].name for at in (problem.home, place))
    for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
        hosts = hosts_of(one)
        if one.hard == hard and source not in hosts and target in hosts:
            found.append(cite(one.rule))
    for index in problem.groups_of_vm.get(vm, ()):
        group = problem.groups[index]
        before, after = group.counts(problem.home), group.counts(place)
        if group.hard == hard and group.broken(after) < group.broken(before):
            found.append(cite(group.said.rule))
    return tuple(sorted(set(found)))


def _only_makes_room(story: Story, source: int) -> bool:
    """Tell whether the source ends no better off: something else comes in its stead."""
    mean = means(story.problem, story.place)[:, 0]
    before = np.abs(story.before[:, source] - mean).max()
    return bool(np.abs(story.after[:, source] - mean).max() >= before)


def _evened(story: Story, source: int, target: int) -> int:
    """Return the resource whose deviations from the mean shrink most at the two ends."""
    ends = [source, target]
    mean = means(story.problem, story.place)
    gain = np.abs(story.before[:, ends] - mean) - np.abs(story.after[:, ends] - mean)
    return int(gain.sum(axis=1).argmax())


def obstacles(state: State, vm: int, host: int) -> tuple[str, ...]:
    """Return every fact and rule that keeps `vm` from `host` in this state; empty if none."""
    problem = state.problem
    one, target = problem.vms[vm], problem.hosts[host]
    source = problem.hosts[state.place[vm]]
    if state.place[vm] == host:
        return (f"it is on {target.name} already",)
    found = [text for text in (why_immovable(problem.cluster, one), why_no_target(target)) if text]
    slots = problem.caps.concurrent_per_host
    found.extend(
        f"the policy or the cluster allows no migration on {end.name}"
        for end in (source, target)
        if slots[end.name] < 1 and end.migration.concurrent >= 1
    )
    if not problem.connected[state.place[vm], host]:
        found.append(f"{source.name} and {target.name} share no migration network")
    found.extend(
        f"{cite(said.rule)} does not allow {target.name}"
        for said in problem.lists_of_vm.get(one.id, ())
        if said.hard and target.name not in hosts_of(said)
    )
    for index in problem.groups_of_vm.get(vm, ()):
        group = problem.groups[index]
        if not group.change(state.counts[index], int(state.place[vm]))[1][host]:
            found.append(f"{cite(group.said.rule)} would be broken")
        elif group.limit is None and group.hard and not problem.allowed[vm, host] and not found:
            found.append(f"{cite(group.said.rule)} holds during the moves")
    return (*found, *_capacity_obstacles(state, vm, host))


def _capacity_obstacles(state: State, vm: int, host: int) -> tuple[str, ...]:
    problem = state.problem
    if state.fits(vm, even_overload=True)[host]:
        return ()
    target = problem.hosts[host].name
    after = (state.load[:, host] + problem.weight[:, vm]) * problem.scale[:, host]
    if after[MEMORY] > 1.0:
        free = (1.0 / problem.scale[MEMORY, host] - state.load[MEMORY, host]) / GIB
        needed = problem.weight[MEMORY, vm] / GIB
        return (f"{target} has {max(0.0, free):.1f} GiB of memory free, {needed:.1f} are needed",)
    return tuple(
        f"{target} would be overloaded: {label} {percent(after[resource])}, "
        f"above {percent(problem.threshold[resource, 0])}"
        for resource, label in RESOURCES.items()
        if after[resource] > problem.threshold[resource, 0]
    )


def what_keeps(state: State, vm: int) -> str:
    """Return the binding reason why `vm` stays where it is."""
    problem = state.problem
    one = problem.vms[vm]
    if (fact := why_immovable(problem.cluster, one)) is not None:
        return fact
    # In one sweep first: on a large cluster most VMs have somewhere to go, and words are slow.
    open_hosts = int((state.rule_change(vm).legal & state.fits(vm, even_overload=True)).sum())
    if open_hosts and state.moves >= problem.cap:
        return f"the cap of {problem.cap} migrations is used up"
    if open_hosts:
        return f"no move of it betters the plan ({open_hosts} hosts could take it)"
    others = [at for at in range(len(problem.hosts)) if at != state.place[vm]]
    kept = {at: obstacles(state, vm, at) for at in others}
    if not others:
        return "there is no other host"
    # A rule that rules out every host is the reason, whatever else stands in the way.
    shared = [text for text in kept[others[0]] if all(text in kept[at] for at in others)]
    if shared:
        return shared[0]
    counts = Counter((*kept[at], "no legal way there")[0] for at in others)
    shown = [text for text, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    more = len(shown) - REASONS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return "no host can take it: " + "; ".join(shown[:REASONS_SHOWN]) + tail


def not_moved(problem: Problem, place: Ints, dropped: dict[int, str]) -> tuple[NotMoved, ...]:
    """Return the VMs that a goal wanted elsewhere and that stayed, each with its reason."""
    state = State(problem, place)
    at_home = place == problem.home
    wanted = set(np.flatnonzero(problem.from_drain & at_home).tolist())
    wanted.update(np.flatnonzero((problem.astray > 0) & at_home).tolist())
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard and group.broken(counts):
            wanted.update(vm for vm in group.members.tolist() if at_home[vm])
    if problem.policy.goal is not Goal.RULES_ONLY:
        hot = np.asarray(overloaded(problem, state.used()).any(axis=0))
        wanted.update(np.flatnonzero(hot[place] & at_home & problem.is_load).tolist())
    if problem.policy.goal is Goal.BALANCE:
        wanted.update(vm for vm in suspects(state, hard=False) if at_home[vm])
    wanted.update(vm for vm in dropped if at_home[vm])
    return tuple(
        NotMoved(
            vm=problem.vms[vm].id,
            name=problem.vms[vm].name,
            host=problem.vms[vm].host,
            reason=dropped.get(vm) or what_keeps(state, vm),
        )
        for vm in sorted(wanted)
    )


def unresolved(problem: Problem, place: Ints) -> tuple[Unresolved, ...]:
    """Return what stays wrong at the end: drains, broken hard rules, overload."""
    state = State(problem, place)
    used = state.used()
    found: list[Unresolved] = []
    for host in np.flatnonzero(problem.draining).tolist():
        left = np.flatnonzero((place == host) & problem.is_load).tolist()
        if left:
            names = ", ".join(problem.vms[vm].name for vm in left[:REASONS_SHOWN])
            problem_text = f"{len(left)} VMs are still on it: {names}"
            found.append(
                Unresolved(problem.hosts[host].name, problem_text, what_keeps(state, left[0]))
            )
    found.extend(_rules_left(state))
    for resource, host in zip(*np.nonzero(overloaded(problem, used)), strict=True):
        share, limit = used[resource, host], problem.threshold[resource, 0]
        movable = [vm for vm in np.flatnonzero(place == host).tolist() if problem.weight[1, vm] > 0]
        if problem.policy.goal is Goal.RULES_ONLY:
            why = "the goal rules-only does not relieve overload"
        else:
            why = what_keeps(state, movable[0]) if movable else "the load is the host's own"
        label = RESOURCES[int(resource)]
        text = f"{label} {percent(share)} is above {percent(limit)}"
        found.append(Unresolved(problem.hosts[int(host)].name, text, why))
    return tuple(found)


def _rules_left(state: State) -> list[Unresolved]:
    problem, found = state.problem, []
    for vm in np.flatnonzero(problem.astray).tolist():
        there = problem.hosts[state.place[vm]].name
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if one.hard and there not in hosts_of(one):
                text = f"{problem.vms[vm].name} is on {there}"
                found.append(Unresolved(cite(one.rule), text, what_keeps(state, vm)))
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard and (broken := group.broken(counts)):
            text = (
                f"{broken} too many in one place"
                if group.limit is not None
                else (f"spread over {broken + 1} places")
            )
            found.append(
                Unresolved(cite(group.said.rule), text, what_keeps(state, int(group.members[0])))
            )
    return found
