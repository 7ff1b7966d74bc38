"""Why: for each migration what it is for, for each VM that stays what kept it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from balancer.model.plan import NotMoved, Unresolved
from balancer.model.rule import AllowedHosts, Hours, Rule, StayPut
from balancer.planner.construct import suspects
from balancer.planner.groups import Group
from balancer.planner.idle import empties, who_could
from balancer.planner.problem import CPU, GIB, MEMORY, Floats, Ints, Problem, utilisation
from balancer.planner.score import means, overloaded
from balancer.planner.state import State
from balancer.policy.capacity import usable, why_immovable, why_no_target, why_unfit
from balancer.policy.policy import Goal
from balancer.policy.rules import HostReserve
from balancer.policy.said import Said

RESOURCES = {CPU: "CPU", MEMORY: "memory"}
# Reasons name this many hosts before they count the rest.
REASONS_SHOWN = 3
# Beyond, a share says no more than that a capacity is next to nothing.
PERCENT_MAX = 99_999
DIGITS_MAX = 5
STUCK = "its target has no room before others have left, and there is no way around"


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


def percent(share: float, digits: int = 0) -> str:
    """Return a share as percent."""
    if share > PERCENT_MAX / 100:
        return f"over {PERCENT_MAX} %"
    return f"{100 * share:.{digits}f} %"


def beyond(share: float, limit: float, words: str) -> str:
    """Return a share, `words` and the limit it is above, with digits enough to see that."""
    least = round(100 * limit, DIGITS_MAX)
    digits = next(
        (n for n in range(DIGITS_MAX) if share > PERCENT_MAX or round(100 * share, n) > least),
        DIGITS_MAX,
    )
    return f"{percent(share, digits)}{words}{least:g} %"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def reason(story: Story, vm: int) -> str:
    """Return why `vm` moves, in one sentence with numbers."""
    held = None if story.problem.from_drain[vm] else _held(story.problem, vm)
    return _reason(story, vm) + (f"; nothing else would do: {cite(held)}" if held else "")


def _held(problem: Problem, vm: int) -> Rule | None:
    """Return the rule by which `vm` moves as a last resort only, if there is one."""
    if not problem.reluctant[vm]:
        return None
    name = problem.vms[vm].id
    held = (one for one in problem.said if isinstance(one.form, StayPut) and name in one.form.vms)
    return next(held).rule


def _reason(story: Story, vm: int) -> str:
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


def stopover_reason(story: Story, vm: int) -> str:
    """Return why `vm` steps over a third host."""
    problem = story.problem
    source, target = problem.hosts[problem.home[vm]].name, problem.hosts[story.place[vm]].name
    return f"stop-over: {target} is full until {source} has room; {reason(story, vm)}"


def _change(story: Story, resource: int, host: int) -> str:
    before, after = story.before[resource, host], story.after[resource, host]
    digits = 0 if percent(before) != percent(after) else 1
    return f"{percent(before, digits)} -> {percent(after, digits)}"


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
        if helped and vm in group.guilty(group.before, problem.home):
            found.append(cite(group.said.rule))
    return tuple(sorted(set(found)))


def _only_makes_room(story: Story, source: int) -> bool:
    """Tell whether the source ends no better off: something else comes in its stead."""
    if not ((story.place == source) & (story.problem.home != source)).any():
        return False
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
    if state.place[vm] == host:
        return (f"it is on {state.problem.hosts[host].name} already",)
    return (*ruled_out(state, vm, host), *_capacity_obstacles(state, vm, host))


def ruled_out(state: State, vm: int, host: int) -> tuple[str, ...]:
    """Return what keeps `vm` from `host` in this state, besides room."""
    problem = state.problem
    one, target = problem.vms[vm], problem.hosts[host]
    source = problem.hosts[state.place[vm]]
    found = [text for text in (why_immovable(problem.cluster, one), why_no_target(target)) if text]
    found.extend(problem.calm.against(vm, int(state.place[vm]), host))
    slots = problem.caps.concurrent_per_host
    found.extend(
        f"the policy or the cluster allows no migration on {end.name}"
        for end in (source, target)
        if slots[end.name] < 1 and end.migration.concurrent >= 1
    )
    if (unfit := why_unfit(one, target)) is not None:
        found.append(unfit)
    if not problem.connected[state.place[vm], host]:
        found.append(f"{source.name} and {target.name} share no migration network")
    found.extend(
        f"{cite(said.rule)} does not allow {target.name}"
        for said in problem.lists_of_vm.get(one.id, ())
        if said.hard and target.name not in hosts_of(said)
    )
    found.extend(
        f"{cite(rule)} is closed now" + _opens(hours, problem.now)
        for rule, hours in problem.hours_of_vm.get(vm, ())
        if problem.now is not None and not hours.may_start(problem.now, 0.0)
    )
    for index in problem.groups_about(vm):
        group = problem.groups[index]
        if not group.change(vm, state.counts[index], int(state.place[vm]))[1][host]:
            broken = f"{cite(group.said.rule)} would be broken"
            no_room = f"{target.name} has no processors left for its CPU reserve"
            found.append(no_room if group.is_fact else broken)
        elif group.limit is None and group.hard and not problem.allowed[vm, host] and not found:
            found.append(f"{cite(group.said.rule)} holds during the moves")
    return tuple(found)


def _opens(hours: Hours, now: datetime) -> str:
    opens = hours.next_opening(now)
    return "" if opens is None else f", until {opens:%Y-%m-%d %H:%M} UTC"


def _capacity_obstacles(state: State, vm: int, host: int) -> tuple[str, ...]:
    problem = state.problem
    if state.fits(vm, even_overload=True)[host]:
        return ()
    target = problem.hosts[host].name
    after = (state.load[:, host] + problem.weight[:, vm]) * problem.scale[:, host]
    if after[MEMORY] > 1.0:
        free = (1.0 / problem.scale[MEMORY, host] - state.load[MEMORY, host]) / GIB
        needed = problem.weight[MEMORY, vm] / GIB
        text = f"{target} has {max(0.0, free):.1f} GiB of memory free, {needed:.1f} are needed"
        return (text + reserved(problem, host, needed - free),)
    return tuple(
        f"{target} would be overloaded: {label} "
        + beyond(after[resource], problem.threshold[resource, 0], ", above ")
        for resource, label in RESOURCES.items()
        if after[resource] > problem.threshold[resource, 0]
    )


def reserved(problem: Problem, host: int, missing_gib: float = 0.0) -> str:
    """Return a clause on what is kept free of a host's memory, where it is what is missing."""
    one = problem.hosts[host]
    kept = (one.memory_bytes - usable(one, problem.policy).memory_bytes) / GIB
    if kept <= 0 or kept < missing_gib:
        return ""
    rules = (rule for rule in problem.policy.rules if isinstance(rule, HostReserve))
    own = [rule for rule in rules if rule.memory_bytes(one) / GIB >= kept - 1e-9]
    who = cite(own[0]) if own else "the policy's reserve"
    return f"; {who} keeps {kept:.1f} GiB free"


