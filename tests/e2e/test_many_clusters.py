"""Several clusters in one daemon, and one of them in trouble: the others do not notice."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from balancer.clock import ScaledClock
from balancer.gateway.port import Gateway, Observation
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.world import World
from balancer.service import daemon as daemons
from balancer.service.daemon import Daemon
from balancer.service.loop import Setup
from balancer.service.reload import Plant, read_plant
from benchmarks.sites import Cluster, configuration, serving, write

WAIT_S = 60.0


@dataclass
class Told:
    """What the daemon told the service manager and wrote into its log, as it came."""

    directory: Path
    lines: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(str(self.directory / "notify"))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while text := self._door.recv(65536).decode():
            self.lines += [(time.monotonic(), line) for line in text.split("\n")]

    def times(self, prefix: str) -> list[float]:
        return [at for at, line in self.lines if line.startswith(prefix)]

    def status(self) -> str:
        return next((line for _, line in reversed(self.lines) if line.startswith("STATUS=")), "")

    def events(self, kind: str, cluster: str = "") -> list[dict[str, object]]:
        text = (self.directory / "log").read_text("utf-8")
        whole = text[: text.rfind("\n") + 1].splitlines()  # the last is perhaps being written
        told = [json.loads(line) for line in whole if line.startswith("{")]
        return [one for one in told if one["event"] == kind and one.get("cluster", "") == cluster]

    def wait(self, kind: str, cluster: str, count: int = 1) -> None:
        """Wait until something of a cluster was told so many times."""
        until(lambda: len(self.events(kind, cluster)) >= count, f"{count} {kind} of {cluster}")


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Have the process log into a file, and as before after the block."""
    root, stderr, interval = logging.getLogger(), sys.stderr, sys.getswitchinterval()
    handlers, level, raising = root.handlers, root.level, logging.raiseExceptions
    with file.open("w", encoding="utf-8") as stream:
        sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr, root.handlers, logging.raiseExceptions = stderr, handlers, raising
            root.setLevel(level)
            sys.setswitchinterval(interval)


@dataclass
class Fleet:
    """Clusters behind WinRM, and the daemon that looks after them, in this process."""

    directory: Path
    told: Told
    worlds: dict[str, World]

    def live(self, script: Callable[[], None]) -> None:
        """Run the daemon, here, while `script` goes on beside it; then end it."""
        errors: list[BaseException] = []

        def play() -> None:
            try:
                until(lambda: self.told.times("READY=1"), "ready")
                script()
            except BaseException as error:  # noqa: BLE001 -- raised below, by the test's thread
                errors.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        player = threading.Thread(target=play)
        player.start()
        with logging_to(self.directory / "log"):
            assert Daemon(self.directory / "balancer.yaml").run() == 0
        player.join()
        if errors:
            raise errors[0]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    clock = ScaledClock(1.0)
    with ExitStack() as stack:
        sites, worlds = {}, {}
        for number, hosts in enumerate((2, 3, 2), 1):
            cluster = Cluster(f"C{number}", hosts, seed=number)
            worlds[cluster.name] = world = cluster.world(clock)
            sites[cluster.name] = serving(world, stack)
        text = configuration(
            sites,
            "{every: 60s, sample_every: 10s}",
            "{log_level: debug, health: none, start_delay: 1s, stop_within: 2s}",
            connection="deadline: 4s",
        )
        write(tmp_path, text)
        yield Fleet(tmp_path, Told(tmp_path), worlds)


@pytest.mark.timeout(180)
def test_one_cluster_whose_hosts_all_hang_delays_no_other(fleet: Fleet) -> None:
    for host in fleet.worlds["C2"].machines:
        fleet.worlds["C2"].faults.set(Fault(FaultKind.SILENT, host=host))
    told = fleet.told

    def script() -> None:
        for name in ("C1", "C3"):
            told.wait("cycle_ended", name)
            told.wait("sampled", name, 3)
        assert not told.events("sampled", "C2")
        until(lambda: told.events("sample_failed", "C2"), "C2 tells that it cannot be read")

    fleet.live(script)
    for name in ("C1", "C3"):
        (cycle, *_) = told.events("cycle_started", name)
        assert float(str(cycle["late_s"])) < 3.0
    alive = told.times("WATCHDOG=1")
    assert max(b - a for a, b in pairwise(alive)) < 2.0
    assert "STUCK" not in " ".join(line for _, line in told.lines)


