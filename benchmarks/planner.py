"""How good and how fast the planner is: `python -m benchmarks.planner`, one table.

Each row is planned in a process of its own. CPU seconds are those of that process (planning
only, on one thread), memory is its peak. `closed` and `gap` are against the assignment LP of
the same task (by column generation, with the tiers above balance held); `best bound` is the
tightest that the plan proves. `over` counts hosts above a threshold, after and before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.planner import plan, plan_fabric
from balancer.planner.problem import build
from balancer.planner.relax import relax
from balancer.planner.score import measure, overloaded
from balancer.planner.state import State
from balancer.planner.work import Work
from balancer.policy.policy import Policy
from benchmarks.instances import fabric, generate, real

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAKERS = {"generated": generate, "real": real}
FABRIC = (16, 1000, 25_000, 78)  # clusters, hosts and VMs in all, cap of each cluster


@dataclass(frozen=True)
class Row:
    """An instance, the work given to it, and what is wanted of the result."""

    maker: str
    hosts: int
    vms: int
    cap: int
    effort: float  # million units
    wanted: str


ROWS = (
    Row("generated", 4, 60, 6, 3.5, "proven in 1 s"),
    Row("generated", 16, 400, 20, 0.9, "closed 99.7 % in 1 s"),
    Row("generated", 16, 400, 20, 14, "gap to best bound 8 % in 20 s"),
    Row("generated", 64, 1000, 50, 2.3, "closed 99.4 % in 3 s"),
    Row("generated", 64, 1000, 50, 23, "closed 99.55 % in 30 s"),
    Row("generated", 64, 1000, 100, 2.3, "closed 99.85 % in 3 s"),
    Row("generated", 64, 1000, 100, 23, "closed 99.88 % in 30 s"),
    Row("generated", 64, 8000, 80, 3.5, "gap 6 % in 5 s"),
    Row("generated", 64, 8000, 80, 22, "gap 4 % in 30 s"),
    Row("generated", 64, 8000, 80, 45, "gap 3.5 % in 60 s"),
    Row("generated", 64, 8000, 400, 3.5, "gap 4 % in 5 s"),
    Row("generated", 64, 8000, 400, 22, "gap 2.8 % in 30 s"),
    Row("generated", 64, 8000, 400, 45, "gap 2.5 % in 60 s"),
    Row("real", 16, 400, 20, 3.5, ""),
    Row("real", 64, 1000, 100, 3.5, ""),
    Row("real", 64, 8000, 400, 3.5, ""),
)


@dataclass(frozen=True)
class Result:
    """What one plan came to."""

    status: str
    moves: int
    before: float
    after: float
    relaxed: float
    best: float
    kind: str
    over_before: int
    over_after: int
    seconds: float
    mib: float

    @property
    def closed(self) -> float:
        return (self.before - self.after) / max(self.before - self.relaxed, 1e-12)

    @property
    def gap(self) -> float:
        return self.after / self.relaxed - 1 if self.relaxed > 0 else float("inf")


def run(row: Row, seed: int) -> Result:
    """Make an instance and plan it."""
    cluster = MAKERS[row.maker](row.hosts, row.vms, seed)
    started = time.process_time()
    made = plan(cluster, Policy(), now=NOW, max_migrations=row.cap, effort=1e6 * row.effort)
    seconds = time.process_time() - started
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _judged(cluster, made, row.cap, seconds, mib)


def _judged(cluster: Cluster, made: Plan, cap: int, seconds: float, mib: float) -> Result:
    problem = build(cluster, Policy(), cap)
    at = {host.name: number for number, host in enumerate(problem.hosts)}
    index = {vm.id: number for number, vm in enumerate(problem.vms)}
    place = problem.home.copy()
    for one in made.migrations:
        if not one.stopover:
            place[index[one.vm]] = at[one.target]
    relaxed = relax(problem, place, measure(problem, place), Work(1e9))
    over = [
        int(overloaded(problem, State(problem, where).used()).any(axis=0).sum())
        for where in (problem.home, place)
    ]
    return Result(
        status=made.status.value,
        moves=len(made.migrations),
        before=made.score.before,
        after=made.score.after,
        relaxed=0.0 if relaxed is None else min(relaxed.bound, made.score.after),
        best=made.score.bound,
        kind=made.score.bound_kind,
        over_before=over[0],
        over_after=over[1],
        seconds=seconds,
        mib=mib,
    )


def run_fabric(seed: int, effort: float) -> Result:
    """Plan all clusters of a fabric, one after another."""
    clusters, hosts, vms, cap = FABRIC
    seconds, mib = 0.0, 0.0
    found: list[Result] = []
    for cluster in fabric(clusters, hosts, vms, seed):
        started = time.process_time()
        (made,) = plan_fabric([cluster], Policy(), now=NOW, max_migrations=cap, effort=1e6 * effort)
        seconds += time.process_time() - started
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found.append(_judged(cluster, made, cap, 0.0, 0.0))
    return Result(
        status="feasible",
        moves=sum(one.moves for one in found),
        before=sum(one.before for one in found),
        after=sum(one.after for one in found),
        relaxed=sum(one.relaxed for one in found),
        best=sum(one.best for one in found),
        kind="assignment LP",
        over_before=sum(one.over_before for one in found),
        over_after=sum(one.over_after for one in found),
        seconds=seconds,
        mib=mib,
    )


def _print(name: str, cap: int, seed: int, found: Result, wanted: str) -> None:
    best = found.after / found.best - 1 if found.best > 0 else float("inf")
    print(
        f"| {name} | {cap} | {seed} | {found.moves} | {found.before:.3f} | {found.after:.5f} "
        f"| {found.closed:.3%} | {found.gap:.2%} | {best:.2%} ({found.kind}) "
        f"| {found.over_after} of {found.over_before} | {found.seconds:.2f} | {found.mib:.0f} "
        f"| {found.status} | {wanted} |",
        flush=True,
    )


def machine() -> str:
    """Return one line about the machine and how busy it is."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text("utf-8").splitlines() if "model name" in line]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--longest", type=float, default=100.0, help="million units at most")
    options = parser.parse_args(arguments)
    print(machine())
    print(
        "| instance | K | seed | moves | J before | J after | closed | gap to LP "
        "| gap to best bound | over | CPU s | MiB | status | wanted |\n|" + "---|" * 14
    )
    context = multiprocessing.get_context("spawn")
    for row in ROWS:
        name = f"{row.maker} {row.hosts}x{row.vms}"
        if options.rows not in name or row.effort > options.longest:
            continue
        for seed in range(1, options.seeds + 1):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found = pool.submit(run, row, seed).result()
            _print(name, row.cap, seed, found, row.wanted)
    name = f"fabric {FABRIC[1]}x{FABRIC[2]}"
    for seed in range(1, options.seeds + 1) if options.rows in name else ():
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(run_fabric, seed, 3.7).result()
        _print(name, FABRIC[0] * FABRIC[3], seed, found, "closed 99.8 % in 60 s, 2 GB")
    print(machine())


if __name__ == "__main__":
    main(sys.argv[1:])