def curb(dropped: Mapping[int, str], *, cut_short: bool) -> str:
    """Return what kept a plan from doing more, other than rules and capacity; empty if nothing."""
    capped = [text for text in dropped.values() if text != STUCK]
    if capped:
        return capped[0]
    return "the search was stopped before it got to it" if cut_short else ""


def what_keeps(state: State, vm: int, curbed: str = "") -> str:
    """Return the binding reason why `vm` stays; `curbed` is what kept the plan from doing more."""
    bound, open_hosts = what_binds(state, vm)
    could = f"no move of it betters the plan ({counted(open_hosts, 'host')} could take it)"
    return bound or curbed or could


def what_binds(state: State, vm: int) -> tuple[str, int]:
    """Return the fact, rule or limit by which `vm` stays, or none and how many hosts are open."""
    problem = state.problem
    one = problem.vms[vm]
    if (fact := why_immovable(problem.cluster, one)) is not None:
        return fact, 0
    if vm in problem.calm.kept and problem.calm.binds(vm):
        return problem.calm.kept[vm], 0
    # In one sweep first: on a large cluster most VMs have somewhere to go, and words are slow.
    able = state.rule_change(vm).legal & state.fits(vm, even_overload=True)
    able[problem.home[vm]] = False
    open_hosts = int(able.sum())
    if open_hosts and state.moves >= problem.cap:
        return used_up(problem), open_hosts
    if open_hosts and (held := _held(problem, vm)) and not problem.from_drain[vm]:
        return f"{cite(held)} moves it as a last resort only", open_hosts
    return ("" if open_hosts else _what_keeps_from_all(state, vm)), open_hosts


def used_up(problem: Problem) -> str:
    """Return what is used up where a plan may have no more migrations: a run's cap or the day's."""
    limits, day = problem.policy.limits, problem.calm.day_moves
    if day is not None and (limits.migrations_per_run or problem.cap + 1) > problem.cap:
        return f"the budget of {limits.migrations_per_day} migrations a day is used up"
    return f"the cap of {problem.cap} migrations is used up"


