"""What was read of VMs over time, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
HOUR_S = 3600.0


@dataclass(frozen=True)
class Readings:
    """Readings of N VMs at T moments, of one cluster. What was not read is NaN.

    Attributes:
        at_s: (T,) seconds since 1970, ascending.
        vms: Ids of the VMs, one a column.
        work: (T, N) CPU use as cores times the speed of the host that it was read on.
        memory: (T, N) bytes assigned.
    """

    at_s: Floats
    vms: tuple[str, ...]
    work: Floats
    memory: Floats

    @cached_property
    def column(self) -> Mapping[str, int]:
        """Map ids of VMs to their columns."""
        return {vm: at for at, vm in enumerate(self.vms)}

    @property
    def span_s(self) -> float:
        """Seconds between the first reading and the last."""
        return float(self.at_s[-1] - self.at_s[0]) if len(self.at_s) else 0.0

    def since(self, at_s: float) -> Readings:
        """Return what was read from `at_s` on."""
        first = int(np.searchsorted(self.at_s, at_s))
        return Readings(self.at_s[first:], self.vms, self.work[first:], self.memory[first:])

    def of(self, vms: tuple[str, ...]) -> Readings:
        """Return the columns of `vms`, in their order; a VM that was never read is all NaN."""
        at = np.array([self.column.get(vm, len(self.vms)) for vm in vms], dtype=np.int64)
        work, memory = (
            np.column_stack([rows, np.full(len(self.at_s), np.nan)])[:, at]
            for rows in (self.work, self.memory)
        )
        return Readings(self.at_s, vms, work, memory)

    def hourly(self) -> Readings:
        """Return the means of whole hours, one row an hour from the first to the last."""
        if not len(self.at_s):
            return self
        hour = (self.at_s // HOUR_S).astype(np.int64)
        rows = hour - hour[0]
        hours = (np.arange(int(rows[-1]) + 1) + hour[0]) * HOUR_S
        return Readings(hours, self.vms, _means(self.work, rows), _means(self.memory, rows))


def _means(values: Floats, rows: npt.NDArray[np.int64]) -> Floats:
    known = ~np.isnan(values)
    total = np.zeros((int(rows[-1]) + 1, values.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, rows, np.where(known, values, 0.0))
    np.add.at(count, rows, known)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def empty(vms: tuple[str, ...] = ()) -> Readings:
    """Return readings of nothing yet."""
    nothing = np.empty((0, len(vms)))
    return Readings(np.empty(0), vms, nothing, nothing)
