"""Clusters for the benchmarks: generated ones, and ones made from data of real fleets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from balancer.model.cluster import Cluster, Host, Vm
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.rules import Allow, Apart, Together

GIB = 2**30
DATA = Path(__file__).parent / "data"
SIZES_GIB, SHARES = (2, 4, 8, 16, 32), (0.10, 0.25, 0.35, 0.20, 0.10)
CPU_MEAN, MEMORY_MEAN = 0.57, 0.65
REAL_CPU_MEAN, REAL_MEMORY_MEAN = 0.45, 0.72  # memory is what fills up first
DOMAINS = 3  # fault domains that requests name
Names = Sequence[str]


def generate(hosts: int, vms: int, seed: int, *, rules: bool = True) -> Cluster:
    """Return a cluster at 57 % CPU and 65 % memory whose hosts differ in both.

    4 % of the VMs are in sets of four that are kept apart, 3 % have lists of hosts, 1.5 % are
    in pairs kept together; none of these rules is broken at the start. Loads differ enough
    that a cap of 1 to 10 % of the VMs binds.
    """
    rng = np.random.default_rng(seed)
    memory = rng.choice(SIZES_GIB, size=vms, p=SHARES).astype(float)
    cores = np.sqrt(memory) * rng.lognormal(0.0, 0.9, size=vms)
    at = rng.choice(hosts, size=vms, p=rng.dirichlet(np.full(hosts, 100.0)))
    cores *= rng.lognormal(0.0, 0.2, size=hosts)[at]
    host_gib = float(np.ceil(memory.sum() / hosts / MEMORY_MEAN))
    host_cores = float(np.ceil(cores.sum() / hosts / CPU_MEAN))
    cores = np.minimum(cores, 0.3 * host_cores)  # nobody runs a VM that fills a host by itself
    room = np.full(hosts, host_gib * 0.97)
    for vm in np.argsort(-memory, kind="stable"):
        if room[at[vm]] < memory[vm]:
            at[vm] = int(room.argmax())
        room[at[vm]] -= memory[vm]
    names = [f"HV{number:03d}" for number in range(hosts)]
    made = [_vm(number, names[at[number]], cores[number], memory[number]) for number in range(vms)]
    return Cluster(
        name=f"generated {hosts}x{vms}, seed {seed}",
        hosts=tuple(Host(name, host_cores, int(host_gib * GIB)) for name in names),
        vms=tuple(made),
        rules=_rules(rng, made, names) if rules else (),
    )


def fabric(clusters: int, hosts: int, vms: int, seed: int) -> Iterator[Cluster]:
    """Yield the clusters of a fabric, which together have about `hosts` and `vms`."""
    for number in range(clusters):
        share = [
            total * (number + 1) // clusters - total * number // clusters for total in (hosts, vms)
        ]
        yield generate(share[0], share[1], 1000 * seed + number)


def _vm(number: int, host: str, cores: float, gib: float) -> Vm:
    return Vm(
        id=f"{number:08x}",
        name=f"vm-{number:05d}",
        host=host,
        cpu_used_cores=float(cores),
        memory_assigned_bytes=int(gib) * GIB,
    )


def _rules(rng: np.random.Generator, vms: list[Vm], names: Names) -> tuple[Rule, ...]:
    order = [vms[at] for at in rng.permutation(len(vms))]
    made: list[Rule] = []
    for _ in range(round(len(vms) * 0.04 / 4)):
        apart: dict[str, Vm] = {}
        for vm in order:
            apart.setdefault(vm.host, vm)
            if len(apart) == min(4, len(names)):
                break
        order = [vm for vm in order if apart.get(vm.host) is not vm]
        made.append(Apart(vms=_exactly(vm.id for vm in apart.values())))
    for _ in range(round(len(vms) * 0.03)):
        vm = order.pop()
        some = rng.choice(len(names), size=max(2, len(names) // 3), replace=False)
        hosts = {names[at] for at in some.tolist()} | {vm.host}
        made.append(Allow(vms=_exactly([vm.id]), hosts=_exactly(sorted(hosts))))
    for _ in range(round(len(vms) * 0.015 / 2)):
        one = order.pop()
        other = next(vm for vm in order if vm.host == one.host)
        order.remove(other)
        made.append(Together(vms=_exactly([one.id, other.id])))
    return tuple(made)


def real(hosts: int, vms: int, seed: int) -> Cluster:
    """Return a cluster of requests and loads of real fleets; about half its VMs are under rules.

    Each VM has the size and the rule of a request and the load of some six hours of a traced
    VM. Sets that belong together are on one host, sets to be apart are spread as far as there
    are hosts, and a fault domain is a third of the hosts; then 2 % of the VMs have drifted.
    """
    rng = np.random.default_rng(seed)
    requests = _requests()
    units = [requests[at] for at in rng.permutation(len(requests))]
    chosen: list[tuple[tuple[str, ...], ...]] = []
    count = 0
    for unit in units:
        if count + len(unit) <= vms:
            chosen.append(unit)
            count += len(unit)
    loads = np.concatenate(_loads())
    gib = np.array([float(one[1]) for unit in chosen for one in unit])
    share = rng.choice(loads, size=count)
    cores = np.array([float(one[0]) for unit in chosen for one in unit]) * share
    sets = [unit for unit in chosen if unit[0][2] == "together"]
    largest = max((sum(float(one[1]) for one in unit) for unit in sets), default=0.0)
    host_gib = np.ceil(max(gib.sum() / hosts / REAL_MEMORY_MEAN, 1.5 * largest))
    host_cores = np.ceil(cores.sum() / hosts / REAL_CPU_MEAN)
    names = [f"HV{number:03d}" for number in range(hosts)]
    at = _placed(rng, chosen, hosts, float(host_gib))
    drifted = rng.random(count) < 0.02
    at[drifted] = rng.integers(hosts, size=int(drifted.sum()))
    made = [_vm(n, names[at[n]], min(cores[n], 0.15 * host_cores), gib[n]) for n in range(count)]
    return Cluster(
        name=f"real {hosts}x{count}, seed {seed}",
        hosts=tuple(Host(name, float(host_cores), int(host_gib) * GIB) for name in names),
        vms=tuple(made),
        rules=tuple(_real_rules(chosen, made, names)),
    )


def _placed(
    rng: np.random.Generator,
    units: list[tuple[tuple[str, ...], ...]],
    hosts: int,
    host_gib: float,
) -> npt.NDArray[np.int64]:
    """Place unit by unit, on hosts that fill up unevenly, with each rule kept."""
    room = host_gib * np.minimum(0.97, rng.normal(0.80, 0.10, size=hosts))
    at: list[int] = []
    for unit in units:
        rule, used = unit[0][2], np.zeros(hosts, dtype=np.int64)
        together = sum(float(one[1]) for one in unit) if rule == "together" else 0.0
        for number, one in enumerate(unit):
            size = together or float(one[1])
            able = np.ones(hosts, dtype=bool)
            if rule == "domain":
                able = np.arange(hosts) % DOMAINS == int(one[4])
            elif rule == "apart":
                able = used == used.min()
            fits = np.flatnonzero(able & (room >= size))
            if together and number:
                host = at[-1]
            elif len(fits):
                host = int(rng.choice(fits, p=room[fits] / room[fits].sum()))
            else:
                host = int(np.where(able, room, -np.inf).argmax())
            used[host] += 1
            room[host] -= float(one[1])
            at.append(host)
    return np.array(at, dtype=np.int64)


def _real_rules(
    units: list[tuple[tuple[str, ...], ...]], vms: list[Vm], names: Names
) -> Iterator[Rule]:
    first = 0
    for unit in units:
        ids = [vm.id for vm in vms[first : first + len(unit)]]
        first += len(unit)
        rule = unit[0][2]
        if rule == "apart" and len(ids) > 1:
            yield Apart(vms=_exactly(ids), max_per_host=-(-len(ids) // len(names)))
        elif rule == "together" and len(ids) > 1:
            yield Together(vms=_exactly(ids))
        elif rule == "domain":
            domain = int(unit[0][4])
            hosts = [name for at, name in enumerate(names) if at % DOMAINS == domain]
            yield Allow(vms=_exactly(ids), hosts=_exactly(hosts))


@cache
def _requests() -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return requests in units: one without a rule, or all of a group (and fault domain)."""
    with (DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:]
    alone = [(row,) for row in rows if not row[2]]
    ruled = sorted((row for row in rows if row[2]), key=lambda row: (row[2], row[3], row[4]))
    return (*alone, *(tuple(unit) for _, unit in groupby(ruled, key=lambda row: row[2:])))


@cache
def _loads() -> tuple[npt.NDArray[np.float64], ...]:
    lines = (DATA / "loads.txt").read_text(encoding="utf-8").splitlines()
    return tuple(np.array(line.split(), dtype=np.float64) for line in lines)


def _exactly(names: Iterable[str]) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)
