"""What the recent past leaves of a task: who is left alone, and what the day's budget still gives.

Indices are those of the task's hosts and VMs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from balancer.model.past import Past


@dataclass(frozen=True)
class Calm:
    """What of the past binds a plan; without a past, nothing does.

    Attributes:
        exempt: (N,) VMs that cool-downs and budgets do not bind: they have to move.
        kept: Why VMs stay where they are.
        never_back: Why VMs do not go to certain hosts, by VM and host.
        cooled: Why hosts take part in nothing that need not be.
        day_moves: Migrations that may still be made today besides the exempt ones; None is any.
        day_bytes: Bytes that they may copy.
        restraint: Why the plan goes less far than the policy's goal; empty if it does not.
    """

    past: Past | None = None
    exempt: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    kept: Mapping[int, str] = field(default_factory=dict)
    never_back: Mapping[tuple[int, int], str] = field(default_factory=dict)
    cooled: Mapping[int, str] = field(default_factory=dict)
    day_moves: int | None = None
    day_bytes: int | None = None
    restraint: str = ""

    def binds(self, vm: int) -> bool:
        """Tell whether cool-downs and budgets hold for a VM."""
        return self.past is not None and not self.exempt[vm]

    def against(self, vm: int, source: int, target: int) -> tuple[str, ...]:
        """Return what the past has against a migration."""
        if not self.binds(vm):
            return ()
        told = (
            self.kept.get(vm),
            self.never_back.get((vm, target)),
            self.cooled.get(source),
            self.cooled.get(target),
        )
        return tuple(text for text in told if text)


FREE = Calm()
