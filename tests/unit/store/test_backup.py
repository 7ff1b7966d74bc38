"""A copy of a SQLite store while the service goes on writing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from balancer.store import backup, dump
from balancer.store.faults import StoreError
from balancer.store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS_MAX = 20


def test_it_comes_to_an_end_whatever_others_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, file = tmp_path / "store.db", tmp_path / "copy.db"

    class Watched(sqlite3.Connection):
        """Has somebody else commit between any two steps of the copy, as a busy service does."""

        def backup(self, target: sqlite3.Connection, **how: Any) -> None:
            steps = 0

            def between(*_: int) -> None:
                nonlocal steps
                steps += 1
                assert steps < STEPS_MAX, "it begins anew for ever"
                store.marks.set("c", "written", NOW + timedelta(seconds=steps))

            super().backup(target, progress=between, **how)

    with Store.open(place) as store:
        with contextlib.closing(sqlite3.connect(place)) as bulk, bulk:
            bulk.execute("CREATE TABLE bulk AS SELECT zeroblob(32000000) AS bytes")
        store.marks.set("c", "before", NOW)
        real = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda *args, **more: real(*args, factory=Watched, **more)
        )
        size = backup.back_up(place, file, NOW)
        monkeypatch.undo()
    assert size > 32_000_000
    with Store.open_read_only(file) as copy:
        assert copy.marks.get("c", "before") == NOW


def test_what_a_client_says_is_told_to_its_last_word() -> None:
    script = "echo warning: a collation >&2; echo error: no >&2; echo detail: too old >&2; exit 1"
    with pytest.raises(StoreError, match="error: no; detail: too old"):
        dump._run("sh", ["-c", script], dict(os.environ))
