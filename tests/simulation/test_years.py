"""Days of the whole service among every kind of trouble, by seed; see `tests.simulation.years`.

Reproduce a failing seed with `python -m tests.simulation.years --world small --seeds 17 --verbose`.
"""

from __future__ import annotations

import pytest

from tests.simulation.years.run import run

FAST, ALL = 40, 200  # `make sim` runs 10,000


@pytest.mark.parametrize("first", range(0, FAST, 5))
def test_whatever_happens_for_two_days(first: int) -> None:
    check(range(first, first + 5))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FAST, ALL, 20))
def test_whatever_happens_for_many_times_two_days(first: int) -> None:
    check(range(first, first + 20))


def check(seeds: range) -> None:
    failed = {seed: outcome.broken for seed in seeds if (outcome := run(seed)).broken}
    assert not failed


def test_a_seed_is_the_same_every_time() -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        run(3, log=lines.append)
    assert told[0] == told[1]
    assert len(told[0]) > 50