def _what_keeps_from_all(state: State, vm: int) -> str:
    """Return why no host can take `vm`."""
    problem = state.problem
    others = [at for at in range(len(problem.hosts)) if at != state.place[vm]]
    kept = {at: obstacles(state, vm, at) for at in others}
    if not others:
        return "there is no other host"
    # A rule that rules out every host is the reason, whatever else stands in the way.
    for said in problem.lists_of_vm.get(problem.vms[vm].id, ()):
        if said.hard and not any(problem.hosts[at].name in hosts_of(said) for at in others):
            return f"{cite(said.rule)} allows it no other host"
    shared = [text for text in kept[others[0]] if all(text in kept[at] for at in others)]
    if shared:
        return shared[0]
    counts = Counter((*kept[at], "no legal way there")[0] for at in others)
    shown = [text for text, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    more = len(shown) - REASONS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return "no host can take it: " + "; ".join(shown[:REASONS_SHOWN]) + tail


def not_moved(
    problem: Problem, place: Ints, dropped: Mapping[int, str], curbed: str = ""
) -> tuple[NotMoved, ...]:
    """Return the VMs that a goal wanted elsewhere and that stayed, each with its reason."""
    state = State(problem, place)
    at_home = place == problem.home
    wanted = set(np.flatnonzero(problem.from_drain & at_home).tolist())
    wanted.update(np.flatnonzero((problem.astray > 0) & at_home).tolist())
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard:
            wanted.update(vm for vm in group.guilty(counts, place).tolist() if at_home[vm])
    if problem.policy.goal is not Goal.RULES_ONLY:
        hot = np.asarray(overloaded(problem, state.used()).any(axis=0))
        wanted.update(np.flatnonzero(hot[place] & at_home & problem.is_load).tolist())
    if problem.policy.goal.mends_soft_rules:
        wanted.update(vm for vm in suspects(state, hard=False) if at_home[vm])
    if problem.policy.goal is not Goal.CONSOLIDATE:  # there it is told by host, see `Plan.sleep`
        wanted.update(vm for vm in dropped if at_home[vm])
    return tuple(
        NotMoved(
            vm=problem.vms[vm].id,
            name=problem.vms[vm].name,
            host=problem.vms[vm].host,
            reason=dropped.get(vm) or what_keeps(state, vm, curbed),
        )
        for vm in sorted(wanted)
    )


def unresolved(problem: Problem, place: Ints, curbed: str = "") -> tuple[Unresolved, ...]:
    """Return what stays wrong at the end: drains, broken hard rules, overload."""
    state = State(problem, place)
    used = state.used()
    found: list[Unresolved] = []
    for host in np.flatnonzero(problem.draining).tolist():
        left = np.flatnonzero((place == host) & problem.is_load).tolist()
        if left:
            names = ", ".join(problem.vms[vm].name for vm in left[:REASONS_SHOWN])
            are = "is" if len(left) == 1 else "are"
            still = f"{counted(len(left), 'VM')} {are} still on it: {names}"
            why = what_keeps(state, left[0], curbed)
            found.append(Unresolved(problem.hosts[host].name, still, why))
    found.extend(_rules_left(state, curbed))
    for resource, host in zip(*np.nonzero(overloaded(problem, used)), strict=True):
        share, limit = used[resource, host], problem.threshold[resource, 0]
        if problem.calm.restraint:
            why = problem.calm.restraint
        elif problem.policy.goal is Goal.RULES_ONLY:
            why = "the goal rules-only does not relieve overload"
        else:
            why = _why_overloaded(state, int(host), int(resource), curbed)
            why += who_could(problem, int(host))
        text = f"{RESOURCES[int(resource)]} {beyond(share, limit, ' is above ')}"
        found.append(Unresolved(problem.hosts[int(host)].name, text, why))
    return tuple(found)


def _why_overloaded(state: State, host: int, resource: int, curbed: str) -> str:
    """Return what keeps the load on `host`: of its VMs those that were there before answer."""
    problem = state.problem
    there = np.flatnonzero((state.place == host) & (problem.weight[resource] > 0))
    if not len(there):
        return "the load is the host's own"
    stayed = there[problem.home[there] == host]
    if len(stayed):
        return what_keeps(state, int(stayed[0]), curbed)
    if problem.from_drain[there].any():
        return "it had to take VMs that leave a draining host"
    return what_keeps(state, int(there[0]), curbed)


def _rules_left(state: State, curbed: str) -> list[Unresolved]:
    problem, found = state.problem, []
    for vm in np.flatnonzero(problem.astray).tolist():
        there = problem.hosts[state.place[vm]].name
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if one.hard and there not in hosts_of(one):
                text = f"{problem.vms[vm].name} is on {there}"
                found.append(Unresolved(cite(one.rule), text, what_keeps(state, vm, curbed)))
    for group, counts in zip(problem.groups, state.counts, strict=True):
        if group.hard and (broken := group.broken(counts)):
            text = (
                f"{broken} too many in one place"
                if group.limit is not None
                else (f"spread over {broken + 1} places")
            )
            why = _why_broken(state, group, curbed)
            found.append(Unresolved(cite(group.said.rule), text, why))
    return found


def _why_broken(state: State, group: Group, curbed: str) -> str:
    """Return what keeps a group broken: too few places, or what holds one of its VMs."""
    members, places = group.members, len(group.before)
    if group.limit is not None and len(members) > group.limit * places:
        return f"{len(members)} VMs have {counted(group.limit * places, 'place')}"
    stayed = members[state.place[members] == state.problem.home[members]]
    if group.limit is not None and len(stayed):
        counts = group.counts(state.place)
        crowded = group.domain[state.place[stayed]]
        stayed = stayed[(crowded >= 0) & (counts[crowded] > group.limit)]
    return what_keeps(state, int((stayed if len(stayed) else members)[0]), curbed)
