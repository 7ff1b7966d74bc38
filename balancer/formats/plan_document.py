"""The shape of `balancer/plan/v1`.

Unknown keys are errors here, unlike in snapshots: we wrote the plan ourselves, and executing
one without understanding all of it is not safe.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from balancer.formats.strict import AnyReal, Moment, Name, Real, Truth, Whole
from balancer.model.cluster import Transport
from balancer.model.plan import Kind, Status, StoppedBy
from balancer.policy.quantities import shown

PLAN_SCHEMA = "balancer/plan/v1"

_DIGEST = r"^([0-9a-f]{64})?$"


def _digest(text: str) -> str:
    if not re.match(_DIGEST, text):
        raise ValueError(f"expected a SHA-256 digest of 64 hexadecimal digits, not {shown(text)}")
    return text


Digest = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": _DIGEST})]


class _Part(BaseModel):
    """Base of a plan's parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class RepairPart(_Part):
    """Something wrong now that the plan mends at least in part, and that the VM is a cause of."""

    tier: Name = Field(description="Which goal: drain, rules, overload or soft rules.")
    subject: Name = Field(description="A host, a host's resource, or a rule.")


class GainPart(_Part):
    """What a goal would be worse by, were this migration alone left out of the plan."""

    tier: Name = Field(description="Which goal, as in the score's tiers.")
    by: AnyReal = Field(description="In the unit of that tier; below zero: it would be better.")


class EndPart(_Part):
    """CPU or memory of the host that is left or entered, in shares of what is usable."""

    host: Name = Field(description="One of the migration's two hosts.")
    resource: Name = Field(description="CPU or memory.")
    before: Real = Field(description="Now.")
    without: Real = Field(description="When the plan is done, were this migration left out.")
    after: Real = Field(description="When the plan is done.")


class EffectPart(_Part):
    """What a migration mends, gains and costs; after a stop-over the last one says all of it.

    Two migrations that could each have mended a thing alone both have it in `repairs`, and gain
    nothing there.
    """

    repairs: tuple[RepairPart, ...] = Field(description="What it has a part in mending.")
    gains: tuple[GainPart, ...] = Field(
        description="By goal, the most important first; what is zero is left out. Of balance the "
        "cost of moving is not taken off."
    )
    ends: tuple[EndPart, ...] = Field(description="Both hosts, both resources.")
    score_cost: Real = Field(description="What moving it costs, in units of the balance score.")
    copy_s: Real = Field(description="Seconds of copying, as scheduled.")
    blackout_s: Real = Field(description="Seconds that the guest stands still at the end.")
    failure_rate: Real = Field(description="How often migrations between its hosts fail, 0 to 1.")


class MigrationPart(_Part):
    """One move of one VM. `after` binds; `start_s` and `duration_s` are a forecast."""

    id: Name = Field(description="Identifies the migration in this plan.")
    vm: Name = Field(description="The VM's id, exactly as the snapshot gave it.")
    name: str = Field(description="The VM's name, for people.")
    kind: Kind = Field(description="How it moves; only live is planned today.")
    source: Name = Field(description="The host it is on before.")
    target: Name = Field(description="The host it is on afterwards.")
    transport: Transport = Field(description="What the two hosts' settings will give.")
    after: tuple[Name, ...] = Field(description="Ids of migrations that must have ended before.")
    stopover: Truth = Field(description="Whether the VM moves on later in the same plan.")
    start_s: Real = Field(description="Forecast, in seconds from the start of the plan.")
    duration_s: Real = Field(description="Forecast.")
    bytes: Whole = Field(description="Forecast of memory copied.")
    reason: str = Field(description="Why, in words and numbers.")
    effect: EffectPart | None = Field(None, description="What it mends, gains and costs.")


class SettingPart(_Part):
    """A host setting that is written for the plan and restored afterwards."""

    host: Name = Field(description="The host whose setting it is.")
    setting: Name = Field(description="Which one: transport.")
    before: str = Field(description="What it has to be now, and will be again.")
    during: str = Field(description="What it is for the time of the plan.")


class NotMovedPart(_Part):
    """A VM that was wanted elsewhere, and what keeps it."""

    vm: Name = Field(description="The VM's id.")
    name: str = Field(description="The VM's name, for people.")
    host: Name = Field(description="Where it stays.")
    reason: str = Field(description="The fact or rule that keeps it there.")


class UnresolvedPart(_Part):
    """What stays wrong when the plan is done."""

    subject: str = Field(description="A host, a VM or a rule.")
    problem: str = Field(description="What is wrong with it, in words and numbers.")
    reason: str = Field(description="Why no plan can mend it.")


