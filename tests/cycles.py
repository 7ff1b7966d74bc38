"""One cycle on a cluster, as a program that has just started would run it."""

from __future__ import annotations

from balancer.clock import Clock
from balancer.cycle import Cycle, run_cycle
from balancer.execute.charge import Charge
from balancer.gateway.port import Gateway
from balancer.policy.policy import Mode, Policy
from balancer.store.leases import holder_name
from balancer.store.store import Store


def one_cycle(
    cluster: str,
    policy: Policy,
    gateway: Gateway,
    store: Store,
    clock: Clock,
    mode: Mode = Mode.AUTO,
) -> Cycle:
    with store.leases.hold(cluster, holder_name(), clock) as lease:
        return run_cycle(Charge(policy, gateway, store, clock, lease), mode)
