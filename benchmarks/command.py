"""What the command line costs beside planning: `python -m benchmarks.command`.

`balancer plan --snapshot FILE` as a user calls it, from the start of the process to the printed and
judged plan, against the time that search and solver take of that same run. CPU seconds; of some
runs the quickest.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from balancer.formats.snapshot import snapshot_to_json
from benchmarks.instances import generate
from benchmarks.planner import machine
from benchmarks.timed_command import SAID

HOSTS, VMS, CAP, MOST, RUNS = 64, 8000, 400, 1.3, 3


def measured(file: Path) -> tuple[float, float]:
    """Return the CPU seconds of the whole command, and of search and solver within it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.timed_command", "plan", "--snapshot", str(file)]
    ran = subprocess.run(
        [*command, "--max-migrations", str(CAP)], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (said,) = (line for line in ran.stderr.splitlines() if line.startswith(SAID))
    return whole, float(said.removeprefix(SAID))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    print(machine())
    print("| seed | command, CPU s | search and solver, CPU s | ratio | kept |\n|" + "---|" * 5)
    kept = True
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "snapshot.json"
            file.write_text(snapshot_to_json(generate(HOSTS, VMS, seed)), "utf-8")
            whole, search = min(measured(file) for _ in range(RUNS))
        kept &= whole <= MOST * search
        verdict = "yes" if whole <= MOST * search else "no"
        print(
            f"| {seed} | {whole:.2f} | {search:.2f} | {whole / search:.2f} | {verdict} |",
            flush=True,
        )
    print(machine())
    return 0 if kept else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
