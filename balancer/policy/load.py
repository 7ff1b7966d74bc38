"""Policies: from YAML to a `Policy`, or to errors with file, line, column, key and remedy."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field

from balancer.errors import InputError
from balancer.policy.document import parse_document
from balancer.policy.fields import (
    Count,
    Document,
    Duration,
    Failures,
    Flag,
    Number,
    Percent,
    Positive,
    Share,
    ShareOrSize,
    Size,
    Text,
    Version1,
)
from balancer.policy.interlock_entry import InterlockDocument
from balancer.policy.policy import (
    Consolidation,
    Goal,
    Limits,
    Mode,
    Policy,
    Prefer,
    Reserve,
    Thresholds,
    TransportPolicy,
)
from balancer.policy.quantities import format_duration, format_percent
from balancer.policy.reading import name_of, read_bytes
from balancer.policy.span_entry import SpanEntry
from balancer.policy.stability import HistoryPolicy, Level
from balancer.policy.stability_entry import (
    Aggressiveness,
    CooldownDocument,
    CostsDocument,
    HistoryDocument,
    cooldown_of,
    costs_of,
    history_of,
    level_of,
)
from balancer.policy.tree import BYTES_MAX, Places
from balancer.policy.vocabulary import RuleEntry, rule_of
from balancer.policy.windows import Calendar

WHAT = "policy"


class ThresholdsDocument(Document):
    """When there is something to do, as shares of a host's usable capacity."""

    cpu: Percent = Field(
        Thresholds().cpu, description="Use of the logical processors above which it is overloaded."
    )
    memory: Percent = Field(
        Thresholds().memory, description="Use of the memory for VMs above which it is overloaded."
    )
    imbalance: Percent | None = Field(
        None,
        description="While every host is this close to the mean, nothing moves for balance alone; "
        "left out, what `aggressiveness` says, else 5%.",
    )
    vcpus_per_core: Number | None = Field(
        None,
        gt=0,
        description="Virtual processors of running VMs for each logical one, above which no "
        "migration brings a host, drains included: leave room for a host less. One that has more "
        "already comes to no more.",
    )


class ReserveDocument(Document):
    """What is kept free on each host, and how many hosts may fail.

    The shares and amounts come off the capacity before anything is judged. `host_failures` and
    `domain_failure` ask that what runs on the failed hosts could restart on the others, with hard
    rules held: of clustered VMs that run and start by themselves, with their startup memory, by
    priority, then the largest first. Less memory of high priority without a host is better, then
    of medium, then of low. No plan makes that worse, at its end or on the way there, except a
    drain, or one that mends a hard rule or an overloaded host by it; what is missing is told.
    """

    cpu: Share | None = Field(None, description="Share of the logical processors kept free.")
    memory: ShareOrSize | None = Field(
        None, description="Share of memory, or an amount of it, kept free."
    )
    memory_at_least: Size | None = Field(
        None, description="An amount of memory kept free where the share would be less."
    )
    host_failures: Failures = Field(
        Reserve().host_failures,
        description="How many hosts, whichever they are, may fail at once; 0 to 3.",
    )
    domain_failure: Text | None = Field(
        None,
        description="Level of fault domains of which any one may fail as a whole: site, rack or "
        "chassis.",
    )


class ConsolidateDocument(Document):
    """How far `goal: consolidate` goes in emptying hosts, so that they may be put to sleep."""

    margin: Percent = Field(
        Consolidation().margin,
        description="How far below the thresholds hosts are filled, in points of their capacity: "
        "with 80% and a margin of 10%, up to 70%. What lies between keeps a host from being woken "
        "by the first rise of the load.",
    )
    awake_at_least: Positive = Field(
        Consolidation().awake_at_least, description="Hosts that stay awake in any case."
    )
    majority: Flag = Field(
        Consolidation().majority,
        description="Whether more than half of the cluster's nodes stay awake as well, so that "
        "quorum never rests on votes being given up one after the other.",
    )


