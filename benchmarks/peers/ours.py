"""Our planner as it is shipped: `balancer plan`, from reading a snapshot to the printed plan.

The time is that of the whole command: reading, placement, transport, schedule, judge, reasons.
It can be run within bounds, as an administrator would set them who wants no more than a peer
does: by a policy file with a cap on bytes and with lower thresholds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path

from balancer.formats.snapshot import snapshot_to_json
from benchmarks.peers import measured
from benchmarks.peers.neutral import CPU_LIMIT, MEMORY_LIMIT
from benchmarks.peers.task import Answer, FailedError, Task

GIB = 2**30
PERCENT_STEPS = 1e9  # thresholds are written to a billionth of a percent, rounded down


@dataclass(frozen=True)
class Bounds:
    """What a plan is to stay within.

    Attributes:
        whose: The peer that does no more.
        gib: Memory of the VMs that move.
        cpu, memory: The highest shares of hosts, 0..1.
    """

    whose: str
    gib: float
    cpu: float
    memory: float

    def policy(self) -> str:
        """Return them as a policy file; no threshold is above the built-in policy's."""
        cpu, memory = (
            floor(100 * min(share, most) * PERCENT_STEPS) / PERCENT_STEPS
            for share, most in ((self.cpu, CPU_LIMIT), (self.memory, MEMORY_LIMIT))
        )
        return (
            "version: 1\n"
            f"name: within {self.whose}'s bounds\n"
            f"limits: {{bytes_per_run: {round(self.gib * GIB)} B}}\n"
            f"thresholds: {{cpu: {cpu:.9f}%, memory: {memory:.9f}%}}\n"
        )


@dataclass(frozen=True)
class Ours:
    """`balancer plan` with the built-in policy, or one that keeps it within bounds.

    Attributes:
        time_limit_s: Wall seconds for the whole command; None leaves it to its own limit of work.
        bounds: What it is to stay within.
    """

    time_limit_s: float | None = None
    bounds: Bounds | None = None
    expresses = "all"
    tells_all = True

    @property
    def name(self) -> str:
        name = "ours" if self.time_limit_s is None else f"ours ({self.time_limit_s:g} s)"
        return name if self.bounds is None else f"{name}, within {self.bounds.whose}'s bounds"

    def balance(self, task: Task) -> Answer:
        """Plan, and read where its migrations lead."""
        command = [sys.executable, "-m", "balancer", "plan", "--json", "--seed", str(task.seed)]
        command += ["--max-migrations", str(task.cap)]
        if self.time_limit_s is not None:
            command += ["--time-limit", str(self.time_limit_s)]
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder) / "snapshot.json"
            cluster = task.cluster
            if self.bounds is not None:
                policy = Path(folder) / "policy.yaml"
                policy.write_text(self.bounds.policy(), "utf-8")
                command += ["--policy", str(policy)]
                # The cap is on bytes copied, what is written meanwhile included; the neutral judge
                # counts memory once.
                idle = tuple(replace(vm, dirty_bytes_per_s=0.0) for vm in cluster.vms)
                cluster = replace(cluster, vms=idle)
            snapshot.write_text(snapshot_to_json(cluster), "utf-8")
            command += ["--snapshot", str(snapshot)]
            ran = measured.run(command, limit_s=task.limit_s)
        if ran.cut or ran.status:
            raise FailedError(f"balancer plan ended with {ran.status}: {ran.err.strip()[-300:]}")
        plan = json.loads(ran.out)
        place = dict(task.home)
        for one in plan["migrations"]:
            if not one.get("stopover"):
                place[one["vm"]] = one["target"]
        note = f"{plan['status']}, ended by {plan['stopped_by']}"
        return Answer(place, ran.cpu_s, ran.wall_s, note)
