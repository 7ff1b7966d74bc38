"""Where a store is: a SQLite file, or a PostgreSQL database by its URL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from balancer.store.faults import UnusableStoreError

Address = Path | URL  # as the configuration has it

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SECRETS = ("password", "sslpassword")  # words of libpq that would carry one


def where(location: str | Address) -> URL:
    """Return the database URL for a path or a URL; `postgresql://` goes by our driver.

    Raises:
        UnusableStoreError: It looks like a URL and is none.
    """
    if isinstance(location, URL):
        return location
    text = str(location)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Neither the text nor the cause is shown: it may hold a password.
        raise UnusableStoreError(
            f"the store {text.partition('://')[0]}://... is no database URL",
            remedy="give a file, or postgresql://USER@HOST:PORT/DATABASE",
        ) from None
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def is_sqlite(url: URL) -> bool:
    """Tell whether it is a SQLite file, or a SQLite database in memory."""
    return url.get_backend_name() == "sqlite"


def holds_password(url: URL) -> bool:
    """Tell whether the URL itself carries a secret."""
    return url.password is not None or any(word in url.query for word in _SECRETS)


def words(url: URL) -> dict[str, str]:
    """Return a PostgreSQL URL as libpq's keywords and their values, the password included."""
    named_parts = url.translate_connect_args(username="user", database="dbname")
    given = {**named_parts, **url.query}
    return {
        key: ",".join(value) if isinstance(value, tuple) else str(value)
        for key, value in given.items()
    }


def open_words(url: URL) -> dict[str, str]:
    """Return the same without any secret."""
    return {key: value for key, value in words(url).items() if key not in _SECRETS}


def named(url: URL) -> str:
    """Return what messages call the store: its file, or its URL without any secret."""
    if is_sqlite(url) and url.database:
        return str(url.database)
    query = url.difference_update_query(_SECRETS).query
    backend = url.get_backend_name()
    bare = URL.create(backend, url.username, None, url.host, url.port, url.database, query)
    return bare.render_as_string()
