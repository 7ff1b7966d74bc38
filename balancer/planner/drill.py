"""The drill: which restarts find no host when hosts fail (decision 10), on arrays.

`Screen` sees for most failures at a glance that everything restarts; `rehearsal` goes through what
is left restart by restart, in the order and by the choices that the record says.
Shapes as in `balancer.planner.problem`: N VMs, H hosts; R of the VMs restart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from balancer.model.cluster import Cluster
from balancer.model.plan import Lost
from balancer.model.rule import AllowedHosts, Cap, Rule, Unit
from balancer.planner.rehearsal import RESERVES, UNBOUND, Rehearsal, State
from balancer.planner.screen import Pairs, Screen
from balancer.policy.beyond import Crowd, Shortage, crowds, shortages, stuck
from balancer.policy.capacity import arriving_bytes, cpu_reservable, cpu_reserve, why_unfit
from balancer.policy.survival import (
    RANKS,
    SETS_MAX_ON_THE_WAY,
    even_spreads,
    failures,
    further_failures,
    restart_as_one,
    restart_bytes,
    restart_rank,
    restart_rules,
    restarts,
    room_bytes,
    spread_cap,
)

if TYPE_CHECKING:  # a task has this as a part of it
    from balancer.planner.problem import Problem

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

REHEARSAL_UNITS = 500.0  # of work, for the failure of one host
REMEMBERED = 16  # placements whose losses are kept: searches measure the same one again and again
NEAR = 32  # VMs by which two placements differ of which one may say something of the other


@dataclass(frozen=True)
class Band:
    """VMs that a rule counts over domains of hosts, as a cap or as a unit.

    Attributes:
        members: Indices of its VMs, sorted.
        domains: (D, H) which hosts are in which domain.
        limit: Of a cap, in each domain; None for a unit.
        even: The rule behind it whose limit depends on what has failed; None for the others.
        crowd: What its limit is raised by, where no placement keeps it once hosts have failed.
    """

    members: Ints
    domains: Bools
    limit: int | None
    even: Rule | None = None
    crowd: Crowd | None = None

    @cached_property
    def domains_of(self) -> list[list[int]]:
        """(H) the domains that each host is in."""
        return [np.flatnonzero(column).tolist() for column in self.domains.T]

    @property
    def is_of_one_host(self) -> bool:
        """Tell whether it keeps its VMs on one host."""
        return self.limit is None and bool((self.domains.sum(axis=1) == 1).all())


@dataclass(frozen=True)
class Loss:
    """A VM that finds no host when `failed` fail at once; indices."""

    failed: tuple[int, ...]
    vm: int


@dataclass
class Known:
    """What happens on a placement after each failure in doubt.

    Attributes:
        place: (N,) host of each VM.
        up: (H,) hosts that take restarts.
        found: By failure, in their order.
        lost: The bytes of all losses.
    """

    place: Ints
    up: Bools
    found: dict[tuple[int, ...], Rehearsal] = field(default_factory=dict)
    lost: Lost = field(default_factory=lambda: Lost(0, 0, 0))

    def losses(self) -> Iterator[Loss]:
        """Yield what is not survived."""
        for failed, found in self.found.items():
            yield from (Loss(failed, vm) for vm in found.lost)


@dataclass(frozen=True)
class Change:
    """By what two placements differ: bytes free on hosts now, and in what the VMs count."""

    free: Mapping[int, int]
    up: Bools
    counted: Collection[int]

    def alters(self, failed: tuple[int, ...], known: Rehearsal) -> bool:
        """Tell whether a failure may have another end now than the known one."""
        if known.heeds(self.counted) or not self.free.keys().isdisjoint(failed):
            return True
        return any(
            self.up[host] and known.would_differ(host, free) for host, free in self.free.items()
        )


class Drill:
    """The failures that a task is to survive, to be rehearsed on any placement.

    Attributes:
        ranked: (R,) VMs that restart, in the order in which they do.
        size: (N,) bytes that a restart takes.
        rank: (N,) how early a VM restarts: 0 for high priority, then 1 and 2.
        memory: (N,) bytes that a VM holds where it runs.
        room: (H,) bytes for VMs, less what migrations of others bring.
        up: (H,) hosts that take restarts.
        kind: (N,) row of `permits` of each VM.
        permits: (C, H) hosts that facts and lists leave to the VMs of a kind.
        reserve: (N,) thousandths of processors that a VM reserves.
        reservable: (H,) thousandths that hosts have to give.
        bands: What rules count.
        lead: (N,) the first of the VMs that restart as one with each; itself, if none do.
        joined: (N,) whether any others do.
        rehearsals: How many failures were gone through so far, times their hosts.
        refused: How many placements, of construction, search or solver, lost more than what they
            came from, and were mended or given up.
        sets: The failures: arrays of as many rows as there are sets of that many hosts. Those of
            which nothing is counted are left out.
        counted: For each of these arrays how many priorities count, from high on: the others are
            beyond help.
        stuck: VMs that only one host can take: whatever restarts, they do not.
        every: All failures, those of which nothing is counted included.
        beyond: Those that no placement survives.
        on_the_way: The failures that are looked at on the way, not at its ends only.
        further: Failures that are only glanced at, for they are too many; (F, width).
        unknown: How many more there are, at which nobody looks.
    """

    def __init__(self, problem: Problem, *, whole: bool = False) -> None:
        """Read what a task says of failures; `whole`: what is beyond help is counted as well."""
        cluster, policy = problem.cluster, problem.policy
        hosts, vms = problem.hosts, problem.vms
        self.problem = problem
        self.size = np.array([restart_bytes(vm) for vm in vms], dtype=np.int64)
        self.memory = np.array(
            [vm.memory_assigned_bytes if vm.is_load else 0 for vm in vms], dtype=np.int64
        )
        self.whole = whole
        alone = frozenset() if whole else stuck(cluster, policy)
        self.stuck = [at for at, vm in enumerate(vms) if vm.id in alone]
        able = np.flatnonzero([restarts(vm) and vm.id not in alone for vm in vms])
        ranks = [restart_rank(vm) if restarts(vm) else len(RANKS) for vm in vms]
        self.rank = np.array(ranks, dtype=np.int64)
        self.ranked = able[np.lexsort([able, -self.size[able], self.rank[able]])]
        room = [room_bytes(one, policy) - arriving_bytes(cluster, one.name) for one in hosts]
        self.room = np.array(room, dtype=np.int64)
        self.up = problem.up
        self.reserve = np.array([cpu_reserve(vm) for vm in vms], dtype=np.int64)
        self.reservable = np.array([cpu_reservable(host) for host in hosts], dtype=np.int64)
        self._know_failures(cluster)
        self._read(cluster)
        self.rehearsals = self.refused = 0
        self._limits: dict[tuple[int, ...], dict[int, int]] = {}
        self._known: dict[bytes, Known] = {}
        self._unsure: dict[bytes, int] = {}

    def _know_failures(self, cluster: Cluster) -> None:
        """Find what may fail, and how much of it no placement survives."""
        at = {host.name: number for number, host in enumerate(self.problem.hosts)}
        every = failures(cluster, self.problem.policy)
        short = {} if self.whole else shortages(cluster, self.problem.policy, every)
        found = [(tuple(sorted(at[name] for name in one)), short.get(one)) for one in every]
        more, self.unknown = further_failures(cluster, self.problem.policy)
        none = shortages(cluster, self.problem.policy, more)
        more = tuple(one for one in more if one not in none)
        self.further = np.array([sorted(at[name] for name in one) for one in more], dtype=np.int64)
        self.beyond: dict[tuple[int, ...], Shortage] = {
            failed: one for failed, one in found if one is not None
        }
        self.every = tuple(failed for failed, _ in found)
        counted = [(failed, len(RANKS) if one is None else one.rank) for failed, one in found]
        counted = [(failed, ranks) for failed, ranks in counted if ranks]
        self.on_the_way = frozenset(failed for failed, _ in counted[:SETS_MAX_ON_THE_WAY])
        by_width = [
            [one for one in counted if len(one[0]) == width]
            for width in sorted({len(failed) for failed, _ in counted})
        ]
        self.sets = tuple(np.array([failed for failed, _ in one]) for one in by_width)
        self.counted = tuple(np.array([ranks for _, ranks in one]) for one in by_width)

    def _read(self, cluster: Cluster) -> None:
        """Turn what binds restarts into kinds of VMs and bands."""
        problem = self.problem
        index = {vm.id: at for at, vm in enumerate(problem.vms)}
        names = [host.name for host in problem.hosts]
        lists: dict[int, list[frozenset[str]]] = {}
        bands: list[Band] = []
        said: list[tuple[object, Rule | None]] = [
            (form, None) for form in restart_rules(cluster, problem.policy)
        ]
        most = max(map(len, self.every), default=0)
        caps = [form for form, _ in said if isinstance(form, Cap) and not self.whole]
        crowded = crowds(cluster, caps, most)
        evens = even_spreads(cluster, problem.policy)
        said += [(spread_cap(rule, cluster, frozenset()), rule) for rule in evens]
        for form, even in said:
            if isinstance(form, AllowedHosts):
                for vm in form.vms:
                    lists.setdefault(index[vm], []).append(form.hosts)
            elif isinstance(form, Cap | Unit):
                members = np.array(sorted(index[vm] for vm in form.vms), dtype=np.int64)
                rows = [[name in domain for name in names] for domain in form.domains]
                limit = form.limit if isinstance(form, Cap) else None
                crowd = crowded.get(form) if even is None and isinstance(form, Cap) else None
                bands.append(Band(members, np.array(rows, dtype=bool), limit, even, crowd))
        self.bands = tuple(bands)
        self.lead = np.arange(len(problem.vms))
        for vms in restart_as_one(form for form, _ in said if isinstance(form, Unit)):
            self.lead[[index[vm] for vm in vms]] = min(index[vm] for vm in vms)
        self.joined = np.bincount(self.lead, minlength=len(self.lead))[self.lead] > 1
        self.bands_of: dict[int, list[int]] = {}
        for number, band in enumerate(bands):
            for vm in band.members.tolist():
                self.bands_of.setdefault(vm, []).append(number)
        self._know_hosts(lists)

    def _know_hosts(self, lists: Mapping[int, Sequence[frozenset[str]]]) -> None:
        """Find the hosts that facts and lists leave to each VM: few kinds of VMs differ in them."""
        problem = self.problem
        names = [host.name for host in problem.hosts]
        kinds: dict[object, int] = {}
        rows_of: list[Bools] = []
        self.kind = np.zeros(len(problem.vms), dtype=np.int64)
        for vm, one in enumerate(problem.vms):
            listed = frozenset(lists.get(vm, ()))
            shape = (one.vcpus, one.numa_nodes, one.memory_assigned_bytes)
            if (listed, shape) not in kinds:
                row = np.array([not why_unfit(one, host) for host in problem.hosts], dtype=bool)
                for allowed in listed:
                    row &= np.array([name in allowed for name in names], dtype=bool)
                kinds[listed, shape] = len(rows_of)
                rows_of.append(row)
            self.kind[vm] = kinds[listed, shape]
        table = np.array(rows_of, dtype=bool).reshape(-1, len(names))
        self.permits, which = np.unique(table, axis=0, return_inverse=True)
        self.kind = which.reshape(-1)[self.kind] if rows_of else self.kind
        # What a rehearsal asks one by one, as lists: that is several times as fast.
        self.kinds, self.permitted = self.kind.tolist(), self.permits.tolist()
        self.reserves, self.reservables = self.reserve.tolist(), self.reservable.tolist()

    @cached_property
    def bound(self) -> Bools:
        """(N,) VMs that any rule or fact keeps from any host."""
        found = np.asarray(~self.permits.all(axis=1))[self.kind] | (self.reserve > 0)
        found[list(self.bands_of)] = True
        return np.asarray(found, dtype=bool)

    @cached_property
    def is_bound(self) -> list[bool]:
        """`bound` as a list."""
        found: list[bool] = self.bound.tolist()
        return found

    @cached_property
    def screen(self) -> Screen:
        """What sees at a glance that everything restarts."""
        return Screen(self)

    def lost(self, place: Ints, takers: Bools | None = None) -> Lost:
        """Return what finds no host, over all failures.

        Args:
            place: (N,) host of each VM.
            takers: (H,) hosts that take restarts; all that are up unless given.
        """
        return self._known_at(place, takers).lost

    def _known_at(self, place: Ints, takers: Bools | None) -> Known:
        """Return what happens on a placement, looked up if it was asked for lately."""
        up = self.up if takers is None else self.up & takers
        key = place.tobytes() + up.tobytes()
        known = self._known.pop(key, None)
        if known is None:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._rehearsed(place, up)
        self._known[key] = known  # as the last: what is asked for often stays
        return known

    def _rehearsed(self, place: Ints, up: Bools) -> Known:
        """Rehearse what is in doubt on a placement, and was not on one that is almost the same.

        What searches try differs by a move or two from where they stand.
        """
        free, near = self.free(place, ()), self._nearest(place, up)
        known = Known(place.copy(), up)
        state = State(self, place, free, up, ())
        change = None if near is None else self._change(near.place, place, free)
        for failed in self.screen.doubtful(place, free, up):
            old = None if near is None else near.found.get(failed)
            if old is None or change is None or change.alters(failed, old):
                old = state.rehearsed(failed)
            known.found[failed] = old
        known.lost = self.weigh(known.losses())
        return known

    def _nearest(self, place: Ints, up: Bools) -> Known | None:
        """Return what is remembered of the placement that differs least from this one."""
        alike = [one for one in self._known.values() if np.array_equal(one.up, up)]
        differ = [int(np.count_nonzero(one.place != place)) for one in alike]
        if not differ or min(differ) > NEAR:
            return None
        return alike[differ.index(min(differ))]

    def _change(self, before: Ints, place: Ints, free: Ints) -> Change:
        vms = np.flatnonzero(before != place)
        hosts = {*before[vms].tolist(), *place[vms].tolist()}
        counted = {number for vm in vms.tolist() for number in self.counted_in(vm)}
        return Change({host: int(free[host]) for host in hosts}, self.up, counted)

    def counted_in(self, vm: int) -> tuple[int, ...]:
        """Return the bands, and `RESERVES`, in which a VM counts wherever it is."""
        bands = self.bands_of.get(vm, ())
        return (*bands, RESERVES) if self.reserves[vm] else tuple(bands)

    def unsure(self, place: Ints, takers: Bools | None = None) -> int:
        """Return how many of the further failures are not seen at a glance to be survived."""
        if not len(self.further):
            return 0
        key = place.tobytes() + (b"" if takers is None else takers.tobytes())
        if key not in self._unsure:
            if len(self._unsure) >= REMEMBERED:
                del self._unsure[next(iter(self._unsure))]
            up = self.up if takers is None else self.up & takers
            self._unsure[key] = self.screen.unsure(place, self.free(place, ()), up)
        return self._unsure[key]

    def weigh(self, losses: Iterable[Loss]) -> Lost:
        """Return the bytes of losses, by priority."""
        total = [0] * len(RANKS)
        for loss in losses:
            total[self.rank[loss.vm]] += int(self.size[loss.vm])
        return Lost(*total)

    def losses(
        self,
        place: Ints,
        takers: Bools | None = None,
        flying: Pairs = (),
    ) -> Iterator[Loss]:
        """Yield what is not survived.

        Args:
            place: (N,) host of each VM.
            takers: (H,) hosts that take restarts; all that are up unless given.
            flying: VMs in flight, and the hosts on which they hold memory besides.
        """
        if not flying:
            yield from self._known_at(place, takers).losses()
            return
        free, up = self.free(place, flying), self.up if takers is None else self.up & takers
        state = State(self, place, free, up, flying)
        for failed in self.screen.doubtful(place, free, up):
            yield from (Loss(failed, vm) for vm in state.rehearsed(failed).lost)

    def in_doubt(self, place: Ints, moves: Pairs) -> list[tuple[int, ...]]:
        """Return the failures that may not be survived at some instant on the way from `place`.

        Args:
            place: (N,) host of each VM at the start.
            moves: VMs and hosts that they go to, in whatever order.
        """
        found = self.screen.doubtful(place, self.free(place, moves), self.up, moves)
        return [failed for failed in found if failed in self.on_the_way]

    def free(self, place: Ints, flying: Pairs) -> Ints:
        """Return the (H,) bytes that are free."""
        held = np.bincount(place, self.memory, minlength=len(self.room)).astype(np.int64)
        free: Ints = self.room - held
        for vm, host in flying:
            free[host] -= self.memory[vm]
        return free

    def ranks(self, failed: tuple[int, ...]) -> int:
        """Return how many priorities count at a failure, from high on."""
        short = self.beyond.get(failed)
        return len(RANKS) if short is None else short.rank

    def limits(self, failed: tuple[int, ...]) -> dict[int, int]:
        """Return the limits of bands that depend on what has failed."""
        if failed not in self._limits:
            problem = self.problem
            names = frozenset(problem.hosts[at].name for at in failed)
            evens = [(at, band.even) for at, band in enumerate(self.bands) if band.even is not None]
            caps = [(at, spread_cap(even, problem.cluster, names)) for at, even in evens]
            found = {at: UNBOUND if cap is None else cap.limit for at, cap in caps}
            for at, band in enumerate(self.bands):
                if band.crowd is not None:
                    found[at] = band.crowd.when(names).limit
            self._limits[failed] = found
        return self._limits[failed]
