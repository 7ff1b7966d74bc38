"""Our planner as it is shipped: `balancer plan`, from reading a snapshot to the printed plan.

The time is that of the whole command: reading, placement, transport, schedule, judge, reasons.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from balancer.formats.snapshot import snapshot_to_json
from benchmarks.peers import measured
from benchmarks.peers.task import Answer, FailedError, Task


@dataclass(frozen=True)
class Ours:
    """`balancer plan` with the built-in policy.

    Attributes:
        time_limit_s: Wall seconds for the whole command; None leaves it to its own limit of work.
    """

    time_limit_s: float | None = None
    expresses = "all"
    tells_all = True

    @property
    def name(self) -> str:
        return "ours" if self.time_limit_s is None else f"ours ({self.time_limit_s:g} s)"

    def balance(self, task: Task) -> Answer:
        """Plan, and read where its migrations lead."""
        command = [sys.executable, "-m", "balancer", "plan", "--json", "--seed", str(task.seed)]
        command += ["--max-migrations", str(task.cap)]
        if self.time_limit_s is not None:
            command += ["--time-limit", str(self.time_limit_s)]
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder) / "snapshot.json"
            snapshot.write_text(snapshot_to_json(task.cluster), "utf-8")
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
