"""What can be wrong with a store, in words an administrator can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from balancer.errors import BalancerError, ExitCode, InputError


class UnusableStoreError(InputError):
    """What was named as the store is not one, or not one that we can open."""


class NoStoreError(UnusableStoreError):
    """There is nothing yet where the store is to be."""

    def __init__(self, location: str) -> None:
        super().__init__(
            f"there is no store at {location}", remedy="it is created by the first run"
        )


class StoreError(BalancerError):
    """The store failed at work: nothing that depends on the write was done."""


class StoreUnreachableError(StoreError):
    """The database server does not answer, or does not let us log in."""

    exit_code = ExitCode.CANNOT_REACH


# By SQLite's own result codes (sqlite3.Error.sqlite_errorname), never by text.
_OPENING = {
    "SQLITE_NOTADB": ("it is not a SQLite database", "name another file, or move this one away"),
    "SQLITE_CANTOPEN": (
        "it cannot be opened or created",
        "create its directory and let the balancer's user write there",
    ),
    "SQLITE_READONLY": ("it may only be read", "let the balancer's user write to it"),
    "SQLITE_CORRUPT": ("it is damaged", "restore it from a backup, or move it away to start anew"),
    # PostgreSQL's, by SQLSTATE.
    "42501": (
        "our role may not do that there",
        "make it the owner of the database, or grant it CREATE on the schema",
    ),
    "25006": ("it may only be read", "name the primary, not a standby"),
}
_WORKING = {
    "SQLITE_FULL": ("the disk is full", "make room on the store's file system"),
    "SQLITE_BUSY": (
        "another process has kept it locked",
        "see which process uses it; a store must not lie on a network file system",
    ),
    "SQLITE_IOERR": ("reading or writing failed", "check the disk under the store"),
    "53100": ("the server's disk is full", "make room on the database server"),
    "53300": ("the server has no connection left", "raise max_connections"),
    "55P03": (
        "somebody has kept it locked",
        "see pg_locks and pg_stat_activity for who waits for whom",
    ),
    "57014": ("the server took too long", "see what else the database server does"),
    **_OPENING,
}
_LOST = "the way to the database server was lost"


def _names(error: DBAPIError) -> Iterator[str]:
    """Yield the error's code, then the name of its family (`SQLITE_IOERR_READ`)."""
    name = getattr(error.orig, "sqlite_errorname", "")
    yield name
    yield "_".join(name.split("_")[:2])
    yield getattr(error.orig, "sqlstate", None) or ""


def _explained(error: DBAPIError, table: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    return next((table[name] for name in _names(error) if name in table), None)


def _is_unreachable(error: DBAPIError) -> bool:
    """Tell whether there is no connection: a driver of a server then has no code for us."""
    if not hasattr(error.orig, "sqlstate"):
        return False
    has_code = bool(getattr(error.orig, "sqlstate", None))
    return error.connection_invalidated or (isinstance(error, OperationalError) and not has_code)


@contextmanager
def opening(location: str) -> Iterator[None]:
    """Turn a driver's errors while a store is opened into ours."""
    try:
        yield
    except DBAPIError as error:
        what = _explained(error, _OPENING)
        if what is None:
            raise _at_work(location, error) from error
        raise UnusableStoreError(
            f"the store {location} cannot be used: {what[0]}", remedy=what[1]
        ) from error


@contextmanager
def working(location: str) -> Iterator[None]:
    """Turn a driver's errors while a store is in use into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _at_work(location, error) from error
    except PoolTimeoutError as error:
        raise StoreError(
            f"the store {location} failed: all our connections to it are busy",
            remedy="see what the database waits for",
        ) from error


def _at_work(location: str, error: DBAPIError) -> StoreError:
    what = _explained(error, _WORKING)
    if what is not None:
        return StoreError(f"the store {location} failed: {what[0]}", remedy=what[1])
    if _is_unreachable(error):
        told = str(error.orig).strip().splitlines()  # the library's words hold no password
        return StoreUnreachableError(
            f"the store {location} cannot be reached: {told[-1] if told else _LOST}",
            remedy="see that the server runs and that role, password and database are right",
        )
    return StoreError(f"the store {location} failed: {error.orig}")
