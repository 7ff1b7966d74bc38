"""Why a VM moves: for each migration what it is for, with numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.model.rule import Rule
from balancer.planner.idle import empties
from balancer.planner.problem import Bools, Floats, Ints, Problem, utilisation
from balancer.planner.score import means, overloaded
from balancer.planner.stays import last_resort
from balancer.planner.survival import needed_for_failures
from balancer.planner.words import DIGITS_MAX, RESOURCES, cite, hosts_of, percent
from balancer.policy.policy import Goal

SEEN = 10.0 ** -(DIGITS_MAX + 2)  # a share that shows as percent


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


def reason(story: Story, vm: int) -> str:
    """Return why `vm` moves, in one sentence with numbers."""
    held = None if story.problem.from_drain[vm] else last_resort(story.problem, vm)
    return _reason(story, vm) + (_as_last_resort(story, vm, held) if held else "")


def _as_last_resort(story: Story, vm: int, held: Rule) -> str:
    """Return that nothing else would do, unless another last resort stays beside `vm`."""
    problem, home = story.problem, story.problem.home
    beside = problem.reluctant & (home == home[vm]) & (story.place == home)
    rules = (last_resort(problem, other) for other in np.flatnonzero(beside).tolist())
    # All last resorts are one tier: which of them moves is chosen by balance.
    others = dict.fromkeys(cite(rule) for rule in rules if rule is not None and rule is not held)
    if not others:
        return f"; nothing else would do: {cite(held)}"
    return f"; only a last resort would do: {cite(held)} (another is {', '.join(others)})"


def _reason(story: Story, vm: int) -> str:
    problem = story.problem
    source, target = int(problem.home[vm]), int(story.place[vm])
    name = problem.hosts[source].name
    if problem.from_drain[vm]:
        return f"evacuates {name}, which is draining"
    if repaired := repairs(problem, story.place, vm):
        return "repairs " + ", ".join(repaired)
    if urgent := _mends(story, vm):
        return urgent
    repaired = repairs(problem, story.place, vm, hard=False)
    other = empties(problem, story.place, source) or _follows(story, vm)
    if ruled := "repairs " + ", ".join(repaired) if repaired else other:
        return ruled
    if problem.policy.goal is not Goal.BALANCE or _only_makes_room(story, source):
        return f"makes room on {name} for other migrations of this plan"
    resource = _evened(story, source, target)
    ends = ", ".join(
        f"{problem.hosts[host].name} {_change(story, resource, host)}" for host in (source, target)
    )
    return f"evens out {RESOURCES[resource]}: {ends}"


def _mends(story: Story, vm: int) -> str:
    """Return that `vm` relieves its host or keeps room for failures, if it does."""
    problem, source = story.problem, int(story.problem.home[vm])
    relieves = kept = ""
    for resource, label in RESOURCES.items():
        if eased(problem, story.after)[resource, source] and not relieves:
            name = problem.hosts[source].name
            relieves = f"relieves {name}: {label} {_change(story, resource, source)}"
    if more := needed_for_failures(problem, story.place, vm):
        kept = f"keeps room for failures: without it {more} would find no host"
    return kept or relieves if problem.policy.goal is Goal.RULES_ONLY else relieves or kept


def eased(problem: Problem, after: Floats) -> Bools:
    """Return the (2, H) overloads that are less at utilisations (2, H) `after` than now."""
    # Where as much comes as leaves, a move makes room and relieves nothing.
    less: Bools = overloaded(problem, problem.before) & (after < problem.before - SEEN)
    return less


def stopover_reason(story: Story, vm: int) -> str:
    """Return why `vm` steps over a third host."""
    problem = story.problem
    source, target = problem.hosts[problem.home[vm]].name, problem.hosts[story.place[vm]].name
    return f"stop-over: {target} is full until {source} has room; {reason(story, vm)}"


def _change(story: Story, resource: int, host: int) -> str:
    before, after = story.before[resource, host], story.after[resource, host]
    told = ((percent(before, digits), percent(after, digits)) for digits in range(DIGITS_MAX + 1))
    alike = percent(before, 1), percent(after, 1)
    return " -> ".join(next((pair for pair in told if pair[0] != pair[1]), alike))


def _follows(story: Story, vm: int) -> str:
    """Return that `vm` stays with one that has to move, where a rule keeps them together."""
    problem, place = story.problem, story.place
    left_behind = place.copy()
    left_behind[vm] = problem.home[vm]
    for index in problem.groups_of_vm.get(vm, ()):
        group = problem.groups[index]
        if group.limit is not None:
            continue
        if group.broken(group.counts(left_behind)) <= group.broken(group.counts(place)):
            continue
        for other in group.members.tolist():
            moves = other != vm and place[other] != problem.home[other]
            if moves and (problem.from_drain[other] or repairs(problem, place, other)):
                name = problem.vms[other].name
                return f"stays with {name}, which has to move: {cite(group.said.rule)}"
    return ""


def repairs(problem: Problem, place: Ints, vm: int, *, hard: bool = True) -> tuple[str, ...]:
    """Return the rules about `vm` that are less broken at `place` than they are."""
    found: list[str] = []
    source, target = (problem.hosts[at[vm]].name for at in (problem.home, place))
    for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
        hosts = hosts_of(one)
        if one.hard == hard and source not in hosts and target in hosts:
            found.append(cite(one.rule))
    for index in problem.groups_about(vm):
        group = problem.groups[index]
        if group.hard != hard or not group.broken(group.before):
            continue
        helped = group.broken(group.counts(place)) < group.broken(group.before)
        # From one host to another of the same domain changes nothing about who is together there.
        left = group.domain[problem.home[vm]] != group.domain[place[vm]]
        if helped and left and vm in group.guilty(group.before, problem.home):
            found.append(cite(group.said.rule))
    return tuple(sorted(set(found)))


def _only_makes_room(story: Story, source: int) -> bool:
    """Tell whether the source ends no better off: something else comes in its stead."""
    if not ((story.place == source) & (story.problem.home != source)).any():
        return False
    if overloaded(story.problem, story.before)[:, source].any():
        return True  # or it would have been told that this is relieved
    mean = means(story.problem, story.place)[:, 0]
    before = np.abs(story.before[:, source] - mean).max()
    return bool(np.abs(story.after[:, source] - mean).max() >= before)


def _evened(story: Story, source: int, target: int) -> int:
    """Return the resource whose deviations from the mean shrink most at the two ends."""
    ends = [source, target]
    mean = means(story.problem, story.place)
    gain = np.abs(story.before[:, ends] - mean) - np.abs(story.after[:, ends] - mean)
    return int(gain.sum(axis=1).argmax())
