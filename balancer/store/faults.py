"""What can be wrong with a store, in words an administrator can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from balancer.errors import BalancerError, InputError


class UnusableStoreError(InputError):
    """What was named as the store is not one, or not one that we can open."""


class StoreError(BalancerError):
    """The store failed at work: nothing that depends on the write was done."""


# By SQLite's own result codes (sqlite3.Error.sqlite_errorname), never by text.
_OPENING = {
    "SQLITE_NOTADB": ("it is not a SQLite database", "name another file, or move this one away"),
    "SQLITE_CANTOPEN": (
        "it cannot be opened or created",
        "create its directory and let the balancer's user write there",
    ),
    "SQLITE_READONLY": ("it may only be read", "let the balancer's user write to it"),
    "SQLITE_CORRUPT": ("it is damaged", "restore it from a backup, or move it away to start anew"),
}
_WORKING = {
    "SQLITE_FULL": ("the disk is full", "make room on the store's file system"),
    "SQLITE_BUSY": (
        "another process has kept it locked",
        "see which process uses it; a store must not lie on a network file system",
    ),
    "SQLITE_IOERR": ("reading or writing failed", "check the disk under the store"),
    **_OPENING,
}


def _names(error: DBAPIError) -> Iterator[str]:
    """Yield the error's SQLite name, then the name of its family (`SQLITE_IOERR_READ`)."""
    name = getattr(error.orig, "sqlite_errorname", "")
    yield name
    yield "_".join(name.split("_")[:2])


def _explained(error: DBAPIError, table: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    return next((table[name] for name in _names(error) if name in table), None)


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


def _at_work(location: str, error: DBAPIError) -> StoreError:
    what = _explained(error, _WORKING)
    if what is None:
        return StoreError(f"the store {location} failed: {error.orig}")
    return StoreError(f"the store {location} failed: {what[0]}", remedy=what[1])
