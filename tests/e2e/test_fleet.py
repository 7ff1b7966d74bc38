"""A fleet: `balancer run`, several `balancer worker`s and a real PostgreSQL, over real WinRM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.connect import connect
from balancer.gateway.port import FencedError, MoveRequest
from balancer.store.store import Store
from tests.e2e.conftest import Serve, Served
from tests.e2e.test_service import (
    QUIET,
    SERVICE,
    Running,
    configure,
    daemon,
    places,
    transports,
    until,
)
from tests.postgresql import PASSWORD, Server, serving

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

# One migration at a time makes a plan long enough for what happens in the middle of it.
POLICY = (
    "version: 1\nmode: auto\nlimits: {concurrent_per_cluster: 1}\n"
    "transport: {write_settings: true}\n"
)
WORKER = SERVICE.replace("health: none", "health: none, worker: {concurrency: 2, health: none}")
Start = Callable[..., Running]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a process of the fleet until the end of the test."""
    with ExitStack() as stack:

        def make(site: Served, name: str, *words: str) -> Running:
            return stack.enter_context(daemon(site, tmp_path, name, words))

        yield make


def on_postgresql(site: Served, server: Server, cluster: str = QUIET, policy: str = POLICY) -> None:
    (site.directory / "db").write_text(PASSWORD, "utf-8")
    store = f"store: {server.new_database()}\nstore_password_file: db"
    configure(site, cluster, f"{WORKER}\n{store}", policy)


def status(site: Served) -> dict[str, Any]:
    found: dict[str, Any] = site("status", "--json").document["clusters"][0]
    return found


def executing(workers: dict[str, Running], least: int = 1) -> Callable[[], bool]:
    return lambda: any(len(one.events("migration_started")) >= least for one in workers.values())


def who_executes(workers: dict[str, Running]) -> str:
    until(executing(workers), 120, lambda: _logs(workers))
    (name,) = (name for name, one in workers.items() if one.events("migration_started"))
    return name


def _logs(workers: dict[str, Running]) -> str:
    return "\n".join(f"{name}:\n{one.log.read_text()}" for name, one in workers.items())


def journal_of(site: Served) -> tuple[list[Any], dict[int, list[Any]]]:
    """Return the runs of the only cluster, oldest first, and the transitions of each."""
    config = load_config(site.config)
    with Store.open_read_only(config.store) as store:
        runs = sorted(store.journal.runs(), key=lambda run: run.id)
        return list(runs), {run.id: list(store.journal.transitions(run.id)) for run in runs}


def fence_of(site: Served, worker: Running) -> int:
    """Return the number with which a worker began its latest run."""
    runs, _ = journal_of(site)
    holder = f" pid {worker.process.pid}"
    return max(int(run.fence) for run in runs if run.holder.endswith(holder))


def no_two_executors(site: Served) -> None:
    """Whoever wrote had the newest number then: the numbers in the journal never go back."""
    runs, lines = journal_of(site)
    fences = [line.fence for run in runs for line in lines[run.id] if line.state != "note"]
    ordered = sorted((line for run in runs for line in lines[run.id]), key=lambda line: line.at)
    assert fences
    assert all(run.end is not None for run in runs)
    in_time = [line.fence for line in ordered if line.state != "note"]
    assert in_time == sorted(in_time)
    for run in runs:
        intended = [
            line.subject
            for line in lines[run.id]
            if line.kind.value == "move" and line.state == "intended"
        ]
        assert len(intended) == len(set(intended))


def test_one_worker_is_killed_one_sleeps_and_the_third_finishes(
    serve: Serve, server: Server, start: Start
) -> None:
    site = serve("demo", "--speed", 2)
    on_postgresql(site, server)
    at, settings = places(site), transports(site)
    start(site, "run", "run")
    workers = {name: start(site, name, "worker") for name in ("w1", "w2", "w3")}

    killed = who_executes(workers)
    workers[killed].process.kill()
    rest = {name: one for name, one in workers.items() if name != killed}
    asleep = who_executes(rest)
    taken = fence_of(site, rest[asleep])
    rest[asleep].send(signal.SIGSTOP)
    heard = len(rest[asleep].events())
    (last,) = (name for name in rest if name != asleep)
    third = rest[last]

    until(lambda: len(third.events("migration_started")) >= 1, 180, third.log.read_text)
    mine = fence_of(site, third)
    assert mine > taken
    assert any(one.events("job_retried") for one in rest.values())
    rest[asleep].send(signal.SIGCONT)  # it wakes up in the middle of what it was about to do
    until(lambda: bool(rest[asleep].events("run_stopped")), 90, rest[asleep].log.read_text)
    woken = rest[asleep].events()[heard:]
    (refused,) = (event for event in woken if event["event"] == "run_stopped")
    assert "is no longer ours" in refused["text"]
    assert not {"migration_started", "setting_written"} & {event["event"] for event in woken}

    until(lambda: bool(third.events("cycle_ended")), 420, third.log.read_text)
    until(lambda: not status(site)["open_moves"], 60)
    assert third.events("run_ended")[-1]["end"] == "done"
    no_two_executors(site)

    # What the sleeper held is refused by the hosts themselves.
    config = load_config(site.config)
    gateway = connect(config, config.cluster(None), SystemClock())
    try:
        assert gateway.read_control().fence >= mine
        seen = gateway.observe().cluster
        vm = next(vm for vm in seen.vms if vm.is_load and vm.clustered)
        target = next(host.name for host in seen.hosts if host.name != vm.host)
        with pytest.raises(FencedError):
            gateway.start(MoveRequest(vm.id, vm.host, target, clustered=True), taken)
    finally:
        gateway.close()
    assert site("plan", "--json").document["migrations"] == []  # nothing is left to be done
    assert places(site) != at
    assert transports(site) == settings


