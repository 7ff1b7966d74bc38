"""Drawn worlds and policies: the same seed, the same world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from balancer.clock import VirtualClock
from balancer.gateway.simulator.actors import AutoBalancer
from balancer.gateway.simulator.load import SAMPLE_S, Load, Shape
from balancer.gateway.simulator.things import (
    AffinityRule,
    FailoverCluster,
    Guest,
    Machine,
    Network,
    Nic,
    Role,
    Volume,
    identity,
)
from balancer.gateway.simulator.windows import AffinityRuleType, VmStateCode
from balancer.gateway.simulator.world import World

GIB = 2**30
CLUSTER = "years"
FILE_SERVER = 100
GOALS = ("rules-only", "relieve", "balance")
DAY_WAVE = Shape(
    bytes(round(100 - 100 * math.cos(2 * math.pi * at * SAMPLE_S / 86_400)) for at in range(288))
)
# Nights on which clocks change, and some on which they do not.
_CHANGES = (
    ("Europe/Berlin", (2026, 3, 29)),
    ("Europe/Berlin", (2026, 10, 25)),
    ("America/New_York", (2026, 3, 8)),
    ("America/New_York", (2026, 11, 1)),
    ("Australia/Lord_Howe", (2026, 4, 5)),  # by half an hour
    ("America/Santiago", (2026, 9, 6)),  # at midnight
    ("Europe/Berlin", (2026, 6, 10)),
    ("UTC", (2026, 6, 10)),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is, and for how long it is watched."""

    name: str
    hosts: int
    each: int
    hours: float
    quiet_hours: float  # at the end, without trouble
    troubles: tuple[int, int]
    nap_hours: tuple[float, float]  # of what stands by while nothing happens
    moves_max: int  # of one VM by us, drains and returns included


