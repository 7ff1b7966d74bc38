"""Aggressiveness is a shorthand: it expands to numbers, and what is written wins."""

from __future__ import annotations

import pytest

from balancer.errors import InputError
from balancer.policy.load import parse_policy
from balancer.policy.policy import Policy
from balancer.policy.stability import LEVELS, Cooldown, Costs, HistoryPolicy


def policy(text: str) -> Policy:
    return parse_policy(f"version: 1\n{text}", "policy.yaml")


def test_without_a_word_about_it_nothing_of_the_past_counts() -> None:
    plain = policy("goal: balance")
    assert (plain.history, plain.cooldown, plain.costs) == (None, Cooldown(), Costs())
    assert plain.thresholds.imbalance == 0.05


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_numbers(level: int) -> None:
    read, value = policy(f"aggressiveness: {level}"), LEVELS[level]
    assert read.aggressiveness == level
    assert (read.history, read.cooldown, read.costs) == (
        value.history,
        value.cooldown,
        value.costs,
    )
    assert read.thresholds.imbalance == value.imbalance
    assert read.limits.migrations_per_day == value.migrations_per_day


def test_a_higher_level_is_never_calmer() -> None:
    for low in range(1, 5):
        calm, lively = LEVELS[low], LEVELS[low + 1]
        assert calm.imbalance > lively.imbalance
        assert calm.history.hold_s > lively.history.hold_s
        assert (calm.cooldown.vm_s or 0) > (lively.cooldown.vm_s or 0)
        assert calm.costs.lifetime_s < lively.costs.lifetime_s


def test_what_is_written_wins_over_the_level() -> None:
    read = policy(
        "aggressiveness: 3\nthresholds: {imbalance: 12%}\nhistory: {hold: 5m}\n"
        "cooldown: {vm: 1h}\ncosts: {payback: 8h}\nlimits: {migrations_per_day: 7}"
    )
    assert read.thresholds.imbalance == 0.12
    assert read.history is not None
    assert (read.history.hold_s, read.history.window_s) == (300.0, LEVELS[3].history.window_s)
    assert (read.cooldown.vm_s, read.cooldown.undo_s) == (3600.0, LEVELS[3].cooldown.undo_s)
    assert (read.costs.payback_s, read.limits.migrations_per_day) == (8 * 3600.0, 7)


def test_an_empty_history_is_one_with_its_defaults() -> None:
    assert policy("history: {}").history == HistoryPolicy()


def test_a_hold_as_long_as_the_window_is_one_that_can_be_met() -> None:
    read = policy("history: {window: 1h, hold: 1h}").history
    assert read is not None
    assert read.hold_s == read.window_s
    for level, one in LEVELS.items():
        assert policy(f"aggressiveness: {level}\nhistory: {{}}").history == one.history


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aggressiveness: 6", "expected one of 1, 2, 3, 4, 5, not '6'"),
        ("history: {window: 0s}", "window"),
        ("cooldown: {vms: 1h}", "vms"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        policy(text)
    assert message in str(caught.value)
