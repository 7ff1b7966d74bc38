"""Random small clusters with rules, for properties of the planner and the judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from hypothesis import strategies as st

from balancer.model.cluster import (
    Cluster,
    Host,
    HostState,
    ManagedBy,
    MigrationSettings,
    Transport,
    Vm,
    VmState,
)
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.policy import Limits, Policy, Prefer, Reserve, TransportPolicy
from balancer.policy.rules import (
    Allow,
    Apart,
    AsOne,
    Avoid,
    BalancerVm,
    LastResort,
    Licence,
    MaxVms,
    NeverMove,
    OneAtATime,
    Pin,
    Priority,
    Spread,
    Together,
    Within,
)
from balancer.policy.rules import Prefer as PreferHosts

GIB = 2**30


@lru_cache(maxsize=None, typed=True)  # typed: 1 and 1.0 are the same key, and different choices
def among(*choices: Any) -> st.SearchStrategy[Any]:
    """Return what draws one of the choices. To make it takes longer than all that it draws."""
    return st.sampled_from(choices)


def pick(names: list[str]) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)


@st.composite
def hosts(draw: st.DrawFn, count: int) -> tuple[Host, ...]:
    states = [HostState.UP] * 5 + [HostState.DRAINING, HostState.PAUSED, HostState.UNKNOWN]
    return tuple(
        Host(
            name=f"h{at}",
            cpu_cores=draw(among(8.0, 16.0)),
            memory_bytes=draw(among(24, 32)) * GIB,
            cpu_speed=draw(among(1.0, 1.0, 1.0, 1.5)),
            state=draw(among(*states)) if at else HostState.UP,
            numa_free_bytes=draw(among((), (), (10 * GIB, 5 * GIB))),
            fault_domain=draw(among((), ("Site:A",), ("Site:B",))),
            migration=MigrationSettings(
                transport=draw(among(*Transport)),
                concurrent=draw(st.integers(1, 2)),
                managed_by=draw(among(*[ManagedBy.NONE] * 3, ManagedBy.NETWORK_ATC)),
            ),
        )
        for at in range(count)
    )


@st.composite
def rules(draw: st.DrawFn, vms: list[str], names: list[str]) -> tuple[Rule, ...]:
    some_vms = st.lists(among(*vms), min_size=1, max_size=3, unique=True)
    some_hosts = st.lists(among(*names), min_size=1, max_size=2, unique=True)
    made: list[Rule] = []
    for number in range(draw(st.integers(0, 2))):
        who, hard, during = pick(draw(some_vms)), draw(st.booleans()), draw(st.booleans())
        where, domain = pick(draw(some_hosts)), draw(among("site", "host", "Site:A"))
        makers: list[Callable[..., Rule]] = [
            partial(Allow, vms=who, hosts=where, hard=hard),
            partial(Apart, vms=who, hard=hard, during=during),
            partial(AsOne, vms=who),
            partial(Avoid, vms=who, hosts=where, hard=hard),
            partial(BalancerVm, vms=who),
            partial(LastResort, vms=who),
            partial(Licence, vms=who, hosts=where),
            partial(MaxVms, hosts=where, limit=draw(st.integers(1, 3)), hard=hard, during=during),
            partial(NeverMove, vms=who, hard=hard),
            partial(OneAtATime, vms=who),
            partial(Pin, vms=who, hosts=where, hard=hard),
            partial(PreferHosts, vms=who, hosts=where),
            partial(Priority, vms=who),
            partial(Spread, vms=who, domain=domain, hard=hard, during=during),
            partial(Together, vms=who, hard=hard, during=during),
            partial(Within, vms=who, domain=domain, hard=hard, during=during),
        ]
        made.append(draw(st.sampled_from(makers))(name=f"r{number}"))
    return tuple(made)


@st.composite
def clusters(draw: st.DrawFn, hosts_max: int = 4, vms_max: int = 7) -> Cluster:
    count = draw(st.integers(2, hosts_max))
    all_hosts = draw(hosts(count))
    names = [host.name for host in all_hosts]
    vms: list[Vm] = []
    for at in range(draw(st.integers(1, vms_max))):
        cores = draw(among(0.5, 1.0, 2.0, 4.0, 6.0))
        vms.append(
            Vm(
                id=f"v{at}",
                name=f"v{at}",
                host=draw(among(*names)),
                cpu_used_cores=cores,
                memory_assigned_bytes=draw(among(2, 4, 8, 12)) * GIB,
                state=draw(among(*[VmState.RUNNING] * 9, VmState.OFF)),
                vcpus=draw(among(None, 4, 12)),
                cpu_reserved_cores=draw(among(None, None, 3.5, 6.0)),
                blocked_by=draw(among(*[()] * 9, ("assigned_device",))),
                migrating_to=draw(among(*[None] * 12, *names, "elsewhere")) if at else None,
            )
        )
    ids = [vm.id for vm in vms]
    return Cluster(name="random", hosts=all_hosts, vms=tuple(vms), rules=draw(rules(ids, names)))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    policy = Policy(
        reserve=Reserve(memory_fraction=draw(among(0.0, 0.0, 0.25))),
        limits=Limits(migrations_per_run=draw(among(None, None, 0, 1, 2, 4))),
        transport=TransportPolicy(prefer=draw(among(*Prefer)), write_settings=draw(st.booleans())),
    )
    if draw(st.integers(0, 5)) == 0:
        limits = dataclasses.replace(
            policy.limits,
            bytes_per_run=draw(among(5, 20)) * GIB,
            duration_per_run_s=draw(among(15.0, 60.0)),
        )
        policy = dataclasses.replace(policy, limits=limits)
    return policy