class LimitsDocument(Document):
    """Caps; what is not written is not capped here.

    For every cap the lowest of command line, policy, host and cluster wins.
    """

    migrations_per_run: Count | None = Field(
        None, description="Migrations that one plan may contain, stop-overs counted."
    )
    concurrent_per_host: Positive | None = Field(
        None, description="Migrations at a time that a host takes part in, in and out together."
    )
    concurrent_per_cluster: Positive | None = Field(
        None, description="Migrations at a time in the whole cluster."
    )
    bytes_per_run: Size | None = Field(None, description="Memory that one plan may copy.")
    duration_per_run: Duration | None = Field(
        None, description="How long one plan is forecast to take at most."
    )
    migrations_per_day: Count | None = Field(
        None,
        description="Migrations in 24 hours; drains, returns and repairs of hard rules count, and "
        "go on when it is used up.",
    )
    bytes_per_day: Size | None = Field(
        None, description="Memory that migrations may copy in 24 hours, counted likewise."
    )


class TransportDocument(Document):
    """How migrations travel, and whether host settings may be changed for it."""

    prefer: Prefer = Field(
        TransportPolicy().prefer,
        description="auto: the fastest for each host; as_set: what the hosts are set to; or one by "
        "name. Without write_settings the hosts' settings decide, whatever stands here.",
    )
    write_settings: Flag = Field(
        TransportPolicy().write_settings,
        description="Whether a host's live migration performance option may be written for the "
        "time of a plan and restored afterwards. With false, migrations use what is set.",
    )


class PolicyDocument(Document):
    """What the administrator wants of the balancer. Only `version` has to be there."""

    version: Version1 = Field(description="Version of this vocabulary; always 1.")
    name: Text | None = Field(None, description="What the policy is called in reports.")
    mode: Mode = Field(
        Policy().mode,
        description="What a scheduled run does by itself: observe only watches, recommend plans "
        "and shows, auto also executes.",
    )
    goal: Goal = Field(
        Policy().goal,
        description="How far a plan goes: rules-only repairs broken rules and empties draining "
        "hosts; relieve also ends overload; balance also evens out the load; consolidate instead "
        "empties as many hosts as the others can take up, so that they may sleep.",
    )
    thresholds: ThresholdsDocument = Field(
        ThresholdsDocument(), description="When there is something to do."
    )
    reserve: ReserveDocument = Field(
        ReserveDocument(), description="What is kept free on each host and for failures."
    )
    consolidate: ConsolidateDocument = Field(
        ConsolidateDocument(), description="How far the goal consolidate goes."
    )
    limits: LimitsDocument = Field(LimitsDocument(), description="Caps on what a plan may do.")
    aggressiveness: Aggressiveness | None = Field(
        None,
        description="How restless it may be, from 1 to 5: a shorthand for `thresholds.imbalance`, "
        "`history`, `cooldown`, `costs` and `limits.migrations_per_day`, which win where they are "
        "written. Left out: no history, no cool-down.",
    )
    history: HistoryDocument | None = Field(None, description="How demand follows from history.")
    cooldown: CooldownDocument = Field(
        CooldownDocument(), description="How long what has just been moved is left alone."
    )
    costs: CostsDocument = Field(
        CostsDocument(), description="What a migration has to bring to be made."
    )
    transport: TransportDocument = Field(TransportDocument(), description="How migrations travel.")
    interlock: InterlockDocument = Field(
        InterlockDocument(), description="What happens while somebody else acts on the cluster."
    )
    rules: tuple[RuleEntry, ...] = Field(
        (), description="What binds VMs to hosts and to each other; each entry one kind of rule."
    )
    windows: tuple[SpanEntry, ...] = Field(
        (),
        description="When migrations may run; without any, always. None starts that is not "
        "predicted, with its margin of error, to end in the window it starts in.",
    )
    blackouts: tuple[SpanEntry, ...] = Field(
        (), description="When no migration may run, whatever the windows say."
    )
    plan_lifetime: Duration = Field(
        Policy().plan_lifetime_s,
        gt=0,
        description="How long after its making a plan may still be executed.",
    )


