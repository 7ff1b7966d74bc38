"""Where the stores of these tests lie: each runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postgresql import Server, serving, with_password

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.server)]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(params=BOTH)
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return what makes places for stores that do not exist yet, shared by processes."""
    if request.param == "sqlite":
        made = iter(range(100))
        return lambda: f"sqlite:///{tmp_path / f's{next(made)}.db'}"
    server: Server = request.getfixturevalue("server")
    return lambda: with_password(server.new_database())


@pytest.fixture
def place(new: Callable[[], str]) -> str:
    """Return one place for a store."""
    return new()
