"""Bringing a database to our schema, or a clear no; only for one that has another one, or none."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from balancer.store.faults import NoStoreError, UnusableStoreError


def revisions(connection: Connection) -> Config:
    """Return what alembic needs to know to work on this connection."""
    config = Config(attributes={"connection": connection})
    here = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", here.replace("%", "%%"))
    return config


def refuse_other(connection: Connection, location: str) -> None:
    """Refuse, before anything is changed, what is not ours or not ours any more.

    Raises:
        UnusableStoreError: It holds something else, or a newer version wrote it.
    """
    present = MigrationContext.configure(connection).get_current_revision()
    if present is None and inspect(connection).get_table_names():
        raise UnusableStoreError(
            f"the store {location} cannot be used: it is a database of something else",
            remedy="name another file or database",
        )
    scripts = ScriptDirectory.from_config(revisions(connection))
    _refuse_newer(present, scripts, location)


def migrate(connection: Connection) -> None:
    """Bring the schema up to date, within the transaction at hand."""
    command.upgrade(revisions(connection), "head")


def refuse_reading(connection: Connection, location: str) -> None:
    """Say why what does not have exactly our schema cannot be read; it may have come by it since.

    Raises:
        NoStoreError: There is nothing at all.
        UnusableStoreError: It has another one, or none.
    """
    present = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(revisions(connection))
    if present == scripts.get_current_head():
        return
    _refuse_newer(present, scripts, location)
    if present is None and not inspect(connection).get_table_names():
        raise NoStoreError(location)
    raise UnusableStoreError(
        f"the store {location} cannot be read: "
        + ("it is not a store" if present is None else "an older version wrote it"),
        remedy="run a command that writes, such as `balancer apply`, to bring it up to date",
    )


def _refuse_newer(present: str | None, scripts: ScriptDirectory, location: str) -> None:
    if present is None or present in {script.revision for script in scripts.walk_revisions()}:
        return
    raise UnusableStoreError(
        f"the store {location} cannot be used: a newer version of the balancer wrote it "
        f"(schema {present}, ours is {scripts.get_current_head()})",
        remedy="install that version or a later one",
    )
