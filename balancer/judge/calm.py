"""Whether a plan leaves alone what was moved lately, and keeps within the day's budget.

Exempt is what has to move: VMs on draining hosts, VMs that go to another domain of a hard rule that
was broken and ends less so, and those that a hard rule keeps together with one of these that moves.
A rule that a plan leaves as broken as it was excuses none of its moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from balancer.judge.finding import Code, Finding, gib
from balancer.judge.goal import Place, broken
from balancer.judge.limits import bytes_of
from balancer.judge.order import order_of
from balancer.model.cluster import Cluster, HostState
from balancer.model.past import Past, PastMove
from balancer.model.plan import Migration, Plan
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.policy import Policy
from balancer.policy.said import Said, what_is_said

DAY_S = 86_400.0


def calm_faults(cluster: Cluster, policy: Policy, plan: Plan, past: Past) -> Iterator[Finding]:
    """Find migrations of what is to be left alone, and more of them than the day has left.

    Args:
        cluster: The snapshot.
        policy: The policy in force.
        plan: A plan whose migrations make sense together.
        past: What was moved lately.
    """
    order, before = order_of(plan.migrations), {vm.id: vm.host for vm in cluster.vms}
    after = {vm: order.end(vm, host) for vm, host in before.items()}
    free = _have_to_move(cluster, what_is_said(cluster, policy), before, after)
    bound = [one for one in plan.migrations if one.vm not in free]
    for migration in bound:
        yield from _cooldown_faults(policy, past, migration)
    yield from _budget_faults(cluster, policy, plan, past, bound)


def _cooldown_faults(policy: Policy, past: Past, migration: Migration) -> Iterator[Finding]:
    cool = policy.cooldown
    for before in past.moves:
        if not before.done:
            continue
        if before.vm == migration.vm and _recent(past, before, cool.vm_s):
            text = f"{migration.name} was migrated at {before.at:%H:%M}: it is left alone for now"
            yield Finding(Code.COOLDOWN, migration.id, text)
        undoes = before.vm == migration.vm and before.source == migration.target
        if undoes and _recent(past, before, cool.undo_s):
            text = f"{migration.name} was migrated off {before.source} at {before.at:%H:%M}"
            yield Finding(Code.UNDONE, migration.id, f"{text}: it does not go back yet")
        if not _recent(past, before, cool.host_s):
            continue
        for name in {before.source, before.target} & {migration.source, migration.target}:
            text = f"{name} took part in a migration at {before.at:%H:%M}: it is left alone for now"
            yield Finding(Code.COOLDOWN, migration.id, text)


def _budget_faults(
    cluster: Cluster, policy: Policy, plan: Plan, past: Past, bound: list[Migration]
) -> Iterator[Finding]:
    limits = policy.limits
    today = [one for one in past.moves if _recent(past, one, DAY_S)]
    count = len(bound) + len(today)
    if bound and limits.migrations_per_day is not None and count > limits.migrations_per_day:
        text = f"{count} migrations in 24 hours, {limits.migrations_per_day} are allowed"
        yield Finding(Code.CAP_DAY, plan.id, text)
    total = sum(bytes_of(cluster, one) for one in bound) + sum(one.bytes for one in today)
    if bound and limits.bytes_per_day is not None and total > limits.bytes_per_day:
        text = f"{gib(total)} copied in 24 hours, {gib(limits.bytes_per_day)} are allowed"
        yield Finding(Code.CAP_DAY, plan.id, text)


def _recent(past: Past, move: PastMove, seconds: float | None) -> bool:
    return seconds is not None and move.at > past.now - timedelta(seconds=seconds)


def _have_to_move(
    cluster: Cluster, said: tuple[Said, ...], before: Place, after: Place
) -> frozenset[str]:
    """Return the VMs that no cool-down and no budget holds."""
    draining = {host.name for host in cluster.hosts if host.state is HostState.DRAINING}
    found = {vm.id for vm in cluster.vms if vm.is_load and vm.host in draining}
    hard = [one.form for one in said if one.hard]
    for form in hard:
        found |= _mended(form, before, after)
    moved = {vm for vm, host in before.items() if after[vm] != host}
    units = [form.vms for form in hard if isinstance(form, Unit)]
    more = found
    while more:  # whom one takes along may take others along
        taken = [vms for vms in units if not (moved & found).isdisjoint(vms)]
        more = set[str]().union(*taken) - found
        found |= more
    return frozenset(found)


def _mended(form: object, before: Place, after: Place) -> frozenset[str]:
    """Return the VMs that mend a rule, at least in part; of a list, those on other hosts."""
    match form:
        case AllowedHosts(vms, hosts):
            return frozenset(vm for vm in vms if before[vm] not in hosts)
        case Cap() if broken(form, after) < broken(form, before):
            return _elsewhere(form, before, after)
        case Unit() if broken(form, before) > max(1, broken(form, after)):
            return _elsewhere(form, before, after)
        case _:
            return frozenset()


def _elsewhere(form: Cap | Unit, before: Place, after: Place) -> frozenset[str]:
    """Return the VMs that end in another domain: to go round in one mends nothing."""

    def where(vm: str, place: Place) -> list[bool]:
        return [place[vm] in domain for domain in form.domains]

    return frozenset(vm for vm in form.vms if where(vm, before) != where(vm, after))
