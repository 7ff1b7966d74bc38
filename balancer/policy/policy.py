"""The policy as a frozen value. Every field has a default that is safe unattended.

The YAML form and its errors are `balancer.policy.load`; the vocabulary is documented for
administrators in docs/reference/policy.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from balancer.model.rule import Rule
from balancer.policy.interlock import DEFAULT, Interlock
from balancer.policy.stability import NO_COOLDOWN, USUAL_COSTS, Cooldown, Costs, HistoryPolicy
from balancer.policy.windows import ALWAYS, Calendar


class Mode(StrEnum):
    """What a scheduled run may do by itself."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    AUTO = "auto"


class Goal(StrEnum):
    """How far a plan goes: each includes the ones before it; consolidate is the other balance."""

    RULES_ONLY = "rules-only"
    RELIEVE = "relieve"
    BALANCE = "balance"
    CONSOLIDATE = "consolidate"

    @property
    def mends_soft_rules(self) -> bool:
        """Tell whether a broken soft rule alone is worth a migration."""
        return self in (Goal.BALANCE, Goal.CONSOLIDATE)


class Prefer(StrEnum):
    """Which transport to use: the fastest, what the hosts have, or one by name."""

    AUTO = "auto"
    AS_SET = "as_set"
    TCP = "tcp"
    COMPRESSION = "compression"
    SMB = "smb"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When there is something to do, as shares of a host's usable capacity, 0..1.

    A host above `cpu` or `memory` is overloaded. While every host is within `imbalance` of the
    mean, nothing moves for the sake of balance: even loads drift, and chasing them never ends.
    Nothing comes to a host that would have more than `vcpus_per_core` virtual processors of running
    VMs for each logical one.
    """

    cpu: float = 0.80
    memory: float = 0.85
    imbalance: float = 0.05
    vcpus_per_core: float | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """What is kept free on each host, and for failures of whole hosts.

    The former comes off the capacity before anything is judged; memory takes the larger of the
    fraction and the bytes. Of the latter: any `host_failures` hosts, or any one fault domain of
    the level `domain_failure`, may fail, and what ran there restarts elsewhere with rules held.
    """

    cpu_fraction: float = 0.0
    memory_fraction: float = 0.0
    memory_bytes: int = 0
    host_failures: int = 0
    domain_failure: str = ""

    @property
    def for_failures(self) -> bool:
        """Tell whether room is kept for failures of hosts."""
        return self.host_failures > 0 or bool(self.domain_failure)


@dataclass(frozen=True, slots=True)
class Consolidation:
    """How far the goal of consolidation goes.

    Hosts are filled up to `margin` below the thresholds (in points of capacity), so that a load
    that rises a little does not wake at once what was only just emptied. At least
    `awake_at_least` hosts keep carrying VMs or stay on; with `majority` also more than half of
    the cluster's nodes.
    """

    margin: float = 0.10
    awake_at_least: int = 2
    majority: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps; None is no cap. The lowest of command line, policy, host and cluster wins.

    `migrations_per_run` counts stop-overs. `concurrent_per_host` counts migrations in and
    out together, as the platform does. `duration_per_run_s` bounds the forecast makespan. What
    is counted a day is counted over the last 24 hours; drains, returns and repairs of hard rules
    add to it, and go on when it is used up.
    """

    migrations_per_run: int | None = None
    concurrent_per_host: int | None = None
    concurrent_per_cluster: int | None = None
    bytes_per_run: int | None = None
    duration_per_run_s: float | None = None
    migrations_per_day: int | None = None
    bytes_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class TransportPolicy:
    """How to choose the transport, and whether host settings may be written for it."""

    prefer: Prefer = Prefer.AUTO
    write_settings: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the planner, the judge and the executor are told by the administrator."""

    name: str = "built-in default"
    mode: Mode = Mode.RECOMMEND
    goal: Goal = Goal.BALANCE
    thresholds: Thresholds = Thresholds()
    reserve: Reserve = Reserve()
    firm: bool = False  # whether drains keep the room for failures as well; asked for, not written
    consolidation: Consolidation = Consolidation()
    limits: Limits = Limits()
    transport: TransportPolicy = TransportPolicy()
    aggressiveness: int | None = None  # what the shorthand said; its numbers are below
    history: HistoryPolicy | None = None
    cooldown: Cooldown = NO_COOLDOWN
    costs: Costs = USUAL_COSTS
    rules: tuple[Rule, ...] = ()
    interlock: Interlock = DEFAULT
    calendar: Calendar = ALWAYS  # when migrations may run
    plan_lifetime_s: float = 900.0
    sha256: str = ""  # of the policy document; empty for the built-in default
