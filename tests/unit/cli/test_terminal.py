from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from balancer.cli.output import bar, duration, hosts_table, show_plan
from balancer.cli.terminal import (
    Screen,
    discard_output,
    err,
    harmless,
    out,
    prepare_streams,
    write_document,
)
from balancer.judged import UNDATED
from balancer.planner import plan
from balancer.policy.policy import Policy
from tests.notation import cluster

SEEN = cluster("""
a-name-of-15-ch 64G 16c: a 6G 5c, b 6G 5c, c 6G 5c, d 6G 0.2c
HV02 64G 16c: e 4G 1c
""")


def stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding)


def written(to: io.TextIOWrapper) -> str:
    to.flush()
    assert isinstance(to.buffer, io.BytesIO)
    return to.buffer.getvalue().decode(to.encoding)


def test_a_name_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream())
    Screen().print("\x1b]0;owned\x07 \x9b31m a\u202eb \x1b[2J", markup=False)
    text = written(sys.stdout)  # type: ignore[arg-type]
    assert harmless(text) == text
    assert r"\x1b]0;owned" in text


def test_an_ascii_terminal_gets_characters_that_look_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream("ascii"))
    prepare_streams()
    out.print(hosts_table(SEEN, Policy(), "ü"))
    show_plan(plan(SEEN, Policy(), now=UNDATED))
    text = written(sys.stdout)  # type: ignore[arg-type]
    assert "#####" in text
    assert "a-name-of-15-ch > HV02" in text
    assert r"\xfc" in text


def test_a_document_is_utf_8_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = stream("ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    write_document('{"ü": 1}\n\n')
    assert isinstance(narrow.buffer, io.BytesIO)
    assert narrow.buffer.getvalue() == '{"ü": 1}\n'.encode()


def test_streams_that_were_closed_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_streams()
    assert sys.stdin.read() == ""
    out.print("to nobody")
    err.print("to nobody")
    for opened in (sys.stdin, sys.stdout, sys.stderr):
        opened.close()


def test_work_goes_on_when_the_reader_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        screen = Screen()
        screen.print("lost")
        screen.print("lost as well")
        write_document("{}")


def test_warnings_that_cannot_be_written_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        err.print("lost")
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            Screen().print("a result that must not get lost")
        discard_output()  # or closing the file would fail as well


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", stream())
    screen = Screen()
    screen.print(hosts_table(SEEN, Policy(), "before"))
    lines = written(sys.stdout).splitlines()  # type: ignore[arg-type]
    assert max(len(line) for line in lines) <= width
    assert "…" not in "".join(lines) or width == 60


def test_a_bar_marks_the_limit_and_never_overflows() -> None:
    over, under = bar(2.5, 0.8), bar(0.25, 0.8)
    cells = len(over.plain) - len(" 250%")
    assert over.plain == "█" * cells + " 250%"
    assert under.plain.index("│") == round(0.8 * cells)
    assert {str(span.style) for span in over.spans} == {"red"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (4321, "1 h 12 min")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text
