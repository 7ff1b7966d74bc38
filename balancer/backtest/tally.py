"""What a replay is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from balancer.model.past import PastMove

THRASH_S = 86_400.0  # a VM that is back on a host it left within this has been moved for nothing
WEEK_H = 168.0


@dataclass(frozen=True)
class Tally:
    """The figures of one replay.

    Attributes:
        label: Whose replay it is.
        hours: How long it went.
        vms: How many VMs ran, on average.
        migrations: How many VMs were moved.
        migrations_per_vm_week: The same for each VM and week.
        gib: Memory copied.
        thrash: Migrations that were undone within a day.
        overload_hours: Host hours above a threshold.
        excess_hours: Hours times the share of a host above its threshold.
        violation_hours: Hours times hard rules broken.
        imbalance_p95: The 95th percentile of how far the furthest host is off the mean, 0..1.
        awake_hours: Host hours in which a host carried VMs; what is left of them could sleep.
        moves: The migrations, in order.
        overloaded: (T,) hosts above a threshold at each moment.
    """

    label: str
    hours: float
    vms: float
    migrations: int
    migrations_per_vm_week: float
    gib: float
    thrash: int
    overload_hours: float
    excess_hours: float
    violation_hours: float
    imbalance_p95: float
    awake_hours: float
    moves: tuple[PastMove, ...] = field(default=(), repr=False)
    overloaded: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False
    )

    def figures(self) -> dict[str, float]:
        """Return what may be limited, by name."""
        return {name: float(getattr(self, name)) for name in FIGURES}


FIGURES = tuple(
    one.name for one in fields(Tally) if one.name not in ("label", "vms", "moves", "overloaded")
)


def undone(moves: tuple[PastMove, ...]) -> int:
    """Return how many moves brought a VM back to a host that it had left within a day."""
    count = 0
    left: dict[tuple[str, str], float] = {}
    for move in moves:
        at_s = move.at.timestamp()
        before_s = left.get((move.vm, move.target))
        count += before_s is not None and at_s - before_s < THRASH_S
        left[move.vm, move.source] = at_s
    return count
