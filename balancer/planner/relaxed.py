"""What could be relaxed of a task, one thing at a time: rules, caps, slots, memory, cool-downs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from balancer.model.cluster import Cluster, Host
from balancer.model.rule import AllowedHosts, Cap, Rule, Unit
from balancer.planner.problem import GIB, MEMORY, Ints, Problem, utilisation
from balancer.planner.words import cite, hosts_of, percent
from balancer.policy.policy import Limits, Policy
from balancer.policy.said import rules_in_force
from balancer.policy.stability import NO_COOLDOWN

MORE_MIGRATIONS = 10
MORE_BYTES = 32 * GIB
HOSTS_TRIED = 3  # the fullest, each with more memory

Kind = Literal["rule", "migrations", "bytes", "duration", "slots", "memory", "reserve", "cool-down"]


@dataclass(frozen=True)
class Relaxation:
    """A task with one thing less in its way.

    Attributes:
        kind: What sort of thing.
        text: What is relaxed, in words.
        rule: The rule left out, if it is one.
    """

    kind: Kind
    text: str
    cluster: Cluster
    policy: Policy
    rule: Rule | None = None

    @property
    def places(self) -> bool:
        """Whether it is a rule that says where VMs may be, and nothing else."""
        rule = self.rule
        said = () if rule is None else rule.says(self.cluster)
        return bool(said) and all(isinstance(one, AllowedHosts | Cap | Unit) for one in said)


def relaxations(
    problem: Problem, cluster: Cluster, policy: Policy, place: Ints
) -> list[Relaxation]:
    """Return what could be relaxed, as it was written, for a plan that ends at `place`.

    Args:
        problem: The task as built from `cluster` and `policy`.
        cluster: The snapshot.
        policy: The policy in force.
        place: The end of the plan: the hosts that are fullest there could have more memory.
    """
    return [
        *_without_rules(cluster, policy),
        *_limits(cluster, policy),
        *_calm(problem, cluster, policy),
        *_slots(cluster, policy),
        *_memory(problem, cluster, policy, place),
    ]


def _without_rules(cluster: Cluster, policy: Policy) -> Iterator[Relaxation]:
    """Yield each hard rule left out; the cluster's own as well."""
    for rule in rules_in_force(cluster, policy):
        if rule.hard:
            yield Relaxation(
                "rule",
                f"without {cite(rule)}",
                replace(cluster, rules=_less(cluster.rules, rule)),
                replace(policy, rules=_less(policy.rules, rule)),
                rule,
            )


def _less(rules: tuple[Rule, ...], rule: Rule) -> tuple[Rule, ...]:
    return tuple(one for one in rules if one is not rule)


def without_rules(left_out: Sequence[Relaxation]) -> tuple[Cluster, Policy]:
    """Return the task of relaxations with all of their rules left out at once."""
    gone = {id(one.rule) for one in left_out}
    first = left_out[0]
    rules = tuple(rule for rule in first.cluster.rules if id(rule) not in gone)
    kept = tuple(rule for rule in first.policy.rules if id(rule) not in gone)
    return replace(first.cluster, rules=rules), replace(first.policy, rules=kept)


def broken_rules(problem: Problem, place: Ints) -> set[int]:
    """Return the identities of the hard rules that say where VMs may be and that `place` breaks."""
    found = {
        id(group.said.rule)
        for group in problem.groups
        if group.hard and group.broken(group.counts(place))
    }
    for vm in np.flatnonzero(place != problem.home).tolist():
        name = problem.hosts[place[vm]].name
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if one.hard and name not in hosts_of(one):
                found.add(id(one.rule))
    # A unit that holds during the moves is not broken at the end by moving as a whole.
    for group in problem.groups:
        moved = group.members[place[group.members] != problem.home[group.members]]
        if group.hard and group.limit is None and len(moved):
            found.add(id(group.said.rule))
    return found


def same_places(one: Problem, other: Problem) -> bool:
    """Tell whether VMs may be in the same places; how they get there aside."""
    return (
        np.array_equal(one.allowed, other.allowed)
        and np.array_equal(one.scale, other.scale)
        and np.array_equal(one.fixed, other.fixed)
        and np.array_equal(one.soft[one.soft_row], other.soft[other.soft_row])
        and np.array_equal(one.reluctant, other.reluctant)
        and np.array_equal(one.astray, other.astray)
        and one.caps.migrations == other.caps.migrations
        and [group.said.form for group in one.groups] == [group.said.form for group in other.groups]
    )


