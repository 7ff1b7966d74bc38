"""One seed from beginning to end, and the verdict on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from time import process_time

from balancer.errors import BalancerError, ExitCode
from balancer.formats.plan import parse_plan
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.actors import move_by_hand
from balancer.gateway.simulator.faults import FaultKind
from balancer.policy.load import parse_policy
from balancer.service.events import Event, EventKind
from balancer.store.requests import HowToStop, RequestState
from balancer.store.standing import EVERY_CLUSTER, Approval, Freeze, Freezes, Verdict
from tests.simulation.traps import PowerCut
from tests.simulation.years import troubles, worlds
from tests.simulation.years.book import Book
from tests.simulation.years.days import Days
from tests.simulation.years.invariants import Broken, Guard
from tests.simulation.years.machine import Daemon
from tests.simulation.years.troubles import Kind, Trouble, When
from tests.simulation.years.worlds import CLUSTER

SETTLE_S = 5400.0  # before the end: somebody asks for what is still wrong to be put right
LAST_S = 900.0  # for each executor with a store of its own to put its own things in order
CLUSTER_LEASE_S = 200.0
APPLIED_MAX = 3


@dataclass
class Outcome:
    """What became of one seed."""

    seed: int
    world: str
    broken: list[str]
    counts: Counter[str]
    cpu_s: float
    most_moves: int  # of one VM

    @property
    def passed(self) -> bool:
        return not self.broken


class Simulation:
    """One world with one or two daemons, from beginning to end."""

    def __init__(
        self, seed: int, size: worlds.Size, log: Callable[[str], None] | None = None
    ) -> None:
        self.random = Random(f"{size.name} {seed}")  # noqa: S311 -- reproducible, not secret
        start, zone = worlds.draw_start(self.random)
        self.size, self._log = size, log
        self.days = Days(start)
        self.drawn = worlds.draw(self.random, self.days.clock, zone, size)
        self.world = self.drawn.world
        self.guard = Guard(self.drawn, lambda: self.days.now_s)
        self.guard.current = self._current
        self.on_stage: list[Daemon] = []
        self.counts = self.guard.counts
        self.quiet_s = (size.hours - size.quiet_hours) * 3600.0
        self._met: Counter[When] = Counter()
        self._left_out: list[str] = []  # of the last run, since others took the slots
        self.policy = parse_policy(self.drawn.policy, "policy")
        self.daemons = self._daemons()
        count = self.random.randint(*size.troubles)
        hosts = list(self.world.machines)
        self.troubles = troubles.draw(self.random, hosts, count, self.quiet_s)

    def _daemons(self) -> list[Daemon]:
        way = self.random.choice(("one", "one", "one store", "two stores"))
        self.counts[f"worlds with {way}"] += 1
        books = [self._book(1)]
        if way == "two stores":
            books.append(self._book(2))
        elif way == "one store":
            books.append(books[0])
        self.guard.books = list({id(book): book for book in books}.values())
        return [
            Daemon(
                name=f"daemon {number}",
                days=self.days,
                drawn=self.drawn,
                guard=self.guard,
                book=book,
                policy=self.policy,
                random=self.random,
                poll_s=self.random.choice((2.0, 5.0, 10.0, 10.0)),
                on_stage=self.on_stage,
                heard=self._hear,
            )
            for number, book in enumerate(books, 1)
        ]

    def _book(self, number: int) -> Book:
        book = Book(self._point, self.guard.intended, self.guard.ended, lambda: self.days.now_s)
        # What a store would draw to tell itself from others is given: the same seed, the same day.
        book.store.marks.set(EVERY_CLUSTER, f"store {number:08x}", self.days.clock.now())
        return book

    def _current(self) -> Daemon | None:
        return self.on_stage[-1] if self.on_stage else None

    def _point(self) -> None:
        if self.on_stage:
            self.on_stage[-1].point()

    # The course of it

    def run(self) -> None:
        """Let it all happen.

        Raises:
            Broken: Something that must never happen has.
        """
        for number, daemon in enumerate(self.daemons):
            daemon.attentive_until_s = 120.0
            daemon.wake_in(number * 40.0)
        for trouble in self.troubles:
            if trouble.when is When.TIME:
                self.days.at(trouble.after_s, partial(self._happen, trouble))
        self.days.go_on(self.quiet_s)
        self._calm()
        self.days.go_on(self.size.hours * 3600.0 - SETTLE_S - self.days.now_s)
        self._settle()

    def _calm(self) -> None:
        """From here on nothing goes wrong any more."""
        self.say("all trouble ends")
        for daemon in self.daemons:
            daemon.logged_in = True
            daemon.cuts.clear()
            daemon.pauses.clear()
            daemon.book.store.freezes.thaw(CLUSTER)

    def _settle(self) -> None:
        """Have every executor bring its things to an end, and the last one balance."""
        said = ""
        leading = sorted(self.daemons, key=lambda daemon: not daemon.leads)
        for book in self.guard.books:
            self._withdraw(book)
        for daemon in _one_for_each_store(leading):
            for other in self.daemons:
                if other is not daemon:
                    other.leave()
            if daemon.loop is None:
                daemon.come_back()
            self._put_in_order(daemon)
            said = self._said(daemon)
        for daemon in self.daemons:
            daemon.leave()
        self.guard.finish(said)

    def _withdraw(self, book: Book) -> None:
        """Nobody wants any more what was asked for and never begun."""
        for request in book.store.requests.open(CLUSTER):
            if request.state is RequestState.WAITING:
                now = self.days.clock.now()
                book.store.requests.cancel(request.id, HowToStop.FINISH, now, 130)

    def _put_in_order(self, daemon: Daemon) -> None:
        """Let one executor take over, take all hosts back, and balance until nothing is left."""
        daemon.attend(CLUSTER_LEASE_S + LAST_S)
        self.days.go_on(CLUSTER_LEASE_S)
        self.ask(daemon, "resume", hosts=list(self.world.machines))
        for _ in range(APPLIED_MAX):
            daemon.attend(LAST_S)
            self.ask(daemon, "apply", anytime=True)
            self.days.go_on(LAST_S / APPLIED_MAX)
            if daemon.book.store.requests.latest(CLUSTER, 1)[0].text == "nothing_to_do":
                return

    def _said(self, daemon: Daemon) -> str:
        asked = daemon.book.store.requests.latest(CLUSTER, 1)[0]
        if asked.text.startswith("nothing is moved"):
            return asked.text
        (latest,) = daemon.book.store.plans.latest(CLUSTER, 1) or (None,)
        if latest is None:
            return "no plan was ever made"
        plan = parse_plan(latest.document, "the last plan")
        lines = [f"{one.vm} {one.name}: {one.reason}" for one in plan.not_moved]
        lines += [f"{one.subject}: {one.problem}: {one.reason}" for one in plan.unresolved]
        return f"{plan.status.value}; " + "; ".join([*lines, *self._left_out])

    # What is heard of daemons

    def _hear(self, daemon: Daemon, event: Event) -> None:
        self.counts[event.kind.value] += 1
        self.say(f"{daemon.name}: {event.kind.value} {event.subject} {event.text}")
        ours = event.data.get("exit_code") == int(ExitCode.OUR_FAULT)
        if ours and "the store sqlite:// failed" not in event.text:
            self.guard.broken.append(f"{self.days.now_s:.0f} s: {event.kind.value}: {event.text}")
        match event.kind:
            case EventKind.RUN_STARTED:
                self._left_out.clear()
                self._meet(When.RUN)
            case EventKind.MIGRATION_SKIPPED if "somebody else is migrating" in event.text:
                self._left_out.append(event.text)
            case EventKind.DRAIN_STARTED:
                self._meet(When.DRAIN)
            case EventKind.APPROVAL_WANTED:
                self.days.at(self.days.now_s + 20.0, partial(self._approve, daemon, event.plan))

    def _meet(self, when: When) -> None:
        self._met[when] += 1
        for trouble in self.troubles:
            if trouble.when is when and trouble.number == self._met[when]:
                at_s = self.days.now_s + trouble.after_s
                self.days.at(at_s, partial(self._happen, trouble))

    def _approve(self, daemon: Daemon, plan: str) -> None:
        approval = Approval(plan, CLUSTER, Verdict.APPROVED, "a person", daemon.clock.now(), "")
        with suppress(BalancerError):
            daemon.book.store.approvals.give(approval)
            self.ask(daemon, "approve", plan=plan)

    def ask(self, daemon: Daemon, verb: str, **arguments: object) -> None:
        """Ask for something as a command would."""
        self.counts[f"asked {verb}"] += 1
        with suppress(BalancerError):
            now = daemon.clock.now()
            daemon.book.store.requests.submit(CLUSTER, verb, arguments, "a person", now)
        for one in self.daemons:
            if not one.busy and one.loop is not None:
                one.wake_in(1.0)

    def say(self, text: str) -> None:
        """Tell whoever reads along."""
        if self._log is not None:
            now = self.days.clock.now()
            self._log(f"{self.days.now_s:9.1f} s {now:%a %H:%M:%S}  {text}")

    # What happens

    def _happen(self, trouble: Trouble) -> None:
        if self.days.now_s >= self.quiet_s:
            return
        self.counts[str(trouble.kind.value)] += 1
        self.say(f"TROUBLE {trouble}")
        daemon = self._victim()
        if trouble.fault is not None:
            mishaps.inject(self.world, trouble.fault)
            return
        actions[trouble.kind](self, daemon, trouble)

    def _victim(self) -> Daemon:
        """Return the daemon that is at work, or any."""
        leading = [daemon for daemon in self.daemons if daemon.leads]
        return leading[0] if leading else self.random.choice(self.daemons)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Let something end after a while, or when all trouble ends."""

        def over() -> None:
            act()

        self.days.at(min(self.days.now_s + seconds, self.quiet_s), over)


