"""ProxLB's greedy balancer and its CP-SAT solver (PyPI `proxlb`, `proxlb-solver`).

ProxLB balances one resource a run and stops when its hosts are no further apart than its
`balanciness`, by default 10 %. Neither has a cap on moves. ProxLB decides one move after another,
so that its first moves are what it would do under a cap; the solver decides on all of them at
once, and ours is given as many as it used, be they more than the cap. The solver is told our
limits as its limits of processors and memory, and weighs CPU and memory alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import measured
from benchmarks.peers.install import python_of
from benchmarks.peers.neutral import CPU_LIMIT, MEMORY_LIMIT
from benchmarks.peers.task import Answer, FailedError, Task

CHILD = Path(__file__).parent / "in_proxlb.py"
START_S = 60.0  # for building a model, and so that it ends by itself


@dataclass(frozen=True)
class ProxLb:
    """Its greedy balancer, for one resource."""

    resource: str
    expresses = "all, in its way"
    tells_all = False

    @property
    def name(self) -> str:
        return f"ProxLB ({self.resource})"

    def balance(self, task: Task) -> Answer:
        """Run it, and take as many of its moves as the cap allows."""
        document = task.document(method=self.resource, solver=False)
        return _run(self.name, task, document, task.limit_s)


@dataclass(frozen=True)
class ProxLbSolver:
    """Its solver, for CPU and memory alike."""

    seconds: float
    name = "proxlb-solver"
    expresses = "apart, together, lists of hosts"
    tells_all = True

    def balance(self, task: Task) -> Answer:
        """Run it for its time."""
        document = task.document(
            solver=True, seconds=self.seconds, cpu_limit=CPU_LIMIT, memory_limit=MEMORY_LIMIT
        )
        return _run(self.name, task, document, self.seconds + START_S)


def _run(name: str, task: Task, document: Mapping[str, Any], limit_s: float) -> Answer:
    command = [str(python_of("proxlb")), "-P", str(CHILD)]
    ran = measured.run(command, limit_s=limit_s, text=json.dumps(document))
    if ran.cut or ran.status:
        why = f"stopped after {ran.wall_s:.0f} s" if ran.cut else ran.err.strip()[-300:]
        raise FailedError(f"{name}: {why}")
    told = json.loads(ran.out.splitlines()[-1])
    if "failed" in told:
        raise FailedError(f"{name}: {told['failed']} after {ran.wall_s:.0f} s")
    return Answer({**task.home, **told["place"]}, ran.cpu_s, ran.wall_s, told["end"])
