"""How many migrations an unattended run may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from balancer.model.outcome import MigrationState, RunEnd
from balancer.service.ramp import ENOUGH, RUNS_LOOKED_AT, cap
from balancer.store.records import JournalReader

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = (RunEnd.DONE, (MigrationState.DONE,))
BAD = (RunEnd.IN_PART, (MigrationState.DONE, MigrationState.FAILED))
ASTRAY = (RunEnd.IN_PART, (MigrationState.UNKNOWN,))
CANCELLED = (RunEnd.CANCELLED, (MigrationState.DONE, MigrationState.CANCELLED))
NOTHING = (RunEnd.DONE, ())
Run = tuple[RunEnd | None, Sequence[MigrationState]]


@dataclass
class Journal:
    """The runs of one cluster, oldest first, as the journal's reader gives them."""

    past: Sequence[Run]
    asked: list[tuple[str, int]] = field(default_factory=list)

    def telling_runs(self, cluster: str, limit: int) -> list[Any]:
        self.asked.append((cluster, limit))
        numbered = [SimpleNamespace(id=n, end=end) for n, (end, _) in enumerate(self.past)]
        return numbered[::-1][:limit]

    def moves(self, run: int) -> list[Any]:
        return [SimpleNamespace(state=state) for state in self.past[run][1]]


def most(past: Sequence[Run], first_run: int = 1) -> int | None:
    return cap(cast("JournalReader", Journal(past)), "PROD", first_run)


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], 1),
        ([GOOD], 2),
        ([GOOD, GOOD], 4),
        ([GOOD] * 5, 32),
        ([GOOD, GOOD, BAD], 1),
        ([GOOD, GOOD, BAD, GOOD], 2),
        ([GOOD, ASTRAY], 1),
        ([GOOD, CANCELLED, NOTHING], 2),
        ([GOOD, (None, (MigrationState.RUNNING,))], 2),
    ],
)
def test_it_doubles_with_each_success_and_begins_anew_after_a_failure(
    past: list[Run], expected: int
) -> None:
    assert most(past) == expected


def test_after_enough_successes_there_is_no_cap_until_the_next_failure() -> None:
    assert most([GOOD] * 6) is None
    assert ENOUGH == 2**6
    assert most([GOOD] * RUNS_LOOKED_AT) is None
    assert most([GOOD] * RUNS_LOOKED_AT + [BAD]) == 1


def test_the_first_run_may_be_larger_and_zero_is_no_cap() -> None:
    assert most([], first_run=5) == 5
    assert most([GOOD], first_run=5) == 10
    assert most([GOOD, BAD], first_run=5) == 5
    assert most([BAD], first_run=0) is None
