"""What is asked of a drain, where it stands, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from balancer.model.outcome import RunEnd


class DrainState(StrEnum):
    """Where a drain stands. The steps are in `balancer.execute.drain`."""

    PLANNED = "planned"  # written down, with all that was there; nothing has been done
    PAUSING = "pausing"  # hosts are about to be paused, or are
    MOVING = "moving"  # VMs that run are live migrated
    CLEARING = "clearing"  # the rest is moved: VMs that stand still, roles, volumes
    UNDOING = "undoing"  # given up; hosts that we paused are about to be resumed
    DRAINED = "drained"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will be done."""
        return self is DrainState.DRAINED or self.gave_up

    @property
    def gave_up(self) -> bool:
        """Tell whether it ended before the hosts were empty."""
        return self in (DrainState.FAILED, DrainState.CANCELLED)


class OnFailure(StrEnum):
    """How hosts that could not be emptied are left."""

    PAUSE = "pause"
    RESUME = "resume"


class Kind(StrEnum):
    """What a host holds."""

    VM = "vm"  # a VM that runs
    STANDING_VM = "standing_vm"
    ROLE = "role"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Attributes:
        hosts: Names; how they are written does not matter.
        by: When it must be done, or it is not begun.
        keep_reserve: Rather leave VMs behind than use the reserve.
        on_failure: How a host is left that could not be emptied.
        asked_by: Who asked.
    """

    hosts: tuple[str, ...]
    by: datetime | None = None
    keep_reserve: bool = False
    on_failure: OnFailure = OnFailure.PAUSE
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that a host holds. `key` is an id; of a volume its name."""

    host: str
    kind: Kind
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is still on a host, why, and what to do about it."""

    host: str
    kind: Kind
    name: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What became of a drain, or of a return.

    Attributes:
        moved: How many things of each kind were moved, by kind.
        paused: The hosts that are paused now.
        expected_s: How long it was expected to take when it began.
    """

    cluster: str
    hosts: tuple[str, ...]
    end: RunEnd
    started_at: datetime
    ended_at: datetime
    expected_s: float
    moved: tuple[tuple[Kind, int], ...] = ()
    left: tuple[Left, ...] = ()
    paused: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
