"""What became of a plan: the outcome of each migration and of the run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class MigrationState(StrEnum):
    """Where a migration stands. The transitions are the table in `balancer.execute.machine`."""

    PLANNED = "planned"
    INTENDED = "intended"  # journalled, not yet asked for
    RUNNING = "running"  # asked for and accepted; queued or copying
    UNKNOWN = "unknown"  # the reply was lost; only looking again resolves it
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # not started, with a reason

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will happen to the migration."""
        return self in FINAL


FINAL = frozenset(
    {
        MigrationState.DONE,
        MigrationState.FAILED,
        MigrationState.CANCELLED,
        MigrationState.SKIPPED,
    }
)


class Why(StrEnum):
    """Why a migration did not happen, as a word for programs; `reason` says it to people."""

    STALE = "stale"  # VM, host or plan are not what they were when it was planned
    WINDOW = "window"  # it would not end inside a window
    RULE = "rule"
    CAPACITY = "capacity"  # no room, or load, for it now
    CAP = "cap"  # a stated limit
    BLOCKED = "blocked"  # the VM must not be moved now: a backup, a checkpoint, a replica
    TARGET = "target"  # the target does not receive it: paused, incompatible, no network
    BUSY = "busy"  # somebody else migrates it, or storage is at work
    DEPENDENCY = "dependency"  # it comes after one that did not happen
    INTERRUPTED = "interrupted"  # somebody asked to stop, or the executor ended
    ALARM = "alarm"  # the run was stopped
    UNHEALTHY = "unhealthy"  # the cluster is in no state for migrations
    INTERLOCK = "interlock"  # somebody else acts on the cluster
    QUARANTINE = "quarantine"  # it failed before, and is set aside for a while
    LATE = "late"  # it, or the run, took too long
    HOST_UNREACHABLE = "host_unreachable"
    PLATFORM = "platform"  # refused or failed by the platform, whose code says more
    LOST = "lost"  # a request or its reply was lost, and nothing came of it that anybody can tell
    ASTRAY = "astray"  # the VM is where nobody asked it to go


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is: one word for programs, one sentence for people."""

    why: Why
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class MigrationOutcome:
    """How one migration ended, or where it stands.

    Attributes:
        why: In one word why it did not happen; None when it did, or still may.
        code: HRESULT or Win32 code of a failure as the platform gave it, else None.
        reason: One sentence for a person; empty when all went well.
        blackout_s: How long the VM stood still at the switch, where measured.
    """

    migration: str
    vm: str
    name: str
    source: str
    target: str
    state: MigrationState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    percent: int = 0
    code: int | None = None
    reason: str = ""
    blackout_s: float | None = None
    why: Why | None = None


class RunEnd(StrEnum):
    """How a run ended as a whole."""

    DONE = "done"
    IN_PART = "in_part"
    CANCELLED = "cancelled"
    REFUSED = "refused"  # nothing was started


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of executing one plan."""

    cluster: str
    plan: str
    end: RunEnd
    started_at: datetime
    ended_at: datetime
    migrations: tuple[MigrationOutcome, ...]
    notes: tuple[str, ...] = ()  # settings switched and restored, adoptions, refusals