def same_task(one: Problem, other: Problem) -> bool:
    """Tell whether two tasks have the same plans."""
    return (
        same_places(one, other)
        and one.caps == other.caps
        and one.turns == other.turns
        and one.hours_of_vm.keys() == other.hours_of_vm.keys()
        and (one.calm.day_moves, one.calm.day_bytes) == (other.calm.day_moves, other.calm.day_bytes)
    )


def _limits(cluster: Cluster, policy: Policy) -> Iterator[Relaxation]:
    limits, more = policy.limits, MORE_MIGRATIONS

    def with_limits(kind: Kind, text: str, changed: Limits) -> Relaxation:
        return Relaxation(kind, text, cluster, replace(policy, limits=changed))

    if (most := limits.migrations_per_run) is not None:
        text = f"{more} more migrations a run ({most + more})"
        yield with_limits("migrations", text, replace(limits, migrations_per_run=most + more))
    if (most := limits.migrations_per_day) is not None:
        text = f"{more} more migrations a day ({most + more})"
        yield with_limits("migrations", text, replace(limits, migrations_per_day=most + more))
    if limits.bytes_per_run is not None:
        text = "no cap on the bytes of a run"
        yield with_limits("bytes", text, replace(limits, bytes_per_run=None))
    if limits.bytes_per_day is not None:
        text = "no budget of bytes a day"
        yield with_limits("bytes", text, replace(limits, bytes_per_day=None))
    if limits.duration_per_run_s is not None:
        text = "no cap on the duration of a run"
        yield with_limits("duration", text, replace(limits, duration_per_run_s=None))


def _calm(problem: Problem, cluster: Cluster, policy: Policy) -> Iterator[Relaxation]:
    calm = problem.calm
    if calm.kept or calm.never_back or calm.cooled:
        free = replace(policy, cooldown=NO_COOLDOWN)
        yield Relaxation("cool-down", "no cool-downs", cluster, free)


def _slots(cluster: Cluster, policy: Policy) -> Iterator[Relaxation]:
    """Yield one more migration at a time: on each host, and in the cluster if that is capped."""
    limits, settings = policy.limits, cluster.settings
    wide = replace(
        cluster,
        hosts=tuple(_one_more(host) for host in cluster.hosts),
        settings=replace(settings, concurrent_per_host=_plus(settings.concurrent_per_host)),
    )
    more = replace(limits, concurrent_per_host=_plus(limits.concurrent_per_host))
    text = "one more migration at a time on each host"
    yield Relaxation("slots", text, wide, replace(policy, limits=more))
    if limits.concurrent_per_cluster is not None:
        more = replace(limits, concurrent_per_cluster=limits.concurrent_per_cluster + 1)
        text = "one more migration at a time in the cluster"
        yield Relaxation("slots", text, cluster, replace(policy, limits=more))


def _one_more(host: Host) -> Host:
    migration = replace(host.migration, concurrent=host.migration.concurrent + 1)
    return replace(host, migration=migration)


def _plus(count: int | None) -> int | None:
    return None if count is None else count + 1


def _memory(
    problem: Problem, cluster: Cluster, policy: Policy, place: Ints
) -> Iterator[Relaxation]:
    """Yield more memory on each of the fullest hosts, and less of it kept free everywhere."""
    used = utilisation(problem, place)[MEMORY]
    fullest = [at for at in np.argsort(-used, kind="stable").tolist() if problem.up[at]]
    over = [at for at in fullest if used[at] > problem.threshold[MEMORY, 0]]
    for at in (over or fullest[:1])[:HOSTS_TRIED]:
        name = problem.hosts[at].name
        text = f"{MORE_BYTES // GIB} GiB more memory on {name}"
        yield Relaxation("memory", text, _more_memory(cluster, name), policy)
    reserve = policy.reserve
    if reserve.memory_fraction:
        text = f"no reserve of {percent(reserve.memory_fraction)} of memory"
        less = replace(reserve, memory_fraction=0.0)
        yield Relaxation("reserve", text, cluster, replace(policy, reserve=less))
    if reserve.memory_bytes:
        less = replace(reserve, memory_bytes=max(0, reserve.memory_bytes - MORE_BYTES))
        text = f"a reserve of {less.memory_bytes / GIB:g} GiB on each host"
        text += f" instead of {reserve.memory_bytes / GIB:g}"
        yield Relaxation("reserve", text, cluster, replace(policy, reserve=less))


def _more_memory(cluster: Cluster, name: str) -> Cluster:
    """Return `cluster` with more memory in one host."""
    hosts = (
        replace(host, memory_bytes=host.memory_bytes + MORE_BYTES) if host.name == name else host
        for host in cluster.hosts
    )
    return replace(cluster, hosts=tuple(hosts))
