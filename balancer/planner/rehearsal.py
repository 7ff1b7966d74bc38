"""One failure, rehearsed: which host takes what, one restart after another.

Shapes as in `balancer.planner.drill`: N VMs, H hosts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from balancer.planner.screen import Pairs

if TYPE_CHECKING:  # a drill rehearses
    from balancer.planner.drill import Drill

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNBOUND = np.iinfo(np.int64).max
RESERVES = -1  # in the place of a band: the processors that VMs reserve


@dataclass(slots=True)
class Rehearsal:
    """One failure: what restarts where, and what of it depended on how much was free.

    Attributes:
        is_known: Whether it was gone through; else no more is known than that all is survived.
        lost: The VMs that find no host.
        takers: The hosts that took any.
        reach: For each size that was looked for, the largest hole (bytes, host) that took it; a
            smaller one on another host, had it been large enough, would have come before it.
        asked: The bands, and `RESERVES`, by which VMs elsewhere kept any of what restarts from a
            host, or might have.
    """

    is_known: bool = True
    lost: list[int] = field(default_factory=list)
    takers: set[int] = field(default_factory=set)
    reach: dict[int, tuple[int, int]] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)

    def heeds(self, counted: Collection[int]) -> bool:
        """Tell whether it might differ, were a VM elsewhere that so counts (`Drill.counted_in`)."""
        return not self.is_known or not self.asked.isdisjoint(counted)

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
        self.kept = np.bincount(place, drill.reserve, minlength=hosts).astype(np.int64).tolist()
        self.place = place
        self._counts: dict[int, tuple[list[int], list[int]]] = {}

    def counts(self, number: int, failed: tuple[int, ...]) -> list[int]:
        """Return how many members of a band are in each of its domains once hosts have failed."""
        band = self.drill.bands[number]
        if number not in self._counts:
            there = np.bincount(self.place[band.members], minlength=len(self.free))
            self._counts[number] = there.tolist(), (band.domains @ there).tolist()
        there_of, every = self._counts[number]
        left = every.copy()
        for host in failed:
            for domain in band.domains_of[host]:
                left[domain] -= there_of[host]
        return left

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
            at = bisect_left(rooms, (size, -1))
            if bound := drill.is_bound[vms[0]]:
                at = restart.first(vms, rooms, at, found.asked)
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
    """What rules and reserves leave to the VMs that restart, one after another.

    Plain lists and the hosts one by one: mostly one of the first few takes what restarts.
    """

    def __init__(self, state: State, failed: tuple[int, ...]) -> None:
        self.state, self.drill, self.failed = state, state.drill, failed
        self.gone = np.zeros(len(state.free), dtype=bool)
        self.gone[list(failed)] = True
        self.kept = state.kept
        self.counts: dict[int, list[int]] = {}  # (D,) of bands, once asked for
        self.limits = self.drill.limits(failed)

    def first(
        self, vms: list[int], rooms: Sequence[tuple[int, int]], at: int, asked: set[int]
    ) -> int:
        """Return the first of `rooms` from `at` on where all `vms` may start; else their number.

        What is counted for it is noted in `asked`.
        """
        drill, kept, reserve = self.drill, self.kept, self._reserve(vms)
        kinds = {drill.kinds[vm] for vm in vms}
        permits = [drill.permitted[kind] for kind in kinds]
        permit = permits[0] if len(kinds) == 1 else [all(row) for row in zip(*permits, strict=True)]
        about = self._bands(vms)
        bands = [self._open(number, more) for number, more in about]
        asked.update(number for number, _ in about)
        if reserve:
            asked.add(RESERVES)
        for number in range(at, len(rooms)):
            host = rooms[number][1]
            if not permit[host] or (reserve and kept[host] + reserve > drill.reservables[host]):
                continue
            for of, counts, allowed in bands:
                if not all(counts[domain] in allowed for domain in of[host]):
                    break
            else:
                return number
        return len(rooms)

    def _open(self, number: int, more: int) -> tuple[list[list[int]], list[int], range]:
        """Return the domains of each host, how many are in each, and how many may be."""
        band = self.drill.bands[number]
        if number not in self.counts:
            self.counts[number] = self.state.counts(number, self.failed)
        counts = self.counts[number]
        if band.limit is None:  # a unit gains no domain once it has any
            return band.domains_of, counts, range(1 if any(counts) else 0, UNBOUND)
        limit = self.limits.get(number, band.limit)
        return band.domains_of, counts, range(max(0, limit - more + 1))

    def _bands(self, vms: list[int]) -> list[tuple[int, int]]:
        """Return the bands of VMs, and how many of these each is about."""
        bands_of = self.drill.bands_of
        if len(vms) == 1:
            return [(number, 1) for number in bands_of.get(vms[0], ())]
        return list(Counter(number for vm in vms for number in bands_of.get(vm, ())).items())

    def _reserve(self, vms: list[int]) -> int:
        """Return the thousandths of processors that VMs reserve."""
        reserves = self.drill.reserves
        return reserves[vms[0]] if len(vms) == 1 else sum(reserves[vm] for vm in vms)

    def begun(self, vms: list[int], host: int) -> None:
        """Count VMs that have restarted."""
        if reserve := self._reserve(vms):
            self.kept = self.kept.copy()
            self.kept[host] += reserve
        for number, more in self._bands(vms):
            for domain in self.drill.bands[number].domains_of[host]:
                self.counts[number][domain] += more
