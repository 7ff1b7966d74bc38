"""`balancer backtest` as it is typed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from balancer.backtest import nothing, replay
from balancer.backtest.recording import from_snapshots
from balancer.cli import run
from balancer.cli.backtest import _show
from balancer.formats.snapshot import snapshot_to_json
from balancer.policy.policy import Policy
from tests.notation import cluster

SEEN = cluster("h1 64G 16c: a 8G 5c, b 8G 5c, c 8G 5c\nh2 64G 16c: d 8G 2c")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A directory of twelve hours of snapshots, and a policy beside it."""
    (tmp_path / "days").mkdir()
    for hour in range(12):
        one = replace(SEEN, taken_at=NOON + timedelta(hours=hour))
        (tmp_path / "days" / f"{hour:02d}.json").write_text(snapshot_to_json(one))
    (tmp_path / "p.yaml").write_text("version: 1\nname: ours\n")
    (tmp_path / "q.yaml").write_text("version: 1\nname: theirs\ngoal: rules-only\n")
    return tmp_path


def test_a_table_beside_nothing_and_another_policy(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["backtest", str(recorded / "days"), "--policy", str(recorded / "p.yaml")]
    assert run([*base, "--against", str(recorded / "q.yaml"), "--every", "1h"]) == 0
    told = capsys.readouterr().out
    assert "12h of 2 hosts and 4 VMs" in told
    assert all(word in told for word in ("doing nothing", "ours", "theirs", "2026-06-01", "█"))


@pytest.mark.parametrize("columns", [40, 80, 140])
@pytest.mark.parametrize("others", [0, 1, 3, 9])
def test_the_chart_shows_every_number_whole(
    columns: int, others: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many replays: what does not fit beside the others comes below them."""
    monkeypatch.setenv("COLUMNS", str(columns))
    record = from_snapshots([replace(SEEN, taken_at=NOON + timedelta(days=n)) for n in range(3)])
    busy = replay(record, Policy(), nothing, label="doing nothing", every_s=3600.0)
    idle = replace(busy, overloaded=0 * busy.overloaded, label="a-policy-with-quite-a-long-name")
    _show(record, [busy, *[idle] * others, busy], [])
    told = capsys.readouterr().out
    assert "…" not in told
    lines = told.partition("host hours overloaded, day by day\n")[2].splitlines()
    for day in range(3):
        rows = [line for line in lines if line.startswith(f"2026-06-{day + 1:02d}")]
        numbers = [word for row in rows for word in row.split()[1:] if "█" not in word]
        assert numbers == ["24.0", *["0.0"] * others, "24.0"]
        assert sum("█" in word for row in rows for word in row.split()) == 2
    assert max(map(len, lines)) <= columns


def test_a_limit_that_is_passed_is_exit_code_3(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["backtest", str(recorded / "days"), "--policy", str(recorded / "p.yaml"), "--json"]
    assert run([*base, "--limit", "migrations=0", "--limit", "thrash=0"]) == 3
    document = json.loads(capsys.readouterr().out)
    idle, ours = document["replays"]
    assert (idle["label"], idle["migrations"], idle["overload_hours"]) == ("doing nothing", 0, 12)
    assert ours["migrations"] >= 1
    assert ours["overload_hours"] == 0
    passed = f"migrations of ours is {ours['migrations']:g}, 0 is the limit"
    assert document["limits_passed"] == [passed]
    assert run([*base, "--limit", "migrations=99"]) == 0


def test_a_changed_policy_is_measured_by_the_one_in_force(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither higher thresholds nor a rule left out let it pass a limit."""
    now, changed, days = recorded / "now.yaml", recorded / "changed.yaml", recorded / "days"
    rule = "rules: [{apart: {vms: [b, c]}}]\n"
    now.write_text("version: 1\nname: same\n" + rule)
    changed.write_text("version: 1\nname: same\nthresholds: {cpu: 99%}\ngoal: relieve\n")
    gate = ["--limit", "overload_hours=1", "--limit", "violation_hours=1", "--json"]
    base = ["backtest", str(days), "--policy", str(now), "--against", str(changed)]
    assert run([*base, *gate]) == 3
    document = json.loads(capsys.readouterr().out)
    idle, first, second = document["replays"]
    assert document["measured_by"] == first["label"] == f"same ({now})"
    assert (first["overload_hours"], first["violation_hours"]) == (0, 0)
    for figure in ("overload_hours", "violation_hours"):
        assert second[figure] == idle[figure] == 12
    assert document["limits_passed"] == [
        f"overload_hours of same ({changed}) is 12, 1 is the limit",
        f"violation_hours of same ({changed}) is 12, 1 is the limit",
    ]
    # Limits are for the changed one: what is wrong at present does not keep it from being better.
    swapped = ["backtest", str(days), "--policy", str(changed), "--against", str(now)]
    assert run([*swapped, *gate]) == 0
    assert run([*base[:4], *gate]) == 0
    capsys.readouterr()
    assert run(base) == 0
    assert f"measured by thresholds, reserve and rules of same ({now})" in capsys.readouterr().out


def test_each_policy_decides_in_its_own_windows(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shut = recorded / "shut.yaml"
    shut.write_text("version: 1\nname: shut\nwindows: [{from: '03:00', to: '04:00'}]\n")
    base = ["backtest", str(recorded / "days"), "--json"]
    assert run([*base, "--policy", str(recorded / "p.yaml"), "--against", str(shut)]) == 0
    assert [one["migrations"] > 0 for one in json.loads(capsys.readouterr().out)["replays"]] == [
        False,
        True,
        False,
    ]


def test_days_that_are_not_there_are_named_with_a_remedy(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recorded / "empty").mkdir()
    one = recorded / "days" / "00.json"
    for paths, message in (
        ([recorded / "empty"], f"there are no snapshots in {recorded / 'empty'}"),
        ([recorded / "days", recorded / "empty"], f"no snapshots in {recorded / 'empty'}"),
        ([recorded / "gone"], f"there is no snapshot file {recorded / 'gone'}"),
        ([one], "one snapshot is no history"),
        ([recorded / "days", "--snapshot", one], f"days and --snapshot {one}"),
    ):
        assert run(["backtest", *map(str, paths), "--policy", str(recorded / "p.yaml")]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert "remedy: " in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "speed=1"], "expected one of hours"),
        (["--limit", "thrash=many"], "expected one of hours"),
        (["--every", "0s"], "more than no time"),
        (["--trace", "x.csv"], "give --snapshot FILE with --trace"),
    ],
)
def test_mistakes_are_named(
    recorded: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["backtest", str(recorded / "days"), "--policy", str(recorded / "p.yaml")]
    assert run([*base, *options]) == 2
    assert message in capsys.readouterr().err
