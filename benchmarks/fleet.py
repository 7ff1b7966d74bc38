"""A fleet in one daemon: `python -m benchmarks.fleet`, a simulated day and then real minutes.

The minutes: `balancer run` as systemd starts it looks after clusters of 2 to 64 simulated hosts,
each host behind real WinRM (TLS, NTLM) served by other processes. Its memory, threads, open files
and processor time are read from /proc, how late each cycle began from its log. The day: the same
clusters in process, each on a virtual clock of its own, through the same loop into one store.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import day
from benchmarks.sites import Cluster, Site, configuration, described, fleet, serve, write

LOOK_S = 1.0
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20
LATE_MAX_S = 5.0  # of a cycle, at the 99th percentile
GROWTH_MAX = 0.05  # of memory, from the middle third of the run to the last
WATCHDOG_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What /proc says about the daemon at one moment."""

    at_s: float
    memory_bytes: int
    threads: int
    files: int
    cpu_s: float
    store_bytes: int


def look(pid: int, store: Path, began_s: float) -> Look:
    proc = Path(f"/proc/{pid}")
    words = (proc / "stat").read_text("ascii").rpartition(")")[2].split()
    sizes = [path.stat().st_size for path in store.parent.glob(store.name + "*")]
    return Look(
        at_s=time.monotonic() - began_s,
        memory_bytes=int((proc / "statm").read_text("ascii").split()[1]) * PAGE,
        threads=int(words[17]),
        files=len(list((proc / "fd").iterdir())),
        cpu_s=(int(words[11]) + int(words[12])) / TICKS,
        store_bytes=sum(sizes),
    )


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, address: Path) -> None:
        self.ready = threading.Event()
        self.alive_s: list[float] = []
        self.status = ""
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(str(address))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while text := self._door.recv(4096).decode():
            for line in text.split("\n"):
                if line == "READY=1":
                    self.ready.set()
                elif line == "WATCHDOG=1":
                    self.alive_s.append(time.monotonic())
                elif line.startswith("STATUS="):
                    self.status = line


