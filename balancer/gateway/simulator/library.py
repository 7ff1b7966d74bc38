"""The real sizes and load shapes that come with the package; origin and licence are in data/."""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from balancer.gateway.simulator.load import Shape

SAMPLES_A_SHAPE = 2016  # a week
_DATA = resources.files("balancer.gateway.simulator") / "data"


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size that VMs are asked for in, and how often."""

    vcpus: int
    memory_gib: int
    weight: int


@cache
def shapes() -> tuple[Shape, ...]:
    """Return the CPU use of 50 business-critical VMs over a week; most idle, some busy by day."""
    packed = (_DATA / "bitbrains-cpu-week.bin").read_bytes()
    samples = zlib.decompress(packed)
    return tuple(
        Shape(samples[at : at + SAMPLES_A_SHAPE]) for at in range(0, len(samples), SAMPLES_A_SHAPE)
    )


@cache
def flavors() -> tuple[Flavor, ...]:
    """Return the sizes of a large cloud's VM requests."""
    text = (_DATA / "huawei-flavors.csv").read_text("utf-8")
    rows = csv.reader(text.splitlines()[1:])
    return tuple(Flavor(int(vcpus), int(gib), int(vms)) for vcpus, gib, vms in rows)
