from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from balancer.clock import VirtualClock
from balancer.service import log
from balancer.service.events import Event, EventKind
from balancer.service.redact import HIDDEN, Secrets

AT = datetime(2026, 3, 1, 2, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in log.QUIET}
    yield
    root.handlers, root.level, logging.raiseExceptions = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def set_up(level: str = "info", secrets: Secrets | None = None) -> io.StringIO:
    stream = io.StringIO()
    log.set_up(VirtualClock(), level=level, stream=stream, secrets=secrets)
    return stream


def test_an_event_is_one_json_line_with_its_ids_and_data() -> None:
    stream = set_up()
    log.log_event(
        Event(
            AT,
            EventKind.MIGRATION_STARTED,
            cluster="prod",
            cycle="c1",
            plan="p1",
            migration="m1",
            subject="web-01",
            text="web-01 goes from HV01 to HV02",
            data={"source": "HV01", "expected_s": 12.5},
        )
    )
    (line,) = lines(stream)
    assert line == {
        "at": "2026-03-01T02:00:00.250Z",
        "level": "info",
        "event": "migration_started",
        "text": "web-01 goes from HV01 to HV02",
        "cluster": "prod",
        "cycle": "c1",
        "plan": "p1",
        "migration": "m1",
        "subject": "web-01",
        "source": "HV01",
        "expected_s": 12.5,
    }
    assert list(line)[:3] == ["at", "level", "event"]


def test_levels_follow_the_weight_of_events() -> None:
    stream = set_up()
    for kind in (EventKind.SAMPLED, EventKind.NOTED, EventKind.HOST_LOST, EventKind.CYCLE_FAILED):
        log.log_event(Event(AT, kind))
    assert [line["level"] for line in lines(stream)] == ["info", "warning", "error"]
    log.set_level("debug")
    log.log_event(Event(AT, EventKind.SAMPLED))
    assert lines(stream)[-1]["level"] == "debug"


def test_other_lines_carry_the_ids_of_what_is_going_on_and_libraries_too() -> None:
    stream = set_up()
    with log.ids(cluster="prod", cycle="c7"):
        structlog.get_logger("x").info("hello", number=3)
        logging.getLogger("somebody").warning("trouble %d", 4)
    logging.getLogger("somebody").warning("later")
    first, second, third = lines(stream)
    assert (first["cycle"], first["number"], first["at"]) == ("c7", 3, "2026-01-01T00:00:00.000Z")
    assert (second["cycle"], second["event"]) == ("c7", "trouble 4")
    assert "cycle" not in third


def test_chatty_libraries_are_quiet_even_at_debug() -> None:
    stream = set_up("debug")
    for name in log.QUIET:
        logging.getLogger(name).debug("the whole message")
        logging.getLogger(f"{name}.deeper").info("the whole message")
    logging.getLogger("pypsrp.wsman").error("read timeout")
    assert lines(stream) == []


def test_no_secret_gets_out_even_of_a_traceback() -> None:
    secrets = Secrets()
    secrets.learn("hunter2hunter2")
    stream = set_up(secrets=secrets)

    def log_in(password: str) -> None:
        raise ValueError(f"bad login with {password}")

    try:
        log_in("hunter2hunter2")
    except ValueError:
        structlog.get_logger().exception("failed", password="other", url="smtp://u:pw12@h")
        logging.getLogger("lib").exception("failed too")
    text = stream.getvalue()
    assert "hunter2hunter2" not in text
    assert "other" not in text
    assert "pw12" not in text
    assert text.count(HIDDEN) >= 3
    ours, theirs = lines(stream)
    assert ours["exception"][0]["exc_type"] == "ValueError"
    assert theirs["exception"][0]["frames"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_words_that_cannot_steer_it() -> None:
    stream = Terminal()
    log.set_up(VirtualClock(), stream=stream)
    log.log_event(
        Event(AT, EventKind.HOST_LOST, cluster="prod", text="gone \x1b[2J", subject="HV\x07")
    )
    text = stream.getvalue()
    assert "host_lost" in text
    assert "prod" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    with contextlib.suppress(ValueError):
        json.loads(text)
        pytest.fail("a terminal is no place for JSON")


def test_the_journal_is_told_the_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.set_up(VirtualClock(), stream=stream)
        log.log_event(Event(AT, EventKind.NOTED))
        log.log_event(Event(AT, EventKind.HOST_LOST, text="two\nlines"))
        log.log_event(Event(AT, EventKind.CYCLE_FAILED))
        stream.seek(0)
        found = stream.read().splitlines()
    assert [line[:4] for line in found] == ["<6>{", "<4>{", "<3>{"]
    assert json.loads(found[1][3:])["text"] == "two\nlines"


def test_a_stream_that_is_not_the_journal_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    stream = set_up()
    log.log_event(Event(AT, EventKind.NOTED))
    assert stream.getvalue().startswith("{")


def test_a_closed_stream_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    stream = set_up()
    stream.close()
    log.log_event(Event(AT, EventKind.NOTED))
    assert capfd.readouterr().err == ""
