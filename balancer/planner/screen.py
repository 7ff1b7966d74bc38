"""Which failures are survived for certain, seen for all of them at once.

Sizes of restarts are gathered in a few classes. A VM of size s takes no more than ceil(s / c) of
the places of size c that hosts have free, wherever it goes. So a VM of class c finds a host if all
hosts that are surely open to it have more places of size c than it and all that come before it (of
higher priority, or of the same and no smaller) take: and that is a comparison of sums, whatever
the choices.

A host is surely open to a VM if its rules could not close it even if every VM of the same rule that
restarts went there. Where a cap speaks of single hosts, each other VM of it that restarts closes no
more than one of those that are open now: the roomiest are left out. What this does not show is no
loss yet: it has to be rehearsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from balancer.policy.survival import RANKS

if TYPE_CHECKING:  # a drill has this as a part of it
    from balancer.planner.drill import Drill

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Pairs = Sequence[tuple[int, int]]  # VM and host
Value = TypeVar("Value", np.int64, np.bool_)

CLASSES_MAX = 12  # of sizes; more see a little further, and each costs a sweep over the VMs


class Screen:
    """What of a drill stays the same on all placements.

    Attributes:
        least: (J,) bytes of each class, rising; its VMs are no larger.
        actors: (P,) the VMs that restart, one for all that restart as one.
        takes: (S, P) places that each takes at a stage of the restart: of its class, by what comes
            no later. A stage is a priority and a class.
        row: (P,) row of those that are alike: same stage, same hosts, same bands.
        rows: For each row its stage, its bands, and whether it reserves processors.
    """

    def __init__(self, drill: Drill) -> None:
        self.drill = drill
        pieces = _pieces(drill)
        self.actors = np.array([piece[0] for piece in pieces], dtype=np.int64)
        sizes = np.array([max(1, int(drill.size[piece].sum())) for piece in pieces], dtype=np.int64)
        count = np.array([len(piece) for piece in pieces], dtype=np.int64)
        every = np.unique(sizes)
        picked = np.unique(np.linspace(0, len(every) - 1, CLASSES_MAX).round().astype(np.int64))
        self.least = every[picked] if len(every) else every
        rank = np.array([drill.rank[piece].min() for piece in pieces], dtype=np.int64)
        stages, stage, later = _stages(rank, np.searchsorted(self.least, sizes))
        self.takes = np.maximum(-(-sizes[None, :] // self.least[stages[1]][:, None]), count)
        self.takes[later] = 0
        known: dict[tuple[int, bytes, tuple[int, ...], bool, bool], int] = {}
        permits: list[Bools] = []
        self.row = np.zeros(len(sizes), dtype=np.int64)
        as_one = {at for at, band in enumerate(drill.bands) if band.is_of_one_host}
        for at, (piece, when) in enumerate(zip(pieces, stage.tolist(), strict=True)):
            bands = {band for vm in piece for band in drill.bands_of.get(vm, ())} - as_one
            may = np.asarray(drill.permits[drill.kind[piece]].all(axis=0))
            alone, reserves = len(piece) == 1, bool(drill.reserve[piece].any())
            key = (when, may.tobytes(), tuple(sorted(bands)), reserves, alone)
            if key not in known:
                permits.append(may)
            self.row[at] = known.setdefault(key, len(known))
        self.rows = tuple((when, bands, reserves) for when, _, bands, reserves, _ in known)
        self.single = np.array([[key[-1]] for key in known], dtype=bool)
        self.stage = np.array([row[0] for row in self.rows], dtype=np.int64)
        self.of_class = stages[1][self.stage]
        self.of_rank = stages[0][self.stage]
        self.permits = np.array(permits, dtype=bool)
        self.rank = np.full(len(drill.size), -1, dtype=np.int64)
        self.rank[self.actors] = np.arange(len(self.actors))
        # VMs that restart as one have to be in one place for that; else it has to be rehearsed.
        self.is_bound = drill.joined
        self.bound = np.flatnonzero(self.is_bound)
        self.restarts = np.zeros(len(drill.size), dtype=bool)
        self.restarts[drill.ranked] = True
        # Bands by their number, then the reserves of processors, then none.
        every_band, most = len(drill.bands), max((len(row[1]) for row in self.rows), default=0)
        self.binds = np.full((len(self.rows), most + 1), every_band + 1, dtype=np.int64)
        for at, (_, own, reserves) in enumerate(self.rows):
            binds = (*own, every_band) if reserves else own
            self.binds[at, : len(binds)] = binds
        self.domains = [band.domains.astype(np.int64) for band in drill.bands]
        single_hosts = [
            band.limit is not None
            and int(band.domains.sum()) == len(band.domains) == int(band.domains.any(axis=0).sum())
            for band in drill.bands
        ]
        self.alone = np.flatnonzero(single_hosts)  # bands that are caps on single hosts
        self.others = sorted(set(range(len(drill.bands))) - as_one - set(self.alone.tolist()))
        inside = [drill.bands[at].domains.any(axis=0) for at in self.alone.tolist()]
        self.inside = np.array(inside, dtype=bool).reshape(len(self.alone), len(drill.room))
        self.limits = [_limits(drill, sets) for sets in drill.sets]
        self.further_limits = _limits(drill, drill.further)
        members = [drill.bands[at].members for at in self.alone.tolist()]
        self.members = np.concatenate([np.zeros(0, dtype=np.int64), *members])
        self.member_of = np.repeat(np.arange(len(members)), [len(one) for one in members])

    def doubtful(
        self, place: Ints, free: Ints, up: Bools, more: Pairs = ()
    ) -> Iterator[tuple[int, ...]]:
        """Yield the failures that may not be survived.

        Args:
            place: (N,) host of each VM.
            free: (H,) bytes.
            up: (H,) hosts that take restarts.
            more: VMs that may be elsewhere as well, and where: what is not doubtful then is
                survived wherever each of them is, as long as no less is free.
        """
        if not len(self.rows):
            return
        look, torn = _Look(self, self._cast(place, more), free, up), self._torn(place, more)
        groups = zip(self.drill.sets, self.drill.counted, self.limits, strict=True)
        for sets, counted, limits in groups:
            doubt = look.short(sets, counted, limits) | torn[sets].any(axis=1)
            for number in np.flatnonzero(doubt).tolist():
                yield tuple(sets[number].tolist())

    def unsure(self, place: Ints, free: Ints, up: Bools) -> int:
        """Return how many failures of those too many to be rehearsed may not be survived."""
        sets = self.drill.further
        if not len(self.rows):
            return 0
        look = _Look(self, self._cast(place, ()), free, up)
        all_count = np.full(len(sets), len(RANKS))
        short = look.short(sets, all_count, self.further_limits)
        return int((short | self._torn(place, ())[sets].any(axis=1)).sum())

    def _torn(self, place: Ints, more: Pairs) -> Bools:
        """Return the (H,) hosts of VMs that would restart as one, and are not on one host."""
        lead = self.drill.lead
        torn = np.zeros(len(self.drill.room), dtype=bool)
        apart = place[self.bound] != place[lead[self.bound]]
        moving = [(vm, host) for vm, host in more if self.is_bound[vm]]
        broken = np.isin(
            lead[self.bound], [*lead[self.bound[apart]], *(lead[v] for v, _ in moving)]
        )
        torn[place[self.bound[broken]]] = True
        torn[[host for _, host in moving]] = True
        return torn

    def _cast(self, place: Ints, more: Pairs) -> _Cast:
        """Return who may be where: each VM at its place, and as an understudy where else it may."""
        drill = self.drill
        if not more:
            return _Cast(place, self.actors, self.row, self.takes, self.members, self.member_of)
        vm = np.array([one for one, _ in more], dtype=np.int64)
        at = np.concatenate([place, np.array([host for _, host in more], dtype=np.int64)])
        known = self.rank[vm]
        again = np.flatnonzero(known >= 0)
        ranked = np.concatenate([self.actors, len(place) + again])
        row = np.concatenate([self.row, self.row[known[again]]])
        takes = np.concatenate([self.takes, self.takes[:, known[again]]], axis=1)
        bands = [
            (len(place) + n, b) for n, (v, _) in enumerate(more) for b in drill.bands_of.get(v, ())
        ]
        alone = {int(band): number for number, band in enumerate(self.alone)}
        own = [(n, alone[band]) for n, band in bands if band in alone]
        members = np.concatenate([self.members, np.array([n for n, _ in own], dtype=np.int64)])
        member_of = np.concatenate([self.member_of, np.array([g for _, g in own], dtype=np.int64)])
        others: dict[int, list[int]] = {}
        for n, band in bands:
            if band in self.others:
                others.setdefault(band, []).append(n)
        return _Cast(at, ranked, row, takes, members, member_of, vm, others)

    def places(
        self, cast: _Cast, free: Ints, up: Bools, width: int, limits: Ints
    ) -> tuple[Ints, Ints]:
        """Return the (rows, H) places that hosts have for VMs of each row.

        And on how many hosts of each row (rows,) others that restart may take that away, where
        `width` hosts fail at a time.
        """
        drill = self.drill
        room = np.maximum(0, free)[None, :] // self.least[:, None] * up
        places: Ints = room[self.of_class] * self.permits
        surely = np.ones((len(drill.bands) + 2, len(free)), dtype=bool)
        closes = np.zeros(len(surely), dtype=np.int64)
        for band in self.others:
            surely[band] = self._open(band, cast, width, int(limits[band]))
        if drill.reserve.any():
            surely[-2] = self._reservable(cast, width)
        now = surely.copy()
        surely[self.alone], now[self.alone], closes[self.alone] = self._alone(
            cast, width, limits[self.alone][:, None]
        )
        closed = np.zeros(len(places), dtype=np.int64)
        for bind in self.binds.T:
            if (bind < len(surely) - 1).any():
                places = places * np.where(self.single, now[bind], surely[bind])
                closed += closes[bind] * self.single[:, 0]
        return places, closed

    def _alone(self, cast: _Cast, width: int, limits: Ints) -> tuple[Bools, Bools, Ints]:
        """Return for caps on single hosts (G, H) what is surely open, and what is open now.

        And (G,) how many of the latter others that restart may close.
        """
        shape = self.inside.shape
        at = cast.member_of * shape[1] + cast.at[cast.members]
        held = np.bincount(at, minlength=self.inside.size).reshape(shape)
        restarts = cast.of_vms(self.restarts)[cast.members]
        come = np.bincount(at, restarts, minlength=self.inside.size).astype(np.int64)
        most = _largest(come.reshape(shape), width)
        surely = ~self.inside | (held + most[:, None] <= limits)
        return surely, ~self.inside | (held < limits), np.maximum(0, most - 1)

    def _open(self, band: int, cast: _Cast, width: int, limit: int) -> Bools:
        """Return the (H,) hosts surely open to the VMs of a band."""
        one, moving = self.drill.bands[band], cast.others.get(band, [])
        members = np.concatenate([one.members, np.array(moving, dtype=np.int64)])
        at = cast.at[members]
        count = np.bincount(at, minlength=len(self.drill.room))
        held = self.domains[band] @ count
        if one.limit is None:
            # A domain stays occupied if it has more than could fail with any set of hosts.
            stays = (held > _largest(count, width)) & (not moving)
            return np.asarray(~one.domains[~stays].any(axis=0) & bool(stays.any()))
        come = np.bincount(at[cast.of_vms(self.restarts)[members]], minlength=len(self.drill.room))
        closed = held + _largest(come, width) > limit
        return np.asarray(~one.domains[closed].any(axis=0))

    def _reservable(self, cast: _Cast, width: int) -> Bools:
        """Return the (H,) hosts that have processors left for all that could restart at once."""
        drill, hosts = self.drill, len(self.drill.room)
        reserve = cast.of_vms(drill.reserve)
        kept = np.bincount(cast.at, reserve, minlength=hosts)
        come = np.bincount(cast.at, reserve * cast.of_vms(self.restarts), minlength=hosts)
        return np.asarray(kept + _largest(come.astype(np.int64), width) <= drill.reservable)


class _Look:
    """A glance at one placement: what each row has to find room for, by host."""

    def __init__(self, screen: Screen, cast: _Cast, free: Ints, up: Bools) -> None:
        self.screen, self.cast, self.free, self.up = screen, cast, free, up
        hosts, at = len(free), cast.at[cast.ranked]
        need = np.stack([np.bincount(at, takes, minlength=hosts) for takes in cast.takes])
        self.need = need.astype(np.int64)[screen.stage]
        alike = np.bincount(cast.row * hosts + at, minlength=len(screen.rows) * hosts)
        self.there = alike.reshape(-1, hosts) > 0

    def short(self, sets: Ints, counted: Ints, limits: Ints) -> Bools:
        """Return (F,) at which failures what is left may not cover what comes from them.

        Args:
            sets: (F, width) the hosts that fail.
            counted: (F,) priorities that count at each.
            limits: (bands,) that hold at all of them.
        """
        places, closed = self.screen.places(self.cast, self.free, self.up, sets.shape[1], limits)
        total, cost = places.sum(axis=1) - _roomiest(places, closed), places + self.need
        short = self.there[:, sets[:, 0]].copy()
        gone = cost[:, sets[:, 0]].copy()
        for column in sets.T[1:]:
            short |= self.there[:, column]
            gone += cost[:, column]
        short &= (gone > total[:, None]) & (self.screen.of_rank[:, None] < counted)
        return np.asarray(short.any(axis=0))


@dataclass(frozen=True)
class _Cast:
    """Who may be where: the VMs, in order, and then some of them once more, elsewhere.

    Attributes:
        at: Host of each.
        ranked: Those that restart; `row` and `takes` are theirs.
        members: Those that caps on single hosts are about, and which of them (`member_of`).
        again: VMs that are there once more.
        others: Of these, by the bands that are no caps on single hosts.
    """

    at: Ints
    ranked: Ints
    row: Ints
    takes: Ints
    members: Ints
    member_of: Ints
    again: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    others: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def of_vms(self, values: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Return what is known of VMs for everyone here."""
        return np.concatenate([values, values[self.again]]) if len(self.again) else values


