"""The words of stability in a policy: history, cool-downs, costs, and the level that sets them.

Every key may be left out; then the level of `aggressiveness` says what it is, and without a
level it is off, or what the defaults of the value are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, WithJsonSchema

from balancer.policy.fields import Document, Duration, Percent
from balancer.policy.stability import LEVELS, Cooldown, Costs, HistoryPolicy, Level

Aggressiveness = Annotated[
    Literal["1", "2", "3", "4", "5"], WithJsonSchema({"enum": [1, 2, 3, 4, 5]})
]
V = TypeVar("V", HistoryPolicy, Cooldown, Costs)


class HistoryDocument(Document):
    """How demand follows from history. Without it, a plan goes by the last reading alone."""

    window: Duration | None = Field(
        None, gt=0, description="Readings this recent are what demand is taken from."
    )
    percentile: Percent | None = Field(
        None,
        description="The demand of a VM is this percentile of them; the highest never counts.",
    )
    hold: Duration | None = Field(
        None,
        description="Overload, or an uneven load, must have lasted this long, taken together "
        "within the window, to be acted on; no longer than the window.",
    )
    at_least: Duration | None = Field(
        None,
        description="Before there is this much history, scheduled runs only repair rules and "
        "empty draining hosts.",
    )
    season: Duration | None = Field(
        None,
        description="How far back a daily or weekly season, and a trend, are looked for; `0s` is "
        "never. A VM that shows one is planned with what it is about to use.",
    )
    ahead: Duration | None = Field(None, gt=0, description="How far ahead a season is looked at.")


class CooldownDocument(Document):
    """How long what has just been moved is left alone.

    Drains, returns, moves that are asked for and repairs of hard rules are exempt; of a hard rule
    that is no less broken at the end of a plan, none of its VMs is.
    """

    vm: Duration | None = Field(None, description="A VM that was migrated stays where it is.")
    host: Duration | None = Field(
        None, description="A host that took part in a migration takes part in no other."
    )
    undo: Duration | None = Field(
        None, description="A VM does not go back to a host that it was migrated off."
    )


class CostsDocument(Document):
    """What a migration has to bring."""

    lifetime: Duration | None = Field(
        None,
        gt=0,
        description="How long the gain of a migration is expected to last: the shorter, the more "
        "it has to gain at once.",
    )
    payback: Duration | None = Field(
        None,
        gt=0,
        description="A migration that only evens out the load must earn back what it costs (the "
        "seconds and processors of its copying, the standstill, the risk of failing on that pair "
        "of hosts) within this time.",
    )


def level_of(word: str | None) -> Level | None:
    """Return what the level of aggressiveness stands for; None without one."""
    return None if word is None else LEVELS[int(word)]


def history_of(read: HistoryDocument | None, level: Level | None) -> HistoryPolicy | None:
    """Return how demand follows from history; None where nothing asks for it."""
    if read is None:
        return None if level is None else level.history
    return _over(HistoryPolicy() if level is None else level.history, read)


def cooldown_of(read: CooldownDocument, level: Level | None) -> Cooldown:
    """Return how long what was moved is left alone."""
    return _over(Cooldown() if level is None else level.cooldown, read)


def costs_of(read: CostsDocument, level: Level | None) -> Costs:
    """Return what a migration has to bring."""
    return _over(Costs() if level is None else level.costs, read)


def _over(value: V, read: Document) -> V:
    """Return `value` with what is written over it; durations are kept in seconds."""
    written: dict[str, Any] = {
        name if name == "percentile" else f"{name}_s": given
        for name in type(read).model_fields
        if (given := getattr(read, name)) is not None
    }
    return replace(value, **written)
