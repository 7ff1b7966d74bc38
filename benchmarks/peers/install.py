"""Where peers are installed: a folder of their own, nothing of which the project depends on.

`python -m benchmarks.peers --install` fills it: hbal from Debian's packages, the others from PyPI
into virtual environments of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.task import AbsentError

REMEDY = "python -m benchmarks.peers --install"
HBAL_PACKAGE = "ganeti-htools"
# Each has its own environment: their solvers do not all go together in one process.
ENVIRONMENTS = {
    "rebalancer": ((3, 12), ("rebalancer==1.0.4",)),
    "proxlb": ((3, 11), ("proxlb==2.3.0", "proxlb-solver==0.1.1")),
}


def home() -> Path:
    """Return the folder that peers are installed in."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hyperv-balancer" / "peers"


def python_of(name: str) -> Path:
    """Return the Python that peer `name` is installed for.

    Raises:
        AbsentError: It is not.
    """
    at = home() / name / "bin" / "python"
    if not at.exists():
        raise AbsentError(f"{name} is not installed: {REMEDY}")
    return at


def htools() -> tuple[Path, str]:
    """Return Ganeti's program of many names and the folders of its libraries.

    Raises:
        AbsentError: It is not installed, by us or by the system.
    """
    for root in (home() / "hbal", Path("/")):
        found = sorted(root.glob("usr/lib/ganeti/*/usr/bin/htools"))
        if found:
            libraries = root.glob("**/lib/*-linux-gnu*") if root != Path("/") else ()
            folders = sorted(map(str, libraries))
            return found[-1], ":".join(folders)
    raise AbsentError(f"hbal is not installed: {REMEDY}")


def install() -> int:
    """Install whatever is missing and can be had; return how many peers cannot."""
    home().mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in ("hbal", *ENVIRONMENTS):
        try:
            print(f"{name}: {_install_hbal() if name == 'hbal' else _install(name)}", flush=True)
        except (AbsentError, subprocess.CalledProcessError, OSError) as error:
            print(f"{name}: not installed: {error}", file=sys.stderr, flush=True)
            failed += 1
    return failed


def _install_hbal() -> str:
    """Unpack Debian's package and what it needs, without installing any of it."""
    try:
        return f"{htools()[0]} is there"
    except AbsentError:
        pass
    into, packages = home() / "hbal", home() / "hbal.packages"
    if shutil.which("apt-get") is None:
        raise AbsentError("there is no apt-get here, and hbal comes from Debian")
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    wanted = _said(["apt-get", "install", "--simulate", "--no-install-recommends", HBAL_PACKAGE])
    names = [line.split()[1] for line in wanted.splitlines() if line.startswith("Inst ")]
    _said(["apt-get", "download", *names], folder=packages)
    for package in sorted(packages.glob("*.deb")):
        _said(["dpkg-deb", "--extract", str(package), str(into)])
    shutil.rmtree(packages)
    return f"{htools()[0]}, with {len(names) - 1} packages that it needs"


def _install(name: str) -> str:
    """Make a virtual environment and install a peer's packages there."""
    at_least, packages = ENVIRONMENTS[name]
    into = home() / name
    if (into / "bin" / "python").exists():
        return f"{into} is there"
    python = _newest_python(at_least)
    try:
        _said([str(python), "-m", "venv", str(into)])
        pip = [str(into / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _said([*pip, "--disable-pip-version-check", *packages])
    except subprocess.CalledProcessError:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return f"{', '.join(packages)} in {into}"


def _newest_python(at_least: tuple[int, int]) -> Path:
    """Return a Python that is new enough.

    Raises:
        AbsentError: There is none on this machine.
    """
    ask = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    for python in _pythons():
        told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
        if told.returncode == 0 and tuple(map(int, told.stdout.split())) >= at_least:
            return Path(python)
    wanted = ".".join(map(str, at_least))
    raise AbsentError(f"needs Python {wanted} or newer, and there is none here")


def _pythons() -> Iterator[str]:
    """Yield this Python and all that may be others: on the path, or kept by pyenv or uv."""
    yield sys.executable
    for minor in range(12, 20):
        if (found := shutil.which(f"python3.{minor}")) is not None:
            yield found
    folders = (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv")
    for folder in folders:
        yield from sorted(str(at) for at in folder.glob("**/bin/python3") if at.is_file())


def _said(command: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr[-2000:])
        done.check_returncode()
    return done.stdout
