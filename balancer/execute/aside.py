"""Setting aside what failed; plans go around it (`balancer.policy.heed`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from balancer.execute.context import Context
from balancer.execute.failures import Reaction, failure_of
from balancer.execute.move import Move
from balancer.execute.progress import NewsKind
from balancer.model.aside import About, Aside
from balancer.model.outcome import Cause, MigrationState, Why

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
