"""One failure, rehearsed: which host takes what, one restart after another.

Shapes as in `balancer.planner.drill`: N VMs, H hosts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from balancer.planner.screen import Pairs

if TYPE_CHECKING:  # a drill rehearses
    from balancer.planner.drill import Band, Drill

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNBOUND = np.iinfo(np.int64).max


@dataclass(slots=True)
class Rehearsal:
    """One failure: what restarts where, and what of it depended on how much was free.

    Attributes:
        is_known: Whether it was gone through; else no more is known than that all is survived.
        lost: The VMs that find no host.
        takers: The hosts that took any.
        reach: For each size that was looked for, the largest hole (bytes, host) that took it; a
            smaller one on another host, had it been large enough, would have come before it.
        may_be_bound: Whether rules or facts bind any of what restarts, as far as is known.
    """

    is_known: bool = True
    lost: list[int] = field(default_factory=list)
    takers: set[int] = field(default_factory=set)
    reach: dict[int, tuple[int, int]] = field(default_factory=dict)
    may_be_bound: bool = False

    def would_differ(self, host: int, free: int) -> bool:
        """Tell whether it might, had this host, and no other, another amount free: this much."""
        if host in self.takers or not self.is_known:
            return True
        return any(size <= free and (free, host) < hole for size, hole in self.reach.items())


class State:
    """One placement, and what restarts on it after one failure or another."""

    def __init__(self, drill: Drill, place: Ints, free: Ints, up: Bools, flying: Pairs) -> None:
        self.drill, self.flying = drill, flying
        hosts = len(free)
        self.at = place[drill.ranked]
        self.free, self.up = free.tolist(), np.flatnonzero(up).tolist()
        self.kept = np.bincount(place, drill.reserve, minlength=hosts).astype(np.int64)
        self.place = place
        self._there: dict[int, Ints] = {}

    def there(self, band: int) -> Ints:
        """Return the (H,) members of a band on each host."""
        if band not in self._there:
            at = self.place[self.drill.bands[band].members]
            self._there[band] = np.bincount(at, minlength=len(self.free)).astype(np.int64)
        return self._there[band]

    def rehearsed(self, failed: tuple[int, ...]) -> Rehearsal:
        """Return what happens when `failed` fail."""
        drill, restart, found = self.drill, _Restart(self, failed), Rehearsal()
        free, reach = self.free, found.reach
        if back := [(vm, host) for vm, host in self.flying if self.place[vm] in failed]:
            free = free.copy()  # what was on its way has broken off
            for vm, host in back:
                free[host] += int(drill.memory[vm])
        rooms = sorted((free[host], host) for host in self.up if host not in failed)
        drill.rehearsals += len(failed)
        ranks = drill.ranks(failed)
        for rank, less, _, vms in self._pieces(drill.ranked[restart.gone[self.at]]):
            if rank >= ranks:
                break
            size = -less
            bound = bool(drill.bound[vms[0]])
            at = bisect_left(rooms, (size, -1))
            if bound:
                found.may_be_bound = True
                able = restart.able(vms)
                while at < len(rooms) and not able[rooms[at][1]]:
                    at += 1
            if at == len(rooms):
                found.lost += [vm for vm in vms if drill.rank[vm] < ranks]
                reach[size] = (UNBOUND, 0)
                continue
            hole = rooms.pop(at)
            room, host = hole
            insort(rooms, (room - size, host))
            found.takers.add(host)
            if size not in reach or hole > reach[size]:
                reach[size] = hole
            if bound:
                restart.begun(vms, host)
        return found

    def _pieces(self, ranked: Ints) -> Sequence[tuple[int, int, int, list[int]]]:
        """Return (rank, bytes below zero, first, VMs) of what restarts as one, in that order."""
        drill = self.drill
        alone = ranked[~drill.joined[ranked]]
        keys = drill.rank[alone].tolist(), (-drill.size[alone]).tolist(), alone.tolist()
        pieces = [(rank, less, vm, [vm]) for rank, less, vm in zip(*keys, strict=True)]
        if len(alone) == len(ranked):
            return pieces
        found: dict[int, list[int]] = {}
        for vm in ranked[drill.joined[ranked]].tolist():
            found.setdefault(int(drill.lead[vm]), []).append(vm)
        pieces += [
            (int(drill.rank[vms].min()), -int(drill.size[vms].sum()), min(vms), vms)
            for vms in found.values()
        ]
        return sorted(pieces)


class _Restart:
    """What rules and reserves leave to the VMs that restart, one after another."""

    def __init__(self, state: State, failed: tuple[int, ...]) -> None:
        self.state, self.drill = state, state.drill
        self.gone = np.zeros(len(state.free), dtype=bool)
        self.gone[list(failed)] = True
        self.kept = state.kept
        self.counts: dict[int, Ints] = {}  # (D,) of bands, once asked for
        self.limits = self.drill.limits(failed)

    def able(self, vms: list[int]) -> Bools:
        """Return the (H,) hosts on which rules and reserves let VMs start now, all of them."""
        drill = self.drill
        able: Bools = np.asarray(drill.permits[drill.kind[vms]].all(axis=0))
        if reserve := int(drill.reserve[vms].sum()):
            able = able & (self.kept + reserve <= drill.reservable)
        for number, more in self._bands(vms).items():
            band = drill.bands[number]
            if number not in self.counts:
                there = self.state.there(number)
                self.counts[number] = band.domains[:, ~self.gone] @ there[~self.gone]
            able = able & _open(band, self.counts[number], more, self.limits.get(number))
        return able

    def _bands(self, vms: list[int]) -> Mapping[int, int]:
        """Return the bands of VMs, and how many of these each is about."""
        return Counter(number for vm in vms for number in self.drill.bands_of.get(vm, ()))

    def begun(self, vms: list[int], host: int) -> None:
        """Count VMs that have restarted."""
        if reserve := int(self.drill.reserve[vms].sum()):
            self.kept = self.kept.copy()
            self.kept[host] += reserve
        for number, more in self._bands(vms).items():
            domains = self.drill.bands[number].domains
            self.counts[number] = self.counts[number] + more * domains[:, host]


def _open(band: Band, counts: Ints, more: int, limit: int | None) -> Bools:
    """Return the (H,) hosts on which a band lets so many more of its VMs start."""
    if band.limit is None:
        occupied = counts > 0
        if not occupied.any():
            return np.ones(band.domains.shape[1], dtype=bool)
        return np.asarray(~band.domains[~occupied].any(axis=0))
    full = counts + more > (band.limit if limit is None else limit)
    return np.asarray(~band.domains[full].any(axis=0))
