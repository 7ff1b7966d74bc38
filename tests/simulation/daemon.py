"""A daemon's loop over a small simulated cluster, on a virtual clock: days in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from balancer.clock import VirtualClock
from balancer.config import ClusterPart, ServicePart
from balancer.gateway.port import Gateway
from balancer.policy.load import parse_policy
from balancer.service.events import Bus, Event, EventKind
from balancer.service.loop import ClusterLoop, Setup, Stopping
from balancer.service.schedule import Schedule
from balancer.service.verbs import Verb
from balancer.store.store import Store
from balancer.unattended import HooksPart, SchedulePart
from tests.simulation.small import Small
from tests.stores import new_store

AWAY = "rules: [{avoid: {vms: [v11, v12], hosts: [h1]}}]"  # two VMs have to leave their host


def setup(
    small: Small,
    policy: str = AWAY,
    *,
    mode: str = "auto",
    schedule: SchedulePart | None = None,
    service: ServicePart | None = None,
    hooks: HooksPart | None = None,
    connect: Callable[[], Gateway] | None = None,
) -> Setup:
    part = ClusterPart(
        name="small",
        hosts=["h1"],
        schedule=schedule or SchedulePart(every=900.0),
        hooks=hooks or HooksPart(),
    )
    return Setup(
        part=part,
        service=service or ServicePart(),
        policy=parse_policy(f"version: 1\nmode: {mode}\ngoal: rules-only\n{policy}\n", "policy"),
        schedule=Schedule(part.schedule, part.name),
        connect=connect or small.new_gateway,
    )


@dataclass
class Daemon:
    """One loop, its store and everything it told."""

    small: Small
    made: Setup
    store: Store = field(default_factory=new_store)
    stopping: Stopping = field(default_factory=Stopping)
    verbs: dict[str, Verb] | None = None
    told: list[Event] = field(default_factory=list)
    loop: ClusterLoop = field(init=False)
    bus: Bus = field(init=False)
    turns: int = 0

    def __post_init__(self) -> None:
        self.bus = Bus()
        self.bus.subscribe("test", self.told.append)
        self.loop = ClusterLoop(
            self.made,
            self.store,
            self.clock,
            self.bus,
            stopping=self.stopping,
            verbs=self.verbs,
        )

    @property
    def clock(self) -> VirtualClock:
        return self.small.clock

    def run(self, **time: float) -> None:
        """Let the loop live for some time."""
        until = self.clock.now() + timedelta(**time)
        while (now := self.clock.now()) < until:
            wait_s = self.loop.turn()
            self.turns += 1
            self.clock.sleep(min(wait_s, (until - now).total_seconds()))
            assert self.turns < 200_000, "it never rests"

    def kinds(self, *kinds: EventKind) -> list[Event]:
        return [event for event in self.told if event.kind in kinds]

    def count(self, kind: EventKind) -> int:
        return len(self.kinds(kind))

    def times(self, kind: EventKind) -> list[datetime]:
        return [event.at for event in self.kinds(kind)]

    def ask(self, verb: str, **arguments: object) -> int:
        return self.store.requests.submit("small", verb, arguments, "a person", self.clock.now())
