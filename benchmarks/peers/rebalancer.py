"""Meta's Rebalancer (PyPI `rebalancer`), in a Python of its own.

The cap on moves is a `MinimizeMovementSpec` constraint with an allowance, limits are capacity
constraints whose violation is the first goal tuple, our score the second, and every rule is a
constraint. How well it does depends tenfold on its settings: all of `SETTINGS` are run, and
the best of them, by our score, is what it is compared by.

A search that takes the best move of the hottest host spends a cap on moves that gain little. What
helps it most is a price on each move, as one more goal, at which it uses up the cap and no
more; that price is not known beforehand. So where a setting says so it is looked for, in short
runs that count for nothing, and then its time begins.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.peers import measured
from benchmarks.peers.install import python_of
from benchmarks.peers.neutral import CPU_LIMIT, MEMORY_LIMIT, MOVE_COST, TANGENTS, judge
from benchmarks.peers.task import Answer, FailedError, Task

CHILD = Path(__file__).parent / "in_rebalancer.py"
START_S = 60.0  # for building its model, and so that it ends by itself
SINGLE: dict[str, Any] = {"singleMoveTypeSpec": {}}
SWAP: dict[str, Any] = {"swapMoveTypeSpec": {}}
KL: dict[str, Any] = {"klSearchMoveTypeSpec": {}}
STRATIFIED = {"moveTypeName": "SINGLE_RANDOM_STRATIFIED"}
FEW: dict[str, Any] = {"sample": 16, "hot": 16}  # of hosts to go to, and of VMs to go
SETTINGS: dict[str, dict[str, Any]] = {
    "stratified": {"goal": "parabola", "moves": [STRATIFIED], **FEW},
    "stratified, priced": {"goal": "parabola", "moves": [STRATIFIED], "priced": True, **FEW},
    "all moves": {"goal": "parabola", "moves": [SINGLE, KL, SWAP]},
    "all moves, priced": {"goal": "parabola", "moves": [SINGLE, KL, SWAP], "priced": True},
    "HiGHS": {"goal": "tangents", "moves": []},
}
# It ends with an error of its own on 64 x 1,000, and gives no answer in time on 64 x 8,000.
EXACT_VMS_MAX = 500
# Of J, for a move; the right one is between these, and is looked for so often, each time for
# this share of the seconds that follow.
PRICES, LOOKS, LOOK_SHARE = (1e-5, 0.1), 7, 0.15


@dataclass(frozen=True)
class Rebalancer:
    """One way of setting it."""

    setting: str
    seconds: float
    expresses = "all"
    tells_all = True

    @property
    def name(self) -> str:
        return f"Rebalancer ({self.setting})"

    def balance(self, task: Task) -> Answer:
        """Run it for its time, or until it finds nothing more."""
        settings = dict(SETTINGS[self.setting])
        if not settings["moves"] and len(task.cluster.vms) > EXACT_VMS_MAX:
            raise FailedError(f"not tried above {EXACT_VMS_MAX} VMs, which are too many for it")
        if not settings.pop("priced", False):
            return self._run(task, settings, self.seconds)
        price, looked = self._price(task, settings)
        answer = self._run(task, settings | {"price": price}, self.seconds)
        best = min((answer, looked), key=lambda one: judge(task.cluster, one.place).score)
        return replace(answer, place=best.place, note=f"{answer.note} price {price:.2g}")

    def _price(self, task: Task, settings: dict[str, Any]) -> tuple[float, Answer]:
        """Return the price of a move that suits the cap best, and what it gave."""
        low, high = PRICES
        found: list[tuple[float, float, Answer]] = []
        for _ in range(LOOKS):
            price = math.sqrt(low * high)
            answer = self._run(task, settings | {"price": price}, LOOK_SHARE * self.seconds)
            verdict = judge(task.cluster, answer.place)
            found.append((verdict.score, price, answer))
            low, high = (price, high) if verdict.moves >= task.cap else (low, price)
        _, price, answer = min(found, key=lambda one: one[:2])
        return price, answer

    def _run(self, task: Task, settings: dict[str, Any], seconds: float) -> Answer:
        document = task.document(
            **settings,
            seconds=seconds,
            cpu_limit=CPU_LIMIT,
            memory_limit=MEMORY_LIMIT,
            move_cost=MOVE_COST,
            tangents=TANGENTS,
        )
        ran = measured.run(
            [str(python_of("rebalancer")), "-P", str(CHILD)],
            limit_s=seconds + START_S,
            text=json.dumps(document),
        )
        if ran.cut or ran.status:
            lines = ran.err.strip().splitlines() or ["no word"]
            why = f"no answer {START_S:.0f} s after its time" if ran.cut else lines[-1]
            raise FailedError(f"{self.name}: {why[-200:]}")
        told = json.loads(ran.out.splitlines()[-1])
        return Answer({**task.home, **told["place"]}, ran.cpu_s, ran.wall_s, told["end"])
