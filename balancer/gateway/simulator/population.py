"""Guests drawn from real sizes and load shapes, and spread over machines unevenly on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from balancer.gateway.simulator.library import SAMPLES_A_SHAPE, flavors, shapes
from balancer.gateway.simulator.load import SAMPLE_S, Load, Shape
from balancer.gateway.simulator.things import Disk, Guest, Machine, identity

GIB = 2**30
_MIB = 2**20
_ROLES = ("app", "web", "sql", "file", "build", "mail", "print", "test", "mon", "erp")
_TAGS = {"test": "#test", "build": "#test", "sql": "#prod #database", "erp": "#prod"}
_DIRTY_PER_CORE = 25e6  # bytes a second that a busy processor dirties
_DYNAMIC_SHARE = 0.2
_BUSY_MEAN = 0.2  # of its processors over the week: what parts the two kinds in the trace
_TYPICAL_GIB = 12.0
_TYPICAL_BUSY_CORES = 2.0
_MISSES_MAX = 6
_AHEAD = 24  # samples
_PLACES_TRIED = 4  # for a guest with little to do
_PLACES_TRIED_BUSY = 100
_BY_DAY = 0.8  # of the mean over the week


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a machine is to be, of its guests' CPU and memory, 0..1."""

    cpu: float
    memory: float


def draw_guest(
    random: Random, number: int, storage: str, memory_gib_max: int, busy_share: float
) -> Guest:
    """Return one guest of a real size that follows a real course; it has no machine yet.

    Args:
        random: Where all choices come from.
        number: Goes into its name.
        storage: Where its disk is.
        memory_gib_max: Sizes above are left out.
        busy_share: How likely its course is that of a VM with something to do.
    """
    sizes = [flavor for flavor in flavors() if flavor.memory_gib <= memory_gib_max]
    flavor = random.choices(sizes, [size.weight for size in sizes])[0]
    role = random.choice(_ROLES)
    busy = random.random() < busy_share
    shape = random.choice([one for one in shapes() if (one.mean > _BUSY_MEAN) is busy])
    load = Load(
        base_cores=0.02,
        swing_cores=flavor.vcpus * random.uniform(0.8, 1.0),
        shape=shape,
        offset_s=_steady_offset_s(random, shape),
        demand_fraction=random.uniform(0.45, 0.75),
        demand_swing=0.15,
        dirty_bytes_per_s=random.uniform(1e6, 8e6),
        dirty_swing_bytes_per_s=_DIRTY_PER_CORE * flavor.vcpus,
    )
    name = f"{role}-{number:03}"
    guest = Guest(
        id=identity("vm", number, random.random()),
        name=name,
        host="",
        vcpus=flavor.vcpus,
        assigned_bytes=flavor.memory_gib * GIB,
        startup_bytes=flavor.memory_gib * GIB,
        load=load,
        notes=_TAGS.get(role, "#prod" if random.random() < 0.5 else ""),  # noqa: PLR2004 -- a coin
        disks=(Disk(f"{storage}\\{number:03}\\{role}.vhdx"),),
        priority=random.choices((3000, 2000, 1000), (1, 8, 1))[0],
    )
    if random.random() < _DYNAMIC_SHARE:
        _make_dynamic(guest)
    return guest


def spread(
    random: Random,
    machines: Sequence[Machine],
    fills: Sequence[Fill],
    storage: str,
    memory_gib_max: int,
) -> list[Guest]:
    """Draw guests until every machine is as full of memory as it is to be.

    Busy guests go where CPU is lacking, the others where memory is: so each machine comes
    close to both of its marks, as far as guests of real sizes allow.
    """
    guests: list[Guest] = []
    pairs = list(zip(machines, fills, strict=True))
    memory = [fill.memory * (m.memory_bytes - m.reserve_bytes) for m, fill in pairs]
    cpu = [fill.cpu * m.logical_processors for m, fill in pairs]
    misses = 0
    while misses < _MISSES_MAX * len(machines):
        busy_share = _busy_share(sum(cpu), sum(memory))
        guest = draw_guest(random, len(guests) + 1, storage, memory_gib_max, busy_share)
        wants = expected_cores(guest.load)
        fit = [at for at in range(len(machines)) if memory[at] >= guest.assigned_bytes]
        fit = [at for at in fit if cpu[at] >= wants or wants < 1.0]
        if not fit:
            misses += 1
            continue
        lacking = cpu if wants >= 1.0 else memory
        at = max(fit, key=lambda one: (lacking[one], -one))
        memory[at] -= guest.assigned_bytes
        cpu[at] -= wants
        guest.host = machines[at].name
        guests.append(guest)
    return guests


def expected_cores(load: Load) -> float:
    """Return what a guest uses on average in the world's first hours."""
    return sum(load.cores(at * SAMPLE_S) for at in range(_AHEAD)) / _AHEAD


def _busy_share(cores_lacking: float, bytes_lacking: float) -> float:
    """Return how many of the guests still to come must be busy for CPU and memory to fill up."""
    guests_to_come = max(1.0, bytes_lacking / (_TYPICAL_GIB * GIB))
    return min(0.9, max(0.0, cores_lacking) / (guests_to_come * _TYPICAL_BUSY_CORES))


def _steady_offset_s(random: Random, shape: Shape) -> float:
    """Return a place to begin in the shape: of a few by day, the one after which least changes.

    A world is shown and tested in its first hours; a load that breaks in just then would hide
    what a plan did. Later the course has all its ups and downs.
    """

    def ahead(at: int) -> list[int]:
        return [shape.samples[(at + k) % len(shape.samples)] for k in range(_AHEAD)]

    def change(at: int) -> float:
        samples = ahead(at)
        middle = sum(samples) / _AHEAD
        return max(abs(one - middle) for one in samples) / (middle + 1.0)

    tries = _PLACES_TRIED_BUSY if shape.mean > _BUSY_MEAN else _PLACES_TRIED
    places = [random.randrange(SAMPLES_A_SHAPE) for _ in range(tries)]
    by_day = [at for at in places if sum(ahead(at)) >= _BY_DAY * shape.mean * 200 * _AHEAD]
    return min(by_day or places, key=change) * SAMPLE_S


def _make_dynamic(guest: Guest) -> None:
    """Let the guest's memory follow its demand, beginning with what it would have now."""
    guest.maximum_bytes = guest.assigned_bytes
    demand = guest.load.demand(0.0, guest.maximum_bytes) * 1.2
    guest.assigned_bytes = max(int(demand) // (2 * _MIB) * 2 * _MIB, 512 * _MIB)
    guest.startup_bytes = min(guest.startup_bytes, 2 * GIB)
