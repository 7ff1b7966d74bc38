"""One simulated world, reached both ways: in process, and over real WinRM by the real client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from balancer.clock import SystemClock, VirtualClock
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import InParallel, in_turn
from balancer.gateway.hyperv.connection import Auth, Connection, Secret
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.hyperv.remote import HyperVHost
from balancer.gateway.simulator import scenario
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.site import SimulatedSite
from balancer.gateway.simulator.world import World

USER, PASSWORD = "CONTOSO\\balancer", "s3cret"
WAYS = ("in process", "over WinRM")


@dataclass
class Bench:
    """A world, its clock, and the gateway that sees it."""

    world: World
    clock: VirtualClock
    gateway: ClusterGateway

    def pass_s(self, seconds: float) -> None:
        """Let simulated time go by."""
        self.clock.sleep(seconds)
        self.world.advance()


@pytest.fixture
def reach() -> Iterator[Callable[[World, str], ClusterGateway]]:
    """Return how to get a gateway to a world, `in process` or `over WinRM`."""
    with ExitStack() as stack:

        def make(world: World, way: str) -> ClusterGateway:
            if way == WAYS[0]:
                gateway = near(world)
            else:
                site = SimulatedSite(
                    world, {USER: PASSWORD}, accepts_module=lambda text: text == module_text()
                )
                stack.enter_context(site)
                gateway = far(world, site)
            stack.callback(gateway.close)
            return gateway

        yield make


@pytest.fixture
def bench(reach: Callable[[World, str], ClusterGateway]) -> Callable[..., Bench]:
    """Return how to set up a scenario reached one way."""

    def make(name: str, way: str, change: Callable[[World], object] = lambda _: None) -> Bench:
        clock = VirtualClock()
        world = scenario.build(name, clock)
        change(world)
        return Bench(world, clock, reach(world, way))

    return make


def near(world: World) -> ClusterGateway:
    hosts = hosts_of(world)
    return ClusterGateway(
        world.name,
        list(hosts),
        hosts.__getitem__,
        in_turn,
        world.clock,
        clustered=world.cluster is not None,
    )


def far(world: World, site: SimulatedSite) -> ClusterGateway:
    def connect(name: str) -> HyperVHost:
        address, port = site.endpoints[name]
        connection = Connection(
            address,
            port,
            ca_file=site.ca_file,
            auth=Auth.BASIC,
            username=USER,
            password=Secret(PASSWORD),
            connect_timeout_s=2.0,
            deadline_s=2.0,
        )
        return HyperVHost(name, connection, SystemClock())

    return ClusterGateway(
        world.name,
        list(site.endpoints),
        connect,
        InParallel(8, deadline_s=8.0),
        world.clock,
        clustered=world.cluster is not None,
    )
