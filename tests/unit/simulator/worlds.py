"""Small worlds for tests: round numbers, flat loads."""

from __future__ import annotations

from typing import Any

from balancer.clock import VirtualClock
from balancer.gateway.simulator.host import SimulatedHost, hosts_of
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.things import (
    Disk,
    FailoverCluster,
    Guest,
    Machine,
    Network,
    Nic,
    Volume,
    identity,
)
from balancer.gateway.simulator.windows import TCP_OPTION
from balancer.gateway.simulator.world import World

GIB = 2**30
CSV = r"C:\ClusterStorage\Volume1"
DIRTY = 10e6


def machine(number: int, **options: Any) -> Machine:
    options.setdefault("logical_processors", 32)
    options.setdefault("memory_bytes", 256 * GIB)
    options.setdefault("option", TCP_OPTION)
    nics = options.pop("nics", (Nic("LM", 10e9, f"10.0.1.{number}/24"),))
    return Machine(name=f"HV{number}", nics=nics, **options)


def guest(name: str, host: str = "HV1", gib: int = 8, **options: Any) -> Guest:
    options.setdefault("load", Load(base_cores=1.0, dirty_bytes_per_s=DIRTY))
    options.setdefault("disks", (Disk(rf"{CSV}\{name}.vhdx"),))
    options.setdefault("vcpus", 4)
    return Guest(id=vm(name), name=name, host=host, assigned_bytes=gib * GIB, **options)


def vm(name: str) -> str:
    return identity("test", name)


class Small:
    """A world, its clock, and the ways to its hosts."""

    def __init__(
        self, machines: list[Machine], guests: list[Guest], *, clustered: bool = True, **of: Any
    ) -> None:
        self.clock = VirtualClock()
        cluster = (
            FailoverCluster(
                name="TEST",
                networks=(Network("LM", "10.0.1.0/24"),),
                volumes=(Volume("V1", "HV1", CSV),),
                **({"migrations_max": 2} | of),
            )
            if clustered
            else None
        )
        for one in guests:
            one.clustered = clustered
        self.world = World(self.clock, machines, guests, cluster)
        self.hosts: dict[str, SimulatedHost] = hosts_of(self.world)

    def start(self, name: str, target: str, *, fence: int = 1) -> Any:
        one = self.world.guests[vm(name)]
        way = self.hosts[one.host]
        return way.start(one.id, target, clustered=one.clustered, fence=fence)

    def row(self, name: str, host: str | None = None) -> Any:
        one = self.world.guests[vm(name)]
        (row,) = self.hosts[host or one.host].read_moves([one.id]).moves
        return row

    def where(self, name: str) -> str:
        self.world.advance()
        return self.world.guests[vm(name)].host

    def until_over(self, name: str, step_s: float = 0.01, limit_s: float = 3600.0) -> float:
        """Return how long it takes until nothing moves the VM any more."""
        begun = self.clock.monotonic_s()
        one = self.world.guests[vm(name)]
        while self.clock.monotonic_s() - begun < limit_s:
            self.world.advance()
            if self.world.engine.of(one) is None:
                return self.clock.monotonic_s() - begun
            self.clock.sleep(step_s)
        raise AssertionError(f"{name} still moves after {limit_s} s")


def small(
    hosts: int = 3, guests: int = 4, *, clustered: bool = True, gib: int = 8, **of: Any
) -> Small:
    return Small(
        [machine(number) for number in range(1, hosts + 1)],
        [guest(f"vm{number}", gib=gib) for number in range(guests)],
        clustered=clustered,
        **of,
    )