def load_policy(path: Path | str) -> Policy:
    """Read the policy file at `path`; `-` is stdin.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    return parse_policy(read_bytes(path, BYTES_MAX, WHAT), name_of(path))


def parse_policy(document: str | bytes, file: str) -> Policy:
    """Return the policy that YAML text describes; `file` names it in errors and rule origins.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    data = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
    read, places = parse_document(data, file, PolicyDocument, WHAT)
    level = level_of(read.aggressiveness)
    return Policy(
        name=read.name or Path(file).stem,
        mode=read.mode,
        goal=read.goal,
        thresholds=Thresholds(
            cpu=read.thresholds.cpu,
            memory=read.thresholds.memory,
            imbalance=read.thresholds.imbalance
            or (Thresholds() if level is None else level).imbalance,
            vcpus_per_core=read.thresholds.vcpus_per_core,
        ),
        reserve=_reserve(read.reserve),
        consolidation=_consolidation(read, places),
        limits=Limits(
            migrations_per_run=read.limits.migrations_per_run,
            concurrent_per_host=read.limits.concurrent_per_host,
            concurrent_per_cluster=read.limits.concurrent_per_cluster,
            bytes_per_run=read.limits.bytes_per_run,
            duration_per_run_s=read.limits.duration_per_run,
            migrations_per_day=_per_day(read.limits.migrations_per_day, level),
            bytes_per_day=read.limits.bytes_per_day,
        ),
        aggressiveness=None if read.aggressiveness is None else int(read.aggressiveness),
        history=_history(read, level, places),
        cooldown=cooldown_of(read.cooldown, level),
        costs=costs_of(read.costs, level),
        transport=TransportPolicy(
            prefer=read.transport.prefer, write_settings=read.transport.write_settings
        ),
        rules=tuple(
            rule_of(entry, places.line(("rules", index))) for index, entry in enumerate(read.rules)
        ),
        interlock=read.interlock.interlock(),
        calendar=Calendar(
            windows=tuple(entry.span() for entry in read.windows),
            blackouts=tuple(entry.span() for entry in read.blackouts),
        ),
        plan_lifetime_s=read.plan_lifetime,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _per_day(written: int | None, level: Level | None) -> int | None:
    return level.migrations_per_day if written is None and level is not None else written


def _consolidation(read: PolicyDocument, places: Places) -> Consolidation:
    """Return how far consolidation goes.

    Raises:
        InputError: The margin leaves nothing of a threshold.
    """
    said, least = read.consolidate, min(read.thresholds.cpu, read.thresholds.memory)
    if read.goal is Goal.CONSOLIDATE and said.margin >= least:
        raise InputError(
            f"a margin of {format_percent(said.margin)} leaves nothing of a threshold of "
            f"{format_percent(least)}: no host could be filled",
            place=places.value(("consolidate", "margin")),
            remedy="write a smaller margin, for example 10%",
        )
    return Consolidation(said.margin, said.awake_at_least, said.majority)


def _history(read: PolicyDocument, level: Level | None, places: Places) -> HistoryPolicy | None:
    """Return how demand follows from history.

    Raises:
        InputError: Nothing can last for the hold time within the window.
    """
    how, written = history_of(read.history, level), read.history
    if how is None or written is None or how.hold_s <= how.window_s:
        return how
    hold, window = format_duration(how.hold_s), format_duration(how.window_s)
    unsaid = "by default" if level is None else f"by aggressiveness {read.aggressiveness}"
    said = [
        text if value is not None else f"{text} ({unsaid})"
        for text, value in (
            (f"a hold of {hold}", written.hold),
            (f"a window of {window}", written.window),
        )
    ]
    raise InputError(
        f"{said[0]} is longer than {said[1]}: nothing lasts that long within it",
        place=places.value(("history", "window" if written.hold is None else "hold")),
        remedy=f"write a hold of at most {window}, or a window of at least {hold}",
    )


def _reserve(read: ReserveDocument) -> Reserve:
    """Return the reserve; of a share and an amount of memory the larger counts, per host."""
    share = read.memory if isinstance(read.memory, float) else 0.0
    amount = read.memory if isinstance(read.memory, int) else 0
    return Reserve(
        cpu_fraction=read.cpu or 0.0,
        memory_fraction=share,
        memory_bytes=max(amount, read.memory_at_least or 0),
        host_failures=read.host_failures,
        domain_failure=read.domain_failure or "",
    )
