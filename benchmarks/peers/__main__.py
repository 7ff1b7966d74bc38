"""Our planner beside others on the same clusters: `python -m benchmarks.peers`.

Every peer gets the same cluster and the same cap on moves; then ours gets as many moves as the
peer used. One neutral judge measures all of them. Where ours then moves more GiB than the peer, or
ends with a higher maximum, it is run once more as an administrator would who wants no more than
that: by a policy with the peer's GiB as a cap on the bytes of a run, and the peer's maximum as a
threshold, still with the peer's number of moves. That run decides about all aims; the one without
these bounds is told beside it.

`--install` fetches the peers into a folder of their own (`~/.cache/hyperv-balancer/peers`); who is
not there is left out with the reason. The exit status is 3 if an aim was missed, 2 if no peer could
be run at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from balancer.errors import ExitCode
from balancer.model.cluster import Cluster
from benchmarks.instances import generate, real
from benchmarks.peers.contest import (
    FROM_VMS,
    TIMES_FASTER,
    Contest,
    Entry,
    bounds_of,
    compare,
)
from benchmarks.peers.hbal import Hbal
from benchmarks.peers.install import install
from benchmarks.peers.neutral import judge
from benchmarks.peers.ours import Ours
from benchmarks.peers.proxlb import ProxLb, ProxLbSolver
from benchmarks.peers.rebalancer import SETTINGS, Rebalancer
from benchmarks.peers.task import AbsentError, Answer, FailedError, Peer, Task
from benchmarks.planner import machine

SIZES = ("4x60:6", "16x400:20", "64x1000:50", "64x1000:100", "64x8000:80", "64x8000:400")
PEERS = ("hbal", "rebalancer", "proxlb-solver", "proxlb")
HEADINGS = (
    "who", "rules", "cap", "moves", "GiB", "over", "CPU sd / max %", "memory sd / max %", "J",
    "broken", "CPU s", "wall s", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Hosts, VMs and the cap on moves, written `64x1000:50`."""

    hosts: int
    vms: int
    cap: int

    @classmethod
    def read(cls, text: str) -> Size:
        """Read it, or raise what argparse makes a message of."""
        try:
            shape, cap = text.split(":")
            hosts, vms = shape.split("x")
            return cls(int(hosts), int(vms), int(cap))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not hosts x VMs : cap, such as 64x1000:50"
            ) from None


@dataclass
class Report:
    """All that was run, compared, and left out."""

    quiet: bool
    entries: list[Entry] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> Entry:
        self.entries.append(entry)
        self.say(line_of(entry))
        return entry

    def leave_out(self, text: str) -> None:
        if text not in self.left_out:
            self.left_out.append(text)
            self.say(f"left out: {text}")

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def document(self, options: argparse.Namespace) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "machine": machine(),
            "seconds": options.seconds,
            "limit_s": options.limit,
            "entries": [entry.row() for entry in self.entries],
            "contests": [contest.row() for contest in self.contests],
            "left_out": self.left_out,
        }


