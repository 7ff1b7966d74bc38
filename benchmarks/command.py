"""What the command line costs beside planning: `python -m benchmarks.command`.

`balancer plan --snapshot FILE` as a user calls it, from start to printed plan, judged, against the
search and its solver alone, in a process of its own, on the same snapshot with the same effort.
CPU seconds of the process tree.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from balancer.formats.snapshot import read_snapshot, snapshot_to_json
from balancer.planner import plan as front
from balancer.policy.policy import Policy
from benchmarks.instances import generate
from benchmarks.planner import NOW, machine

HOSTS, VMS, CAP, MOST = 64, 8000, 400, 1.3


def command_s(file: Path) -> float:
    """Return the CPU seconds of the whole command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "balancer", "plan", "--snapshot", str(file)]
    subprocess.run([*command, "--max-migrations", str(CAP)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def solver_s(file: Path) -> float:
    """Return the CPU seconds that the search and its solver take of the same plan."""
    module: Any = sys.modules[front.__module__]
    search: Callable[..., Any] = module.optimise
    taken: list[float] = []

    def timed(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        found = search(*args, **named)
        taken.append(time.process_time() - started)
        return found

    module.optimise = timed
    front(read_snapshot(file).cluster, Policy(), now=NOW, max_migrations=CAP)
    return sum(taken)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    print(machine())
    print("| seed | command, CPU s | search and solver, CPU s | ratio | kept |\n|" + "---|" * 5)
    context = multiprocessing.get_context("spawn")
    kept = True
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "snapshot.json"
            file.write_text(snapshot_to_json(generate(HOSTS, VMS, seed)), "utf-8")
            whole = command_s(file)
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                alone = pool.submit(solver_s, file).result()
        kept &= whole <= MOST * alone
        verdict = "yes" if whole <= MOST * alone else "no"
        print(
            f"| {seed} | {whole:.2f} | {alone:.2f} | {whole / alone:.2f} | {verdict} |", flush=True
        )
    print(machine())
    return 0 if kept else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
