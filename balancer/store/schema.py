"""Our schema in a database: brought up to date, or a clear no to what is not ours.

Nearly every command meets a database that is up to date. `upgrade` takes a tenth of a command's
start to import (Alembic, and Mako with it), so that is done only for one that is not.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

HEAD = "0013"  # the newest file in `migrations/versions`
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32)))


def refuse_other(connection: Connection, location: str) -> None:
    """Refuse, before anything is changed, what is not ours or not ours any more.

    Raises:
        UnusableStoreError: It holds something else, or a newer version wrote it.
    """
    if not _is_up_to_date(connection):
        from balancer.store import upgrade  # noqa: PLC0415 -- start-up time

        upgrade.refuse_other(connection, location)


def migrate(connection: Connection) -> None:
    """Bring the schema up to date, within the transaction at hand."""
    if not _is_up_to_date(connection):
        from balancer.store import upgrade  # noqa: PLC0415 -- start-up time

        upgrade.migrate(connection)


def require_present(connection: Connection, location: str) -> None:
    """Refuse to read what does not have exactly our schema.

    Raises:
        NoStoreError: There is nothing at all.
        UnusableStoreError: It has another one, or none.
    """
    if not _is_up_to_date(connection):
        from balancer.store import upgrade  # noqa: PLC0415 -- start-up time

        upgrade.refuse_reading(connection, location)


def _is_up_to_date(connection: Connection) -> bool:
    if not inspect(connection).has_table(_VERSION.name):
        return False
    return connection.scalars(select(_VERSION.c.version_num)).all() == [HEAD]