class Hanging:
    """A gateway that never comes back from a reading while it is to hang."""

    def __init__(self, gateway: Gateway, free: threading.Event, hangs: threading.Event) -> None:
        self._gateway, self._free, self._hangs = gateway, free, hangs

    def observe(self) -> Observation:
        if not self._free.is_set():
            self._hangs.set()
        self._free.wait()
        return self._gateway.observe()

    def __getattr__(self, name: str) -> object:
        return getattr(self._gateway, name)


@pytest.mark.timeout(180)
def test_a_loop_that_hangs_stops_the_signs_of_life_and_no_other_loop(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, hangs = threading.Event(), threading.Event()
    free.set()

    def hung(setup: Setup) -> Setup:
        make = setup.connect
        return Setup(
            part=setup.part,
            service=setup.service,
            policy=setup.policy,
            schedule=setup.schedule,
            connect=lambda: Hanging(make(), free, hangs),  # type: ignore[return-value,arg-type]
        )

    def read(*words: object) -> Plant:
        plant = read_plant(*words)  # type: ignore[arg-type]
        setups = {name: hung(one) if name == "C2" else one for name, one in plant.setups.items()}
        return Plant(plant.config, setups)

    monkeypatch.setattr(daemons, "read_plant", read)
    monkeypatch.setattr(daemons, "STUCK_S", 3.0)
    told = fleet.told

    def script() -> None:
        until(lambda: told.events("sampled", "C2"), "it lives")
        free.clear()
        assert hangs.wait(WAIT_S)
        time.sleep(daemons.STUCK_S + 2)  # on a loaded machine it looked stuck before, perhaps
        until(lambda: "STUCK: C2" in told.status(), "the status says which")
        stuck = time.monotonic()
        readings = {name: len(told.events("sampled", name)) for name in ("C1", "C3")}
        for name, count in readings.items():
            told.wait("sampled", name, count + 1)
        time.sleep(1.5)
        assert [at for at in told.times("WATCHDOG=1") if at > stuck + 0.5] == []
        event = told.events("loop_stuck", "C2")[-1]
        assert "no sign of life" in str(event["text"])
        free.set()
        until(lambda: told.times("WATCHDOG=1")[-1] > stuck + 0.5, "signs of life come again")
        until(lambda: "STUCK" not in told.status(), "and the status is as before")

    try:
        fleet.live(script)
    finally:
        free.set()


@pytest.mark.timeout(180)
def test_a_cluster_goes_and_another_comes_with_a_new_configuration(fleet: Fleet) -> None:
    file, told = fleet.directory / "balancer.yaml", fleet.told
    text = file.read_text("utf-8")
    parts = text.split("  - name: ")
    file.write_text("  - name: ".join(parts[:3]), "utf-8")  # without C3

    def script() -> None:
        until(lambda: told.events("sampled", "C1"), "C1 is read")
        assert not told.events("sampled", "C3")
        file.write_text(text.replace("every: 60s", "every: 60"), "utf-8")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: told.events("configuration_refused"), "the bad one is refused")
        until(lambda: len(told.times("READY=1")) == 2, "ready again")
        count = len(told.events("sampled", "C1"))
        until(lambda: len(told.events("sampled", "C1")) > count, "the old one is in force")
        file.write_text("  - name: ".join([parts[0], parts[1], parts[3]]), "utf-8")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: told.events("sampled", "C3"), "C3 is read")
        (event,) = told.events("configuration_reloaded")
        assert (event["added"], event["removed"], event["changed"]) == (1, 1, 0)
        until(lambda: "2 clusters, 2 of them led" in told.status(), "two are led")
        # C2 sees its migrations to their end; after that there is nothing more to hear of it.
        told.wait("cycle_ended", "C2", len(told.events("cycle_started", "C2")))
        count = len(told.events("sampled", "C2"))
        told.wait("sampled", "C1", len(told.events("sampled", "C1")) + 3)
        assert len(told.events("sampled", "C2")) <= count + 1  # one that was under way

    fleet.live(script)
    assert told.times("STOPPING=1")
    assert [at for at in told.times("READY=1") if at > told.times("STOPPING=1")[0]] == []
