"""What a VM asks for over time: a shape that repeats, scaled to the VM.

A load is a pure function of virtual time, so that a world can be asked at any instant, in any
order, and always tells the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

SAMPLE_S = 300.0  # spacing of a shape's samples, that of the recorded traces


@dataclass(frozen=True)
class Shape:
    """Samples in 0..1 (stored as 0..200), `SAMPLE_S` apart, repeated without end."""

    samples: bytes

    def at(self, seconds: float) -> float:
        """Return the value at a time, straight lines between samples."""
        place, fraction = divmod(seconds / SAMPLE_S, 1.0)
        here = int(place) % len(self.samples)
        low = self.samples[here]
        high = self.samples[(here + 1) % len(self.samples)]
        return (low + (high - low) * fraction) / 200.0

    @cached_property
    def mean(self) -> float:
        """The average over one round."""
        return sum(self.samples) / len(self.samples) / 200.0


FLAT = Shape(bytes([200]))


@dataclass(frozen=True, slots=True)
class Load:
    """A VM's appetite: a floor plus a share that follows the shape.

    Attributes:
        base_cores: Used whatever the shape says.
        swing_cores: Used on top when the shape is at 1.
        shape: The course over time.
        offset_s: Where in the shape the VM is when the world begins.
        demand_fraction: Memory demand when idle, as a share of assigned memory.
        demand_swing: What the shape adds to that at 1.
        dirty_bytes_per_s: Memory dirtied each second when idle.
        dirty_swing_bytes_per_s: What the shape adds to that at 1.
    """

    base_cores: float = 0.1
    swing_cores: float = 0.0
    shape: Shape = FLAT
    offset_s: float = 0.0
    demand_fraction: float = 0.7
    demand_swing: float = 0.0
    dirty_bytes_per_s: float = 10e6
    dirty_swing_bytes_per_s: float = 0.0

    def cores(self, seconds: float) -> float:
        """Return the logical processors wanted at a time."""
        if not self.swing_cores:
            return self.base_cores
        return self.base_cores + self.swing_cores * self.shape.at(seconds + self.offset_s)

    def demand(self, seconds: float, assigned_bytes: int) -> int:
        """Return the memory wanted at a time, in bytes."""
        share = self.demand_fraction
        if self.demand_swing:
            share += self.demand_swing * self.shape.at(seconds + self.offset_s)
        return int(assigned_bytes * share)

    def dirty(self, seconds: float) -> float:
        """Return the memory dirtied each second at a time, in bytes."""
        if not self.dirty_swing_bytes_per_s:
            return self.dirty_bytes_per_s
        swing = self.dirty_swing_bytes_per_s * self.shape.at(seconds + self.offset_s)
        return self.dirty_bytes_per_s + swing
