"""The words of reasons: how rules, shares, counts and resources are told."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.model.rule import AllowedHosts, Rule
from balancer.planner.problem import CPU, MEMORY
from balancer.policy.said import Said

RESOURCES = {CPU: "CPU", MEMORY: "memory"}
# Beyond, a share says no more than that a capacity is next to nothing.
PERCENT_MAX = 99_999
DIGITS_MAX = 5
REASONS_SHOWN = 3  # hosts or VMs that a reason names before it counts the rest


def cite(rule: Rule) -> str:
    """Return how a rule is named in a sentence: its kind, subject and place."""
    return f"{rule} ({rule.origin})" if rule.origin else str(rule)


def hosts_of(one: Said) -> frozenset[str]:
    """Return the hosts that a list allows; empty for what is no list."""
    return one.form.hosts if isinstance(one.form, AllowedHosts) else frozenset()


def percent(share: float, digits: int = 0) -> str:
    """Return a share as percent."""
    if share > PERCENT_MAX / 100:
        return f"over {PERCENT_MAX} %"
    return f"{100 * share:.{digits}f} %"


def beyond(share: float, limit: float, words: str) -> str:
    """Return a share, `words` and the limit it is above, with digits enough to see that."""
    least = round(100 * limit, DIGITS_MAX)
    digits = next(
        (n for n in range(DIGITS_MAX) if share > PERCENT_MAX or round(100 * share, n) > least),
        DIGITS_MAX,
    )
    return f"{percent(share, digits)}{words}{least:g} %"


def listed(names: Sequence[str], joined: str = ", ", rest: str = " and {} more") -> str:
    """Return names in a row, the first few and how many more: `a, b, c and 2 more`."""
    more = len(names) - REASONS_SHOWN
    return joined.join(names[:REASONS_SHOWN]) + (rest.format(more) if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
