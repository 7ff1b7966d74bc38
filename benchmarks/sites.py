"""A fleet to look after: clusters of 2 to 64 simulated hosts, as companies have them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from random import Random

from balancer.cli.simulated import USER
from balancer.clock import Clock, ScaledClock
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.simulator.population import GIB, Fill, spread
from balancer.gateway.simulator.scenario import CSV
from balancer.gateway.simulator.site import SimulatedSite
from balancer.gateway.simulator.things import FailoverCluster, Machine, Network, Nic, Volume
from balancer.gateway.simulator.world import World

PASSWORD = "of a simulated fleet"
# How many of a hundred clusters have so many hosts: most are branch offices, a few are large.
MIX: Mapping[int, int] = {2: 62, 3: 12, 4: 10, 6: 5, 8: 4, 12: 3, 16: 2, 32: 1, 64: 1}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of the fleet: what is needed to make the same world anywhere."""

    name: str
    hosts: int
    seed: int

    def world(self, clock: Clock) -> World:
        """Return its world: 15 to 20 VMs a host, hosts unevenly full, loads of a real trace."""
        random = Random(self.seed)  # noqa: S311 -- a reproducible world, not a secret
        machines = [
            Machine(
                f"{self.name}-{number:02}",
                logical_processors=32,
                memory_bytes=384 * GIB,
                nics=(
                    Nic("Management", 1e9, f"10.10.0.{number}/24"),
                    Nic("Migration", 25e9 if self.hosts > 4 else 10e9, f"10.10.1.{number}/24"),
                ),
            )
            for number in range(1, self.hosts + 1)
        ]
        fills = [Fill(random.uniform(0.15, 0.75), random.uniform(0.35, 0.75)) for _ in machines]
        guests = spread(random, machines, fills, CSV, memory_gib_max=32)
        forms = FailoverCluster(
            self.name,
            networks=(
                Network("Migration", "10.10.1.0/24", metric=19_000),
                Network("Management", "10.10.0.0/24", role=3, metric=79_000),
            ),
            auto_balancer_mode=0,
            volumes=(Volume("Volume1", machines[0].name, CSV),),
            excluded_networks=("Management",),
        )
        return World(clock, machines, guests, forms)


def fleet(clusters: int, seed: int) -> tuple[Cluster, ...]:
    """Return so many clusters in the shares of `MIX`, the rarest sizes at least once."""
    random = Random(seed)  # noqa: S311 -- a reproducible fleet, not a secret
    sizes = [size for size, share in MIX.items() for _ in range(max(1, share * clusters // 100))]
    sizes = (sizes + [min(MIX)] * clusters)[: max(clusters, 0)]
    random.shuffle(sizes)
    return tuple(
        Cluster(f"C{number:03}", hosts, seed * 10_000 + number)
        for number, hosts in enumerate(sizes, 1)
    )


def described(clusters: Sequence[Cluster]) -> str:
    """Return the fleet in a line."""
    count = Counter(each.hosts for each in clusters)
    mix = ", ".join(f"{many} of {hosts}" for hosts, many in sorted(count.items()))
    hosts = sum(each.hosts for each in clusters)
    return f"{len(clusters)} clusters ({mix} hosts), {hosts} hosts"


Site = tuple[str, dict[str, int], int]  # the authority's file, ports by host, number of VMs


def serving(world: World, stack: ExitStack) -> Site:
    """Serve a world over WinRM until the stack is closed."""
    known = module_text()
    site = SimulatedSite(world, {USER: PASSWORD}, accepts_module=lambda text: text == known)
    stack.enter_context(site)
    ports = {host: port for host, (_, port) in site.endpoints.items()}
    return str(site.ca_file), ports, len(world.guests)


def serve(pipe: Pipe, clusters: Sequence[Cluster]) -> None:
    """Serve clusters until told to stop; tell where they are."""
    clock = ScaledClock(1.0)
    with ExitStack() as stack:
        told = {each.name: serving(each.world(clock), stack) for each in clusters}
        pipe.send(told)
        pipe.recv()


def configuration(
    sites: Mapping[str, Site], schedule: str, service: str, connection: str = "auth: ntlm"
) -> str:
    """Return a configuration file that leads to these sites."""
    lines = ["version: 1", f"service: {service}", "clusters:"]
    for name, (ca_file, ports, _) in sites.items():
        addresses = {host: f"127.0.0.1:{port}" for host, port in ports.items()}
        lines += [
            f"  - name: {name}",
            f"    hosts: {json.dumps(list(ports)[:2])}",
            f"    addresses: {json.dumps(addresses)}",
            "    policy: policy.yaml",
            f"    schedule: {schedule}",
            "    connection:",
            f"      ca_file: {json.dumps(ca_file)}",
            f"      username: {json.dumps(USER)}",
            f"      {connection}",
            "      password_file: password",
        ]
    return "\n".join(lines) + "\n"


def write(directory: Path, text: str) -> Path:
    """Write configuration, password and policy; return the configuration."""
    (directory / "password").write_text(PASSWORD, "utf-8")
    (directory / "policy.yaml").write_text("version: 1\nmode: auto\n", "utf-8")
    file = directory / "balancer.yaml"
    file.write_text(text, "utf-8")
    return file
