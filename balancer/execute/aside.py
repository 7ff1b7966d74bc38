"""Setting aside what failed, and planning around it.

What a plan may not use is told to the planner as facts and rules, so that its explanations name it
like any other reason. A VM, or all VMs of a source, are blocked. A target is closed to a VM by a
rule, which is hard unless it would contradict what the administrator says: then a plan may go
against it, and the start is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from balancer.errors import InputError
from balancer.execute.context import Context
from balancer.execute.failures import Reaction, failure_of
from balancer.execute.move import Move
from balancer.execute.progress import NewsKind
from balancer.model.aside import About, Aside
from balancer.model.cluster import Cluster, Vm
from balancer.model.outcome import Cause, MigrationState, Why
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.consistency import refuse_contradictions
from balancer.policy.policy import Policy
from balancer.policy.rules import Avoid

ORIGIN = "quarantine"

# Codes of these reactions say that it will fail again, or that it went on failing when tried again.
_BLAMED = frozenset({Reaction.QUARANTINE, Reaction.RETRY})


def note_end(move: Move, context: Context) -> None:
    """Take note of how a migration ended: set aside what failed, clear what went well."""
    migration = move.migration
    ends = (migration.vm, migration.source, migration.target)
    if move.state is MigrationState.DONE:
        for one in context.store.asides.went_well(context.lease, *ends):
            text = f"{one.label}: no longer set aside, it went well"
            context.tell(NewsKind.NOTED, move.id, text, note=True)
        return
    about = _blamed(move)
    if about is None:
        return
    failed = Aside(
        cluster=context.lease.cluster,
        vm=migration.vm,
        name=migration.name,
        source=migration.source,
        target=migration.target,
        since=context.now,
        until=context.now,
        failures=0,
        code=move.code,
        reason=move.reason,
    )
    for one in context.store.asides.failed(context.lease, failed, about):
        context.tell(NewsKind.SET_ASIDE, one.label, f"{one.label} {one}", note=True)


class Ended(Protocol):
    """A migration that has ended, at work or in the journal."""

    @property
    def state(self) -> MigrationState:
        """Return how."""
        ...

    @property
    def why(self) -> Why | None:
        """Return why it did not happen."""
        ...


def has_failed(move: Ended) -> bool:
    """Tell whether a migration failed, or was cancelled because it would not end."""
    late = move.state is MigrationState.CANCELLED and move.why is Why.LATE
    return move.state is MigrationState.FAILED or late


def _blamed(move: Move) -> About | None:
    """Return what a migration that ended is to be put down to; None when to nothing that lasts."""
    if not has_failed(move):
        return None
    if move.why is Why.LATE:
        return About.WAY
    failure = failure_of(move.code)
    return failure.about if move.why is Why.PLATFORM and failure.reaction in _BLAMED else None


def why_aside(asides: Iterable[Aside], move: Move) -> Cause | None:
    """Return why a migration is not to be started, if it or an end of it is set aside."""
    migration = move.migration
    for one in asides:
        if one.covers(migration.vm, migration.source, migration.target):
            return Cause(Why.QUARANTINE, f"{one.label} is {one}")
    return None


def heeding(cluster: Cluster, policy: Policy, asides: Sequence[Aside]) -> tuple[Cluster, Policy]:
    """Return cluster and policy as a plan is to see them that leaves alone what is set aside."""
    if not asides:
        return cluster, policy
    blocking = [one for one in asides if one.about in (About.VM, About.SOURCE)]
    seen = replace(cluster, vms=tuple(_blocked(vm, blocking) for vm in cluster.vms))
    rules = [rule for one in asides for rule in _rules(one, cluster)]
    heeded = replace(policy, rules=(*policy.rules, *rules))
    try:
        refuse_contradictions(seen, heeded)
    except InputError:
        soft = (replace(rule, hard=False) for rule in rules)
        heeded = replace(policy, rules=(*policy.rules, *soft))
    return seen, heeded


def _blocked(vm: Vm, blocking: Sequence[Aside]) -> Vm:
    words = tuple(f"being {one}" for one in blocking if one.vm == vm.id or one.source == vm.host)
    return replace(vm, blocked_by=(*vm.blocked_by, *words)) if words else vm


def _rules(one: Aside, cluster: Cluster) -> list[Rule]:
    """Return what closes a target: to one VM, or to all that are not there already."""
    if not one.target:
        return []
    vms = [
        vm.id
        for vm in cluster.vms
        if vm.is_load
        and vm.host != one.target
        and one.vm in ("", vm.id)
        and one.source in ("", vm.host)
    ]
    if not vms or one.target not in cluster.host_by_name:
        return []
    selectors = tuple(Selector(SelectBy.EXACT, vm) for vm in vms)
    hosts = (Selector(SelectBy.EXACT, one.target),)
    return [Avoid(vms=selectors, hosts=hosts, origin=ORIGIN, name=f"{one.label} {one}")]
