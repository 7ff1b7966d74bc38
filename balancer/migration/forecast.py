"""How long one live migration takes at a given rate: set-up, pre-copy passes, blackout.

Pass 0 copies all memory; each later pass copies what the guest dirtied during the one before,
until little enough is left to stop the guest for, or passes run out. The last remainder and
the switch make the blackout. Phases as described for Hyper-V by its own migration counters.
"""

from __future__ import annotations

from dataclasses import dataclass

SETUP_S = 4.0  # handshake, planned VM on the target, memory reservation: 2 to 5 s reported
SWITCH_S = 0.5  # device state, MAC announcement: 0.3 to 1 s reported
PASSES_MAX = 10  # pre-copy passes after which the guest is stopped whatever remains
REMAINDER_BYTES = 64 * 2**20  # little enough to stop the guest for
BYTES_MAX = 2**63 - 1  # what documents hold; eleven passes over 2^61 bytes are more
DIRTY_SHARE_DEFAULT = 0.002  # of assigned memory dirtied each second where nothing was measured


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one migration is expected to take. `bytes` is memory copied, before compression."""

    duration_s: float
    blackout_s: float
    passes: int
    bytes: int


def dirty_rate(memory_bytes: int, measured: float | None) -> float:
    """Return the dirty rate in bytes per second: measured, or a prior for the memory's size."""
    return measured if measured is not None else memory_bytes * DIRTY_SHARE_DEFAULT


def forecast(memory_bytes: int, dirty_bytes_per_s: float, rate_bytes_per_s: float) -> Forecast:
    """Forecast a migration of `memory_bytes` at a constant rate.

    Raises:
        ValueError: The rate is not above zero.
    """
    if rate_bytes_per_s <= 0:
        raise ValueError(f"a migration needs a rate above zero, not {rate_bytes_per_s}")
    remaining = float(memory_bytes)
    copied = 0.0
    seconds = 0.0
    passes = 0
    while passes < PASSES_MAX:
        took = remaining / rate_bytes_per_s
        seconds += took
        copied += remaining
        passes += 1
        dirtied = min(float(memory_bytes), dirty_bytes_per_s * took)
        if dirtied <= REMAINDER_BYTES:
            remaining = dirtied
            break
        remaining = dirtied
    blackout = remaining / rate_bytes_per_s + SWITCH_S
    return Forecast(
        duration_s=SETUP_S + seconds + blackout,
        blackout_s=blackout,
        passes=passes,
        bytes=min(BYTES_MAX, round(copied + remaining)),
    )
