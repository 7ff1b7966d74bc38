"""The life of one migration as a table: what may happen in each state, and for how long.

Two rules. Every state that is not final has a time limit and an event that says so, hence an end,
whatever hosts do or fail to do. And nothing but this table changes a state: an event that a state
does not list is our own error, found before anything is done about it.

The hard states are the ones where we do not know. `INTENDED` outlives only a crash: the journal
says "about to ask", so perhaps it was asked. `UNKNOWN` is a lost reply. Both are left by looking,
never by asking again; `RETRY` leads back to `PLANNED` only once a look has shown the VM at rest
on its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from balancer.errors import InternalError
from balancer.model.outcome import MigrationState


class Event(StrEnum):
    """What can happen to a migration."""

    INTEND = "intend"  # its turn has come: the journal is written, then the host is asked
    ACCEPTED = "accepted"  # the host took the request, or is seen carrying it out
    REFUSED = "refused"  # asked, and it will not happen
    LOST = "lost"  # no reply
    ARRIVED = "arrived"  # on the target and nowhere else, running, at rest
    STAYED = "stayed"  # on the source and nowhere else, at rest
    ASTRAY = "astray"  # on two hosts, on none, on a third, or not running any more
    RETRY = "retry"  # stayed or refused, for a reason that passes
    CANCEL = "cancel"
    SKIP = "skip"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Row:
    """One state: its time limit (`base_s` plus `factor` times the forecast) and its exits."""

    base_s: float
    factor: float
    exits: Mapping[Event, MigrationState]

    def limit_s(self, expected_s: float) -> float:
        """Return how long a migration expected to take `expected_s` may be in this state."""
        return self.base_s + self.factor * expected_s


TABLE: Mapping[MigrationState, Row] = {
    # Waiting for its turn, from the start of the run; the forecast is the whole plan's. Hours, as
    # nothing is at risk while it waits; a run that is this late was planned for another cluster.
    MigrationState.PLANNED: Row(
        3600.0,
        4.0,
        {
            Event.INTEND: MigrationState.INTENDED,
            Event.ARRIVED: MigrationState.DONE,  # by others: a rule of the cluster took it along
            Event.SKIP: MigrationState.SKIPPED,
            Event.TIMEOUT: MigrationState.SKIPPED,
        },
    ),
    # The gateway keeps its own deadline for a request, well below this.
    MigrationState.INTENDED: Row(
        300.0,
        0.0,
        {
            Event.ACCEPTED: MigrationState.RUNNING,
            Event.REFUSED: MigrationState.FAILED,
            Event.RETRY: MigrationState.PLANNED,
            Event.LOST: MigrationState.UNKNOWN,
            Event.TIMEOUT: MigrationState.UNKNOWN,
        },
    ),
    # Copying. Rates vary by a factor of two to three with load and dirty pages; ten minutes more
    # so that a small VM on a busy network is not cancelled for the sake of a formula.
    MigrationState.RUNNING: Row(
        600.0,
        4.0,
        {
            Event.ARRIVED: MigrationState.DONE,
            Event.STAYED: MigrationState.FAILED,
            Event.ASTRAY: MigrationState.FAILED,
            Event.RETRY: MigrationState.PLANNED,
            Event.CANCEL: MigrationState.CANCELLING,
            Event.TIMEOUT: MigrationState.CANCELLING,
        },
    ),
    # As long as a host may take to restart and answer again.
    MigrationState.UNKNOWN: Row(
        900.0,
        1.0,
        {
            Event.ACCEPTED: MigrationState.RUNNING,
            Event.ARRIVED: MigrationState.DONE,
            Event.STAYED: MigrationState.FAILED,
            Event.ASTRAY: MigrationState.FAILED,
            Event.RETRY: MigrationState.PLANNED,
            Event.TIMEOUT: MigrationState.FAILED,
        },
    ),
    # Cancelling is quick, or not heeded at all in the last seconds before the switch.
    MigrationState.CANCELLING: Row(
        300.0,
        0.0,
        {
            Event.ARRIVED: MigrationState.DONE,
            Event.STAYED: MigrationState.CANCELLED,
            Event.ASTRAY: MigrationState.FAILED,
            Event.TIMEOUT: MigrationState.FAILED,
        },
    ),
}

# A queued migration takes nothing from anybody; the cluster starts it when a slot is free.
QUEUED_LIMIT_S = 3600.0

# How long what a look shows must last before it counts as the end. At the switch a VM may for a
# moment be on both hosts or on none, and a request accepted a second ago may not show yet.
SETTLE_S = 10.0

# A request whose reply was lost may still lie at the host: it must show within the longest time a
# gateway lets a request take before we believe that nothing came of it.
SETTLE_UNKNOWN_S = 60.0

# In flight, as far as we know: they hold slots, and their VMs count on both hosts.
IN_FLIGHT = frozenset(
    {
        MigrationState.INTENDED,
        MigrationState.RUNNING,
        MigrationState.UNKNOWN,
        MigrationState.CANCELLING,
    }
)


def next_state(state: MigrationState, event: Event) -> MigrationState:
    """Return the state that `event` leads to.

    Raises:
        InternalError: The table has no such transition.
    """
    row = TABLE.get(state)
    after = row.exits.get(event) if row is not None else None
    if after is None:
        raise InternalError(f"a migration that is {state.value} cannot be {event.value}")
    return after
