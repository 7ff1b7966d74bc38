"""When things go wrong on the way: the exit code, what is told, and what state is left behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from balancer.store.store import Store
from tests.e2e.conftest import TIMEOUT_S, Serve, Served

BUSY = ("--speed", 3)  # slow enough that a migration is surely under way when we interfere


def edited(site: Served, name: str, pattern: str, to: str) -> Path:
    """Return a configuration beside the site's own, with one thing changed."""
    text, count = re.subn(pattern, to, site.config.read_text("utf-8"))
    assert count
    path = site.directory / name
    path.write_text(text, "utf-8")
    return path


def wait_for_a_migration(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Read progress until a migration is under way; return what was told by then."""
    assert process.stderr is not None
    told: list[dict[str, Any]] = []
    for line in process.stderr:
        if line.startswith("{"):
            told.append(json.loads(line))
            if told[-1]["running"]:
                return told
    raise AssertionError(f"it ended without a migration: {told}")


def test_hosts_that_cannot_be_reached_or_logged_in_to(serve: Serve) -> None:
    site = serve("branch")
    site.directory.joinpath("wrong").write_text("not the password", "utf-8")
    wrong = edited(site, "wrong.yaml", "password_file: password", "password_file: wrong")
    gone = edited(site, "gone.yaml", r"127\.0\.0\.1:\d+", "127.0.0.1:1")
    missing = edited(site, "missing.yaml", "password_file: password", "password_file: missing")

    for config in (wrong, gone):
        checked = site("check", "--config", config, "--json")
        assert checked.code == 5
        assert [host["ok"] for host in checked.document["hosts"]] == [False, False]
        for verb in ("observe", "plan", "apply"):
            ended = site(verb, "--config", config)
            assert ended.code == 5, (verb, ended.stderr)
            assert "remedy" in ended.stderr
            assert "not the password" not in ended.stdout + ended.stderr
    unread = site("check", "--config", missing)
    assert unread.code == 2
    assert "missing" in unread.stderr
    assert "password_file" in unread.stderr


def test_a_cluster_that_another_executor_holds(serve: Serve) -> None:
    site = serve("branch")
    with Store.open(site.directory / "balancer.sqlite") as store:
        store.leases.acquire("BRANCH", "somebody else", 60.0, datetime.now(UTC))
        ended = site("apply")
        assert ended.code == 6
        assert "somebody else" in ended.stderr
        lease = site("status", "--json").document["clusters"][0]["lease"]
        assert lease["holder"] == "somebody else"
        assert "somebody else" in site("status").stdout


def test_plans_that_no_longer_hold_are_refused_and_nothing_moves(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve("branch", "--speed", 50)
    plan_file = tmp_path / "plan.json"
    assert site("plan", "-o", plan_file).code == 0
    plan = json.loads(plan_file.read_text("utf-8"))
    before = site("observe", "--json").document["vms"]

    def refused(what: str, **changes: object) -> None:
        path = tmp_path / f"{what}.json"
        path.write_text(json.dumps(plan | changes), "utf-8")
        ended = site("apply", path, "--json")
        assert ended.code == 2, (what, ended.stderr)
        assert "remedy" in ended.stderr
        assert ended.stdout == ""

    past = datetime.now(UTC) - timedelta(hours=1)
    refused("another cluster", cluster="ELSEWHERE")
    refused("expired", created_at=past.isoformat(), expires_at=past.isoformat())
    refused("undated", created_at="1970-01-01T00:00:00Z")
    refused("unknown key", surprise=1)
    assert {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]} == {
        vm["id"]: vm["host"] for vm in before
    }

    first = plan["migrations"][0]
    assert site("move", first["vm"], "--to", first["target"]).code == 0
    stale = site("apply", plan_file)
    assert stale.code == 2, stale.stderr
    assert "out of date" in stale.stderr


@pytest.mark.timeout(180)
def test_ctrl_c_lets_arrive_what_moves_and_puts_settings_back(serve: Serve) -> None:
    site = serve("demo", *BUSY)
    set_before = transports(site)
    process = site.start("apply", "--json")
    wait_for_a_migration(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stderr
    report = json.loads(stdout)
    assert report["end"] == "cancelled"
    states = {each["state"] for each in report["migrations"]}
    assert "skipped" in states
    assert states <= {"done", "skipped"}
    places = {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}
    for each in report["migrations"]:
        at = "target" if each["state"] == "done" else "source"
        assert places[each["vm"]] == each[at]
    assert transports(site) == set_before
    assert site("status", "--json").document["clusters"][0]["open_settings"] == []


@pytest.mark.timeout(180)
def test_what_a_killed_executor_left_is_seen_and_finished_by_the_next(serve: Serve) -> None:
    site = serve("demo", *BUSY)
    set_before = transports(site)
    process = site.start("apply", "--json")
    wait_for_a_migration(process)
    process.kill()
    process.communicate()

    left = site("status", "--json").document["clusters"][0]
    assert left["open_moves"]
    assert left["open_settings"]
    assert site("apply").code == 6  # the dead one's lease still runs
    with Store.open(site.directory / "balancer.sqlite") as store:
        lease = store.leases.current("DEMO", datetime.now(UTC))
        assert lease is not None
        store.leases.release(lease)  # rather than wait a minute for its end

    adopted = site("apply", "--max-migrations", 0)
    assert adopted.code == 0, adopted.stderr
    after = site("status", "--json").document["clusters"][0]
    assert after["open_moves"] == after["open_settings"] == []
    assert transports(site) == set_before
    running = site("observe", "--json").document["vms"]
    assert not [vm for vm in running if "migrating" in vm.get("blocked_by", [])]


def test_the_password_is_shown_and_stored_nowhere(serve: Serve) -> None:
    site = serve("branch", "--speed", 30)
    password = site.password
    process = site.start("apply")
    deadline_s = time.monotonic() + TIMEOUT_S
    seen_arguments = b""
    while process.poll() is None and time.monotonic() < deadline_s:
        seen_arguments += Path(f"/proc/{process.pid}/cmdline").read_bytes()
        time.sleep(0.2)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert seen_arguments
    told = [stdout, stderr, seen_arguments.decode()]
    for words in (["status", "--json"], ["check"], ["observe", "--json"], ["schema", "config"]):
        ran = site(*words)
        told += [ran.stdout, ran.stderr]
    kept = [path.read_bytes() for path in site.directory.iterdir() if path.name != "password"]
    assert not [text for text in told if password in text]
    assert not [data for data in kept if password.encode() in data]
    assert (site.directory / "password").stat().st_mode & 0o077 == 0


def transports(site: Served) -> dict[str, str]:
    """Return what each host is set to."""
    hosts = site("observe", "--json").document["hosts"]
    return {host["name"]: host["migration"]["transport"] for host in hosts}