class SleepPart(_Part):
    """Whether a host that is up may sleep once the plan is done."""

    host: Name = Field(description="The host.")
    may_sleep: Truth = Field(description="Whether nothing needs it then.")
    reason: str = Field(description="Why, or what keeps it awake.")


class LostPart(_Part):
    """Startup memory of restarts that would find no host, by the priority of the VMs."""

    high_bytes: Whole = Field(description="Of VMs of high priority; less of it is better.")
    medium_bytes: Whole = Field(description="Of medium priority: counts where high is the same.")
    low_bytes: Whole = Field(description="Of low priority: counts where both are the same.")


class SurvivalPart(_Part):
    """Restarts that would find no host, over all failures that the policy wants survived.

    How many there are is for people. Which is worse goes by `lost_before`, `lost_during` and
    `lost_after`: fewer large VMs of high priority may be worse than many small ones of low.
    """

    failures: Name = Field(description="What may fail, in words: any 1 host.")
    before: Whole = Field(description="Now; 0: all of these failures are survived.")
    during: Whole | None = Field(
        description="At the worst instant on the way, of the failures that are looked at there;"
        " null in a drain, where none is asked about."
    )
    after: Whole = Field(description="When the plan is done.")
    lost_before: LostPart | None = Field(None, description="What they are, now.")
    lost_during: LostPart | None = Field(
        None, description="At the worst instant; absent in a drain."
    )
    lost_after: LostPart | None = Field(None, description="When the plan is done.")
    beyond_help: tuple[UnresolvedPart, ...] = Field(
        (),
        description="What no placement survives, and is not among these; absent if there is none.",
    )
    unseen: Whole = Field(
        0, description="Failures too many to be rehearsed, and not seen at a glance to be survived."
    )


class TierPart(_Part):
    """One goal of the strict order; lower is better."""

    name: Name = Field(description="Which goal: drain, rules, overload and so on.")
    before: AnyReal = Field(description="Now.")
    after: AnyReal = Field(description="When the plan is done.")
    bound: AnyReal | None = Field(None, description="Proven, or null.")


class ScorePart(_Part):
    """The balance score before and after, a proven lower bound, and every tier."""

    before: AnyReal = Field(description="Of the cluster as it is.")
    after: AnyReal = Field(description="Of the cluster when the plan is done.")
    bound: AnyReal = Field(description="No plan can score lower; proven.")
    bound_kind: str = Field(description="How it was proven.")
    closed: AnyReal = Field(
        description="(before - after) / (before - bound); 1 when before equals bound."
    )
    tiers: tuple[TierPart, ...] = Field(description="The goals, the most important first.")


class PlanDocument(_Part):
    """What to do, why, and how good it is."""

    schema_: Literal["balancer/plan/v1"] = Field(
        alias="schema", description="Kind and version of the document."
    )
    cluster: Name = Field(description="Name of the cluster it was made for.")
    id: Name = Field(description="Identifies the plan in journals and reports.")
    created_at: Moment = Field(
        description="The moment it speaks of: when its snapshot was taken, so that the same "
        "snapshot gives the same bytes whenever it is planned on. 1970 where the snapshot does not "
        "say: such a plan is for looking at, its age is unknown and it is not executed."
    )
    expires_at: Moment = Field(description="After this the plan is stale and not executed.")
    snapshot_sha256: Digest = Field(description="Of the snapshot document; empty: observed live.")
    policy_sha256: Digest = Field(description="Of the policy document; empty: the built-in one.")
    status: Status = Field(description="The answer.")
    stopped_by: StoppedBy = Field(description="What ended the search for it.")
    migrations: tuple[MigrationPart, ...] = Field(description="The moves, in forecast order.")
    settings: tuple[SettingPart, ...] = Field(
        description="Host settings to write and restore; empty unless the policy allows writing."
    )
    not_moved: tuple[NotMovedPart, ...] = Field(description="VMs that the goals wanted elsewhere.")
    unresolved: tuple[UnresolvedPart, ...] = Field(description="What stays wrong.")
    score: ScorePart = Field(description="How good it is.")
    makespan_s: Real = Field(description="Forecast of how long all of it takes.")
    makespan_bound_s: Real = Field(description="No schedule of these moves is shorter.")
    sleep: tuple[SleepPart, ...] = Field(
        (),
        description="Under the goal consolidate: every host that is up, and whether it may sleep "
        "once the plan is done. Left out under other goals. Nothing is switched off by us.",
    )
    survival: SurvivalPart | None = Field(
        None, description="Left out where the policy asks for no survivability."
    )