def test_the_database_crashes_in_the_middle_and_nothing_is_lost(
    serve: Serve, server: Server, start: Start
) -> None:
    site = serve("demo", "--speed", 3)
    on_postgresql(site, server)
    run = start(site, "run", "run")
    workers = {name: start(site, name, "worker") for name in ("w1", "w2")}
    who_executes(workers)
    server.restart("immediate")
    until(executing(workers, 3), 120, lambda: _logs(workers))
    server.restart("immediate")
    until(
        lambda: any(
            event["result"] in ("done", "nothing_to_do")
            for one in workers.values()
            for event in one.events("cycle_ended")
        ),
        240,
        lambda: _logs(workers),
    )
    until(lambda: not status(site)["open_moves"], 60)
    until(lambda: all(one["ended_at"] is not None for one in status(site)["runs"]), 60)
    no_two_executors(site)
    started = {
        (event["plan"], event["migration"])
        for one in workers.values()
        for event in one.events("migration_started")
    }
    runs, lines = journal_of(site)
    entered = {
        run.plan: [line for line in lines[run.id] if line.state == "running"] for run in runs
    }
    assert len(started) == sum(map(len, entered.values()))  # each one told is one written down
    assert run.process.poll() is None
    assert all(one.process.poll() is None for one in workers.values())
    again = site("apply", "--json")  # and they go on serving
    assert again.code == 0, again.stderr


def test_commands_are_served_by_workers_and_a_stopped_one_ends_its_visit(
    serve: Serve, server: Server, start: Start
) -> None:
    site = serve("branch", "--speed", 20)
    on_postgresql(site, server, policy="version: 1\nmode: recommend\n")
    run = start(site, "run", "run")
    one = start(site, "one", "worker")
    wanted = one.wait("approval_wanted")
    assert not run.events("cycle_started")  # it keeps the timetable and touches nothing
    until(lambda: status(site)["lease"] is None, 30)  # between visits nobody holds the cluster

    approved = site("approve", wanted["plan"], "--json")
    assert approved.code == 0, approved.stderr
    assert "asked the service" in approved.stderr
    assert approved.document["end"] == "done"
    assert [event["verb"] for event in one.events("request_ended")] == ["approve"]

    vm, host = next(iter(places(site).items()))
    drained = site("drain", host)
    assert drained.code in (0, 3, 4), drained.stderr
    assert one.events("request_ended")[-1]["verb"] == "drain"
    assert vm

    assert one.end() == 0
    assert one.events()[-1]["event"] == "daemon_stopped"
    assert "STOPPING=1" in one.listener.lines()
    assert status(site)["lease"] is None
    assert run.end() == 0


def test_one_process_may_be_both_and_lets_moves_end_when_it_is_stopped(
    serve: Serve, server: Server, start: Start
) -> None:
    site = serve("demo", "--speed", 3)
    on_postgresql(site, server)
    both = start(site, "both", "run", "--worker")
    both.wait("migration_started")
    assert both.end() == 0
    (end,) = both.events("run_ended")
    assert end["end"] == "cancelled"
    assert end["cancelled"] == 0
    left = status(site)
    assert left["lease"] is None
    assert left["open_moves"] == left["open_settings"] == []


def test_a_service_waits_for_a_database_that_is_not_there_yet(serve: Serve, tmp_path: Path) -> None:
    site = serve("branch", "--speed", 30)
    with serving() as own:
        on_postgresql(site, own)
        own.stop()
        log = tmp_path / "both.log"

        def begin() -> None:
            until(lambda: log.exists() and "cannot be reached" in log.read_text(), 60)
            own.start()

        beginning = threading.Thread(target=begin)
        beginning.start()
        with daemon(site, tmp_path, "both", ("run", "--worker")) as both:  # until it is ready
            beginning.join()
            assert any("waiting for" in line for line in both.listener.lines("STATUS="))
            both.wait("cycle_ended")
            assert both.end() == 0


def test_a_worker_needs_a_store_that_can_be_shared_and_a_server_that_answers(
    serve: Serve, server: Server
) -> None:
    site = serve("branch")
    configure(site)
    for words in (("worker",), ("run", "--worker")):
        ended = site(*words)
        assert ended.code == 2
        assert "PostgreSQL" in ended.stderr
        assert "remedy" in ended.stderr
    on_postgresql(site, server)
    good = site.config.read_text("utf-8")
    (site.directory / "db").write_text("geheim", "utf-8")
    wrong = site("worker")
    assert wrong.code == 5, wrong.stderr
    assert "geheim" not in wrong.stderr
    site.config.write_text(good.replace("balancer@", "balancer:geheim@"), "utf-8")
    written = site("worker")
    assert written.code == 2
    assert "holds a password" in written.stderr
    assert "geheim" not in written.stderr
