"""What tests of drains share: a world with everything a node may own, and how to empty a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from balancer.execute.charge import Charge
from balancer.execute.drain import drain
from balancer.execute.resume import OnPlan, ignore, resume
from balancer.gateway.port import Gateway
from balancer.gateway.simulator.things import Role, Volume
from balancer.gateway.simulator.windows import NodeState, VmStateCode
from balancer.model.drain import DrainReport, OnFailure, Order
from balancer.policy.policy import Policy
from balancer.store.store import Store
from tests.simulation.small import Small

FILE_SERVER = 100


def furnished(hosts: int = 4, each: int = 4) -> Small:
    """Return a small world whose h1 also owns a role, two volumes and a VM that stands still."""
    return furnish(Small(hosts, each))


def furnish(small: Small) -> Small:
    """Give h1 a role, a second volume, a VM that stands still and one of low priority."""
    cluster = small.world.cluster
    assert cluster is not None
    cluster.roles += (Role("files", FILE_SERVER, owner="h1", nodes=("h1", "h2", "h3")),)
    cluster.volumes += (Volume("Volume2", "h1", r"C:\ClusterStorage\Volume2"),)
    small.world.guests[small.vm("v14")].state = VmStateCode.OFF
    small.world.guests[small.vm("v12")].priority = 1000
    return small


def empty(
    small: Small,
    store: Store,
    *hosts: str,
    policy: Policy | None = None,
    gateway: Gateway | None = None,
    ttl_s: float = 60.0,
    on_failure: OnFailure = OnFailure.PAUSE,
    keep_reserve: bool = False,
    **more: Any,
) -> DrainReport:
    """Drain hosts as the command would."""
    order = Order(hosts, on_failure=on_failure, keep_reserve=keep_reserve, asked_by="a test")
    with store.leases.hold("small", "me", small.clock, ttl_s) as lease:
        charge = Charge(
            policy or Policy(), gateway or small.gateway, store, small.clock, lease, **more
        )
        return drain(order, charge)


def take_back(
    small: Small,
    store: Store,
    *hosts: str,
    policy: Policy | None = None,
    restore: bool = False,
    on_plan: OnPlan = ignore,
    **more: Any,
) -> DrainReport:
    """Resume hosts as the command would."""
    with store.leases.hold("small", "me", small.clock) as lease:
        charge = Charge(policy or Policy(), small.gateway, store, small.clock, lease, **more)
        return resume(hosts, charge, restore=restore, on_plan=on_plan)


def holds(small: Small, host: str) -> set[str]:
    """Return the names of everything that a host holds."""
    with small.world.present():
        cluster = small.world.cluster
        assert cluster is not None
        found = {guest.name for guest in small.world.guests_on[host].values()}
        things: tuple[Role | Volume, ...] = (*cluster.roles, *cluster.volumes)
        found |= {thing.name for thing in things if thing.owner == host}
        return found


def is_paused(small: Small, host: str) -> bool:
    with small.world.present():
        return small.world.machines[host].node_state is NodeState.PAUSED


def everything_is_somewhere(small: Small) -> None:
    """No VM lost, doubled or stopped by us."""
    with small.world.present():
        seen = [key for on in small.world.guests_on.values() for key in on]
        assert sorted(seen) == sorted(small.world.guests)
        for guest in small.world.guests.values():
            assert guest.id in small.world.guests_on[guest.host]
            off = guest.name == "v14"
            assert (guest.state is VmStateCode.OFF) == off or guest.crashed


def at_moment(small: Small, when_s: float, act: Callable[[float], None]) -> None:
    """Let something happen so many seconds from now."""
    with small.world.present() as now_s:
        small.world.at(now_s + when_s, act)
