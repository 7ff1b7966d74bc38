"""Days of a cluster gone through again, with somebody else deciding.

The load is as it was recorded, whatever is decided; where VMs are is not. Migrations succeed, and
at once: what they cost is counted, not simulated. A VM whose host goes down is taken to be where
it was recorded, as failover would have it. What was recorded of a VM at a moment (whether it ran,
what blocked it) holds at that moment, but for migrations: those are for the replay to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from balancer.backtest.recording import Floats, Ints, Recording
from balancer.backtest.tally import THRASH_S, WEEK_H, Tally, undone
from balancer.demand.readings import Readings
from balancer.demand.season import Seasons, seasons
from balancer.model.cluster import Cluster, HostState
from balancer.model.past import PastMove
from balancer.model.rule import AllowedHosts, Cap, Unit
from balancer.policy.capacity import usable
from balancer.policy.policy import Policy
from balancer.policy.said import what_is_said
from balancer.policy.windows import Calendar

GIB = 2**30
HOUR_S = 3600.0
IN_PLAY = (HostState.UP.value, HostState.DRAINING.value)


@dataclass
class Moment:
    """What whoever decides may look at: the present, and what led to it.

    Attributes:
        at: The row of the recording.
        now: Its time.
        cluster: The snapshot.
        moves: What was moved before, oldest first.
    """

    recording: Recording
    at: int
    now: datetime
    cluster: Cluster
    moves: tuple[PastMove, ...]
    _season: dict[int, Seasons] = field(default_factory=dict)

    def readings(self, seconds: float) -> Readings:
        """Return what the VMs used in the last `seconds`, the present one included."""
        record = self.recording
        first = int(np.searchsorted(record.at_s, record.at_s[self.at] - seconds))
        rows = slice(first, self.at + 1)
        vms = tuple(vm.id for vm in record.base.vms)
        return Readings(record.at_s[rows], vms, record.work[rows], record.memory[rows])

    def seasons(self, seconds: float) -> Seasons:
        """Return what repeats itself in the hours before; looked for once an hour."""
        hour = int(self.recording.at_s[self.at] // HOUR_S)
        if hour not in self._season:
            self._season.clear()
            self._season[hour] = seasons(self.readings(seconds).hourly())
        return self._season[hour]


# Where VMs are to go, by id: hosts by name. What is not named stays.
Decide = Callable[[Moment], dict[str, str]]
ALWAYS = Calendar()


def replay(
    recording: Recording,
    yardstick: Policy,
    decide: Decide,
    *,
    label: str,
    every_s: float,
    calendar: Calendar = ALWAYS,
) -> Tally:
    """Go through a recording, asking `decide` every `every_s` seconds, and count what came of it.

    Args:
        recording: The days.
        yardstick: Its thresholds, reserve and rules say what counts as overload and as broken,
            whoever decides: replays are compared only where they have the same.
        decide: Whose decisions.
        label: What the tally is called.
        every_s: Seconds between decisions.
        calendar: When may be decided.
    """
    scale = _Scale(recording, yardstick)
    place = recording.place[0].copy()
    counts, excess, off, broken, awake = (np.zeros(len(recording.at_s)) for _ in range(5))
    moves: list[PastMove] = []
    due_s = -np.inf
    seasons_kept: dict[int, Seasons] = {}
    known: dict[bytes, int] = {}
    for at, at_s in enumerate(recording.at_s.tolist()):
        _follow(recording, at, place)
        now = datetime.fromtimestamp(at_s, UTC)
        if at_s >= due_s and calendar.is_open(now):
            due_s = at_s + every_s
            seen = recording.cluster(at, place)
            moment = Moment(recording, at, now, seen, tuple(moves), seasons_kept)
            moves += _moved(recording, at, place, now, decide(moment))
        used, over = scale.used(at, place)
        counts[at], excess[at] = (over > 0).any(axis=0).sum(), over.sum()
        off[at] = scale.off_mean(at, used)
        awake[at] = scale.awake(at, place)
        key = place.tobytes() + recording.facts(at)
        if key not in known:
            known[key] = broken_rules(recording.cluster(at, place), yardstick)
        broken[at] = known[key]
    there = (~np.isnan(recording.work)).sum(axis=1)
    hours = recording.hours
    vms, total_h = float(np.average(there, weights=hours)), float(hours.sum())
    done = tuple(moves)
    return Tally(
        label=label,
        hours=total_h,
        vms=vms,
        migrations=len(done),
        migrations_per_vm_week=len(done) / max(1.0, vms) / (total_h / WEEK_H),
        gib=sum(move.bytes for move in done) / GIB,
        thrash=undone(done),
        overload_hours=float((counts * hours).sum()),
        excess_hours=float((excess * hours).sum()),
        violation_hours=float((broken * hours).sum()),
        imbalance_p95=float(np.percentile(off, 95)),
        awake_hours=float((awake * hours).sum()),
        moves=done,
        overloaded=counts.astype(np.int64),
    )


def _follow(recording: Recording, at: int, place: Ints) -> None:
    """Put VMs that are new, or whose host is not there any more, where they were recorded."""
    recorded = recording.place[at]
    gone = np.isin(recording.states[at], [HostState.DOWN.value])
    lost = (recorded >= 0) & ((place < 0) | gone[place])
    place[lost] = recorded[lost]


def _moved(
    recording: Recording, at: int, place: Ints, now: datetime, to: dict[str, str]
) -> list[PastMove]:
    """Carry out a decision; return what was moved."""
    base = recording.base
    hosts = {host.name: number for number, host in enumerate(base.hosts)}
    found: list[PastMove] = []
    for vm, one in enumerate(base.vms):
        target = to.get(one.id)
        if target is None or hosts[target] == place[vm]:
            continue
        source = base.hosts[place[vm]].name
        found.append(PastMove(one.id, source, target, now, int(recording.memory[at, vm])))
        place[vm] = hosts[target]
    return found


class _Scale:
    """Utilisations of a recording under a policy's reserve and thresholds."""

    def __init__(self, recording: Recording, policy: Policy) -> None:
        self._recording = recording
        able = [usable(host, policy) for host in recording.base.hosts]
        self._speed = np.array([host.cpu_speed for host in recording.base.hosts])
        cores = np.maximum(1e-9, [one.cpu_cores for one in able])
        room = np.maximum(1.0, [one.memory_bytes for one in able])
        self._capacity = np.stack([cores, room])
        limits = policy.thresholds
        self._threshold = np.array([[limits.cpu], [limits.memory]])

    def used(self, at: int, place: Ints) -> tuple[Floats, Floats]:
        """Return (2, H) utilisations and what of them is above the thresholds."""
        record, count = self._recording, len(self._speed)
        there = ~np.isnan(record.work[at])
        on = place[there]
        work = np.bincount(on, record.work[at, there], minlength=count) / self._speed
        memory = np.bincount(on, record.memory[at, there], minlength=count)
        used = np.stack([record.fixed[at] + work, memory]) / self._capacity
        over = np.maximum(0.0, used - self._threshold - 1e-12)
        return used, np.where(self._play(at), over, 0.0)

    def off_mean(self, at: int, used: Floats) -> float:
        """Return how far the furthest host in play is off the mean of its resource."""
        play = self._play(at)
        capacity = self._capacity[:, play]
        mean = (used[:, play] * capacity).sum(axis=1, keepdims=True)
        mean /= np.maximum(capacity.sum(axis=1, keepdims=True), 1e-9)
        return float(np.abs(used[:, play] - mean).max(initial=0.0))

    def awake(self, at: int, place: Ints) -> int:
        """Return how many hosts in play carry a VM that runs."""
        carries = np.zeros(len(self._speed), dtype=bool)
        carries[place[~np.isnan(self._recording.work[at])]] = True
        return int((carries & self._play(at)).sum())

    def _play(self, at: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.isin(self._recording.states[at], IN_PLAY)


def broken_rules(cluster: Cluster, policy: Policy) -> int:
    """Return how many hard rules do not hold."""
    count = 0
    for one in what_is_said(cluster, policy):
        if not one.hard:
            continue
        where = {vm: cluster.vm_by_id[vm].host for vm in one.form.vms if vm in cluster.vm_by_id}
        match one.form:
            case AllowedHosts(_, hosts):
                count += any(host not in hosts for host in where.values())
            case Cap(_, domains, limit):
                count += any(_inside(domain, where.values()) > limit for domain in domains)
            case Unit(_, domains):
                count += sum(_inside(domain, where.values()) > 0 for domain in domains) > 1
            case _:
                pass
    return count


def _inside(domain: frozenset[str], hosts: Iterable[str]) -> int:
    return sum(host in domain for host in hosts)


__all__ = ["THRASH_S", "Decide", "Moment", "broken_rules", "replay"]
