"""The failure table: complete, unsigned, bounded, and silent about texts."""

from __future__ import annotations

import re

import pytest

from balancer.execute.failures import (
    FAILURES,
    PATIENCE,
    Reaction,
    failure_of,
    retry_delay_s,
    sentence,
)


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_every_row_says_what_it_is_and_what_to_do(code: int) -> None:
    failure = FAILURES[code]
    assert 0x80000000 <= code <= 0xFFFFFFFF
    assert failure.what
    assert failure.remedy
    assert f"0x{code:08X}" in sentence(code)
    assert re.match(r"[a-z]", failure.what)


def test_unknown_and_missing_codes_are_given_up_on() -> None:
    for code in (None, 0x80004005, 0x12345678):
        assert failure_of(code).reaction is Reaction.QUARANTINE
        assert retry_delay_s(code, 1) is None
    assert "0x12345678" in sentence(0x12345678, "Zugriff verweigert")
    assert "Zugriff verweigert" in sentence(None, "Zugriff verweigert")


@pytest.mark.parametrize("reaction", list(Reaction))
def test_only_what_passes_is_tried_again_and_not_for_ever(reaction: Reaction) -> None:
    code = next(code for code, failure in FAILURES.items() if failure.reaction is reaction)
    delays = [retry_delay_s(code, attempt) for attempt in range(1, 100)]
    if reaction not in PATIENCE:
        assert delays == [None] * 99
        return
    tried = [delay for delay in delays if delay is not None]
    assert len(tried) == PATIENCE[reaction].attempts
    assert tried == sorted(tried)
    assert delays[len(tried) :] == [None] * (99 - len(tried))
    assert 0 < tried[0] <= tried[-1] <= PATIENCE[reaction].delay_max_s
