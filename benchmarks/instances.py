"""Generated clusters for the benchmarks: sizes, loads and rules like those of a real fleet."""

from __future__ import annotations

import numpy as np

from balancer.model.cluster import Cluster, Host, Vm
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.rules import Allow, Apart, Together

GIB = 2**30
SIZES_GIB = (2, 4, 8, 16, 32, 64)
SHARES = (0.18, 0.27, 0.27, 0.17, 0.08, 0.03)


def generate(hosts: int, vms: int, seed: int, *, rules: bool = True) -> Cluster:
    """Return a cluster at about 55 % CPU and 65 % memory, unevenly filled.

    4 % of the VMs are in sets that are kept apart, 3 % have lists of hosts, 1.5 % are in pairs
    kept together; some of these rules are broken at the start.
    """
    rng = np.random.default_rng(seed)
    memory = rng.choice(SIZES_GIB, size=vms, p=SHARES)
    cores = memory / 16 * rng.lognormal(-0.3, 0.8, size=vms)
    attraction = rng.dirichlet(np.full(hosts, 12.0))
    at = rng.choice(hosts, size=vms, p=attraction)
    host_gib = float(np.ceil(memory.sum() / hosts / 0.65))
    host_cores = float(np.ceil(cores.sum() / hosts / 0.55))
    cores = np.minimum(cores, 0.3 * host_cores)  # nobody runs a VM that fills a host by itself
    room = np.full(hosts, host_gib * 0.97)
    for vm in np.argsort(-memory, kind="stable"):
        if room[at[vm]] < memory[vm]:
            at[vm] = int(room.argmax())
        room[at[vm]] -= memory[vm]
    names = [f"HV{number:03d}" for number in range(hosts)]
    made = [
        Vm(
            id=f"{number:08x}",
            name=f"vm-{number:05d}",
            host=names[at[number]],
            cpu_used_cores=float(cores[number]),
            memory_assigned_bytes=int(memory[number]) * GIB,
        )
        for number in range(vms)
    ]
    return Cluster(
        name=f"generated {hosts}x{vms}, seed {seed}",
        hosts=tuple(Host(name, host_cores, int(host_gib * GIB)) for name in names),
        vms=tuple(made),
        rules=_rules(rng, made, names) if rules else (),
    )


def _rules(rng: np.random.Generator, vms: list[Vm], names: list[str]) -> tuple[Rule, ...]:
    """Return rules of which about one in ten is broken, as on a cluster that drifted."""
    order = [vms[at] for at in rng.permutation(len(vms))]
    made: list[Rule] = []
    for _ in range(round(len(vms) * 0.04 / 4)):
        first = [order.pop() for _ in range(min(4, len(names)))]
        distinct = {vm.host: vm for vm in first}
        chosen = first if rng.random() < 0.1 else list(distinct.values())
        made.append(Apart(vms=_exactly([vm.id for vm in chosen])))
    for _ in range(round(len(vms) * 0.03)):
        vm = order.pop()
        some = rng.choice(len(names), size=max(2, len(names) // 3), replace=False)
        hosts = {names[at] for at in some.tolist()}
        hosts |= set() if rng.random() < 0.1 else {vm.host}
        made.append(Allow(vms=_exactly([vm.id]), hosts=_exactly(sorted(hosts))))
    for _ in range(round(len(vms) * 0.015 / 2)):
        one = order.pop()
        mates = [vm for vm in order if vm.host == one.host] or order
        other = order[0] if rng.random() < 0.1 else mates[0]
        order.remove(other)
        made.append(Together(vms=_exactly([one.id, other.id])))
    return tuple(made)


def _exactly(names: list[str]) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)