def _one_for_each_store(daemons: list[Daemon]) -> list[Daemon]:
    """Return the first daemon of each store."""
    return list({id(daemon.book): daemon for daemon in reversed(daemons)}.values())[::-1]


def _cut(_: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.cuts.add(daemon.points + trouble.points)
    daemon.down_s = trouble.lasts_s


def _stop(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.pauses[daemon.points + trouble.points] = trouble.lasts_s
    _attention(sim, daemon, trouble.lasts_s)


def _kill(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.kill(trouble.lasts_s)
    _attention(sim, daemon, CLUSTER_LEASE_S)


def _restart(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    if daemon.busy:
        daemon.kill(trouble.lasts_s)
        return
    daemon.leave()
    _attention(sim, daemon, 30.0)
    sim.later(trouble.lasts_s, daemon.come_back)


def _attention(sim: Simulation, daemon: Daemon, seconds: float) -> None:
    """Let the others look whether they are needed."""
    for other in sim.daemons:
        if other is not daemon:
            other.attend(seconds + CLUSTER_LEASE_S)


def _reload(_: Simulation, daemon: Daemon, __: Trouble) -> None:
    if daemon.loop is not None:
        daemon.loop.replace(daemon.setup())


def _step(_: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.clock.step(trouble.seconds)


def _full(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.book.trouble("max_page_count=1")
    sim.later(trouble.lasts_s, lambda: daemon.book.trouble("max_page_count=1073741823"))


def _read_only(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.book.trouble("query_only=1")
    sim.later(trouble.lasts_s, lambda: daemon.book.trouble("query_only=0"))


def _log_out(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    daemon.logged_in = False
    sim.later(trouble.lasts_s, lambda: setattr(daemon, "logged_in", True))


def _by_hand(sim: Simulation, _: Daemon, trouble: Trouble) -> None:
    many = max(1, int(str(trouble.words["many"])) * len(sim.world.guests) // 96)
    guests = sim.random.sample(sorted(sim.world.guests), many)
    with sim.world.present() as now_s:
        sim.world.charge()
        for vm in guests:
            target = sim.random.choice(trouble.hosts)
            sim.counts["moved by hand"] += move_by_hand(sim.world, vm, target, now_s)


def _freeze(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    freezes = daemon.book.store.freezes
    with suppress(BalancerError):
        freezes.freeze(Freeze(CLUSTER, "a person", daemon.clock.now(), "look into something"))
    sim.later(trouble.lasts_s, partial(_thaw, sim, freezes))


def _thaw(sim: Simulation, freezes: Freezes) -> None:
    """Lift a freeze as a person does: again and again where the store does not let them."""
    try:
        freezes.thaw(CLUSTER)
    except BalancerError:
        sim.later(60.0, partial(_thaw, sim, freezes))


def _freeze_cluster(sim: Simulation, _: Daemon, trouble: Trouble) -> None:
    sim.world.controls.setdefault(CLUSTER, {})["freeze"] = "hands off, says Bob"
    sim.later(trouble.lasts_s, lambda: sim.world.controls[CLUSTER].update(freeze=""))


def _drain(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    host = trouble.hosts[0]
    sim.ask(daemon, "drain", hosts=[host], on_failure=trouble.words["on_failure"])
    back_s = float(str(trouble.words["back_s"]))
    restore = trouble.words["restore"]
    sim.later(back_s, lambda: sim.ask(sim._victim(), "resume", hosts=[host], restore=restore))


def _apply(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    sim.ask(daemon, "apply", anytime=trouble.words["anytime"])


def _cancel(sim: Simulation, daemon: Daemon, trouble: Trouble) -> None:
    sim.ask(daemon, "cancel", in_flight=trouble.words["in_flight"])


actions: dict[Kind | FaultKind, Callable[[Simulation, Daemon, Trouble], None]] = {
    Kind.POWER_CUT: _cut,
    Kind.STOPPED: _stop,
    Kind.KILL: _kill,
    Kind.RESTART: _restart,
    Kind.RELOAD: _reload,
    Kind.CLOCK_STEP: _step,
    Kind.STORE_FULL: _full,
    Kind.STORE_READ_ONLY: _read_only,
    Kind.LOGGED_OUT: _log_out,
    Kind.BY_HAND: _by_hand,
    Kind.FREEZE_STORE: _freeze,
    Kind.FREEZE_CLUSTER: _freeze_cluster,
    Kind.DRAIN: _drain,
    Kind.APPLY: _apply,
    Kind.CANCEL: _cancel,
}


def run(seed: int, world: str = "small", log: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed to its end, or to what breaks."""
    began_s = process_time()
    sim = Simulation(seed, worlds.SIZES[world], log)
    try:
        sim.run()
    except (Broken, PowerCut) as error:
        if not sim.guard.broken:
            sim.guard.broken.append(f"{type(error).__name__}: {error}")
    except Exception as error:
        text = f"{sim.days.now_s:.0f} s: {type(error).__name__}: {error}"
        sim.guard.broken.append(text)
        if log is not None:
            raise
    finally:
        for book in sim.guard.books:
            book.store.close()
    most = max(sim.guard.moves_of.values(), default=0)
    return Outcome(seed, world, sim.guard.broken, sim.counts, process_time() - began_s, most)
