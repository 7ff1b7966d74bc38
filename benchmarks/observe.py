"""What observing costs over the bare client: `python -m benchmarks.observe`, one table.

64 simulated hosts x 125 VMs are served over real WinRM (TLS, NTLM) by a process of their own. The
bare client makes the same calls through pypsrp with as many threads and drops the text; the
gateway also parses it, doubts it and makes a snapshot of it. Each runs in a process of its own, so
that neither pays for the other's garbage, and they take turns in one run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from balancer.cli.simulated import USER, serve
from balancer.clock import ScaledClock, SystemClock
from balancer.config import Config, load_config, read_password
from balancer.connect import THREADS, connect
from balancer.gateway.hyperv.module import module_text

LIMIT = 1.5


def _server(pipe: Pipe, directory: str, scenario: str) -> None:
    # A very slow world: the same load is read by both.
    with serve(scenario, ScaledClock(0.001), Path(directory), seed=1) as simulated:
        pipe.send(str(simulated.config))
        pipe.recv()


class Bare:
    """pypsrp and nothing else: one session a host, one thread a session at a time."""

    def __init__(self, config: Config) -> None:
        part = config.document.clusters[0]
        password = read_password(config, part.connection)
        self._where = [part.addresses[host].rsplit(":", 1) for host in part.hosts]
        self._threads = ThreadPoolExecutor(THREADS)
        ca_file = str(config.beside(part.connection.ca_file or Path()))

        def open_one(at: list[str]) -> RunspacePool:
            wsman = WSMan(
                at[0],
                port=int(at[1]),
                ssl=True,
                auth="ntlm",
                username=USER,
                password=password,
                cert_validation=ca_file,  # type: ignore[arg-type]  # takes a path too
                no_proxy=True,
            )
            pool = RunspacePool(wsman)
            pool.open()
            shell = PowerShell(pool)
            shell.add_script(module_text())
            shell.invoke()
            shell.close()
            return pool

        self._pools = list(self._threads.map(open_one, self._where))

    def read(self) -> int:
        """Ask every host, and one node for the cluster; return the characters that came."""
        calls = [(pool, "Get-LbHost") for pool in self._pools]
        count = sum(self._threads.map(self._call, calls))
        return count + self._call((self._pools[0], "Get-LbCluster"))

    @staticmethod
    def _call(call: tuple[RunspacePool, str]) -> int:
        shell = PowerShell(call[0])
        shell.add_cmdlet(call[1])
        (text,) = shell.invoke()
        shell.close()
        return len(text)

    def close(self) -> None:
        list(self._threads.map(lambda pool: pool.close(), self._pools))
        self._threads.shutdown()


def _client(pipe: Pipe, config_path: str, name: str) -> None:
    """Read everything once, tell what came; then once more for each word, and tell the times."""
    config = load_config(Path(config_path))
    if name == "bare":
        bare = Bare(config)
        read, close = bare.read, bare.close
    else:
        gateway = connect(config, config.document.clusters[0], SystemClock())
        read, close = lambda: len(gateway.observe().cluster.vms), gateway.close
    pipe.send(read())
    while pipe.recv() != "done":
        wall, used = time.perf_counter(), time.process_time()
        read()
        pipe.send((time.perf_counter() - wall, time.process_time() - used))
    close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="large")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as directory, ExitStack() as running:
        server = running.enter_context(_process(_server, directory, options.scenario))
        config_path = server.recv()
        clients = {
            name: running.enter_context(_process(_client, config_path, name))
            for name in ("bare", "gateway")
        }
        characters, vms = (client.recv() for client in clients.values())
        print(f"{characters} characters about {vms} VMs, over WinRM, {options.rounds} rounds")
        ratio = _compare(clients, options.rounds)
    return 0 if ratio <= LIMIT else 1


@contextmanager
def _process(target: Callable[..., None], *arguments: str) -> Iterator[Pipe]:
    """Run `target` in a process of its own, with a pipe to talk to it; "done" ends it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    yield ours
    ours.send("done")
    process.join()


def _compare(clients: Mapping[str, Pipe], rounds: int) -> float:
    walls: dict[str, list[float]] = {name: [] for name in clients}
    cpu: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            client.send("read")
            wall, used = client.recv()
            walls[name].append(wall)
            cpu[name].append(used)
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    print("client    wall s (median)   wall s (least)   CPU s (median)")
    for name in clients:
        middle, used = statistics.median(walls[name]), statistics.median(cpu[name])
        print(f"{name:8s} {middle:17.2f} {min(walls[name]):16.2f} {used:16.2f}")
    pairs = zip(walls["gateway"], walls["bare"], strict=True)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"gateway / bare, wall, median of pairs: {ratio:.2f} (at most {LIMIT})")
    return ratio


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
