"""Ready-made worlds. The same seed makes the same world, to the last byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from balancer.clock import Clock
from balancer.errors import InputError
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.population import GIB, Fill, draw_guest, expected_cores, spread
from balancer.gateway.simulator.things import (
    AffinityRule,
    Disk,
    FailoverCluster,
    Guest,
    Machine,
    Network,
    Nic,
    Role,
    Volume,
)
from balancer.gateway.simulator.windows import (
    COMPRESSION_OPTION,
    FILE_SERVER,
    TCP_OPTION,
    AffinityRuleType,
    VmStateCode,
)
from balancer.gateway.simulator.world import World

CSV = r"C:\ClusterStorage\Volume1"
SHARE = r"\\FS01\VMs"
HOSTILE_NAME = "'; Stop-Computer #"
FOREIGN_NAME = '"ü漢[*]'
REPEATED_NAME = "web-frontend"

Scenario = Callable[[Clock, int], World]


def build(name: str, clock: Clock, seed: int = 1) -> World:
    """Return the world of a scenario by name.

    Raises:
        InputError: There is no such scenario.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise InputError(
            f"there is no scenario {name!r}", remedy=f"choose one of {', '.join(SCENARIOS)}"
        )
    return scenario(clock, seed)


def demo(clock: Clock, seed: int = 1) -> World:
    """Return eight overloaded, badly set hosts that a plan can put right in minutes.

    Two hosts have too much CPU load and one too little memory; rules of the cluster are
    broken; all have RDMA, and all are set to a slower transport.
    """
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(
            name=f"HV{number:02}",
            logical_processors=32,
            memory_bytes=384 * GIB,
            nics=_nics(number, link_bps=25e9 if number <= 4 else 10e9, rdma=True),  # noqa: PLR2004
            option=TCP_OPTION if number in (3, 6) else COMPRESSION_OPTION,
            fault_domain=("Site:Main", f"Rack:{(number + 3) // 4}"),
        )
        for number in range(1, 9)
    ]
    fills = [
        Fill(0.93, 0.62),
        Fill(0.88, 0.70),
        Fill(0.50, 0.60),
        Fill(0.45, 0.66),
        Fill(0.35, 0.93),
        Fill(0.30, 0.55),
        Fill(0.25, 0.50),
        Fill(0.15, 0.40),
    ]
    guests = spread(random, machines, fills, CSV, memory_gib_max=32)
    rules = _awkward(guests)
    cluster = FailoverCluster(
        name="DEMO",
        networks=_networks(),
        migrations_max=2,
        auto_balancer_mode=0,
        rules=rules,
        volumes=(Volume("Volume1", "HV01", CSV),),
        excluded_networks=("Management",),
    )
    return World(clock, machines, guests, cluster)


def large(clock: Clock, seed: int = 1) -> World:
    """Return 64 hosts with 125 VMs each: the largest cluster that Windows supports."""
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(
            name=f"HV{number:02}",
            logical_processors=128,
            memory_bytes=3072 * GIB,
            nics=_nics(number, link_bps=25e9, rdma=True),
            fault_domain=("Site:Main", f"Rack:{(number + 7) // 8}"),
        )
        for number in range(1, 65)
    ]
    guests: list[Guest] = []
    for machine in machines:
        busy_share = random.uniform(0.05, 0.35)
        for _ in range(125):
            guest = draw_guest(random, len(guests) + 1, CSV, 32, busy_share)
            guest.host = machine.name
            guests.append(guest)
    volumes = (Volume("Volume1", "HV01", CSV),)
    cluster = FailoverCluster(
        "LARGE", _networks(), migrations_max=2, auto_balancer_mode=0, volumes=volumes
    )
    return World(clock, machines, guests, cluster)


def branch(clock: Clock, seed: int = 1) -> World:
    """Return a branch office: two nodes, one link of 10 Gbit/s, no RDMA."""
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(f"BR{number}", 24, 192 * GIB, _nics(number, link_bps=10e9, rdma=False))
        for number in (1, 2)
    ]
    guests = spread(random, machines, [Fill(0.95, 0.75), Fill(0.2, 0.3)], CSV, memory_gib_max=16)
    cluster = FailoverCluster(
        name="BRANCH",
        networks=_networks(),
        auto_balancer_mode=0,
        volumes=(Volume("Volume1", "BR1", CSV),),
        excluded_networks=("Management",),
    )
    return World(clock, machines, guests, cluster)


