"""The Debian package: built, installed on this very machine, used as the unit would, and gone."""

from __future__ import annotations

import grp
import gzip
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer import __version__
from balancer.cli import VERBS
from tests.packaging.tools import ROOT, done, ran, tool

pytestmark = [pytest.mark.server, pytest.mark.timeout(1200), pytest.mark.xdist_group("deb")]

NAME = "hyperv-balancer"
COMMAND = "/usr/bin/balancer"
UNIT = Path("/lib/systemd/system/balancer.service")
PLACES = ("/etc", "/opt", "/usr", "/var/lib", "/lib/systemd")
# What tools of Debian note down about every package or user; none of it is ours.
NOT_OURS = re.compile(
    r"/var/lib/(dpkg|apt|systemd)/|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$"
    r"|/etc/\.pwd\.lock$|\.cache$|/usr/share/info/dir|__pycache__|/root/|\.pyc$"
)
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": "/nonexistent"}


def owner(path: str) -> tuple[str, str, str]:
    found = Path(path).stat()
    mode = oct(stat.S_IMODE(found.st_mode))
    return pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, mode


def everything() -> set[str]:
    paths = set[str]()
    for place in PLACES:
        for directory, directories, files in os.walk(place):
            paths |= {f"{directory}/{name}" for name in (*directories, *files)}
    return {path for path in paths if not NOT_OURS.search(path)}


def users() -> str:
    return "\n".join(Path(f"/etc/{name}").read_text("utf-8") for name in ("passwd", "group"))


