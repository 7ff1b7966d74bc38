"""`balancer run` as the service manager starts it, against hosts over real WinRM."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from balancer.store.store import Store
from tests.e2e.conftest import COMMAND, TIMEOUT_S, Serve, Served, environment

QUIET = "schedule: {every: 1h, sample_every: 10s}"
OFTEN = "schedule: {every: 60s, sample_every: 10s}"
SERVICE = "service: {health: none, start_delay: 1s, auto: {first_run: 0}}"


class Listener:
    """The service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.heard: list[tuple[float, str]] = []
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(self.address)
        self._door.settimeout(0.2)
        self._over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over:
            try:
                text = self._door.recv(4096).decode()
            except TimeoutError:
                continue
            self.heard += [(time.monotonic(), line) for line in text.split("\n")]

    def lines(self, prefix: str = "") -> list[str]:
        return [line for _, line in self.heard if line.startswith(prefix)]

    def close(self) -> None:
        self._over = True
        self._thread.join()
        self._door.close()


@dataclass
class Running:
    """A daemon that runs."""

    process: subprocess.Popen[str]
    listener: Listener
    log: Path
    site: Served
    ended: list[int] = field(default_factory=list)

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        lines = self.log.read_text("utf-8").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in told if not kind or event["event"] == kind]

    def wait(self, kind: str, count: int = 1, seconds: float = TIMEOUT_S) -> dict[str, Any]:
        """Wait until an event has been told so many times; return the last of them."""
        until(lambda: len(self.events(kind)) >= count, seconds, self.log.read_text)
        return self.events(kind)[-1]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        self.send(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


def until(
    holds: Callable[[], bool], seconds: float = TIMEOUT_S, why: Callable[[], str] = lambda: ""
) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


def configure(site: Served, cluster: str = QUIET, service: str = SERVICE, policy: str = "") -> None:
    """Add to the site's configuration, and set its policy to act by itself."""
    base = site.directory / "balancer.yaml.plain"
    if not base.exists():
        base.write_text(site.config.read_text("utf-8"), "utf-8")
    site.config.write_text(f"{base.read_text('utf-8')}    {cluster}\n{service}\n", "utf-8")
    policy = policy or "version: 1\nmode: auto\ntransport: {write_settings: true}\n"
    (site.directory / "policy.yaml").write_text(policy, "utf-8")


@contextmanager
def daemon(
    site: Served, tmp_path: Path, name: str = "d", words: tuple[str, ...] = ("run",)
) -> Iterator[Running]:
    """Run a daemon until the end of the block."""
    listener = Listener(tmp_path / f"{name}.socket")
    log = tmp_path / f"{name}.log"
    with log.open("a") as stream:
        process = subprocess.Popen(  # noqa: S603 -- our own command
            [*COMMAND, *words],
            stdout=stream,
            stderr=stream,
            text=True,
            env=environment(
                BALANCER_CONFIG=str(site.config),
                NOTIFY_SOCKET=listener.address,
                WATCHDOG_USEC="2000000",
            ),
        )
    try:
        until(lambda: "READY=1" in listener.lines(), 150, log.read_text)
        yield Running(process, listener, log, site)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        listener.close()
    assert "Traceback" not in log.read_text()
    assert "internal error" not in log.read_text()


def places(site: Served) -> dict[str, str]:
    return {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}


def transports(site: Served) -> dict[str, str]:
    hosts = site("observe", "--json").document["hosts"]
    return {host["name"]: host["migration"]["transport"] for host in hosts}


@pytest.mark.timeout(180)
def test_it_gets_ready_balances_shows_signs_of_life_reloads_and_ends(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve("branch", "--speed", 30)
    configure(site, OFTEN)
    with daemon(site, tmp_path) as running:
        end = running.wait("run_ended")
        assert end["end"] == "done"
        assert end["done"] >= 1
        alive = [at for at, line in running.listener.heard if line == "WATCHDOG=1"]
        assert max(b - a for a, b in pairwise(alive)) < 2.0
        until(lambda: any("1 of them led" in each for each in running.listener.lines("STATUS=")))

        good = site.config.read_text("utf-8")
        site.config.write_text(good.replace("every: 60s", "every: 60"), "utf-8")
        running.send(signal.SIGHUP)
        refused = running.wait("configuration_refused")
        assert "balancer.yaml" in refused["text"]
        assert "schedule.every" in refused["text"]
        until(lambda: running.listener.lines().count("READY=1") == 2)
        assert running.process.poll() is None

        site.config.write_text(good.replace("every: 60s", "every: 2h"), "utf-8")
        running.send(signal.SIGHUP)
        assert running.wait("configuration_reloaded")["changed"] == 1
        until(lambda: running.listener.lines().count("READY=1") == 3)
        lines = running.listener.lines()
        assert lines.count("RELOADING=1") == 2
        assert len(running.listener.lines("MONOTONIC_USEC=")) == 2

        assert running.end() == 0
        assert "STOPPING=1" in running.listener.lines()
        assert running.events()[-1]["event"] == "daemon_stopped"
        assert site("status", "--json").document["clusters"][0]["lease"] is None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["finish", "cancel"])
def test_a_stop_in_the_middle_of_migrations(serve: Serve, tmp_path: Path, how: str) -> None:
    site = serve("demo", "--speed", 3)
    before = transports(site)
    service = SERVICE.replace("start_delay: 1s", f"start_delay: 1s, stop: {how}")
    configure(site, OFTEN, service)
    with daemon(site, tmp_path) as running:
        running.wait("migration_started")
        assert running.end() == 0
        (end,) = running.events("run_ended")
        assert end["end"] == "cancelled"
        assert end["skipped"] >= 1
        if how == "finish":
            assert end["cancelled"] == 0
            assert end["done"] == len(running.events("migration_started"))
        else:
            assert end["cancelled"] >= 1
        assert running.listener.lines("EXTEND_TIMEOUT_USEC=")
    status = site("status", "--json").document["clusters"][0]
    assert status["lease"] is None
    assert status["open_moves"] == status["open_settings"] == []
    assert transports(site) == before


@pytest.mark.timeout(240)
def test_a_killed_daemon_leaves_what_moves_to_the_one_that_stood_by(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve("demo", "--speed", 3)
    before = transports(site)
    configure(site, OFTEN)
    with daemon(site, tmp_path, "first") as first:
        first.wait("migration_started")
        configure(site, QUIET)  # so that the second one only brings to an end
        with daemon(site, tmp_path, "second") as second:
            second.wait("standing_by")
            started = {event["migration"] for event in first.events("migration_started")}
            first.process.kill()
            first.process.wait()
            left = site("status", "--json").document["clusters"][0]
            assert left["open_moves"]
            second.wait("lease_taken")  # within the life of a lease
            adopted = second.wait("migration_adopted")
            assert adopted
            until(
                lambda: not site("status", "--json").document["clusters"][0]["open_moves"],
                60,
            )
            until(lambda: not site("status", "--json").document["clusters"][0]["open_settings"], 60)
            assert not second.events("migration_started")
            assert second.end() == 0
    assert started
    status = site("status", "--json").document["clusters"][0]
    assert status["open_moves"] == status["open_settings"] == []
    assert transports(site) == before


@pytest.mark.timeout(240)
def test_commands_ask_the_daemon_and_follow_what_it_does(serve: Serve, tmp_path: Path) -> None:
    site = serve("branch", "--speed", 30)
    configure(site, QUIET, policy="version: 1\nmode: recommend\n")
    with daemon(site, tmp_path) as running:
        wanted = running.wait("approval_wanted")
        at = places(site)

        assert site("freeze", "--reason", "first the backup").code == 0
        frozen = site("approve", wanted["plan"])
        assert frozen.code == 3
        assert "first the backup" in frozen.stderr
        assert site("thaw").code == 0
        assert places(site) == at

        approved = site("approve", wanted["plan"], "--json")
        assert approved.code == 0, approved.stderr
        report = approved.document
        assert report["plan"] == wanted["plan"]
        assert report["end"] == "done"
        followed = [json.loads(line) for line in approved.stderr.splitlines() if line[0] == "{"]
        assert followed[-1]["done"] == len(report["migrations"])
        assert places(site) != at

        vm, host = next(iter(places(site).items()))
        other = next(name for name in transports(site) if name != host)
        moved = site("move", vm, "--to", other)
        assert moved.code in (0, 3), moved.stderr  # 3: a rule or room is against it
        again = site("apply")
        assert again.code == 0, again.stderr
        verbs = [event["verb"] for event in running.events("request_ended")]
        assert verbs[:2] == ["approve", "approve"]
        assert verbs[-1] == "apply"

        rejected = site("reject", wanted["plan"])
        assert rejected.code == 3
        assert "approved by" in rejected.stderr
        assert site("cancel").code == 0

        copy = tmp_path / "copy.sqlite"
        assert site("backup", copy, "--json").document["bytes"] > 0
        with Store.open_read_only(copy) as store:
            assert store.journal.runs("BRANCH")
            assert store.leases.current("BRANCH", datetime.now(UTC)) is not None
        assert copy.stat().st_mode & 0o077 == 0
        assert running.end() == 0


def test_what_cannot_be_started_is_said_and_ends_with_its_exit_code(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve("branch")
    configure(site, "schedule: {cron: '61 * * * *'}")
    ended = site("run")
    assert ended.code == 2
    assert "61 * * * *" in ended.stderr
    configure(site, "schedule: {every: 15m, cron: '0 * * * *'}")
    assert "every or cron" in site("run").stderr
    configure(site)
    (site.directory / "policy.yaml").write_text("version: 1\nmode: automatic\n", "utf-8")
    assert site("run").code == 2
    assert tmp_path.exists()
