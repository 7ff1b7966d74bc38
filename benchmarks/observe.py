"""What observing costs over the bare client: `python -m benchmarks.observe`, one table.

64 simulated hosts x 125 VMs are served over real WinRM (TLS, NTLM) by a second process. The bare
client makes the same calls through pypsrp with as many threads and drops the text; the gateway
also parses it, doubts it and makes a snapshot of it. Both are timed in turns, in one run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from balancer.cli.simulated import USER, serve
from balancer.clock import ScaledClock, SystemClock
from balancer.config import Config, load_config, read_password
from balancer.connect import THREADS, connect
from balancer.gateway.hyperv.remote import module_text

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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="large")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with TemporaryDirectory() as directory:
        server = multiprocessing.get_context("spawn").Process(
            target=_server, args=(theirs, directory, options.scenario), daemon=True
        )
        server.start()
        config = load_config(Path(ours.recv()))
        ratio = _compare(config, options.rounds)
        ours.send("done")
        server.join()
    return 0 if ratio <= LIMIT else 1


def _compare(config: Config, rounds: int) -> float:
    bare = Bare(config)
    gateway = connect(config, config.document.clusters[0], SystemClock())
    bare.read()
    vms = len(gateway.observe().cluster.vms)
    times: dict[str, list[float]] = {"bare": [], "gateway": []}
    cpu: dict[str, list[float]] = {"bare": [], "gateway": []}
    for _ in range(rounds):
        for name, call in (("bare", bare.read), ("gateway", gateway.observe)):
            wall, used = time.perf_counter(), time.process_time()
            call()
            times[name].append(time.perf_counter() - wall)
            cpu[name].append(time.process_time() - used)
    bare.close()
    gateway.close()
    hosts = len(config.document.clusters[0].hosts)
    print(f"observing {hosts} hosts with {vms} VMs over WinRM, {rounds} rounds in turns")
    print("client    wall s (median)   CPU s (median)")
    for name, walls in times.items():
        print(f"{name:8s} {statistics.median(walls):17.2f} {statistics.median(cpu[name]):16.2f}")
    pairs = zip(times["gateway"], times["bare"], strict=True)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"gateway / bare, wall, median of pairs: {ratio:.2f} (at most {LIMIT})")
    return ratio


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
