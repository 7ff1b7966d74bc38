"""The store: one database, opened once, and its parts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from balancer.clock import Clock
from balancer.store.address import Address, is_sqlite, named, where
from balancer.store.asides import Asides
from balancer.store.audit import Audit
from balancer.store.brackets import Brackets
from balancer.store.breakers import Breakers
from balancer.store.campaigns import Campaigns
from balancer.store.drains import Drains
from balancer.store.engine import open_engine, open_engine_read_only, reading_engine
from balancer.store.expiry import Expiry
from balancer.store.faults import NoStoreError
from balancer.store.history import History
from balancer.store.journal import Journal
from balancer.store.known import Knowledge
from balancer.store.lately import Lately
from balancer.store.leases import Leases
from balancer.store.plans import Plans
from balancer.store.requests import Requests
from balancer.store.standing import Approvals, Freezes, Marks
from balancer.store.thinning import Thinning


class Store:
    """A database with the journal, leases, history, plans and requests of any number of clusters.

    `location` is a file, `sqlite://` for one in memory that ends with the process, or the URL of
    another database. Safe for use by several threads.
    """

    def __init__(self, engine: Engine, location: str) -> None:
        self._engine = engine
        self._reading = reading = reading_engine(engine, location)
        self.location = location
        self.journal = Journal(engine, reading, location)
        self.leases = Leases(engine, reading, location)
        self.history = History(engine, reading, location)
        self.lately = Lately(engine, reading, location)
        self.plans = Plans(engine, reading, location)
        self.audit = Audit(engine, reading, location)
        self.requests = Requests(engine, reading, location)
        self.freezes = Freezes(engine, reading, location)
        self.approvals = Approvals(engine, reading, location)
        self.asides = Asides(engine, reading, location)
        self.brackets = Brackets(engine, reading, location)
        self.breakers = Breakers(engine, reading, location)
        self.known = Knowledge(engine, reading, location)
        self.marks = Marks(engine, reading, location)
        self.thinning = Thinning(engine, reading, location)
        self.expiry = Expiry(engine, reading, location)
        self.drains = Drains(engine, reading, location)
        self.campaigns = Campaigns(engine, reading, location)

    @classmethod
    def open(cls, location: str | Address) -> Self:
        """Open the store, creating it or bringing its schema up to date.

        Raises:
            UnusableStoreError: It is no store, a newer version's, or its place is not writable.
            StoreError: The database failed at it.
        """
        url = where(location)
        name = named(url)
        return cls(open_engine(url, name), name)

    @classmethod
    def open_read_only(cls, location: str | Address) -> Self:
        """Open an existing store for reading; it never makes a writer wait.

        Raises:
            UnusableStoreError: There is none, or its schema is not ours.
        """
        url = where(location)
        name = named(url)
        return cls(open_engine_read_only(url, name), name)

    @classmethod
    def peek(cls, location: str | Address) -> Self | None:
        """Open a store for reading; None where there is none yet.

        Raises:
            UnusableStoreError: Its schema is not ours.
        """
        try:
            return cls.open_read_only(location)
        except NoStoreError:
            return None

    def ahead_s(self, clock: Clock) -> float:
        """Return by how many seconds this machine's clock is ahead of the database server's."""
        return 0.0 if is_sqlite(self._engine.url) else self.marks.ahead_s(clock)

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()
        self._reading.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
