"""`balancer` in real processes that kill themselves at a chosen commit, on hosts over real WinRM.

A process is forked from one that has everything imported and has never had a second thread, so a
kill costs no start of an interpreter. Nothing of the product is replaced but its clock, which runs
as fast as that of the simulated hosts; the kill hangs on SQLAlchemy's own events.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, Pool, event

from balancer import cli
from balancer.cli import apply, ask, drain, simulated  # noqa: F401 -- imported once, for all forks
from balancer.clock import ScaledClock, SystemClock, VirtualClock
from balancer.gateway.hyperv import remote, session  # noqa: F401 -- the same
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.simulator.site import SimulatedSite
from tests.simulation.small import Small

# Tables in which what is about to be done is written down, and what has been.
JOURNAL = ("transitions", "drains", "drain_steps")
KILLED = -int(signal.SIGKILL)
ENDS_WITHIN_S = 300.0  # of a machine that has other things to do


@dataclass(frozen=True, slots=True)
class Pace:
    """A clock that all processes share: `factor` times as fast as life, from one instant on."""

    factor: float
    began: datetime

    def clock(self) -> ScaledClock:
        real_s = (SystemClock().now() - self.began).total_seconds()
        return ScaledClock(self.factor, self.began + timedelta(seconds=real_s * self.factor))


@dataclass(frozen=True, slots=True)
class Kill:
    """At which commit to the journal (from 1) the process ends, and on which side of it."""

    at: int
    after: bool


@dataclass(frozen=True, slots=True)
class Order:
    """One run of the command line."""

    arguments: tuple[str, ...]
    config: Path
    printed: Path
    pace: Pace
    kill: Kill | None = None


def perform(order: Order) -> None:
    """Be the process; what is printed goes to two files, the number of commits to a third."""
    for number, suffix in ((1, ".out"), (2, ".err")):
        with order.printed.with_suffix(suffix).open("wb") as stream:
            os.dup2(stream.fileno(), number)
    os.environ["BALANCER_CONFIG"] = str(order.config)
    for module in (ask, drain):
        module.SystemClock = order.pace.clock  # type: ignore[attr-defined]
    commits = _Commits(order.kill)
    code = cli.run(list(order.arguments))
    order.printed.with_suffix(".count").write_text(str(commits.count), "utf-8")
    sys.stdout.flush()
    sys.exit(code)


class _Commits:
    """Counts commits to the journal, and ends the process at one of them."""

    def __init__(self, kill: Kill | None) -> None:
        self.count = 0
        self._kill = kill
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", self._before)
        event.listen(Pool, "checkin", self._after)

    def _statement(self, connection: Connection, _cursor: Any, text: str, *_: Any) -> None:
        words = text.split(maxsplit=3)
        table = words[2] if words[0] == "INSERT" else words[1] if words[0] == "UPDATE" else ""
        if table in JOURNAL:
            connection.info["journal"] = True

    def _before(self, connection: Connection) -> None:
        if connection.info.get("journal"):
            self.count += 1
            self._perhaps(after=False)

    def _after(self, _connection: Any, record: Any) -> None:
        if record.info.pop("journal", False):
            self._perhaps(after=True)

    def _perhaps(self, *, after: bool) -> None:
        if self._kill == Kill(self.count, after):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str
    commits: int

    @property
    def document(self) -> Any:
        assert self.stdout, f"exit code {self.code}: {self.stderr}"
        return json.loads(self.stdout)


def processes() -> Any:
    """Return what forks processes that have all this imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@dataclass
class Bench:
    """A simulated cluster that is being served, and a log of the migrations that it accepted."""

    directory: Path
    small: Small
    site: SimulatedSite
    config: Path
    pace: Pace
    accepted: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    @property
    def store(self) -> Path:
        return self.directory / "balancer.sqlite"

    def run(self, *arguments: object, kill: Kill | None = None) -> Ended:
        """Run the command line to its end."""
        self.runs += 1
        printed = self.directory / f"run{self.runs}"
        order = Order(tuple(map(str, arguments)), self.config, printed, self.pace, kill)
        process = processes().Process(target=perform, args=(order,))
        process.start()
        process.join(ENDS_WITHIN_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (printed.with_suffix(suffix).read_text("utf-8") for suffix in (".out", ".err"))
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        count = printed.with_suffix(".count")
        commits = int(count.read_text("utf-8")) if count.exists() else 0
        return Ended(process.exitcode or 0, out, err, commits)


@contextmanager
def bench(directory: Path, small: Small, pace: Pace, policy: str) -> Iterator[Bench]:
    """Serve a world whose clock is of that pace."""
    known = module_text()
    users = {simulated.USER: "secret"}
    site = SimulatedSite(small.world, users, accepts_module=lambda text: text == known)
    with site:
        (directory / "password").write_text("secret", "utf-8")
        (directory / "policy.yaml").write_text(policy, "utf-8")
        config = directory / "balancer.yaml"
        config.write_text(simulated._config(small.world, site), "utf-8")
        made = Bench(directory, small, site, config, pace)
        ask_engine = small.world.engine.ask

        def accept(guest: Any, *args: Any, **more: Any) -> None:
            made.accepted[guest.id] += 1
            ask_engine(guest, *args, **more)

        small.world.engine.ask = accept  # type: ignore[method-assign]
        yield made


def small_at(pace: Pace, **more: Any) -> Small:
    """Return a small world on a clock of that pace."""
    return Small(clock=cast("VirtualClock", pace.clock()), **more)


def pace(factor: float) -> Pace:
    """Return a pace that begins now."""
    return Pace(factor, datetime.now(UTC))
