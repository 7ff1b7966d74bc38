"""The order in which hosts are emptied one after the other, and which of them together.

Where VMs are brought back before the next hosts have their turn, every order moves the same: each
VM out and back. Where they stay, a VM that lands on a host whose turn comes later moves again, so
the first hosts should hold little and the later ones find room on those that are through. Memory
is taken as a fluid here; the planner of drains has the last word on every turn.

A few hosts are ordered exactly, more by local search from two starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from balancer.model.cluster import Cluster, HostState
from balancer.policy.capacity import arriving_bytes, usable, why_immovable
from balancer.policy.policy import Policy

Turns = tuple[tuple[str, ...], ...]

EXACT_MAX = 5  # hosts; 541 orders of batches
LOOKS_MAX = 20_000  # orders looked at by local search: a few seconds for 64 hosts


@dataclass(frozen=True, slots=True)
class HostLoad:
    """A host as the order of a campaign sees it.

    Attributes:
        movable_bytes: Memory of VMs that run on it and can be moved.
        room_bytes: What it may hold of VMs that can be moved; nothing unless it is up.
    """

    movable_bytes: float
    room_bytes: float


@dataclass(frozen=True, slots=True, order=True)
class Toll:
    """What an order of turns costs; less is better, from the first on.

    Attributes:
        lacking: Hosts that find no room for their VMs, even alone.
        moved_bytes: Memory of all VMs times the number of their moves, returns included.
        turns: How many there are.
        waiting_bytes: The bytes moved by the end of each turn, summed up: what is over soonest
            comes first, so that a fault of the patch shows before much was moved.
    """

    lacking: int
    moved_bytes: int
    turns: int
    waiting_bytes: int


def loads_of(cluster: Cluster, policy: Policy) -> dict[str, HostLoad]:
    """Return what each host holds and may hold, the policy's reserve taken off."""
    found: dict[str, HostLoad] = {}
    for host in cluster.hosts:
        on = [vm for vm in cluster.vms_on[host.name] if vm.is_load]
        stays = {vm.id for vm in on if why_immovable(cluster, vm) is not None}
        fixed = sum(vm.memory_needed_bytes for vm in on if vm.id in stays)
        fixed += arriving_bytes(cluster, host.name)
        movable = sum(vm.memory_needed_bytes for vm in on if vm.id not in stays)
        room = usable(host, policy).memory_bytes - fixed if host.state is HostState.UP else 0.0
        found[host.name] = HostLoad(movable, max(0.0, room))
    return found


def order_turns(
    loads: Mapping[str, HostLoad],
    hosts: Collection[str],
    *,
    restore: bool,
    at_once: int = 1,
    may_leave: Callable[[frozenset[str]], bool] = lambda _: True,
) -> Turns:
    """Return the turns of `hosts` that move least, then the fewest turns.

    Args:
        loads: Every host of the cluster; those that are not walked receive VMs as well.
        hosts: Those to be walked.
        restore: VMs return before the next turn.
        at_once: So many hosts may be away together.
        may_leave: Tells whether the cluster bears the loss of several hosts at once.
    """
    known: dict[frozenset[str], bool] = {}

    def allowed(turn: Sequence[str]) -> bool:
        key = frozenset(turn)
        if len(key) <= 1:
            return True
        if len(key) > at_once:
            return False
        if key not in known:
            known[key] = may_leave(key)
        return known[key]

    search = _Search(loads, frozenset(hosts), restore, allowed)
    alone = tuple((host,) for host in sorted(hosts, key=lambda h: (loads[h].movable_bytes, h)))
    if not alone:
        return ()
    if len(alone) <= EXACT_MAX:
        every = _every_order(tuple(sorted(hosts)), allowed)
        return min(every, key=lambda turns: (search.toll(turns) or _NEVER, turns))
    starts = (alone, search.packed(alone))
    return min(
        (search.improved(one) for one in starts), key=lambda t: (search.toll(t) or _NEVER, t)
    )


_NEVER = Toll(2**62, 0, 0, 0)


