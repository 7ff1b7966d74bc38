"""A PostgreSQL server of our own: Debian's programs on a directory and a port that nobody has."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from balancer.store.address import where

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
ROLE, PASSWORD = "balancer", "ge:heim\\ &%#ü'"  # what a careless client would stumble over


@dataclass(frozen=True)
class Server:
    """A server that runs; `stop` and `start` may be called at any time."""

    directory: Path
    programs: Path
    port: int
    user: str | None

    def url(self, database: str) -> str:
        """Return the URL as an administrator would write it: without a password."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *words: str) -> str:
        done = subprocess.run(  # noqa: S603 -- PostgreSQL's own programs
            [str(self.programs / program), *words],
            user=self.user,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def control(self, *words: str) -> None:
        log = str(self.directory / "log")
        self.run("pg_ctl", "--pgdata", str(self.directory / "data"), "-w", "-l", log, *words)

    def start(self) -> None:
        self.control("start")

    def stop(self, how: str = "fast") -> None:
        self.control("stop", "-m", how)

    def restart(self, how: str) -> None:
        self.control("restart", "-m", how)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(database), password=PASSWORD, autocommit=True)

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"t{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def with_password(url: str) -> str:
    """Return what the store is opened by, once the configuration has read the password."""
    return where(url).set(password=PASSWORD).render_as_string(hide_password=False)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the end of the block, or skip the test that wants one."""
    if not PLACES:
        pytest.skip("Debian's postgresql is not installed: .ci/install-servers installs it")
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    directory = Path(
        tempfile.mkdtemp(prefix="balancer-pg-", dir="/tmp")
    )  # short: a socket lies in it
    try:
        (directory / "password").write_text(PASSWORD, "utf-8")
        if user is not None:
            for path in (directory, directory / "password"):
                shutil.chown(path, user)
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            port = door.getsockname()[1]
        server = Server(directory, PLACES[0], port, user)
        server.run(
            *("initdb", "--pgdata", str(directory / "data"), "--auth", "scram-sha-256"),
            *("--username", ROLE, "--pwfile", str(directory / "password"), "--encoding", "UTF8"),
        )
        with (directory / "data/postgresql.conf").open("a") as stream:
            stream.write(
                f"port = {port}\nlisten_addresses = '127.0.0.1'\n"
                f"unix_socket_directories = '{directory}'\nmax_connections = 60\n"
                "shared_buffers = 16MB\n"
            )
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
