"""A copy of a store in PostgreSQL, by PostgreSQL's own client."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sqlalchemy.engine import URL

from balancer.store.address import open_words
from balancer.store.faults import StoreError

DUMP, READ = "pg_dump", "pg_restore"
SAID_MAX = 1000  # characters, from the end: warnings come first, the reason last


def dump(url: URL, file: Path) -> None:
    """Write the whole database to `file`, in the client's own format, and read it back.

    The password travels in the environment, which only our own user can look into.

    Raises:
        StoreError: The client is missing, or says no.
    """
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 -- of the extra `fleet`

    missing = [name for name in (DUMP, READ) if shutil.which(name) is None]
    if missing:
        raise StoreError(
            f"the store is in PostgreSQL, and its client is not here: {' and '.join(missing)}",
            remedy="install postgresql-client here, or back the database up where it runs",
        )
    target = make_conninfo("", **open_words(url))
    secret = {} if url.password is None else {"PGPASSWORD": str(url.password)}
    options = ["--format=custom", "--no-password", f"--file={file}", f"--dbname={target}"]
    _run(DUMP, options, os.environ | secret)
    _run(READ, ["--list", str(file)], dict(os.environ))


def _run(name: str, words: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 -- a program of PostgreSQL's, no shell
        [name, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").split("\n")
        said = "; ".join(line.strip() for line in lines if line.strip())[-SAID_MAX:]
        raise StoreError(
            f"{name} failed: {said or f'exit code {done.returncode}'}",
            remedy="mend what it says; it must not be older than the server",
        )