@pytest.fixture(scope="module")
def package() -> Path:
    if os.geteuid() != 0:
        pytest.skip("installing a package takes root")
    tool("dpkg-deb")
    if ran("/usr/bin/python3", "-c", "import ensurepip").returncode != 0:
        pytest.skip("Debian's python3-venv is not installed: .ci/install-servers")
    result = ran(ROOT / "packaging" / "build-deb", timeout=1000, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return ROOT / result.stdout.strip()


def test_lintian_has_nothing_to_say(package: Path) -> None:
    told = done(tool("lintian"), "--fail-on", "error,warning", package, timeout=600)
    assert not re.search(r"^[EW]: ", told, re.MULTILINE), told


@pytest.fixture(scope="module")
def installed(package: Path) -> Iterator[set[str]]:
    """Install it, and give what was there before; afterwards nothing of it is left."""
    for theirs in ("/etc/balancer", "/var/lib/balancer", "/opt/hyperv-balancer", COMMAND):
        if os.path.lexists(theirs):
            pytest.skip(f"{theirs} is there already: this machine's own balancer is left alone")
    before, known = everything(), users()
    done("dpkg", "--install", package, timeout=300)
    try:
        yield before
    finally:
        ran("dpkg", "--purge", NAME, timeout=300)
    assert everything() - before == set()
    assert users() == known


@pytest.mark.usefixtures("installed")
def test_it_runs_whatever_the_environment_and_the_directory(tmp_path: Path) -> None:
    (tmp_path / "balancer.py").write_text("raise SystemExit('not this one')", "utf-8")
    (tmp_path / "click.py").write_text("raise SystemExit('not this one')", "utf-8")
    told = done(
        COMMAND, "--version", env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    assert told.strip() == f"balancer, version {__version__}"


@pytest.mark.usefixtures("installed")
def test_the_demo_balances_a_cluster_within_the_walls_of_the_unit() -> None:
    result = ran(*confined(COMMAND, "demo", "--json", "--speed", "30"), env=ENVIRONMENT, cwd="/")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["report"]["end"] == "done"
    assert document["plan"]["migrations"]


@pytest.mark.usefixtures("installed")
def test_owners_and_modes() -> None:
    assert owner("/etc/balancer") == ("root", "balancer", "0o750")
    assert owner("/etc/balancer/credentials") == ("root", "root", "0o700")
    assert owner("/var/lib/balancer") == ("balancer", "balancer", "0o750")
    entry = pwd.getpwnam("balancer")
    assert entry.pw_shell.endswith("nologin")
    assert entry.pw_uid < 1000
    for path in Path("/opt/hyperv-balancer").rglob("*"):
        found = path.lstat()
        assert found.st_uid == 0
        assert path.is_symlink() or not found.st_mode & 0o022, path


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "unit", ["balancer.service", "balancer@berlin.service", "balancer-worker.service"]
)
def test_the_units_are_right(unit: str) -> None:
    told = done(tool("systemd-analyze"), "verify", "--man=no", unit)
    assert told == ""
    told = done(
        tool("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=20", unit
    )
    assert "Overall exposure level" in told


@pytest.mark.usefixtures("installed")
def test_the_manual_names_every_verb() -> None:
    text = gzip.decompress(Path("/usr/share/man/man1/balancer.1.gz").read_bytes()).decode()
    for verb in VERBS:
        assert f".B {verb}\n" in text


@pytest.mark.usefixtures("installed")
def test_nothing_runs_before_it_is_configured() -> None:
    result = ran(
        COMMAND, "run", env={**ENVIRONMENT, "BALANCER_CONFIG": "/etc/balancer/balancer.yaml"}
    )
    assert result.returncode == 2
    assert "/etc/balancer/balancer.yaml" in result.stderr
    assert "clusters" in result.stderr


@contextmanager
def running(*words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 -- commands of this test
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def confined(*words: str) -> tuple[str, ...]:
    if os.uname().machine != "x86_64":
        pytest.skip("the filter of system calls is written for x86-64")
    script = str(ROOT / "tests" / "packaging" / "confine.py")
    return (sys.executable, "-I", script, str(UNIT), "balancer", *words)


def unit_command(config: Path) -> list[str]:
    found = re.search(r"^ExecStart=(.+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1].replace("/etc/balancer/balancer.yaml", str(config)).split()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def heard(manager: socket.socket, until: str, seconds: float) -> str:
    """Collect what the service manager is told, until it has been told that."""
    told, end_s = "", time.monotonic() + seconds
    while until not in told:
        manager.settimeout(max(0.1, end_s - time.monotonic()))
        told += manager.recv(4096).decode() + "\n"
    return told


@pytest.mark.usefixtures("installed")
def test_the_units_command_serves_within_the_walls_of_the_unit() -> None:
    """As systemd starts it: user, credentials, notify socket, system calls, watchdog."""
    place = Path("/var/lib/balancer/site")
    address = f"/run/balancer-test-{os.getpid()}.sock"
    with (
        running(
            *confined(
                COMMAND, "simulate", "--scenario", "branch", "--json", "--directory", str(place)
            ),
            env=ENVIRONMENT,
            cwd="/",
        ) as site,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        assert site.stdout is not None
        config = Path(json.loads(site.stdout.readline())["config"])
        port = free_port()
        text = config.read_text("utf-8")
        more = f"\nservice:\n  health: 127.0.0.1:{port}\n  start_delay: 0s\n"
        config.write_text(text + more, "utf-8")
        manager.bind(address)
        Path(address).chmod(0o777)  # for the service's user
        systemd = {
            **ENVIRONMENT,
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "4000000",
            "STATE_DIRECTORY": "/var/lib/balancer",
        }
        command = unit_command(config)
        try:
            with running(*confined(*command), env=systemd, cwd="/var/lib/balancer") as service:
                heard(manager, "READY=1", 60)
                assert get(port, "/readyz")["status"] == "ready"
                assert get(port, "/healthz")["status"] == "alive"
                heard(manager, "WATCHDOG=1", 30)
                service.send_signal(signal.SIGTERM)
                heard(manager, "STOPPING=1", 30)
                _, log = service.communicate(timeout=60)
                assert service.returncode == 0, log
        finally:
            Path(address).unlink()
        lines = [json.loads(line) for line in log.splitlines()]
        assert "daemon_ready" in {line["event"] for line in lines}
        told = done(COMMAND, "audit", "--config", config, "--json", env=systemd)
        acts = [line["what"] for line in json.loads(told)["audit"]]
        assert acts[0] == "daemon_started"
        assert acts[-1] == "daemon_stopped"


def get(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


def test_an_upgrade_keeps_what_is_configured_and_a_purge_leaves_nothing(
    package: Path, installed: set[str]
) -> None:
    config = Path("/etc/balancer/balancer.yaml")
    config.write_text("# ours\n", "utf-8")
    Path("/etc/balancer/credentials/prod").write_text("secret", "utf-8")
    Path("/var/lib/balancer/balancer.sqlite").write_text("records", "utf-8")
    done("dpkg", "--install", package, timeout=300)
    assert config.read_text("utf-8") == "# ours\n"
    done("dpkg", "--remove", NAME, timeout=300)
    assert not os.path.lexists(COMMAND)
    assert not os.path.lexists("/opt/hyperv-balancer")
    assert config.exists()
    assert Path("/var/lib/balancer/balancer.sqlite").exists()
    done("dpkg", "--purge", NAME, timeout=300)
    assert everything() - installed == set()
    assert "balancer" not in users()
    assert shutil.which("balancer", path="/usr/bin") is None
