"""How many migrations an unattended run may have: few at first, more with each that went well."""

from __future__ import annotations

from balancer.model.outcome import MigrationState, RunEnd
from balancer.store.records import JournalReader

RUNS_LOOKED_AT = 12
ENOUGH = 64  # a cap so high is none

_BAD = frozenset({MigrationState.FAILED, MigrationState.UNKNOWN})


def cap(journal: JournalReader, cluster: str, first_run: int) -> int | None:
    """Return the most migrations of the next run, or None for no cap of this kind.

    The cap begins at `first_run`, doubles after a run that moved what it meant to, and begins anew
    after one in which a migration failed. Runs that were stopped or moved nothing change nothing.
    The journal remembers, so that a restart does not.
    """
    if first_run == 0:
        return None
    most = first_run
    for run in reversed(journal.telling_runs(cluster, RUNS_LOOKED_AT)):
        states = {move.state for move in journal.moves(run.id)}
        if states & _BAD:
            most = first_run
        elif run.end is RunEnd.DONE and MigrationState.DONE in states:
            most *= 2
    return most if most < ENOUGH * first_run else None