def _pieces(drill: Drill) -> list[list[int]]:
    """Return the VMs that restart, those together that restart as one."""
    found: dict[int, list[int]] = {}
    for vm in drill.ranked.tolist():
        found.setdefault(int(drill.lead[vm]), []).append(vm)
    return list(found.values())


def _stages(rank: Ints, of_class: Ints) -> tuple[Ints, Ints, Bools]:
    """Return the stages of a restart: (2, S) ranks and classes.

    And (P,) the stage of each that restarts, and (S, P) which come later than a stage.
    """
    stages, stage = np.unique(np.stack([rank, of_class]), axis=1, return_inverse=True)
    ranks, classes = stages[0][:, None], stages[1][:, None]
    later = (rank > ranks) | ((rank == ranks) & (of_class < classes))
    return stages, stage.reshape(-1), later


def _limits(drill: Drill, sets: Ints) -> Ints:
    """Return the (bands,) limits that hold at all of these failures; 0 for what is no cap."""
    found = [band.limit or 0 for band in drill.bands]
    for at, band in enumerate(drill.bands):
        if band.crowd is not None and len(sets):
            found[at] = min(drill.limits(tuple(failed))[at] for failed in sets.tolist())
    return np.array(found, dtype=np.int64)


def _roomiest(places: Ints, count: Ints) -> Ints:
    """Return the (rows,) places on the `count` hosts of each row that have most of them."""
    found = np.zeros(len(places), dtype=np.int64)
    rows = np.flatnonzero(count)
    total = np.sort(places[rows], axis=1)[:, ::-1].cumsum(axis=1)
    found[rows] = total[np.arange(len(rows)), np.minimum(count[rows], places.shape[1]) - 1]
    return found


def _largest(count: Ints, width: int) -> Ints:
    """Return the most that `width` hosts have together, along the last axis."""
    most: Ints = np.sort(count, axis=-1)[..., ::-1][..., :width].sum(axis=-1)
    return most
