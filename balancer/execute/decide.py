"""Decisions of the executor that need no outside world: what a look means, what may start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from balancer.execute.machine import SETTLE_S, SETTLE_UNKNOWN_S, Event
from balancer.gateway.port import InFlight, Sighting
from balancer.judge import Code, Finding
from balancer.model.cluster import Blocker
from balancer.model.outcome import Cause, MigrationState, Why
from balancer.model.plan import Migration, Plan
from balancer.policy.capacity import Caps

# A VM that is nowhere, twice, or stopped may be a host restarting its services; an alarm that ends
# the run is worth half a minute's certainty.
SETTLE_ASTRAY_S = 30.0


# What keeps a VM from moving for minutes, and is waited for: a backup, somebody else's migration.
PASSES = frozenset({Blocker.OPERATION_RUNNING.value, Blocker.MIGRATING.value})


class Sight(StrEnum):
    """What a look at a migrating VM shows."""

    SILENT = "silent"  # somebody who had to be asked did not answer: we know nothing
    QUEUED = "queued"
    MOVING = "moving"
    ARRIVED = "arrived"
    STAYED = "stayed"
    ASTRAY = "astray"


def meaning(sighting: Sighting | None, source: str, target: str) -> Sight:
    """Return what a look means for a migration from `source` to `target`."""
    if sighting is None or not sighting.answered:
        return Sight.SILENT
    if sighting.moving:
        return Sight.QUEUED if sighting.queued else Sight.MOVING
    if sighting.hosts == (target,) and sighting.state.is_load:
        return Sight.ARRIVED
    if sighting.hosts == (source,):
        return Sight.STAYED
    return Sight.ASTRAY


def conclusion(state: MigrationState, sight: Sight, lasted_s: float) -> Event | None:
    """Return what a sight that has lasted so long amounts to, or None to look again."""
    match sight:
        case Sight.ARRIVED:
            return Event.ARRIVED
        case Sight.QUEUED | Sight.MOVING:
            return Event.ACCEPTED if state is MigrationState.UNKNOWN else None
        case Sight.STAYED:
            settle_s = SETTLE_UNKNOWN_S if state is MigrationState.UNKNOWN else SETTLE_S
            return Event.STAYED if lasted_s >= settle_s else None
        case Sight.ASTRAY:
            return Event.ASTRAY if lasted_s >= SETTLE_ASTRAY_S else None
        case Sight.SILENT:
            return None


def astray_text(sighting: Sighting | None, target: str) -> str:
    """Say where a VM that went astray is."""
    if sighting is None or not sighting.hosts:
        return "it is on no host that answers"
    if len(sighting.hosts) > 1:
        return "it is on several hosts: " + ", ".join(sighting.hosts)
    if sighting.hosts != (target,):
        return f"it is on {sighting.hosts[0]}, where nobody asked it to go"
    return f"it is on {target}, but {sighting.state.value}"


def is_there(sighting: Sighting | None, target: str) -> bool:
    """Tell whether a VM that was to move runs on its target already, and rests there.

    A rule of the cluster that keeps VMs on one node takes the others along with the first.
    """
    return (
        sighting is not None
        and sighting.answered
        and not sighting.moving
        and sighting.hosts == (target,)
        and sighting.state.is_load
    )


def why_not_at_rest(sighting: Sighting | None, source: str) -> tuple[Cause | None, bool]:
    """Return why a VM cannot start from `source` now (None if it can), and if that is final."""
    if sighting is None or not sighting.answered:
        text = "a host that had to be asked about it does not answer"
        return Cause(Why.HOST_UNREACHABLE, text), False
    if sighting.moving:
        return Cause(Why.BUSY, "somebody else is migrating it"), False
    if sighting.hosts != (source,):
        where = ", ".join(sighting.hosts) or "no host"
        return Cause(Why.STALE, f"it is on {where}, no longer on {source}"), True
    if not sighting.state.is_load:
        return Cause(Why.STALE, f"it is {sighting.state.value} now"), True
    return None, False


# What the judge has against one start; all else means that the plan is not of this moment.
_WORDS = {
    Code.IMMOVABLE: Why.BLOCKED,
    Code.TARGET: Why.TARGET,
    Code.NETWORK: Why.TARGET,
    Code.MEMORY_END: Why.CAPACITY,
    Code.MEMORY_DURING: Why.CAPACITY,
    Code.OVERLOAD: Why.CAPACITY,
    Code.SURVIVAL_END: Why.CAPACITY,
    Code.SURVIVAL_DURING: Why.CAPACITY,
    Code.GROWN: Why.CAPACITY,
    Code.RULE_END: Why.RULE,
    Code.RULE_DURING: Why.RULE,
    Code.CAP_MIGRATIONS: Why.CAP,
    Code.CAP_BYTES: Why.CAP,
    Code.CAP_DURATION: Why.CAP,
    Code.NOT_NEXT: Why.DEPENDENCY,
}


def verdict(findings: Sequence[Finding]) -> Cause | None:
    """Return what the judge has against a start in the word of its first finding; None if none."""
    if not findings:
        return None
    word = _WORDS.get(findings[0].code, Why.STALE)
    return Cause(word, "; ".join(finding.message for finding in findings))


Ends = tuple[str, str | None]  # source and target of a migration in flight


def foreign(in_flight: Iterable[InFlight], ours: frozenset[str]) -> tuple[InFlight, ...]:
    """Return the migrations in flight of VMs that are not `ours`."""
    return tuple(flight for flight in in_flight if flight.vm not in ours)


def admitted(wanted: Iterable[Migration], in_flight: Iterable[Ends], caps: Caps) -> list[Migration]:
    """Return those of `wanted`, in their order, that can all begin now within every cap.

    A host's cap counts migrations in and out together, whoever asked for them.
    """
    busy: Counter[str] = Counter()
    count = 0
    for ends in in_flight:
        count += 1
        busy.update(host for host in ends if host is not None)
    found: list[Migration] = []
    for migration in wanted:
        if caps.concurrent_per_cluster is not None and count >= caps.concurrent_per_cluster:
            break
        ends = (migration.source, migration.target)
        if all(busy[host] < caps.concurrent_per_host.get(host, 0) for host in ends):
            found.append(migration)
            busy.update(ends)
            count += 1
    return found


def within_cap(plan: Plan, most: int | None) -> frozenset[str]:
    """Return the migrations that a cap leaves: the earliest, each with all it comes after.

    A stop-over is kept only together with the migration that ends it: a VM is never left there.
    """
    if most is None or len(plan.migrations) <= most:
        return frozenset(plan.migration_by_id)
    onward = {
        before: migration.id
        for migration in plan.migrations
        for before in migration.after
        if plan.migration_by_id[before].stopover and plan.migration_by_id[before].vm == migration.vm
    }
    kept: set[str] = set()
    for migration in sorted(plan.migrations, key=lambda each: (each.start_s, each.id)):
        together = _with_all_before(plan, {migration.id, onward.get(migration.id, migration.id)})
        if len(kept | together) <= most:
            kept |= together
    return frozenset(kept)


def _with_all_before(plan: Plan, ids: set[str]) -> set[str]:
    found: set[str] = set()
    open_ = list(ids)
    while open_:
        id_ = open_.pop()
        if id_ not in found:
            found.add(id_)
            open_.extend(plan.migration_by_id[id_].after)
    return found


def blocked_by(
    migration: Migration, states: Mapping[str, MigrationState]
) -> tuple[list[str], list[str]]:
    """Return which of the migrations it comes after are still to end, and which ended badly."""
    waits = [id_ for id_ in migration.after if not states[id_].is_final]
    lost = [
        id_
        for id_ in migration.after
        if states[id_].is_final and states[id_] is not MigrationState.DONE
    ]
    return waits, lost