SIZES: Mapping[str, Size] = {
    "small": Size("small", 4, 6, 48.0, 10.0, (8, 18), (2.0, 6.0), 12),
    "large": Size("large", 16, 200, 168.0, 24.0, (40, 80), (4.0, 12.0), 30),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the rules of a world say, by VM ids: for checks that do not ask our own code."""

    apart: tuple[frozenset[str], ...]
    allowed: Mapping[str, frozenset[str]]
    never_move: frozenset[str]


@dataclass(frozen=True, slots=True)
class Window:
    """One span of hours on every day, in minutes after midnight of a zone."""

    from_minute: int
    to_minute: int
    zone: str

    def __str__(self) -> str:
        return (
            f"{{from: {_clock(self.from_minute)}, to: {_clock(self.to_minute)}, "
            f"timezone: {self.zone}}}"
        )

    def shows(self, at: datetime) -> bool:
        """Tell whether a clock on the wall shows a time in it, in its first or second showing."""
        zone = ZoneInfo(self.zone)
        wall = at.astimezone(zone)
        if self._holds(wall):
            return True
        earlier = wall.replace(fold=0)
        if not wall.fold or earlier.utcoffset() == wall.utcoffset():
            return False
        # The second showing of an hour: it is open if it opened in the first.
        back = at - timedelta(hours=1)
        return any(
            self._holds((back + timedelta(minutes=minute)).astimezone(zone)) for minute in range(61)
        )

    def _holds(self, wall: datetime) -> bool:
        minute = wall.hour * 60 + wall.minute
        if self.from_minute < self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


def _clock(minute: int) -> str:
    return f"'{minute // 60:02}:{minute % 60:02}'"


@dataclass(frozen=True, slots=True)
class Drawn:
    """One world with all that is known of it."""

    size: Size
    world: World
    said: Said
    windows: tuple[Window, ...]
    policy: str
    cron: str
    zone: str
    per_host: int
    in_cluster: int | None
    first_run: int


def draw_start(random: Random) -> tuple[datetime, str]:
    """Return when it begins, in the day before a night of interest, and in which zone."""
    zone, day = random.choice(_CHANGES)
    noon = datetime(*day, 10, tzinfo=ZoneInfo(zone)) - timedelta(days=random.choice((1, 1, 2)))
    return (noon + timedelta(minutes=random.randint(0, 240))).astimezone(UTC), zone


def draw(random: Random, clock: VirtualClock, zone: str, size: Size) -> Drawn:
    """Return a world and the policy that it is balanced by."""
    names = [f"HV{number:02}" for number in range(1, size.hosts + 1)]
    machines = [_machine(random, number, name, size) for number, name in enumerate(names, 1)]
    guests = [_guest(random, name, n, size) for name in names for n in range(1, size.each + 1)]
    chosen = iter(random.sample(guests, 20))
    cluster_apart = [next(chosen) for _ in range(3)]
    policy_apart = [next(chosen) for _ in range(3)]
    together = [next(chosen) for _ in range(2)]
    avoiding, allowed, fixed = next(chosen), next(chosen), next(chosen)
    owned, standing = next(chosen), next(chosen)
    standing.state = VmStateCode.OFF
    for guest in together[1:]:
        guest.host = together[0].host
    owned.possible_owners = tuple(sorted({owned.host, *random.sample(names, 2)}))
    homes = sorted({allowed.host, *random.sample(names, 2)})
    shunned = random.choice(names)
    per_host = random.choice((1, 2, 2, 3))
    in_cluster = random.choice((None, 2, 4))
    windows = _windows(random, zone)
    rules = [
        f"{{apart: {{vms: {_list(policy_apart)}}}}}",
        f"{{avoid: {{vms: [{avoiding.name}], hosts: [{shunned}]}}}}",
        f"{{allow: {{vms: [{allowed.name}], hosts: [{', '.join(homes)}]}}}}",
        f"{{never_move: {{vms: [{fixed.name}]}}}}",
    ]
    limits = [f"concurrent_per_host: {per_host}"]
    limits += [f"concurrent_per_cluster: {in_cluster}"] if in_cluster else []
    policy = "\n".join(
        [
            "version: 1",
            f"mode: {random.choice(('auto', 'auto', 'auto', 'auto', 'recommend'))}",
            f"goal: {random.choices(GOALS, (50, 48, 2))[0]}",
            f"limits: {{{', '.join(limits)}}}",
            f"transport: {{write_settings: {random.choice(('true', 'true', 'false'))}}}",
            f"rules: [{', '.join(rules)}]",
            *([f"windows: [{', '.join(map(str, windows))}]"] if windows else []),
            "",
        ]
    )
    balanced = random.random() < 0.3
    heed = random.choice(("take_over", "take_over", "ignore", "refuse"))
    policy += f"interlock: {{built_in_balancer: {heed}}}\n"
    forms = FailoverCluster(
        CLUSTER,
        networks=(Network("Migration", "10.0.1.0/24"),),
        migrations_max=random.choice((1, 2, 2, 4)),
        auto_balancer_mode=2 if balanced else 0,
        rules=(
            AffinityRule(
                "dc", AffinityRuleType.DIFFERENT_NODE, tuple(g.name for g in cluster_apart)
            ),
            AffinityRule("pair", AffinityRuleType.SAME_NODE, tuple(g.name for g in together)),
        ),
        volumes=(Volume("Volume1", names[0], r"C:\ClusterStorage\Volume1"),),
    )
    forms.roles += (Role("files", FILE_SERVER, owner=names[1]),)
    world = World(clock, machines, guests, forms)
    if forms.auto_balancer_mode:
        AutoBalancer().enter(world)
    everywhere = frozenset(names)
    said = Said(
        apart=(
            frozenset(guest.id for guest in cluster_apart),
            frozenset(guest.id for guest in policy_apart),
        ),
        allowed={
            avoiding.id: everywhere - {shunned},
            allowed.id: frozenset(homes),
            owned.id: frozenset(owned.possible_owners),
        },
        never_move=frozenset({fixed.id}),
    )
    return Drawn(
        size,
        world,
        said,
        windows,
        policy,
        _cron(random, windows),
        zone,
        min(per_host, forms.migrations_max or per_host),
        in_cluster,
        random.choice((0, 1, 4)),
    )


def _machine(random: Random, number: int, name: str, size: Size) -> Machine:
    return Machine(
        name,
        logical_processors=2 * size.each,
        memory_bytes=6 * GIB * size.each,
        nics=(Nic("lm", random.choice((10e9, 25e9)), f"10.0.1.{number}/24", rdma=True),),
        option=random.choice((0, 1, 1, 2)),
        migrations_max=2,
    )


def _guest(random: Random, host: str, number: int, size: Size) -> Guest:
    name = f"{host.lower()}-vm{number:03}"
    swing = random.choice((0.0, 0.2, 0.5, 1.5))
    load = Load(
        base_cores=random.uniform(0.05, 0.6),
        swing_cores=swing,
        shape=DAY_WAVE,
        offset_s=random.uniform(0.0, 86_400.0),
        dirty_bytes_per_s=random.uniform(1e6, 40e6),
    )
    return Guest(
        identity(size.name, name),
        name,
        host,
        vcpus=random.choice((1, 2, 4)),
        assigned_bytes=random.choice((1, 2, 2, 4, 4, 8)) * GIB,
        load=load,
        priority=random.choice((3000, 2000, 2000, 2000, 1000)),
    )


def _windows(random: Random, zone: str) -> tuple[Window, ...]:
    """Return no windows, or some that are open for hours in every part of a day and a half."""
    if random.random() < 0.4:
        return ()
    begins = random.choice((20 * 60, 22 * 60, 23 * 60 + 30, 30, 90, 2 * 60 + 15))
    ends = random.choice((6 * 60, 7 * 60 + 30))
    night = Window(begins, ends, zone)
    if random.random() < 0.5:
        return (night,)
    short = Window(2 * 60, random.choice((2 * 60 + 15, 2 * 60 + 30, 3 * 60)), zone)
    return (short, Window(4 * 60, 8 * 60, zone), Window(18 * 60, 19 * 60 + 30, zone))


def _cron(random: Random, windows: tuple[Window, ...]) -> str:
    if not windows:
        return random.choice(("20 */12 * * *", "0 2,14 * * *", "30 1,2,3 * * *"))
    return random.choice(("30 2,5 * * *", "15 1,4 * * *", "5 4,18 * * *", "45 5,23 * * *"))


def _list(guests: list[Guest]) -> str:
    return "[" + ", ".join(guest.name for guest in guests) + "]"
