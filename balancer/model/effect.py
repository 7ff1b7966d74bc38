"""What one migration of a plan mends, gains and costs, as numbers.

Gains are marginal: what would be worse if this migration alone were left out. Two migrations that
could each have mended the same thing alone gain nothing there, though both have a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repair:
    """Something wrong now and less so at the end of the plan, and the VM is one of its causes."""

    tier: str  # drain, rules, overload, soft rules: as in the plan's score
    subject: str  # a host, a host's resource, or a rule


@dataclass(frozen=True, slots=True)
class Gain:
    """What a tier would be worse by at the end of the plan; less than zero: better."""

    tier: str
    by: float


@dataclass(frozen=True, slots=True)
class End:
    """A resource of the host that is left or entered, in shares of what is usable, 0..1.

    Attributes:
        before: Now.
        without: At the end of the plan, were this migration left out.
        after: At the end of the plan.
    """

    host: str
    resource: str  # CPU or memory
    before: float
    without: float
    after: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a migration is good for, and its price.

    Of a VM that makes a stop-over the last migration has all of it, the first only its costs.

    Attributes:
        gains: By tier, most important first; J without the cost of moving. What is zero is absent.
        score_cost: What moving it costs, in J.
        copy_s: Seconds of copying, as scheduled.
        blackout_s: Seconds the guest stands still at the end, as forecast.
        failure_rate: How often a migration between these hosts fails, 0..1, learned from the past.
    """

    repairs: tuple[Repair, ...]
    gains: tuple[Gain, ...]
    ends: tuple[End, ...]
    score_cost: float
    copy_s: float
    blackout_s: float
    failure_rate: float
