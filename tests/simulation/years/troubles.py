"""What is going to go wrong, drawn by seed: with hosts, networks, machines, stores, people."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from balancer.gateway.simulator.faults import Fault, FaultKind

CODES = (0x80072746, 0x80071748, 0x800705AA, 0x80071741, 0x80004005)
FUNCTIONS = (
    "",
    "Start-LbMigration",
    "Stop-LbMigration",
    "Get-LbMigration",
    "Set-LbTransport",
    "Get-LbHost",
    "Get-LbCluster",
    "Set-LbControl",
    "Set-LbNode",
    "Move-LbGroup",
    "Move-LbVolume",
)
_OFTEN = (6, 6, 1, 3, 3, 1, 1, 1, 2, 1, 1)


class Kind(StrEnum):
    """What else than a fault of the world can happen."""

    POWER_CUT = "power cut at a point"
    STOPPED = "process stopped at a point"
    KILL = "kill"
    RESTART = "restart"
    RELOAD = "reload"
    CLOCK_STEP = "clock step"
    STORE_FULL = "store full"
    STORE_READ_ONLY = "store read-only"
    LOGGED_OUT = "login refused"
    BY_HAND = "moves by hand"
    FREEZE_STORE = "freeze in the store"
    FREEZE_CLUSTER = "freeze in the cluster"
    DRAIN = "drain asked"
    APPLY = "apply asked"
    CANCEL = "cancel asked"


class When(StrEnum):
    """What a trouble waits for."""

    TIME = "time"
    RUN = "run"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing: `after_s` the beginning, or the `number`-th run or drain (from 1)."""

    kind: Kind | FaultKind
    when: When
    number: int
    after_s: float
    fault: Fault | None = None
    lasts_s: float = 60.0
    hosts: tuple[str, ...] = ()
    seconds: float = 0.0
    points: int = 1
    words: dict[str, object] = field(default_factory=dict)


# How often each comes, beside one for every fault of the world.
_WEIGHTS = {
    Kind.POWER_CUT: 4,
    Kind.STOPPED: 2,
    Kind.KILL: 2,
    Kind.RESTART: 1,
    Kind.RELOAD: 1,
    Kind.CLOCK_STEP: 2,
    Kind.STORE_FULL: 2,
    Kind.STORE_READ_ONLY: 1,
    Kind.LOGGED_OUT: 1,
    Kind.BY_HAND: 6,
    Kind.FREEZE_STORE: 1,
    Kind.FREEZE_CLUSTER: 1,
    Kind.DRAIN: 1,  # costs as much as all else of a day; still comes in every third
    Kind.APPLY: 2,
    Kind.CANCEL: 1,
}
_KINDS: tuple[Kind | FaultKind, ...] = (*_WEIGHTS, *FaultKind)
_CHANCES = [*_WEIGHTS.values(), *(1 for _ in FaultKind)]
_BY_TIME = frozenset({Kind.RELOAD, Kind.DRAIN, Kind.APPLY, Kind.BY_HAND})


def draw(random: Random, hosts: list[str], count: int, until_s: float) -> list[Trouble]:
    """Return so many troubles, none of which begins by itself after `until_s`."""
    return [_one(random, hosts, until_s) for _ in range(count)]


def _one(random: Random, hosts: list[str], until_s: float) -> Trouble:
    kind = random.choices(_KINDS, _CHANCES)[0]
    by_time = kind in _BY_TIME or random.random() < 0.2
    when = When.TIME if by_time else random.choices((When.RUN, When.DRAIN), (4, 1))[0]
    source, target = random.sample(hosts, 2)
    lasts_s = random.choice((20.0, 120.0, 600.0, 1800.0))
    return Trouble(
        kind=kind,
        when=when,
        number=random.choice((1, 1, 2, 2, 3)) if when is When.RUN else random.randint(1, 2),
        after_s=random.uniform(0.0, until_s) if by_time else random.choice((0.0, 2.0, 9.0, 30.0)),
        fault=_fault(random, kind, source, target, lasts_s)
        if isinstance(kind, FaultKind)
        else None,
        lasts_s=lasts_s,
        hosts=(source, target),
        seconds=random.choice((-7200.0, -600.0, -61.0, 45.0, 400.0, 3600.0)),
        points=random.randint(1, 40),
        words={
            "on_failure": random.choice(("pause", "resume")),
            "restore": random.random() < 0.7,
            "in_flight": random.choice(("finish", "cancel")),
            "anytime": random.random() < 0.5,
            "many": random.randint(1, 10),
            "back_s": random.choice((600.0, 3600.0, 7200.0)),
        },
    )


def _fault(random: Random, kind: FaultKind, source: str, target: str, lasts_s: float) -> Fault:
    return Fault(
        kind,
        host="" if kind is FaultKind.NO_QUORUM else source,
        target=target if kind is FaultKind.INCOMPATIBLE else "",
        function=random.choices(FUNCTIONS, _OFTEN)[0],
        section=random.choice(("vps", "jobs", "smb_limit", "groups")),
        code=random.choice(CODES),
        percent=random.choice((5.0, 50.0, 95.0)),
        count=random.choice((1, 1, 3, None)),
        lasts_s=lasts_s,
        delay_s=random.choice((1.0, 30.0, 90.0, 600.0)),
    )
