from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from balancer.cli import progress as shown
from balancer.cli.progress import watching
from balancer.cli.terminal import Screen
from balancer.execute.progress import MoveProgress, News, NewsKind, Progress
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState


def move(name: str, percent: int, state: MigrationState = MigrationState.RUNNING) -> MoveProgress:
    return MoveProgress(
        migration=name,
        vm=name,
        name=name,
        source="HV01",
        target="HV02",
        transport=Transport.SMB,
        state=state,
        percent=percent,
        queued=False,
        elapsed_s=5.0,
        expected_s=10.0,
        reason="",
    )


def progress(*moves: MoveProgress, eta_s: float | None = 65.0, failed: int = 0) -> Progress:
    return Progress(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        elapsed_s=61.0,
        total=20,
        done=3,
        failed=failed,
        running=len(moves),
        waiting=17 - len(moves),
        eta_s=eta_s,
        moves=moves,
        settings=(),
        news=(News(NewsKind.MOVED, "m1", "[bold]web[/] from HV01 to HV02: done"),),
    )


def test_json_is_one_object_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(as_json=True) as watch:
        watch(progress(move("a", 10)))
        watch(progress(move("a", 20)))
    told = capsys.readouterr()
    assert told.out == ""
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert [line["moves"][0]["percent"] for line in lines] == [10, 20]
    assert lines[0] == json.loads(json.dumps(asdict(progress(move("a", 10))), default=str))


def test_where_there_is_no_terminal_news_come_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(as_json=False) as watch:
        watch(progress(move("a", 10)))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "  1 min 01 s  [bold]web[/] from HV01 to HV02: done\n"


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, seen: Progress, columns: int, term: str = "xterm"
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(shown, "err", Screen(stderr=True))
    with watching(as_json=False) as watch:
        watch(seen)
    assert isinstance(sys.stderr, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stderr.getvalue())


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_shows_bars_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    moves = [move("a name that is longer than any that is shown in full", 50)]
    moves += [move(f"vm{number}", number) for number in range(15)]
    text = on_terminal(monkeypatch, progress(*moves, failed=2), columns)
    cells = {60: 8, 80: 14, 120: 24}[columns]
    assert "━" * (cells // 2) + "·" * (cells // 2) in text
    said = " ".join(text.split())
    assert "3 of 20 done, 2 failed, about 1 min 05 s left, 4 more running" in said
    assert "vm10" in text
    assert "vm11" not in text
    bars = [line for line in text.splitlines() if "HV01 → HV02" in line]
    assert max(len(line.rpartition("\r")[2].rstrip()) for line in bars) <= columns
    assert all("HV01 → HV02  smb  " in line for line in bars)


def test_what_is_not_under_way_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = [move("planned", 0, MigrationState.PLANNED), move("done", 100, MigrationState.DONE)]
    text = on_terminal(monkeypatch, progress(*moves, eta_s=None), 80)
    assert "━" not in text
    assert "left" not in text


def test_a_terminal_that_cannot_go_back_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, progress(move("a", 10)), 80, term="dumb")
    assert text.splitlines() == ["  1 min 01 s  [bold]web[/] from HV01 to HV02: done"]