def toll_of(
    loads: Mapping[str, HostLoad], turns: Turns, walked: Collection[str], *, restore: bool
) -> Toll | None:
    """Return what an order costs; None if several hosts are to leave for which there is no room."""
    pending = {host: loads[host].movable_bytes for host in walked}
    free = {host: max(0.0, load.room_bytes - load.movable_bytes) for host, load in loads.items()}
    done_room = sum(room for host, room in free.items() if host not in pending)
    all_room = sum(free.values())
    lacking, moved, waiting = 0, 0.0, 0.0
    for turn in turns:
        away = sum(pending[host] for host in turn)
        rest = 0.0 if away <= done_room else away - done_room
        if restore:
            fits = away <= all_room - sum(free[host] for host in turn)
        else:
            others = [host for host in pending if host not in turn] if rest else []
            space = sum(free[host] for host in others)
            fits = rest <= space
        if not fits and len(turn) > 1:
            return None
        if not fits:  # it is passed over and keeps what it has
            lacking += 1
            if not restore:
                done_room += free[turn[0]]
                pending.pop(turn[0])
            continue
        moved += 2 * away if restore else away
        waiting += moved
        if restore:
            continue
        done_room -= away - rest
        for host in turn:
            pending.pop(host)
            done_room += loads[host].room_bytes
        for host in others:
            taken = rest * free[host] / space if space else 0.0
            pending[host] += taken
            free[host] -= taken
    return Toll(lacking, round(moved), len(turns), round(waiting))


def _every_order(
    hosts: tuple[str, ...], allowed: Callable[[Sequence[str]], bool]
) -> Iterator[Turns]:
    """Yield every order of every division of hosts into turns that are allowed."""
    if not hosts:
        yield ()
        return
    for chosen in range(1, 2 ** len(hosts)):
        turn = tuple(host for at, host in enumerate(hosts) if chosen >> at & 1)
        if allowed(turn):
            rest = tuple(host for at, host in enumerate(hosts) if not chosen >> at & 1)
            for later in _every_order(rest, allowed):
                yield (turn, *later)


@dataclass(frozen=True)
class _Search:
    """Local search over orders of turns."""

    loads: Mapping[str, HostLoad]
    walked: frozenset[str]
    restore: bool
    allowed: Callable[[Sequence[str]], bool]

    def toll(self, turns: Turns) -> Toll | None:
        return toll_of(self.loads, turns, self.walked, restore=self.restore)

    def packed(self, alone: Turns) -> Turns:
        """Return an order in which each host, largest first, joins the first turn that takes it."""
        turns: Turns = ()
        for (host,) in reversed(alone):
            for at, turn in enumerate(turns):
                joined = tuple(sorted((*turn, host)))
                wider = (*turns[:at], joined, *turns[at + 1 :])
                if self.allowed(joined) and self.toll(wider) is not None:
                    turns = wider
                    break
            else:
                turns = (*turns, (host,))
        return tuple(sorted(turns, key=lambda turn: sum(self.loads[h].movable_bytes for h in turn)))

    def improved(self, turns: Turns) -> Turns:
        """Return what no single change makes better, or what was found until looks ran out."""
        best = self.toll(turns)
        looks, better = 0, True
        while better:
            better = False
            for other in self._neighbours(turns):
                looks += 1
                if looks > LOOKS_MAX:
                    return turns
                toll = self.toll(other)
                if toll is not None and (best is None or toll < best):
                    turns, best, better = other, toll, True
                    break
        return turns

    def _neighbours(self, turns: Turns) -> Iterator[Turns]:
        """Yield orders in which one host has another turn, or two hosts have exchanged theirs."""
        at_turn = {host: at for at, turn in enumerate(turns) for host in turn}
        for host in sorted(at_turn):
            left = [tuple(h for h in turn if h != host) for turn in turns]
            rest = tuple(turn for turn in left if turn)
            for at, turn in enumerate(rest):
                joined = tuple(sorted((*turn, host)))
                if self.allowed(joined):
                    yield (*rest[:at], joined, *rest[at + 1 :])
            for at in range(len(rest) + 1):
                yield (*rest[:at], (host,), *rest[at:])
        names = sorted(at_turn)
        for number, one in enumerate(names):
            for two in names[number + 1 :]:
                if at_turn[one] != at_turn[two]:
                    swap = {one: two, two: one}
                    turned = tuple(tuple(sorted(swap.get(h, h) for h in turn)) for turn in turns)
                    if all(map(self.allowed, turned)):
                        yield turned
