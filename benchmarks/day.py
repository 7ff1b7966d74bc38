"""A simulated day of a fleet: every cluster's cycles on a virtual clock of its own, one process.

The cluster that has the least of the day behind it has its next cycle, so that all live through it
side by side and write into one store as they would. The store is in memory-backed files where
there are any: what a disk takes to be certain is measured by the daemon's real minutes.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from balancer.clock import VirtualClock
from balancer.cycle import Cycle, run_cycle
from balancer.errors import BalancerError
from balancer.execute.charge import Charge
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.simulator.host import hosts_of
from balancer.model.cluster import Cluster as Seen
from balancer.policy.load import parse_policy
from balancer.policy.policy import Mode, Policy
from balancer.service.events import Bus
from balancer.service.housekeeping import tidy
from balancer.service.telling import Teller
from balancer.store.leases import holder_name
from balancer.store.store import Store
from balancer.unattended import RetentionPart
from benchmarks.sites import Cluster, described

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
MEMORY = Path("/dev/shm")  # noqa: S108 -- a directory of our own is made in it
MIB = 2**20
TIDY_EVERY_S = 3600.0


@dataclass
class Day:
    """What the day was like."""

    results: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)  # of processor time, by cycle
    memory: list[float] = field(default_factory=list)  # MiB, at each full hour
    over: dict[str, int] = field(default_factory=dict)  # hosts over a threshold, as last seen
    over_first: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, cycle: Cycle, policy: Policy) -> None:
        """Count what a cycle did."""
        self.results[cycle.result] += 1
        self.over[name] = _overloaded(cycle.seen.cluster, policy)
        self.over_first.setdefault(name, self.over[name])
        for one in cycle.report.migrations if cycle.report is not None else ():
            self.moves[one.state.value] += 1


@dataclass(frozen=True, slots=True)
class Life:
    """One cluster with what it lives on."""

    name: str
    clock: VirtualClock
    gateway: ClusterGateway

    def cycle(self, policy: Policy, store: Store) -> Cycle:
        """Run one cycle, now."""
        with store.leases.hold(self.name, holder_name(), self.clock) as lease:
            return run_cycle(Charge(policy, self.gateway, store, self.clock, lease), Mode.AUTO)


def run(clusters: Sequence[Cluster], hours: float, every_s: float) -> bool:
    """Live through the day, print what came of it, and tell whether nothing failed."""
    print(f"{hours:g} simulated hours, a cycle every {every_s / 60:g} min: {described(clusters)}")
    policy = parse_policy("version: 1\nmode: auto\n", "policy")
    day = Day()
    began_s = time.process_time()
    within = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="fleet-day-", dir=within) as directory:
        file = Path(directory) / "store"
        with Store.open(file) as store:
            for life, due_s in _in_order(clusters, hours * 3600, every_s):
                at_s = time.process_time()
                try:
                    day.note(life.name, life.cycle(policy, store), policy)
                except BalancerError as error:
                    day.errors[f"{type(error).__name__}: {error.message[:100]}"] += 1
                day.took_s.append(time.process_time() - at_s)
                _each_hour(day, due_s, store)
        size = sum(path.stat().st_size for path in Path(directory).iterdir()) / MIB
    _report(day, time.process_time() - began_s, size)
    return not day.errors


def _in_order(
    clusters: Sequence[Cluster], seconds: float, every_s: float
) -> Iterator[tuple[Life, float]]:
    """Yield a cluster whose cycle is due, and when that is; the earliest first."""
    lives = [_life(each) for each in clusters]
    queue = [(every_s * number / len(lives), number) for number in range(len(lives))]
    while queue and queue[0][0] < seconds:
        due_s, number = heapq.heappop(queue)
        life = lives[number]
        life.clock.sleep(due_s - life.clock.monotonic_s())
        yield life, due_s
        due_s += every_s
        while due_s <= life.clock.monotonic_s():
            due_s += every_s  # what passed while it ran is not made up for
        heapq.heappush(queue, (due_s, number))


def _life(each: Cluster) -> Life:
    clock = VirtualClock(BEGIN)
    hosts = hosts_of(each.world(clock))
    gateway = ClusterGateway(each.name, list(hosts), hosts.__getitem__, in_turn, clock)
    return Life(each.name, clock, gateway)


def _each_hour(day: Day, due_s: float, store: Store) -> None:
    """Keep house as the daemon does, and look at the memory."""
    if due_s < len(day.memory) * TIDY_EVERY_S:
        return
    clock = VirtualClock(BEGIN + timedelta(seconds=due_s))
    tidy(store, RetentionPart(samples=4 * TIDY_EVERY_S), clock, Teller(Bus(), clock))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    day.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / MIB)
    print(f"  {due_s / 3600:3.0f} h  {day.memory[-1]:5.0f} MiB", flush=True)


def _overloaded(seen: Seen, policy: Policy) -> int:
    count = 0
    for host in seen.hosts:
        vms = [vm for vm in seen.vms_on[host.name] if vm.is_load]
        cpu = sum(vm.cpu_used_cores for vm in vms) / host.cpu_cores
        memory = sum(vm.memory_assigned_bytes for vm in vms) / host.memory_bytes
        count += cpu > policy.thresholds.cpu or memory > policy.thresholds.memory
    return count


def _report(day: Day, cpu_s: float, store_mib: float) -> None:
    took_s = sorted(day.took_s)
    most_s = took_s[int(len(took_s) * 0.99)]
    third = len(day.memory) // 3
    middle, last = day.memory[third : 2 * third], day.memory[2 * third :]
    print(f"{len(took_s)} cycles, {cpu_s:.0f} CPU s, load {os.getloadavg()[0]:.1f}")
    print(
        f"CPU s a cycle: p50 {took_s[len(took_s) // 2]:.3f}, p99 {most_s:.3f}, max {took_s[-1]:.3f}"
    )
    print("cycles: " + ", ".join(f"{many} {word}" for word, many in sorted(day.results.items())))
    print("migrations: " + ", ".join(f"{many} {word}" for word, many in sorted(day.moves.items())))
    print(f"errors: {dict(day.errors) or 'none'}")
    print(
        f"hosts over a threshold: {sum(day.over_first.values())} at first, "
        f"{sum(day.over.values())} when last seen"
    )
    if middle and last:
        growth = sum(last) / len(last) / (sum(middle) / len(middle)) - 1
        print(f"memory, last third over middle third: {growth:+.1%}; store {store_mib:.0f} MiB")
