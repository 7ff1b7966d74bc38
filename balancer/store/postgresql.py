"""PostgreSQL, set up so that no client can hold up the others for long.

Transactions are READ COMMITTED. What reads and then writes locks the row it read (a lease, a
verdict), names in the UPDATE the state it expects, or upserts; where there is no row to lock yet it
calls `alone`. SERIALIZABLE would ask every writer to be repeatable, and none of them needs it.

A client that is stopped or cut off in the middle of a transaction keeps its locks: the server ends
such a session by itself, sooner than others give up waiting.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.exc import DBAPIError, OperationalError

from balancer.clock import SystemClock

T = TypeVar("T")

IDLE_IN_TRANSACTION_S = 15
WAIT_FOR_LOCK_S = 30
STATEMENT_S = 120
# A server that restarts is back within this; later, whoever asked is told.
PATIENCE_S = 20.0
RETRY_S = 0.25

ARGUMENTS: Mapping[str, str | int] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms: a server whose machine is gone is not waited for
    "application_name": "balancer",
}
# The journal line before an act must survive a power cut of the server.
_DURABLE = (
    "SELECT set_config(name, 'on', false) FROM pg_settings"
    " WHERE name = 'synchronous_commit' AND setting = 'off'"
)
_SESSION = (
    _DURABLE,
    f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'",
    f"SET lock_timeout = '{WAIT_FOR_LOCK_S}s'",
    f"SET statement_timeout = '{STATEMENT_S}s'",
)
_READ_ONLY = "SET default_transaction_read_only = on"
LOCKS = 0x48564C42  # the first half of our advisory locks' keys


def arguments() -> dict[str, Any]:
    """Return what to make the engine with; what the URL says comes first."""
    return {
        "connect_args": dict(ARGUMENTS),
        "pool_pre_ping": True,  # a connection that died while it lay idle is replaced
        "pool_size": 4,
        "max_overflow": 12,
        "pool_use_lifo": True,
        "pool_recycle": 600,
    }


def behave(engine: Engine, *, writing: bool) -> None:
    """Set what PostgreSQL leaves to each session."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: object) -> None:
        del record
        connection.adapters.register_dumper(str, _texts())
        connection.autocommit = True  # a SET within a transaction ends with its rollback
        with connection.cursor() as cursor:
            for line in _SESSION if writing else (*_SESSION, _READ_ONLY):
                cursor.execute(line)
        connection.autocommit = False


@cache
def _texts() -> type[Any]:
    """Return what hands texts to PostgreSQL, without the one character that only it refuses.

    That comes from outside, say from a hook that prints UTF-16; what cannot be written down for it
    must not stop a run, nor block the audit log for all that follows.
    """
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415 -- of the extra `fleet`

    class Texts(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    return Texts


def alone(connection: Connection, what: str) -> None:
    """Wait until nobody else is at `what`, and keep others waiting until the transaction ends.

    On SQLite there is nothing to do: there every transaction that writes is alone.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCKS, lock_of(what))))


def lock_of(what: str) -> int:
    """Return the second half of an advisory lock's key."""
    return int.from_bytes(zlib.crc32(what.encode()).to_bytes(4, "big"), "big", signed=True)


def connected(engine: Engine) -> Connection:
    """Connect; a PostgreSQL server that is just restarting is waited for.

    Nothing has been decided before there is a connection, so this may be tried again.
    """
    return again(engine, engine.connect, lambda error: isinstance(error, OperationalError))


def again(
    engine: Engine,
    work: Callable[[], T],
    may: Callable[[DBAPIError], bool] = lambda error: error.connection_invalidated,
) -> T:
    """Do what changes nothing, and do it again while the way to a PostgreSQL server is broken."""
    clock = SystemClock()
    until_s = clock.monotonic_s() + PATIENCE_S
    while True:
        try:
            return work()
        except DBAPIError as error:
            hopeless = engine.dialect.name != "postgresql" or not may(error)
            if hopeless or clock.monotonic_s() > until_s:
                raise
        clock.sleep(RETRY_S)
