"""How good and how fast the planner is: `python -m benchmarks.planner`, one table.

Each row is planned in a process of its own. CPU seconds are those of that process (planning
only, on one thread), memory is its peak. `closed` and `gap` are against the assignment LP of
the same task (by column generation, with the tiers above balance held); `best bound` is the
tightest that the plan proves, with the share that no plan can close more of. `over` counts
hosts above a threshold, after and before.
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
from dataclasses import dataclass, replace
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
from balancer.policy.policy import Policy, Reserve
from benchmarks.instances import fabric, generate, real

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAKERS = {"generated": generate, "real": real}
FABRIC = (16, 1000, 25_000, 78)  # clusters, hosts and VMs in all, cap of each cluster
INF = float("inf")
PROOF = 2e-6  # the gap of what is called optimal


@dataclass(frozen=True)
class Row:
    """An instance, the work given to it, and what is wanted of the result.

    Attributes:
        effort: Million units, about as many seconds.
        seconds: Of CPU, at most; infinite where nothing is wanted.
        closed: Share of what could be gained, at least.
        gap: To the relaxation, at most.
        best_gap: To the best bound, at most.
    """

    maker: str
    hosts: int
    vms: int
    cap: int
    effort: float
    seconds: float = INF
    closed: float = 0.0
    gap: float = INF
    best_gap: float = INF

    @property
    def wanted(self) -> str:
        """What is wanted, in words."""
        parts = [f"closed {self.closed:.4g} %" if self.closed else ""]
        parts += [f"gap {100 * self.gap:g} %" if self.gap < INF else ""]
        if self.best_gap < INF:
            parts += [
                f"gap to best {100 * self.best_gap:g} %" if self.best_gap > PROOF else "proven"
            ]
        within = f" in {self.seconds:g} s" if self.seconds < INF else ""
        return ", ".join(part for part in parts if part) + within

    def kept(self, found: Result) -> bool:
        """Tell whether a result is what was wanted."""
        return (
            found.seconds <= self.seconds
            and 100 * found.closed >= self.closed
            and found.gap <= self.gap
            and found.best_gap <= self.best_gap
            and (found.over_after == 0 or not self.gap < INF)
        )


ROWS = (
    Row("generated", 4, 60, 6, 3.5, 1, best_gap=PROOF),
    Row("generated", 6, 160, 8, 3.5),
    Row("generated", 8, 200, 10, 3.5),
    Row("real", 8, 120, 10, 3.5),
    Row("generated", 16, 400, 20, 0.66, 1, closed=99.7),
    Row("generated", 16, 400, 20, 11, 20, best_gap=0.08),
    Row("generated", 64, 1000, 50, 1.6, 3, closed=99.4),
    Row("generated", 64, 1000, 50, 20, 30, closed=99.55),
    Row("generated", 64, 1000, 100, 1.6, 3, closed=99.85),
    Row("generated", 64, 1000, 100, 16, 30, closed=99.88),
    Row("generated", 64, 8000, 80, 2.6, 5, gap=0.06),
    Row("generated", 64, 8000, 80, 18, 30, gap=0.04),
    Row("generated", 64, 8000, 80, 38, 60, gap=0.035),
    Row("generated", 64, 8000, 400, 1.8, 5, gap=0.04),
    Row("generated", 64, 8000, 400, 10, 30, gap=0.028),
    Row("generated", 64, 8000, 400, 26, 60, gap=0.025),
    Row("real", 16, 400, 20, 3.5),
    Row("real", 64, 1000, 100, 3.5),
    Row("real", 64, 8000, 400, 3.5),
)
FABRIC_ROW = Row("fabric", 1000, 25_000, 16 * 78, 2.4, 60, closed=99.8)


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
    def closable(self) -> float:
        """What no plan can close more of, by the best bound."""
        return (self.before - self.best) / max(self.before - self.relaxed, 1e-12)

    @property
    def gap(self) -> float:
        return self.after / self.relaxed - 1 if self.relaxed > 0 else INF

    @property
    def best_gap(self) -> float:
        return self.after / self.best - 1 if self.best > 0 else INF


def run(row: Row, seed: int, failures: int = 0) -> Result:
    """Make an instance and plan it, so that as many hosts may fail."""
    cluster = MAKERS[row.maker](row.hosts, row.vms, seed)
    policy = Policy(reserve=Reserve(host_failures=failures))
    started = time.process_time()
    made = plan(cluster, policy, now=NOW, max_migrations=row.cap, effort=1e6 * row.effort)
    seconds = time.process_time() - started
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if made.survival is not None:
        print(made.survival, file=sys.stderr, flush=True)
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


def run_fabric(row: Row, seed: int, failures: int = 0) -> Result:
    """Plan all clusters of a fabric, one after another."""
    clusters, hosts, vms, cap = FABRIC
    seconds, mib = 0.0, 0.0
    found: list[Result] = []
    for cluster in fabric(clusters, hosts, vms, seed):
        started = time.process_time()
        (made,) = plan_fabric(
            [cluster],
            Policy(reserve=Reserve(host_failures=failures)),
            now=NOW,
            max_migrations=cap,
            effort=1e6 * row.effort,
        )
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


def _print(row: Row, seed: int, found: Result) -> None:
    print(
        f"| {row.maker} {row.hosts}x{row.vms} | {row.cap} | {seed} | {found.moves} "
        f"| {found.before:.3f} | {found.after:.5f} | {found.closed:.3%} | {found.gap:.2%} "
        f"| {found.best_gap:.2%} ({found.kind}: {found.closable:.3%} at most) "
        f"| {found.over_after} of {found.over_before} "
        f"| {found.seconds:.2f} | {found.mib:.0f} | {found.status} | {row.wanted} "
        f"| {'yes' if row.kept(found) else 'no'} |",
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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--longest", type=float, default=100.0, help="million units at most")
    parser.add_argument("--effort", type=float, help="million units for each row, not its own")
    parser.add_argument("--host-failures", type=int, default=0, help="that are to be survived")
    options = parser.parse_args(arguments)
    print(machine())
    print(
        "| instance | K | seed | moves | J before | J after | closed | gap to LP "
        "| gap to best bound | over | CPU s | MiB | status | wanted | kept |\n|" + "---|" * 15
    )
    context = multiprocessing.get_context("spawn")
    seeds = range(options.first, options.first + options.seeds)
    for row in (*ROWS, FABRIC_ROW):
        name = f"{row.maker} {row.hosts}x{row.vms} K{row.cap} {row.seconds:g}s"
        if options.rows not in name or row.effort > options.longest:
            continue
        if options.effort is not None:
            row = replace(row, effort=options.effort)  # noqa: PLW2901
        for seed in seeds:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                job = run_fabric if row.maker == FABRIC_ROW.maker else run
                found = pool.submit(job, row, seed, options.host_failures).result()
            _print(row, seed, found)
    print(machine())


if __name__ == "__main__":
    main(sys.argv[1:])
