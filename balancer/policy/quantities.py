"""Quantities as people write them: sizes, durations, rates, percentages, counts, flags.

Every parser takes the text of a scalar and returns a number in the unit its name says, or
raises `ValueError` with a sentence on what was expected and an example. Numbers are decimal
(`012` is 12), units are always written, and nothing is guessed.
"""

from __future__ import annotations

import re
from decimal import Decimal

INTEGER_MAX = 2**63 - 1  # what documents and stores hold

_SIZES = {unit: 1024**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))}
_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATES = {
    unit: 1000**power
    for power, unit in enumerate(("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))
}
_QUANTITY = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?) ?(?P<unit>[A-Za-z%][A-Za-z/%]*)")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_COUNT = re.compile(r"[0-9]{1,18}")
_SHOWN_MAX = 60  # characters of a value that a message repeats


def shown(value: object) -> str:
    """Return `value` as a message shows it: quoted, escaped, not longer than a line."""
    text = value if isinstance(value, str) else str(value)
    cut = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
    return repr(cut)


def parse_size(text: str) -> int:
    """Return bytes from a size such as `32 GiB`."""
    return _whole(text, _SIZES, "a size with its unit (B, KiB, MiB, GiB, TiB)", "32 GiB")


def parse_duration(text: str) -> float:
    """Return seconds from a duration such as `90s`, `15m`, `4h` or `2d`."""
    return float(_quantity(text, _DURATIONS, "a duration with its unit (s, m, h, d)", "15m"))


def parse_rate(text: str) -> float:
    """Return bits per second from a rate such as `10 Gbit/s`."""
    return float(
        _quantity(text, _RATES, "a rate with its unit (kbit/s, Mbit/s, Gbit/s)", "10 Gbit/s")
    )


def parse_percent(text: str) -> float:
    """Return a fraction 0.01..1 from a percentage such as `80%`."""
    value = _quantity(text, {"%": 1}, "a percentage from 1% to 100%", "80%")
    if not 1 <= value <= 100:  # noqa: PLR2004 -- the bounds of a percentage
        raise ValueError(f"expected a percentage from 1% to 100%, for example 80%, not {text!r}")
    return float(value / 100)


def parse_count(text: str) -> int:
    """Return a whole number from digits such as `12`."""
    if not _COUNT.fullmatch(text.strip()):
        raise ValueError(f"expected a whole number, for example 12, not {shown(text)}")
    return int(text)


def parse_number(text: str) -> float:
    """Return a number from decimal digits such as `1.5`."""
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"expected a number, for example 1.5, not {shown(text)}")
    return float(text)


def parse_flag(text: str) -> bool:
    """Return a truth value from `true` or `false`, the only two words for it."""
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, not {shown(text)}")
    return text == "true"


def format_size(size_bytes: float) -> str:
    """Return bytes in the largest binary unit that leaves at least one: `1.5 GiB`."""
    unit = next((u for u, factor in reversed(_SIZES.items()) if size_bytes >= factor), "B")
    return f"{size_bytes / _SIZES[unit]:.1f}".removesuffix(".0") + f" {unit}"


def format_rate(bits_per_s: float) -> str:
    """Return bits per second in the largest decimal unit that leaves at least one."""
    unit = next((u for u, factor in reversed(_RATES.items()) if bits_per_s >= factor), "bit/s")
    return f"{bits_per_s / _RATES[unit]:.1f}".removesuffix(".0") + f" {unit}"


def format_percent(share: float) -> str:
    """Return a fraction 0..1 as a percentage: `80%`."""
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"


def format_duration(seconds: float) -> str:
    """Return seconds in the largest unit that divides them: `15m`, `90s`."""
    whole = round(seconds)
    if not whole:
        return "0s"
    unit = next(u for u, factor in reversed(_DURATIONS.items()) if whole % factor == 0)
    return f"{whole // _DURATIONS[unit]}{unit}"


def _quantity(text: str, units: dict[str, int], expected: str, example: str) -> Decimal:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match["unit"] not in units:
        raise ValueError(f"expected {expected}, for example {example}, not {shown(text)}")
    return Decimal(match["number"]) * units[match["unit"]]


def _whole(text: str, units: dict[str, int], expected: str, example: str) -> int:
    value = int(_quantity(text, units, expected, example))
    if value > INTEGER_MAX:
        raise ValueError(f"expected {expected} below 2^63 bytes, for example {example}")
    return value
