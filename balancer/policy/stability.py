"""How restless a policy lets the balancer be: history, cool-downs, budgets and payback.

What is None is off: without a `history` a plan goes by the last reading alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from balancer.policy.quantities import format_duration, format_percent

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How demand follows from history.

    Attributes:
        window_s: Readings this recent are what demand is taken from.
        percentile: The demand of a VM is this percentile of them, 0..1.
        hold_s: Overload or an uneven load must have lasted this long, taken together within the
            window, to be acted on.
        at_least_s: Before there is this much history only rules are repaired and hosts drained.
        season_s: How far back a daily or weekly season and a trend are looked for; 0 is never.
        ahead_s: How far ahead a season is looked at.
    """

    window_s: float = 4 * HOUR_S
    percentile: float = 0.90
    hold_s: float = 30 * MINUTE_S
    at_least_s: float = HOUR_S
    season_s: float = 28 * DAY_S
    ahead_s: float = 4 * HOUR_S


@dataclass(frozen=True, slots=True)
class Cooldown:
    """How long what has just been moved is left alone; None is not at all.

    Drains, what a returning host gets back, moves that are asked for and repairs of hard rules
    are exempt; of a hard rule that is no less broken at the end of a plan, none of its VMs is.

    Attributes:
        vm_s: A VM that was migrated stays where it is.
        host_s: A host that took part in a migration takes part in no other.
        undo_s: A VM does not go back to a host that it was migrated off.
    """

    vm_s: float | None = None
    host_s: float | None = None
    undo_s: float | None = None

    @property
    def longest_s(self) -> float:
        """Return how far back moves are looked at."""
        return max(each or 0.0 for each in (self.vm_s, self.host_s, self.undo_s))


@dataclass(frozen=True, slots=True)
class Costs:
    """What a migration has to bring.

    Attributes:
        lifetime_s: How long the gain of a migration is expected to last; the shorter, the more
            it has to gain at once.
        payback_s: A migration that only evens out the load must earn back what it costs within
            this time; None asks for no such thing.
    """

    lifetime_s: float = DAY_S
    payback_s: float | None = None


NO_COOLDOWN, USUAL_COSTS = Cooldown(), Costs()


@dataclass(frozen=True, slots=True)
class Level:
    """What one level of aggressiveness stands for."""

    imbalance: float
    history: HistoryPolicy
    cooldown: Cooldown
    costs: Costs
    migrations_per_day: int | None


def _level(
    imbalance: float, hold_s: float, cool_s: float, life_s: float, per_day: int | None
) -> Level:
    """Return a level: what has to last longer is also left alone longer."""
    return Level(
        imbalance=imbalance,
        history=HistoryPolicy(
            window_s=max(HOUR_S, 8 * hold_s), hold_s=hold_s, at_least_s=2 * hold_s
        ),
        cooldown=Cooldown(vm_s=cool_s, host_s=cool_s / 6, undo_s=max(DAY_S, 6 * cool_s)),
        costs=Costs(lifetime_s=life_s, payback_s=life_s),
        migrations_per_day=per_day,
    )


LEVELS = MappingProxyType(
    {
        1: _level(0.20, 2 * HOUR_S, 24 * HOUR_S, HOUR_S, 20),
        2: _level(0.15, HOUR_S, 12 * HOUR_S, 1.5 * HOUR_S, 50),
        3: _level(0.10, 30 * MINUTE_S, 4 * HOUR_S, 2 * HOUR_S, 100),
        4: _level(0.05, 15 * MINUTE_S, 2 * HOUR_S, 6 * HOUR_S, 400),
        5: _level(0.03, 5 * MINUTE_S, HOUR_S, DAY_S, None),
    }
)


def numbers(level: Level) -> dict[str, str]:
    """Return what a level stands for, as it would be written in a policy, key by key."""
    said = {"thresholds.imbalance": format_percent(level.imbalance)}
    for part in ("history", "cooldown", "costs"):
        said |= written(part, asdict(getattr(level, part)))
    per_day = level.migrations_per_day
    return {**said, "limits.migrations_per_day": "" if per_day is None else str(per_day)}


def written(part: str, values: dict[str, Any]) -> dict[str, str]:
    """Return the values of a part as they would be written, by dotted key; empty if off."""
    said: dict[str, str] = {}
    for name, value in values.items():
        form = format_duration if name.endswith("_s") else format_percent
        said[f"{part}.{name.removesuffix('_s')}"] = "" if value is None else form(value)
    return said