def line_of(entry: Entry) -> str:
    """Return a run as a row of the table."""
    v = entry.verdict
    cells = (
        entry.who,
        "on" if entry.rules else "off",
        entry.cap,
        v.moves,
        f"{v.gib:.0f}",
        v.over,
        f"{100 * v.cpu_sd:.2f} / {100 * v.cpu_max:.2f}",
        f"{100 * v.memory_sd:.2f} / {100 * v.memory_max:.2f}",
        f"{v.score:.5f}",
        v.broken,
        f"{entry.answer.cpu_s:.2f}",
        f"{entry.answer.wall_s:.2f}",
        entry.answer.note,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def run(size: Size, seed: int, options: argparse.Namespace, report: Report) -> None:
    """Run all peers on one cluster, and those that do not know all rules also without rules."""
    maker = real if options.real else generate
    ruled = maker(size.hosts, size.vms, seed)
    report.say(f"\n{ruled.name}, cap {size.cap} ({machine()})\n")
    report.say("| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
    peers = peers_of(options)
    _run_all(Task(ruled, size.cap, options.limit, seed), peers, report)
    untold = [peer for peer in peers if not peer.tells_all]
    if ruled.rules and untold:
        bare = Cluster(ruled.name, ruled.hosts, ruled.vms)
        _run_all(Task(bare, size.cap, options.limit, seed), untold, report)


def _run_all(task: Task, peers: Sequence[Peer], report: Report) -> None:
    """Run ours and all `peers` on one task, and compare with the best of each."""
    report.add(_entry(task, "as it is", Answer(task.home, 0.0, 0.0)))
    ours = report.add(_run(Ours(), task))
    best: dict[str, Entry] = {}
    for peer in peers:
        try:
            found = report.add(_run(peer, task))
        except (AbsentError, FailedError) as error:
            report.leave_out(f"{peer.name} on {task.cluster.name}: {error}")
            continue
        family = peer.name.split(" (", maxsplit=1)[0]
        if family not in best or found.verdict.score < best[family].verdict.score:
            best[family] = found
    for family, found in best.items():
        for contest in contests(task, family, found, ours, report):
            report.contests.append(contest)
            report.say(f"{contest.ours.who} beside {found.who}: {told(contest)}")


def contests(
    task: Task, family: str, peer: Entry, capped: Entry, report: Report
) -> Iterator[Contest]:
    """Run ours with as many moves as the peer used, and compare; then what a family has more."""
    if not peer.verdict.moves:
        report.leave_out(f"{peer.who} moved nothing on {peer.instance}: {peer.answer.note}")
        return
    same = replace(task, cap=peer.verdict.moves)
    ours, limit_s = capped, None
    if family == "hbal" and len(task.cluster.vms) >= FROM_VMS:
        limit_s = round(peer.answer.cpu_s / TIMES_FASTER, 1)
        ours = report.add(_run(Ours(time_limit_s=limit_s), same))
    elif same.cap != task.cap:
        ours = report.add(_run(Ours(), same))
    found = compare(task.cluster, ours, peer)
    bounds = bounds_of(task.cluster, ours, peer)
    yield replace(found, settled=bounds is not None)
    if bounds is not None:
        within = report.add(_run(Ours(limit_s, bounds), same))
        yield compare(task.cluster, within, peer)
    if family == "Rebalancer":
        quick = report.add(_run(Ours(time_limit_s=5.0), task))
        yield quicker(quick, peer)


def quicker(quick: Entry, peer: Entry) -> Contest:
    """Compare by J alone: ours after five seconds and a peer after its whole time, same cap."""
    better = quick.verdict.score < peer.verdict.score + 1e-9
    text = f"J {quick.verdict.score:.5f} after 5 s, {peer.verdict.score:.5f} after its time"
    return Contest(quick, peer, () if better else (text,), (text,) if better else ())


def told(contest: Contest) -> str:
    """Return what a comparison came to, in words."""
    missed = "; ".join(contest.missed)
    said = f"MISSED: {missed}" if missed else "better in all"
    if contest.settled:
        said = f"without the peer's bounds: {missed}"
    return "; ".join((said, *contest.remarks))


def _run(peer: Peer, task: Task) -> Entry:
    return _entry(task, peer.name, peer.balance(task))


def _entry(task: Task, who: str, answer: Answer) -> Entry:
    verdict = judge(task.cluster, answer.place)
    ruled = bool(task.cluster.rules)
    return Entry(task.cluster.name, ruled, who, task.cap, answer, verdict)


def peers_of(options: argparse.Namespace) -> list[Peer]:
    """Return the peers that were asked for, each in all its settings."""
    every: dict[str, list[Peer]] = {
        "hbal": [Hbal()],
        "rebalancer": [Rebalancer(setting, options.seconds) for setting in options.settings],
        "proxlb-solver": [ProxLbSolver(options.seconds)],
        "proxlb": [ProxLb("memory"), ProxLb("cpu")],
    }
    return [peer for name in options.peers for peer in every[name]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--install", action="store_true", help="install the peers, and no more")
    parser.add_argument("--sizes", type=Size.read, nargs="+", default=list(map(Size.read, SIZES)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", choices=PEERS, nargs="+", default=PEERS)
    parser.add_argument(
        "--settings", choices=SETTINGS, nargs="+", default=tuple(SETTINGS), help="of Rebalancer"
    )
    parser.add_argument("--real", action="store_true", help="clusters from data of real fleets")
    parser.add_argument("--seconds", type=float, default=60.0, help="for those that take a time")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds until one is stopped")
    parser.add_argument("--json", action="store_true", help="print one document at the end")
    options = parser.parse_args(arguments)
    if options.install:
        return ExitCode.ANSWER_IS_NO if install() else ExitCode.DONE
    report = Report(quiet=options.json)
    for size in options.sizes:
        for seed in options.seeds:
            run(size, seed, options, report)
    if options.json:
        print(json.dumps(report.document(options), indent=2))
    missed = [contest for contest in report.contests if contest.is_missed]
    report.say(f"\n{len(report.contests)} comparisons, {len(missed)} with an aim missed")
    if not report.contests:
        print("no peer could be run: " + "; ".join(report.left_out), file=sys.stderr)
        return ExitCode.BAD_INPUT
    return ExitCode.ANSWER_IS_NO if missed else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
