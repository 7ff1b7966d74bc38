"""What a heartbeat means, and when it is worse than before."""

from __future__ import annotations

import pytest

from balancer.gateway.pulse import Heartbeat, heartbeat, is_worse

NONE, UNKNOWN, DISABLED, NO_CONTACT, ERROR, LOST, OK, HEALTHY, CRITICAL, PAUSED = (
    None, 0, 1, 2, 3, 4, 5, 6, 7, 8,
)  # fmt: skip


@pytest.mark.parametrize("before", [OK, HEALTHY])
@pytest.mark.parametrize("now", [UNKNOWN, NO_CONTACT, ERROR, LOST, CRITICAL])
def test_a_guest_that_was_well_and_is_not_is_worse(before: int, now: int) -> None:
    assert is_worse(heartbeat(now), heartbeat(before))


@pytest.mark.parametrize("before", [NONE, UNKNOWN, DISABLED, NO_CONTACT, ERROR, LOST, PAUSED])
@pytest.mark.parametrize("now", [*range(9), None])
def test_what_never_was_cannot_be_lost(before: int | None, now: int | None) -> None:
    assert not is_worse(heartbeat(now), heartbeat(before))


@pytest.mark.parametrize("now", [OK, HEALTHY, DISABLED, PAUSED, NONE])
def test_a_guest_that_answers_or_is_not_asked_is_not_worse(now: int | None) -> None:
    assert not is_worse(heartbeat(now), Heartbeat.OK)


def test_applications_that_were_critical_before_are_no_news() -> None:
    assert not is_worse(Heartbeat.CRITICAL, Heartbeat.CRITICAL)
    assert is_worse(Heartbeat.LOST, Heartbeat.CRITICAL)
