"""A plan: a partial order of migrations with everything decided, ready to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from balancer.model.cluster import Transport
from balancer.model.effect import Effect


class Kind(StrEnum):
    """How a VM moves. Only `LIVE` is planned today; the others are names of the contract."""

    LIVE = "live"
    LIVE_WITH_STORAGE = "live_with_storage"
    STORAGE = "storage"
    QUICK = "quick"


class Status(StrEnum):
    """The answer. Overload that cannot be relieved is `FEASIBLE` with `unresolved` entries."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    NOTHING_TO_DO = "nothing_to_do"
    INFEASIBLE = "infeasible"


class StoppedBy(StrEnum):
    """What ended the search; the first two are reproducible to the byte."""

    PROOF = "proof"
    WORK = "work"
    TIME = "time"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, slots=True)
class Migration:
    """One move. `after` binds; `start_s` and `duration_s` are a forecast from the plan's start."""

    id: str
    vm: str
    name: str
    source: str
    target: str
    transport: Transport
    bytes: int
    start_s: float
    duration_s: float
    reason: str
    after: tuple[str, ...] = ()
    kind: Kind = Kind.LIVE
    stopover: bool = False
    effect: Effect | None = None  # None in plans that were made before there were effects


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A host setting that the executor writes before its moves and restores afterwards."""

    host: str
    setting: str  # "transport"
    before: str
    during: str


@dataclass(frozen=True, slots=True)
class NotMoved:
    """A VM that the goals wanted elsewhere, and the fact or rule that kept it."""

    vm: str
    name: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unresolved:
    """What stays wrong when the plan is done: an overload, a broken rule, a drain."""

    subject: str  # a host, a VM or a rule
    problem: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Whether a host may sleep once the plan is done, and why or why not."""

    host: str
    may_sleep: bool
    reason: str


class Lost(NamedTuple):
    """Memory of restarts that would find no host, by priority: less is what compares as less.

    The priority comes first, as it does where a cluster restarts VMs: nothing of low priority
    makes up for anything of high.
    """

    high_bytes: int
    medium_bytes: int
    low_bytes: int


@dataclass(frozen=True, slots=True)
class Survival:
    """What a plan does to the room for failures, in restarts that would find no host.

    Over all failures that the policy wants survived (`failures`, in words): now, at the worst
    instant on the way (None where nothing is asked of it: in a drain), and at the end. What is
    worse is told by `Lost`, not by how many there are; plans of before it was measured have none.
    What no placement survives is not among these: `beyond_help` says it, a sentence for each kind.
    Nor are failures that are too many to be rehearsed: `unseen` are those of them that are not seen
    at a glance to be survived at the end.
    """

    failures: str
    before: int
    during: int | None
    after: int
    lost_before: Lost | None = None
    lost_during: Lost | None = None
    lost_after: Lost | None = None
    beyond_help: tuple[Unresolved, ...] = ()
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Tier:
    """One goal of the lexicographic order. Lower is better; `bound` is proven or None."""

    name: str
    before: float
    after: float
    bound: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """The balance score J before and after, a proven lower bound, and every tier."""

    before: float
    after: float
    bound: float
    bound_kind: str
    closed: float
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to do, why, and how good it is. Nothing is left to decide at execution."""

    cluster: str
    id: str
    created_at: datetime
    expires_at: datetime
    snapshot_sha256: str
    policy_sha256: str
    status: Status
    stopped_by: StoppedBy
    score: Score
    makespan_s: float
    makespan_bound_s: float
    migrations: tuple[Migration, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    not_moved: tuple[NotMoved, ...] = ()
    unresolved: tuple[Unresolved, ...] = ()
    sleep: tuple[Sleep, ...] = ()  # every host that is up; of the goal of consolidation only
    survival: Survival | None = None  # where the policy asks for it

    @cached_property
    def migration_by_id(self) -> Mapping[str, Migration]:
        """Map migration ids to migrations."""
        return {migration.id: migration for migration in self.migrations}
