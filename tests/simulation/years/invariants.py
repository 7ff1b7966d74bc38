"""What must hold at every step, whatever happens. One that does not ends the simulation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from balancer.gateway.simulator.physics import Migration, Phase
from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine
from balancer.gateway.simulator.windows import NodeState
from balancer.model.outcome import MigrationState
from tests.simulation.years.book import Book, Entry
from tests.simulation.years.worlds import Drawn

if TYPE_CHECKING:
    from tests.simulation.years.machine import Daemon

# Readings are up to 5 s old, and a look takes a moment: what others did since cannot be held
# against whoever started something meanwhile.
STALE_S = 20.0
TRIES_A_MOVE = 5  # what is locked by a backup is asked for every two minutes, for long


class Broken(BaseException):
    """Something that must never happen has. No error of the program: nothing may catch it."""


class Guard:
    """Holds every journal write, every act of a host and every poll against what must be so."""

    def __init__(self, drawn: Drawn, now_s: Callable[[], float]) -> None:
        self._drawn, self._world, self._now_s = drawn, drawn.world, now_s
        self._said = drawn.said
        self.books: list[Book] = []
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.moves_of: Counter[str] = Counter()  # by VM, those of ours that brought it elsewhere
        self.tries_of: Counter[str] = Counter()  # and those that hosts accepted
        self.current: Callable[[], Daemon | None] = lambda: None
        self._options = {machine.name: machine.option for machine in self._world.machines.values()}
        self._mode = self._forms().auto_balancer_mode
        self._placed_s: dict[str, float] = {}
        self._asked_s: dict[int, float] = {}  # when migrations were first seen, by number
        self._leader: Book | None = None
        self._place = self._world.engine.place
        self._world.engine.place = self._placed  # type: ignore[method-assign]
        self._apart: dict[str, list[frozenset[str]]] = defaultdict(list)
        for group in self._said.apart:
            for vm in group:
                self._apart[vm].append(group)

    def _forms(self) -> FailoverCluster:
        forms = self._world.cluster
        assert forms is not None
        return forms

    def fail(self, text: str) -> None:
        """Take note of what must not be, and end everything."""
        self.broken.append(f"{self._now_s():.0f} s: {text}")
        raise Broken(self.broken[-1])

    def _require(self, holds: bool, text: str) -> None:  # noqa: FBT001 -- reads like assert
        if not holds:
            self.fail(text)

    # At every poll

    def look(self) -> None:
        """Look at the whole: cheap enough for every poll."""
        world = self._world
        self._require(
            sum(map(len, world.guests_on.values())) == len(world.guests), "a VM is lost or doubled"
        )
        for machine in world.machines.values():
            if machine.option != self._options[machine.name]:
                self._owed(machine)
        if self._forms().auto_balancer_mode != self._mode:
            owed = any(book.owes(self._world.name) for book in self.books)
            self._require(owed, "the built-in balancer is off, and nobody owes it")
        for migration in world.engine.migrations:
            self._asked_s.setdefault(migration.number, self._now_s())

    def look_closely(self) -> None:
        """Look at every VM."""
        seen = Counter(key for on in self._world.guests_on.values() for key in on)
        self._require(seen.keys() == self._world.guests.keys(), "a VM is lost")
        self._require(set(seen.values()) <= {1}, "a VM is doubled")
        for guest in self._world.guests.values():
            self._require(
                guest.id in self._world.guests_on[guest.host], f"{guest.name} is not at home"
            )
        self.look()

    def _owed(self, machine: Machine) -> None:
        owed = any(book.owes(machine.name) for book in self.books)
        left = any(machine.name in book.left for book in self.books) and len(self.books) > 1
        self._require(owed or left, f"{machine.name} holds a setting of ours that nobody owes it")

    # As the journal is written

    def intended(self, book: Book, entry: Entry, at: datetime) -> None:
        """A migration is about to be asked for: limits, rules and windows must let it.

        The process may have stood still since `at`, on its wall clock: then nothing is asked for.
        """
        self.counts["intended"] += 1
        guest = self._world.guests[entry.vm]
        self._check_limits(book)
        self._check_rules(book, entry, guest)
        self._check_window(entry, at)

    def ended(self, entry: Entry, at_s: float) -> None:
        """A migration is over as far as was known at `at_s`.

        The process may have stood still since, and the VM have gone on.
        """
        self.counts[f"moves {entry.state.value}"] += 1
        if entry.state is MigrationState.DONE:
            guest = self._world.guests[entry.vm]
            stays = at_s - self._placed_s.get(entry.vm, 0.0) > STALE_S
            if stays and guest.host != entry.target:
                self.fail(f"{guest.name} is said to be on {entry.target}, and is on {guest.host}")

    def _check_limits(self, book: Book) -> None:
        busy: Counter[str] = Counter()
        flying = book.in_flight
        for entry in flying:
            busy.update((entry.source, entry.target))
        ours = {entry.vm for entry in flying}
        for migration in self._others(ours):
            busy.update((migration.source.name, migration.target.name))
        over = [host for host, count in busy.items() if count > self._drawn.per_host]
        mine = {host for entry in flying for host in (entry.source, entry.target)}
        self._require(not (set(over) & mine and self._is_ours(over, flying)), f"too many at {over}")
        most = self._drawn.in_cluster
        self._require(most is None or len(flying) <= most, "too many at once in the cluster")

    def _is_ours(self, over: Iterable[str], flying: list[Entry]) -> bool:
        """Tell whether the newest of ours is at a host that has too many."""
        newest = max(
            flying, key=lambda entry: (entry.state is MigrationState.INTENDED, entry.fence)
        )
        return bool({newest.source, newest.target} & set(over))

    def _others(self, ours: set[str]) -> list[Migration]:
        """Return migrations that none of `ours` is, and that could be seen for a while."""
        return [
            migration
            for migration in self._world.engine.migrations
            if migration.phase is not Phase.OVER
            and migration.guest.id not in ours
            and self._now_s() - self._asked_s.get(migration.number, self._now_s()) > STALE_S
        ]

    def _check_rules(self, book: Book, entry: Entry, guest: Guest) -> None:
        self._require(
            entry.vm not in self._said.never_move, f"{guest.name} is moved, and never may be"
        )
        allowed = self._said.allowed.get(entry.vm)
        self._require(
            allowed is None or entry.target in allowed,
            f"{guest.name} is moved to {entry.target}, which no rule allows",
        )
        for group in self._apart.get(entry.vm, ()):
            there = self._mates(book, group - {entry.vm}, entry.target)
            here = self._mates(book, group - {entry.vm}, entry.source)
            if len(there) > len(here):
                names = ", ".join(self._world.guests[vm].name for vm in there)
                self.fail(f"{guest.name} is moved to {entry.target}, where {names} is")

    def _mates(self, book: Book, group: frozenset[str], host: str) -> set[str]:
        """Return those of a group that have been on a host for a while, or that we move there."""
        guests = self._world.guests
        there = {
            vm
            for vm in group
            if guests[vm].host == host
            and guests[vm].is_load
            and self._now_s() - self._placed_s.get(vm, -STALE_S) > STALE_S
        }
        return there | {one.vm for one in book.in_flight if one.vm in group and one.target == host}

    def _check_window(self, entry: Entry, at: datetime) -> None:
        daemon = self.current()
        if not self._drawn.windows or daemon is None or daemon.is_exempt():
            return
        if not any(window.shows(at) for window in self._drawn.windows):
            self.fail(f"{entry.vm} is moved at {at:%Y-%m-%d %H:%M} UTC, outside every window")

    # As hosts act

    def started(self, book: Book, machine: Machine, vm: str, target: str, fence: int) -> None:
        """A host has accepted a migration."""
        self.counts["accepted"] += 1
        name = self._world.guests[vm].name
        found = [
            entry
            for entry in book.open_for(vm)
            if (entry.source, entry.target, entry.fence) == (machine.name, target, fence)
        ]
        self._require(bool(found), f"{name} was started to {target} without being announced")
        self._require(not found[0].asked, f"{name} was started to {target} twice")
        found[0].asked = True
        self.tries_of[vm] += 1
        most = TRIES_A_MOVE * self._drawn.size.moves_max
        self._require(self.tries_of[vm] <= most, f"{name} is tried more than {most} times")
        self._leads(book)

    def cancelled(self, book: Book, vm: str) -> None:
        """A host has cancelled a migration."""
        self.counts["cancelled"] += 1
        states = [entry.state for entry in book.open_for(vm)]
        name = self._world.guests[vm].name
        self._require(
            MigrationState.CANCELLING in states, f"{name} was cancelled without being announced"
        )
        self._leads(book)

    def set_to(self, book: Book, machine: Machine, before: int) -> None:
        """A host's transport was written."""
        self.counts["settings written"] += 1
        self._require(
            book.owes(machine.name), f"{machine.name} was set without being announced ({before})"
        )
        self._leads(book)

    def took_over(self, book: Book) -> None:
        """The built-in balancer was switched off, or on again."""
        self.counts["built-in balancer switched"] += 1
        self._require(
            book.owes(self._world.name), "the built-in balancer was switched without announcement"
        )
        self._leads(book)

    def paused(self, book: Book, node: str, *, paused: bool) -> None:
        """A node was paused or resumed."""
        self.counts["nodes paused" if paused else "nodes resumed"] += 1
        if paused:
            self._require(node in book.paused, f"{node} was paused without being announced")
            drains = book.store.drains.open(self._world.name)
            wanted = any(node in record.paused for record in drains)
            self._require(wanted, f"{node} was paused after its drain had ended")
        else:
            self._require(
                node in book.paused or self._resume_asked(book, node),
                f"{node} was resumed, and nobody had asked for it",
            )
        self._leads(book)

    def moved(self, book: Book, thing: str, target: str) -> None:
        """A group or volume is on its way."""
        self.counts["things moved"] += 1
        self._require(
            (thing, target) in book.announced, f"{thing} was moved without being announced"
        )
        self._leads(book)

    def leased(self, book: Book, text: str) -> None:
        """Somebody wrote the lease into the cluster."""
        self._leader = book if text else None

    def _leads(self, book: Book) -> None:
        self._require(self._leader is book, "somebody acts who does not have the cluster")

    def _resume_asked(self, book: Book, node: str) -> bool:
        requests = book.store.requests.latest(self._world.name)
        return any(one.verb == "resume" and node in one.arguments["hosts"] for one in requests)

    def _placed(self, guest: Guest, target: Machine) -> None:
        """Follow every change of place, whoever brings it about."""
        self._require(
            guest.id in self._world.guests_on[guest.host], f"{guest.name} was not where it is"
        )
        ours = [one for book in self.books for one in book.open_for(guest.id) if one.asked]
        if any(one.target == target.name for one in ours):
            self.moves_of[guest.id] += 1
            most = self._drawn.size.moves_max
            self._require(
                self.moves_of[guest.id] <= most, f"{guest.name} is moved more than {most} times"
            )
        self._place(guest, target)
        self._placed_s[guest.id] = self._now_s()

    # In the end

    def finish(self, said: str) -> None:
        """All trouble is long over: nothing may be left of it."""
        self.look_closely()
        for book in self.books:
            self._require(not book.in_flight, "a migration is left open in the journal")
            self._require(not book.entries, "a migration never had an end in the journal")
            self._require(not book.runs, "a run is left open in the journal")
            owed = [debt.host for debt in book.debts.values() if debt.is_open]
            self._require(not owed, f"settings are still owed: {owed}")
            drains = book.store.drains.open(self._world.name)
            self._require(not drains, "a drain is left open")
            requests = book.store.requests.open(self._world.name)
            self._require(not requests, f"nobody answered {[one.verb for one in requests]}")
        for machine in self._world.machines.values():
            if machine.option != self._options[machine.name]:
                left = any(machine.name in book.left for book in self.books)
                self._require(left, f"{machine.name} never got its setting back")
            up = machine.powered and machine.node_state is NodeState.UP
            self._require(up, f"{machine.name} is {machine.node_state.name} in the end")
        back = self._forms().auto_balancer_mode == self._mode
        self._require(back, "the built-in balancer never got its mode back")
        self._check_end(said)

    def _check_end(self, said: str) -> None:
        """What the rules say is so, or the last plan says why not."""
        if said.startswith("nothing is moved"):
            return
        guests = self._world.guests
        for group in self._said.apart:
            homes = Counter(guests[vm].host for vm in group if guests[vm].is_load)
            if any(count > 1 for count in homes.values()):
                named = any(vm in said or guests[vm].name in said for vm in group)
                self._require(named, f"apart is broken in the end, and no plan says why: {said}")
        for vm, allowed in self._said.allowed.items():
            if guests[vm].host not in allowed:
                named = vm in said or guests[vm].name in said
                self._require(named, f"{guests[vm].name} is where it may not be: {said}")
