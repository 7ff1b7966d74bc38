"""Quantities as people write them, and what is said when they write them otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.policy import quantities as q


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (q.parse_size, "32 GiB", 32 * 2**30),
        (q.parse_size, "1.5GiB", 3 * 2**29),
        (q.parse_size, "512 B", 512),
        (q.parse_size, " 4 TiB ", 4 * 2**40),
        (q.parse_duration, "90s", 90.0),
        (q.parse_duration, "15m", 900.0),
        (q.parse_duration, "4h", 14400.0),
        (q.parse_duration, "2d", 172800.0),
        (q.parse_duration, "0.5h", 1800.0),
        (q.parse_rate, "10 Gbit/s", 10e9),
        (q.parse_rate, "100 Mbit/s", 1e8),
        (q.parse_percent, "80%", 0.8),
        (q.parse_percent, "1 %", 0.01),
        (q.parse_percent, "100%", 1.0),
        (q.parse_percent, "82.5%", 0.825),
        (q.parse_count, "012", 12),
        (q.parse_number, "1.5", 1.5),
        (q.parse_flag, "true", True),
        (q.parse_flag, "false", False),
    ],
)
def test_what_is_understood(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (q.parse_size, "32", "32 GiB"),
        (q.parse_size, "32 GB", "GiB"),  # 10^9 or 2^30? never guessed
        (q.parse_size, "-1 GiB", "a size"),
        (q.parse_size, "1e3 GiB", "a size"),
        (q.parse_size, "9999999 PiB", "2^63"),
        (q.parse_size, "٣ GiB", "a size"),
        (q.parse_duration, "90", "15m"),
        (q.parse_duration, "90 sec", "15m"),
        (q.parse_duration, "1h30m", "a duration"),
        (q.parse_rate, "10 GB/s", "10 Gbit/s"),
        (q.parse_rate, "10", "10 Gbit/s"),
        (q.parse_percent, "80", "80%"),
        (q.parse_percent, "0.8", "80%"),
        (q.parse_percent, "0%", "1% to 100%"),
        (q.parse_percent, "101%", "1% to 100%"),
        (q.parse_percent, "-5%", "a percentage"),
        (q.parse_count, "-1", "a whole number"),
        (q.parse_count, "0x10", "a whole number"),
        (q.parse_count, "1.0", "a whole number"),
        (q.parse_count, "9" * 5000, "a whole number"),
        (q.parse_number, "nan", "a number"),
        (q.parse_flag, "no", "true or false"),
        (q.parse_flag, "True", "true or false"),
    ],
)
def test_what_is_refused_and_what_was_expected(
    parse: Callable[[str], object], text: str, told: str
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.integers(1, 999), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_a_size_written_by_us_is_read_by_us(number: int, unit: str) -> None:
    size = q.parse_size(f"{number} {unit}")
    assert q.parse_size(q.format_size(size)) == size


@given(st.integers(1, 10**6))
def test_a_duration_written_by_us_is_read_by_us(seconds: int) -> None:
    assert q.parse_duration(q.format_duration(seconds)) == seconds


@given(st.integers(1, 10000))
def test_a_percentage_written_by_us_is_read_by_us(hundredths: int) -> None:
    if hundredths >= 100:
        share = hundredths / 10000
        assert q.parse_percent(q.format_percent(share)) == share


def test_rates_are_shown_in_the_unit_that_fits() -> None:
    assert q.format_rate(25e9) == "25 Gbit/s"
    assert q.format_rate(2.5e6) == "2.5 Mbit/s"


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (q.parse_size, q.parse_duration, q.parse_rate, q.parse_percent):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
