"""Ours beside a peer on one task: who was better in what, and which aims that keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from balancer.model.cluster import Cluster
from benchmarks.peers.neutral import Verdict
from benchmarks.peers.ours import Bounds
from benchmarks.peers.task import Answer

# While every host is this close to the mean nothing is moved for balance: it is no goal.
DEAD_BAND = 0.05
TIMES_FASTER, FROM_VMS = 50, 1000  # than hbal
ROUNDING = 1e-9


@dataclass(frozen=True)
class Entry:
    """One run: who, on what, and how it came out."""

    instance: str
    rules: bool
    who: str
    cap: int
    answer: Answer
    verdict: Verdict

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "instance": self.instance,
            "rules": self.rules,
            "who": self.who,
            "cap": self.cap,
            **asdict(self.verdict),
            "cpu_s": round(self.answer.cpu_s, 2),
            "wall_s": round(self.answer.wall_s, 2),
            "finished": self.answer.finished,
            "note": self.answer.note,
        }


@dataclass(frozen=True)
class Contest:
    """What a comparison came to: aims missed, and differences that are no aim.

    Attributes:
        settled: Whether another run of ours decides, which stays within the peer's bounds.
    """

    ours: Entry
    peer: Entry
    missed: tuple[str, ...]
    remarks: tuple[str, ...]
    settled: bool = False

    @property
    def is_missed(self) -> bool:
        """Whether an aim is missed, and no other run decides about it."""
        return bool(self.missed) and not self.settled

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "instance": self.ours.instance,
            "rules": self.ours.rules,
            "ours": self.ours.who,
            "peer": self.peer.who,
            "moves": self.peer.verdict.moves,
            "missed": list(self.missed),
            "remarks": list(self.remarks),
            "settled": self.settled,
        }


def compare(cluster: Cluster, ours: Entry, peer: Entry) -> Contest:
    """Compare at the same number of moves: ours was given the peer's as its cap."""
    missed: list[str] = []
    remarks: list[str] = []
    one, other = ours.verdict, peer.verdict
    if one.broken:
        missed.append(f"{one.broken} rules broken")
    if one.over > other.over:
        missed.append(f"{one.over} hosts over a limit, not {other.over}")
    for name, mean in zip(("cpu", "memory"), _means(cluster), strict=True):
        highest, others = getattr(one, f"{name}_max"), getattr(other, f"{name}_max")
        if highest > others + ROUNDING:
            text = f"{name} maximum {highest:.2%}, not {others:.2%}"
            inside = highest <= mean + DEAD_BAND
            (remarks if inside else missed).append(f"{text}{' (in the dead band)' * inside}")
    if one.gib > other.gib:
        missed.append(f"{one.gib:.0f} GiB, not {other.gib:.0f}")
    if one.score > other.score + ROUNDING:
        missed.append(f"J {one.score:.5f}, not {other.score:.5f}")
    elif one.score > other.score - ROUNDING:
        remarks.append("the same J")
    if other.broken:
        remarks.append(f"the peer breaks {other.broken} rules")
    if peer.who == "hbal" and len(cluster.vms) >= FROM_VMS:
        faster = peer.answer.cpu_s / max(ours.answer.cpu_s, 1e-9)
        said = f"{'' if peer.answer.finished else 'more than '}{faster:.0f} times as fast"
        enough = faster >= TIMES_FASTER or not peer.answer.finished
        (remarks if enough else missed).append(said)
    return Contest(ours, peer, tuple(missed), tuple(remarks))


def bounds_of(cluster: Cluster, ours: Entry, peer: Entry) -> Bounds | None:
    """Return the peer's GiB and maxima, or None where ours exceeded none of them.

    A maximum within the dead band is no aim, and so no bound.
    """
    one, other = ours.verdict, peer.verdict
    cpu, memory = (mean + DEAD_BAND for mean in _means(cluster))
    cpu, memory = max(cpu, other.cpu_max), max(memory, other.memory_max)
    if (
        one.gib <= other.gib
        and one.cpu_max <= cpu + ROUNDING
        and one.memory_max <= memory + ROUNDING
    ):
        return None
    return Bounds(peer.who, other.gib, cpu, memory)


def _means(cluster: Cluster) -> tuple[float, float]:
    cores = sum(host.cpu_cores for host in cluster.hosts)
    room = sum(host.memory_bytes for host in cluster.hosts)
    return (
        float(np.sum([vm.cpu_used_cores for vm in cluster.vms]) / cores),
        float(np.sum([vm.memory_assigned_bytes for vm in cluster.vms]) / room),
    )