@contextmanager
def served(clusters: Sequence[Cluster], processes: int) -> Iterator[dict[str, Site]]:
    """Serve the clusters from several processes until the end of the block."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes: list[Pipe] = []
        told: dict[str, Site] = {}
        for number in range(processes):
            ours, theirs = context.Pipe()
            share = clusters[number::processes]
            process = context.Process(target=serve, args=(theirs, share), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, "done")
            pipes.append(ours)
        for pipe in pipes:
            told |= pipe.recv()
        yield {each.name: told[each.name] for each in clusters}


def minutes(options: argparse.Namespace, clusters: Sequence[Cluster]) -> bool:
    """Run the daemon, print what it took, and tell whether the aims were met."""
    with TemporaryDirectory(prefix="fleet-") as name, ExitStack() as stack:
        directory = Path(name)
        sites = stack.enter_context(served(clusters, options.processes))
        vms = sum(site[2] for site in sites.values())
        print(f"{described(clusters)}, {vms} VMs, every host behind WinRM of its own", flush=True)
        schedule = f"{{every: {options.every}, jitter: {options.jitter}}}"
        text = configuration(sites, schedule, "{log_level: debug, health: none}")
        config = write(directory, text)
        manager = Manager(directory / "notify")
        log = stack.enter_context((directory / "log").open("wb"))
        daemon = subprocess.Popen(
            [sys.executable, "-m", "balancer", "run", "--config", str(config)],
            stderr=log,
            env=os.environ
            | {
                "NOTIFY_SOCKET": str(directory / "notify"),
                "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}",
            },
        )
        try:
            looks = _look_on(daemon, directory / "balancer.sqlite", options.minutes * 60, manager)
            daemon.send_signal(signal.SIGTERM)
            stopping_s = time.monotonic()
            code = daemon.wait(120)
            print(f"ended with {code} after {time.monotonic() - stopping_s:.1f} s")
        finally:
            daemon.kill()
            if options.keep:
                Path(options.keep).write_bytes((directory / "log").read_bytes())
        events = [json.loads(line) for line in (directory / "log").open("rb") if line[:1] == b"{"]
        return _report(looks, events, manager, len(clusters))


def _look_on(
    daemon: subprocess.Popen[bytes], store: Path, seconds: float, manager: Manager
) -> list[Look]:
    began_s = time.monotonic()
    while not manager.ready.wait(1.0):
        if daemon.poll() is not None:
            raise SystemExit(f"the daemon ended with {daemon.returncode}: see --keep")
    print(f"ready after {time.monotonic() - began_s:.1f} s", flush=True)
    began_s, looks = time.monotonic(), []
    while time.monotonic() - began_s < seconds:
        time.sleep(LOOK_S)
        looks.append(look(daemon.pid, store, began_s))
        if len(looks) % 60 == 0:
            last = looks[-1]
            print(
                f"{last.at_s:5.0f} s  {last.memory_bytes / MIB:6.0f} MiB  {last.threads:4d} threads"
                f"  {last.files:5d} files  {last.cpu_s:6.1f} CPU s"
                f"  store {last.store_bytes / MIB:5.0f} MiB  load {os.getloadavg()[0]:.1f}"
                f"  {manager.status[7:80]}",
                flush=True,
            )
    return looks


def _report(
    looks: Sequence[Look], events: Sequence[dict[str, Any]], manager: Manager, clusters: int
) -> bool:
    third = len(looks) // 3
    parts = [looks[:third], looks[third : 2 * third], looks[2 * third :]]
    print("third    memory MiB (median, most)   threads (most)   files (most)   CPU s a minute")
    for title, part in zip(("first", "middle", "last"), parts, strict=True):
        memory = [one.memory_bytes / MIB for one in part]
        cpu = (part[-1].cpu_s - part[0].cpu_s) / (part[-1].at_s - part[0].at_s) * 60
        print(
            f"{title:7s} {statistics.median(memory):12.0f} {max(memory):12.0f}"
            f" {max(one.threads for one in part):15d} {max(one.files for one in part):14d}"
            f" {cpu:15.1f}"
        )
    middle, last = (statistics.median(one.memory_bytes for one in part) for part in parts[1:])
    growth = last / middle - 1
    print(f"memory, last third over middle third: {growth:+.1%} (at most {GROWTH_MAX:.0%})")
    grown = (looks[-1].store_bytes - looks[0].store_bytes) / MIB
    print(
        f"store: {looks[-1].store_bytes / MIB:.0f} MiB, {grown / looks[-1].at_s * 60:.1f} a minute"
    )
    count: dict[str, int] = {}
    for event in events:
        count[event["event"]] = count.get(event["event"], 0) + 1
    print("events: " + ", ".join(f"{many} {kind}" for kind, many in sorted(count.items())))
    late_s = [float(e["late_s"]) for e in events if e["event"] == "cycle_started"]
    took_s = [float(e["seconds"]) for e in events if e["event"] == "cycle_ended"]
    read_s = [float(e["seconds"]) for e in events if e["event"] == "sampled" and e["seconds"]]
    pauses_s = _pauses_s(events, "sampled")
    for title, numbers in (
        ("a cycle began so late", late_s),
        ("a cycle took", took_s),
        ("a reading took", read_s),
        ("between two readings", pauses_s),
        (
            "between two signs of life",
            [b - a for a, b in pairwise(manager.alive_s)],
        ),
    ):
        print(f"{title:26s} {_shares(numbers)}")
    silent = clusters - len({e["cluster"] for e in events if e["event"] == "cycle_ended"})
    print(f"clusters without a cycle that ended: {silent}")
    return growth <= GROWTH_MAX and share(late_s, 0.99) <= LATE_MAX_S and not silent


def _pauses_s(events: Sequence[dict[str, Any]], kind: str) -> list[float]:
    last: dict[str, float] = {}
    pauses: list[float] = []
    for event in events:
        if event["event"] == kind:
            at = datetime.fromisoformat(event["at"]).timestamp()
            if event["cluster"] in last:
                pauses.append(at - last[event["cluster"]])
            last[event["cluster"]] = at
    return pauses


def share(numbers: Sequence[float], part: float) -> float:
    """Return the number that so large a part of them does not exceed."""
    return sorted(numbers)[min(len(numbers) - 1, int(part * len(numbers)))] if numbers else 0.0


def _shares(numbers: Sequence[float]) -> str:
    if not numbers:
        return "never"
    half, most = share(numbers, 0.5), share(numbers, 0.99)
    return f"p50 {half:7.2f} s  p99 {most:7.2f} s  max {max(numbers):7.2f} s  of {len(numbers)}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["all", "day", "minutes"], default="all")
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--processes", type=int, default=3, help="that serve the hosts")
    parser.add_argument("--every", default="5m", help="pause between the cycles of a cluster")
    parser.add_argument("--jitter", default="0s")
    parser.add_argument("--hours", type=float, default=24.0, help="of the simulated day")
    parser.add_argument("--day-every", type=float, default=60.0, help="the same, that day, min")
    parser.add_argument("--keep", help="a file for the daemon's log")
    options = parser.parse_args(arguments)
    clusters = fleet(options.clusters, options.seed)
    now = datetime.now(UTC)
    print(
        f"{now:%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    met = True
    if options.what != "minutes":
        met = day.run(clusters, options.hours, options.day_every * 60) and met
    if options.what != "day":
        met = minutes(options, clusters) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
