"""How good and how fast the planner is: `python -m benchmarks.planner`, one table.

J, its proven bound, the share of the removable badness that was removed (closed) and the gap to
the bound, with CPU seconds of this process, on generated clusters with rules.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from balancer.planner import plan
from balancer.policy.policy import Policy
from benchmarks.instances import generate

SIZES = ((4, 60, 6), (16, 400, 20), (64, 1000, 50), (64, 1000, 100))
LARGE = ((64, 8000, 80), (64, 8000, 400))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="64 x 8,000 as well")
    options = parser.parse_args(arguments)
    print("hosts  vms    K   seed  moves  J before  J after   bound     closed   gap     CPU s")
    for hosts, vms, cap in (*SIZES, *(LARGE if options.large else ())):
        for seed in range(1, options.seeds + 1):
            cluster = generate(hosts, vms, seed)
            started = time.process_time()
            made = plan(cluster, Policy(), now=NOW, max_migrations=cap)
            seconds = time.process_time() - started
            score = made.score
            gap = score.after / score.bound - 1 if score.bound else float("inf")
            print(
                f"{hosts:5d} {vms:5d} {cap:4d} {seed:5d} {len(made.migrations):6d} "
                f"{score.before:9.4f} {score.after:9.4f} {score.bound:9.4f} "
                f"{score.closed:8.3%} {gap:7.1%} {seconds:7.2f}  {made.status} "
                f"({score.bound_kind})",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
