"""`python -m tests.simulation.years`: run seeds of a world, count, and name those that fail."""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import platform
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial

from balancer.clock import SystemClock
from tests.simulation.years.run import Outcome, run
from tests.simulation.years.worlds import SIZES

EVERY_S = 10.0  # between two lines of progress


def main() -> int:
    """Run what was asked for; the exit code is 1 if a seed failed."""
    asked = _arguments()
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    total = Total(asked.world, asked.seeds)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.freeze()  # what is imported stays: there is no use in looking through it again and again
    try:
        for outcome in _outcomes(asked, seeds):
            total.add(outcome, len(seeds))
    except KeyboardInterrupt:
        _say("interrupted; so far:")
    total.tell()
    if asked.json:
        sys.stdout.write(json.dumps(total.document(), indent=2) + "\n")
    return 1 if total.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.years", description=__doc__)
    parser.add_argument("--world", choices=sorted(SIZES), default="small")
    parser.add_argument("--seeds", default="0-199", help="one, or the first and the last: 0-9999")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--verbose", action="store_true", help="tell everything that happens")
    parser.add_argument("--json", action="store_true", help="a summary on standard output")
    return parser.parse_args()


def _outcomes(asked: argparse.Namespace, seeds: range) -> Iterator[Outcome]:
    if asked.jobs == 1 or len(seeds) == 1:
        log = _say if asked.verbose else None
        yield from (run(seed, asked.world, log) for seed in seeds)
        return
    with multiprocessing.get_context("spawn").Pool(asked.jobs, gc.freeze) as pool:
        yield from pool.imap_unordered(partial(run, world=asked.world), seeds, chunksize=4)


class Total:
    """What all seeds come to."""

    def __init__(self, world: str, seeds: str) -> None:
        self.world, self.seeds = world, seeds
        self.counts: Counter[str] = Counter()
        self.failed: dict[int, list[str]] = {}
        self.done, self.cpu_s, self.cpu_max_s = 0, 0.0, 0.0
        self.most_moves = 0
        self._clock = SystemClock()
        self._began_s = self._told_s = self._clock.monotonic_s()

    def add(self, outcome: Outcome, of: int) -> None:
        """Count one more."""
        self.done += 1
        self.cpu_s += outcome.cpu_s
        self.cpu_max_s = max(self.cpu_max_s, outcome.cpu_s)
        self.most_moves = max(self.most_moves, outcome.most_moves)
        self.counts += outcome.counts
        if not outcome.passed:
            self.failed[outcome.seed] = outcome.broken
            _say(f"seed {outcome.seed} FAILED: {'; '.join(outcome.broken)}")
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s >= EVERY_S:
            self._told_s = now_s
            took_s = now_s - self._began_s
            left_s = took_s / self.done * (of - self.done)
            _say(
                f"{self.done} of {of} seeds, {len(self.failed)} failed, {took_s:.0f} s, "
                f"about {left_s:.0f} s to go"
            )

    def tell(self) -> None:
        """Say what came of it."""
        for what, many in sorted(self.counts.items()):
            _say(f"{many:10}  {what}")
        _say(
            f"{self.done} seeds of the {self.world} world, {len(self.failed)} failed; "
            f"{self.cpu_s / max(1, self.done):.3f} s of CPU each, {self.cpu_max_s:.1f} s at most; "
            f"at most {self.most_moves} moves of one VM"
        )
        for seed in sorted(self.failed):
            _say(f"python -m tests.simulation.years --world {self.world} --seeds {seed} --verbose")

    def document(self) -> dict[str, object]:
        """Return it for a script."""
        return {
            "world": self.world,
            "seeds": self.seeds,
            "done": self.done,
            "failed": {str(seed): broken for seed, broken in sorted(self.failed.items())},
            "cpu_s": round(self.cpu_s, 1),
            "cpu_max_s": round(self.cpu_max_s, 2),
            "wall_s": round(self._clock.monotonic_s() - self._began_s, 1),
            "most_moves_of_one_vm": self.most_moves,
            "counts": dict(sorted(self.counts.items())),
            "python": platform.python_version(),
            "at": self._clock.now().isoformat(timespec="seconds"),
        }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
