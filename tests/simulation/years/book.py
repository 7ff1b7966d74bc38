"""A store whose journal is mirrored as it is written, so that acts can be held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from balancer.execute.machine import IN_FLIGHT
from balancer.model.outcome import MigrationState
from balancer.store.drains import Drains
from balancer.store.journal import Journal
from balancer.store.records import SettingState
from balancer.store.store import Store
from tests.stores import driver, new_store

T = TypeVar("T")


@dataclass(slots=True)
class Entry:
    """One migration as the journal has it."""

    vm: str
    source: str
    target: str
    expected_s: float
    state: MigrationState = MigrationState.PLANNED
    fence: int = 0
    asked: bool = False  # a host has accepted the request of this attempt

    @property
    def in_flight(self) -> bool:
        return self.state in IN_FLIGHT


@dataclass(slots=True)
class Debt:
    """A host setting that a run has announced to change."""

    host: str
    before: str
    ours: str
    state: SettingState = SettingState.PENDING

    @property
    def is_open(self) -> bool:
        return self.state in (SettingState.PENDING, SettingState.WRITTEN)


@dataclass
class Book:
    """A store in memory and the mirror of its journal.

    `point` is called before and after every write; `intended` and `ended` with each entry that is
    about to be asked for, and each that is over.
    """

    point: Callable[[], None]
    intended: Callable[[Book, Entry, datetime], None]
    ended: Callable[[Entry, float], None]
    now_s: Callable[[], float]
    store: Store = field(init=False)
    entries: dict[int, Entry] = field(default_factory=dict)
    debts: dict[int, Debt] = field(default_factory=dict)
    runs: set[int] = field(default_factory=set)  # that are open
    announced: set[tuple[str, str]] = field(default_factory=set)  # things and their new owners
    paused: set[str] = field(default_factory=set)  # hosts that drains have announced to pause
    left: set[str] = field(default_factory=set)  # hosts whose setting somebody else had changed
    writes: int = 0
    began_s: float = 0.0  # the last write

    def __post_init__(self) -> None:
        self.store = new_store()
        parts = (self.store.journal._engine, self.store.journal._reading_engine, "sqlite://")
        self.store.journal = _Journal(*parts)
        self.store.journal.book = self
        self.store.drains = _Drains(*parts)
        self.store.drains.book = self

    def open_for(self, vm: str) -> list[Entry]:
        """Return what is in flight of a VM as far as the journal knows."""
        return [entry for entry in self.entries.values() if entry.vm == vm and entry.in_flight]

    @property
    def in_flight(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.in_flight]

    def owes(self, host: str) -> bool:
        """Tell whether the journal says that a host may be set otherwise than it was."""
        return any(debt.is_open and debt.host == host for debt in self.debts.values())

    def trouble(self, pragma: str) -> None:
        """Let the database be full, or not be written: `PRAGMA` as SQLite has it."""
        with driver(self.store) as connection:
            connection.execute(f"PRAGMA {pragma}")

    def around(self, write: Callable[[], T], note: Callable[[T], None]) -> T:
        began_s = self.now_s()
        self.point()  # others may write here
        self.began_s = began_s
        self.writes += 1
        result = write()
        note(result)
        self.point()
        return result


class _Journal(Journal):
    book: Book

    def begin_run(self, lease: Any, plan: Any, entries: Any, *more: Any, **words: Any) -> Any:
        def note(result: Any) -> None:
            run, ids = result
            self.book.runs.add(run)
            for id_, entry in zip(ids, entries, strict=True):
                one = entry.migration
                self.book.entries[id_] = Entry(one.vm, one.source, one.target, one.duration_s)

        return self.book.around(
            lambda: super(_Journal, self).begin_run(lease, plan, entries, *more, **words), note
        )

    def move(self, lease: Any, run: int, move: int, change: Any, **more: Any) -> None:
        def note(_: None) -> None:
            entry = self.book.entries[move]
            entry.state = MigrationState(change.state)
            if entry.state is MigrationState.INTENDED:
                entry.fence, entry.asked = lease.fence, False
                self.book.intended(self.book, entry, change.at)
            elif entry.state.is_final:
                self.book.ended(entry, self.book.began_s)
                del self.book.entries[move]

        self.book.around(lambda: super(_Journal, self).move(lease, run, move, change, **more), note)

    def intend_setting(
        self, lease: Any, run: int, host: str, setting: str, values: Any, at: Any
    ) -> int:
        def note(record: int) -> None:
            self.book.debts[record] = Debt(host, *values)

        def write() -> int:
            return super(_Journal, self).intend_setting(lease, run, host, setting, values, at)

        return self.book.around(write, note)

    def setting(self, lease: Any, run: int, setting: int, change: Any) -> None:
        def note(_: None) -> None:
            debt = self.book.debts[setting]
            debt.state = SettingState(change.state)
            if debt.state is SettingState.LEFT:
                self.book.left.add(debt.host)

        self.book.around(lambda: super(_Journal, self).setting(lease, run, setting, change), note)

    def end_run(self, lease: Any, run: int, *more: Any, **others: Any) -> None:
        self.book.around(
            lambda: super(_Journal, self).end_run(lease, run, *more, **others),
            lambda _: self.book.runs.discard(run),
        )


class _Drains(Drains):
    book: Book

    def begin(self, *args: Any, **more: Any) -> int:
        return self.book.around(lambda: super(_Drains, self).begin(*args, **more), lambda _: None)

    def enter(self, *args: Any, **more: Any) -> None:
        self.book.around(
            lambda: super(_Drains, self).enter(*args, **more),
            lambda _: self.book.paused.update(more.get("pausing", ())),
        )

    def moving(self, lease: Any, drain: int, subject: str, target: str, *more: Any) -> None:
        self.book.around(
            lambda: super(_Drains, self).moving(lease, drain, subject, target, *more),
            lambda _: self.book.announced.add((subject.partition(" ")[2], target)),
        )
