"""Hooks: how they end, what they get to know, and that none outlives its time."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from balancer.service.hooks import KILLED, NOT_STARTED, TOLD_MAX, run_hook


def sh(script: str, timeout_s: float = 30.0, **variables: str) -> tuple[int, str]:
    result = run_hook(["/bin/sh", "-c", script], variables, timeout_s)
    return result.exit_code, result.text


def test_one_that_goes_well_has_nothing_to_say() -> None:
    result = run_hook(["/bin/echo", "all is well"], {}, 30.0)
    assert result.ok
    assert (result.exit_code, result.text) == (0, "")


def test_one_that_fails_is_quoted_stdout_and_stderr_alike() -> None:
    assert sh("echo no room; echo at all >&2; exit 3") == (3, "no room\nat all")
    assert sh("exit 4") == (4, "it ended with 4")
    assert not run_hook(["/bin/false"], {}, 30.0).ok


def test_one_that_a_signal_ends_fails() -> None:
    assert sh("kill -TERM $$") == (-signal.SIGTERM, f"it ended with {-signal.SIGTERM}")


@pytest.mark.parametrize("command", [["/no/such/hook"], ["/etc"], ["\0"]])
def test_one_that_cannot_be_started_fails_and_says_which(command: list[str]) -> None:
    result = run_hook(command, {}, 30.0)
    assert result.exit_code == NOT_STARTED
    assert f"cannot start {command[0]}: " in result.text


def test_it_gets_its_variables_and_of_ours_only_harmless_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BALANCER_PASSWORD", "secret")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    code, text = sh("env; exit 1", BALANCER_CLUSTER="'; rm * \"ü")
    told = dict(line.split("=", 1) for line in text.splitlines())
    assert code == 1
    assert told["BALANCER_CLUSTER"] == "'; rm * \"ü"
    assert told["TZ"] == "Europe/Berlin"
    assert told["PATH"] == os.environ["PATH"]
    assert "BALANCER_PASSWORD" not in told


def test_arguments_are_passed_as_they_are() -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(1)"
    result = run_hook([sys.executable, "-c", code, "a b", "$HOME", "'; rm *"], {}, 30.0)
    assert result.text == "['a b', '$HOME', \"'; rm *\"]"


def test_its_input_is_empty() -> None:
    assert sh("read line && exit 5; exit 6")[0] == 6


def test_umlauts_and_bytes_that_are_no_text_are_told_as_far_as_they_can_be() -> None:
    assert sh("printf 'Größe \\377\\000 漢'; exit 1") == (1, "Größe \ufffd\0 漢")


def test_of_much_output_the_end_is_told() -> None:
    code, text = sh("yes 'ä line' | head -n 200000; echo the end; exit 1")
    assert code == 1
    assert len(text) <= TOLD_MAX
    assert text.endswith("the end")


def test_one_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    began = time.monotonic()
    code, text = sh(f"echo waiting; sleep 60 & echo $! > '{child}'; wait", 1.0)
    assert time.monotonic() - began < 20
    assert code == KILLED
    assert text == "killed: not over after 1 s. waiting"
    for _ in range(100):
        if not _runs(int(child.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_whose_children_keep_its_output_open_is_over_when_it_is_over() -> None:
    began = time.monotonic()
    code, _ = sh("sleep 30 & exit 0")
    assert code == 0
    assert time.monotonic() - began < 20


def test_one_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    process = tmp_path / "process"

    def abandon() -> None:
        if process.exists() and process.read_text():
            raise RuntimeError("the service has to end")

    with pytest.raises(RuntimeError, match="has to end"):
        run_hook(["/bin/sh", "-c", f"echo $$ > '{process}'; sleep 60"], {}, 30.0, beat=abandon)
    assert not _runs(int(process.read_text()))


def test_signs_of_life_are_given_while_it_runs() -> None:
    beats: list[float] = []
    run_hook(["/bin/sleep", "1.3"], {}, 30.0, beat=lambda: beats.append(time.monotonic()))
    assert len(beats) >= 2