def lab(clock: Clock, seed: int = 1) -> World:
    """Return four nodes with little on them but one of everything that a drain has to move."""
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(f"LAB{number}", 16, 64 * GIB, _nics(number, link_bps=10e9, rdma=False))
        for number in range(1, 5)
    ]
    guests = spread(random, machines, [Fill(0.2, 0.3)] * 4, CSV, memory_gib_max=8)
    on_first = [guest for guest in guests if guest.host == "LAB1"]
    on_first[0].priority = 1000
    on_first[-1].state = VmStateCode.OFF
    volumes = (Volume("Volume1", "LAB1", CSV), Volume("Volume2", "LAB2", f"{CSV[:-1]}2"))
    cluster = FailoverCluster(
        name="LAB",
        networks=_networks(),
        migrations_max=2,
        auto_balancer_mode=0,
        volumes=volumes,
        excluded_networks=("Management",),
    )
    cluster.roles += (Role("files", FILE_SERVER, owner="LAB1"),)
    return World(clock, machines, guests, cluster)


def standalone(clock: Clock, seed: int = 1) -> World:
    """Return three hosts without a cluster that share a file server."""
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(f"SA{number}", 32, 256 * GIB, _nics(number, link_bps=10e9, rdma=False))
        for number in (1, 2, 3)
    ]
    fills = [Fill(0.9, 0.7), Fill(0.3, 0.5), Fill(0.2, 0.3)]
    guests = spread(random, machines, fills, SHARE, memory_gib_max=32)
    for guest in guests:
        guest.clustered = False
    return World(clock, machines, guests)


SCENARIOS: Mapping[str, Scenario] = {
    "demo": demo,
    "large": large,
    "branch": branch,
    "lab": lab,
    "standalone": standalone,
}


def _nics(number: int, link_bps: float, *, rdma: bool) -> tuple[Nic, ...]:
    return (
        Nic("Management", 1e9, f"10.10.0.{number}/24"),
        Nic("Migration 1", link_bps, f"10.10.1.{number}/24", rdma),
        Nic("Migration 2", link_bps, f"10.10.1.{number + 100}/24", rdma),
    )


def _networks() -> tuple[Network, ...]:
    return (
        Network("Migration", "10.10.1.0/24", metric=19_000),
        Network("Management", "10.10.0.0/24", role=3, metric=79_000),
    )


def _awkward(guests: list[Guest]) -> tuple[AffinityRule, ...]:
    """Give some guests the names, states and rules that real clusters surprise one with."""
    # Idle ones first, so that what is done to them leaves the hosts as full as they are to be.
    small = sorted(guests, key=lambda g: (round(expected_cores(g.load)), g.assigned_bytes, g.name))
    by_host: dict[str, list[Guest]] = {}
    for guest in small:
        by_host.setdefault(guest.host, []).append(guest)
    first, second, third = by_host["HV01"], by_host["HV03"], by_host["HV05"]
    # Busy and small: whoever relieves the host will want to move just these.
    eager = sorted(first, key=_cores_a_byte)[-2:]
    eager[1].name, eager[1].group = HOSTILE_NAME, "SCVMM billing Resources"
    heaviest = max(third, key=lambda g: (g.assigned_bytes, g.name))
    heaviest.name = FOREIGN_NAME
    namesakes = (eager[0], max(by_host["HV02"], key=_cores_a_byte))
    for guest, group in zip(namesakes, ("web-frontend", "web-frontend (2)"), strict=True):
        guest.name, guest.group = REPEATED_NAME, group
    second[1].state = VmStateCode.OFF
    second[2].state = VmStateCode.SAVED
    second[3].disks = (Disk(""),)
    third[0].media = (r"D:\ISO\server.iso",)
    third[1].locked = True
    controllers = (by_host["HV02"][0], by_host["HV02"][1], by_host["HV04"][0])
    for number, guest in enumerate(controllers, 1):
        guest.name, guest.priority, guest.load = f"dc-{number:02}", 3000, Load(base_cores=0.2)
    pair = (by_host["HV06"][0], by_host["HV07"][0])
    for guest, name in zip(pair, ("shop-app", "shop-cache"), strict=True):
        guest.name = name
    return (
        AffinityRule(
            "domain controllers apart",
            AffinityRuleType.DIFFERENT_NODE,
            tuple(guest.name for guest in controllers),
        ),
        AffinityRule(
            "shop together", AffinityRuleType.SAME_NODE, tuple(guest.name for guest in pair)
        ),
    )


def _cores_a_byte(guest: Guest) -> float:
    return expected_cores(guest.load) / guest.assigned_bytes
