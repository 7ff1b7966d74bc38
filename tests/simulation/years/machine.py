"""One machine with a daemon of ours on it: it lives, is killed, sleeps too long, starts again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from balancer.config import ClusterPart, ServicePart
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.port import Gateway
from balancer.gateway.simulator.readings import Reader
from balancer.gateway.simulator.things import Machine
from balancer.policy.policy import Policy
from balancer.service.events import Bus, Event
from balancer.service.loop import STANDBY_S, ClusterLoop, Setup, Stopping
from balancer.service.schedule import Schedule
from balancer.service.stop import AbandonedError
from balancer.store.faults import StoreError
from balancer.unattended import AutoPart, SchedulePart
from tests.simulation.traps import PowerCut
from tests.simulation.years.book import Book
from tests.simulation.years.days import Days, MachineClock
from tests.simulation.years.invariants import Guard
from tests.simulation.years.watched import WatchedFunctions, WatchedHost
from tests.simulation.years.worlds import CLUSTER, Drawn

IDLE_S = 1e9  # a daemon that has nothing to do is not woken for its own sake
EXEMPT = ("drain", "resume")  # verbs whose migrations no window binds


@dataclass
class Daemon:
    """A daemon with its clock and its store, which it may share with others.

    `on_stage` are the daemons that have their turn, each nested in the one before; `cuts` and
    `pauses` are numbers of the points, counted from now on, at which the power goes or the
    process stands still for so many seconds.
    """

    name: str
    days: Days
    drawn: Drawn
    guard: Guard
    book: Book
    policy: Policy
    random: Random
    poll_s: float
    on_stage: list[Daemon]
    heard: Callable[[Daemon, Event], None]
    loop: ClusterLoop | None = None
    points: int = 0
    cuts: set[int] = field(default_factory=set)
    pauses: dict[int, float] = field(default_factory=dict)
    logged_in: bool = True
    down_s: float = 30.0  # how long it is away once killed
    _killed: bool = False
    _out: bool = False  # not to be started
    _token: int = 0

    def __post_init__(self) -> None:
        self.clock = MachineClock(self.days, self._sleep)
        self.stopping = Stopping()

    # Its life

    @property
    def leads(self) -> bool:
        return self.loop is not None and self.loop.leads

    @property
    def busy(self) -> bool:
        return self in self.on_stage

    def is_exempt(self) -> bool:
        """Tell whether what it carries out is bound by no window."""
        words = self.loop.busy_with.split() if self.loop is not None else []
        if words[:1] != ["request"]:
            return False
        request = self.book.store.requests.get(int(words[1].rstrip(":")))
        return request.verb in EXEMPT or bool(request.arguments.get("anytime"))

    def wake_in(self, seconds: float) -> None:
        """Have the next turn so much later, and none before that."""
        self._token += 1
        token = self._token
        self.days.at(self.days.now_s + seconds, lambda: self._wake(token))

    def _wake(self, token: int) -> None:
        if token == self._token and not self.busy and not self._out:
            self.turn()

    def turn(self) -> None:
        """Do what is due, and say when to go on."""
        self.on_stage.append(self)
        try:
            if self.loop is None:
                self.loop = self._started()
            wait_s = self.loop.turn()
        except PowerCut:
            self._crashed()
            return
        except (StoreError, AbandonedError):
            self._crashed()
            return
        except Exception as error:
            self.guard.broken.append(f"internal error: {type(error).__name__}: {error}")
            raise
        finally:
            self.on_stage.pop()
        if self._killed:
            self._crashed()
            return
        self.wake_in(self._patience_s(wait_s))

    def _patience_s(self, wait_s: float) -> float:
        """Return when to look again: what only stands by naps while nothing happens."""
        if wait_s != STANDBY_S or self.attentive:
            return wait_s
        low, high = self.drawn.size.nap_hours
        return self.random.uniform(low, high) * 3600.0

    attentive_until_s: float = 0.0

    @property
    def attentive(self) -> bool:
        return self.days.now_s < self.attentive_until_s

    def attend(self, seconds: float) -> None:
        """Look often for a while, from now on."""
        self.attentive_until_s = self.days.now_s + seconds
        if not self.busy and not self._out and self.loop is not None:
            self.wake_in(self.random.uniform(0.5, STANDBY_S))

    def kill(self, down_s: float) -> None:
        """Kill the process now; it is started again after a while."""
        self.down_s = down_s
        if self.busy:
            self._killed = True
        elif self.loop is not None:
            self._crashed()

    def leave(self) -> None:
        """End it as a service manager would, for good."""
        if self.loop is not None:
            self.on_stage.append(self)
            try:
                self.loop.close()
            except PowerCut:  # while it says goodbye: what it has not given back stays
                self.guard.counts["daemons killed"] += 1
                self.cuts.clear()
            finally:
                self.on_stage.pop()
        self.loop, self._out = None, True
        self._token += 1

    def come_back(self) -> None:
        """Start it again."""
        self._out, self.stopping = False, Stopping()
        self.wake_in(0.0)

    def _crashed(self) -> None:
        self.guard.counts["daemons killed"] += 1
        self.loop, self._killed = None, False
        self.cuts.clear()
        self.pauses.clear()
        self.wake_in(self.down_s)

    def _started(self) -> ClusterLoop:
        bus = Bus()
        bus.subscribe("simulation", partial(self.heard, self))
        self.guard.counts["daemon starts"] += 1
        return ClusterLoop(
            self.setup(),
            self.book.store,
            self.clock,
            bus,
            stopping=self.stopping,
            poll_s=self.poll_s,
            idle_s=IDLE_S,
        )

    def setup(self) -> Setup:
        """Return what its configuration says."""
        schedule = SchedulePart(
            cron=self.drawn.cron, timezone=self.drawn.zone, sample_every=12 * 3600.0
        )
        part = ClusterPart(
            name=CLUSTER, hosts=[next(iter(self.drawn.world.machines))], schedule=schedule
        )
        return Setup(
            part=part,
            service=ServicePart(auto=AutoPart(first_run=self.drawn.first_run)),
            policy=self.policy,
            schedule=Schedule(schedule, CLUSTER),
            connect=self._gateway,
        )

    # What it sees of the world

    def _gateway(self) -> Gateway:
        world = self.drawn.world
        reader = Reader(world)
        ways = {
            name: WatchedHost(
                WatchedFunctions(world, reader, machine, _Eyes(self)),
                world,
                self.point,
                lambda: self.logged_in,
            )
            for name, machine in world.machines.items()
        }
        return ClusterGateway(CLUSTER, list(ways), lambda name: ways[name], in_turn, self.clock)

    # Where it can be hit

    def point(self) -> None:
        """Stand at a point at which the power may go, or the process be stopped for a while."""
        self.points += 1
        if self.points in self.cuts or self._killed:
            raise PowerCut
        if (pause_s := self.pauses.pop(self.points, None)) is not None:
            self.guard.counts["processes stopped"] += 1
            self.days.go_on(pause_s)

    def _sleep(self, seconds: float) -> None:
        self.guard.look()
        self.days.go_on(seconds)
        if self._killed:
            raise PowerCut
        self.guard.look()


@dataclass(frozen=True, slots=True)
class _Eyes:
    """Tells the guard of acts, and whose they are."""

    daemon: Daemon

    def started(self, machine: Machine, vm: str, target: str, fence: int) -> None:
        self.daemon.guard.started(self.daemon.book, machine, vm, target, fence)

    def cancelled(self, vm: str) -> None:
        self.daemon.guard.cancelled(self.daemon.book, vm)

    def set_to(self, machine: Machine, before: int) -> None:
        self.daemon.guard.set_to(self.daemon.book, machine, before)

    def paused(self, node: str, *, paused: bool) -> None:
        self.daemon.guard.paused(self.daemon.book, node, paused=paused)

    def moved(self, thing: str, target: str) -> None:
        self.daemon.guard.moved(self.daemon.book, thing, target)

    def took_over(self) -> None:
        self.daemon.guard.took_over(self.daemon.book)

    def leased(self, text: str) -> None:
        self.daemon.guard.leased(self.daemon.book, text)
