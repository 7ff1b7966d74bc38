"""New stores in memory, copied from one: to migrate each takes longer than many a test does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from balancer.store.address import named, where
from balancer.store.engine import _engine
from balancer.store.store import Store

MEMORY = where("sqlite://")


def new_store() -> Store:
    """Return what opening `sqlite://` would: a store that was just made."""
    name = named(MEMORY)
    store = Store(_engine(MEMORY, name, writing=True), name)
    with driver(_template()) as source, driver(store) as target:
        source.backup(target)
    return store


@cache
def _template() -> Store:
    return Store.open(MEMORY)


@contextmanager
def driver(store: Store) -> Iterator[sqlite3.Connection]:
    """Yield the connection to SQLite that is below a store in memory."""
    connection = store.journal._engine.raw_connection()
    below: Any = connection.driver_connection
    try:
        yield below
    finally:
        connection.close()
