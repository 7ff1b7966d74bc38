"""Writing the file that `-o` names: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balancer.errors import InputError


def check_output(path: Path | None) -> None:
    """Refuse a place that cannot be written to, before the work rather than after it.

    Raises:
        InputError: The directory is missing or not writable, or the path is a directory.
    """
    if path is None:
        return
    with _told(path):
        directory = path.resolve().parent
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a directory", remedy="name a file in it")
        if not directory.is_dir():
            raise InputError(
                f"cannot write {path}: there is no directory {directory}",
                remedy="make the directory, or name another place",
            )
        if not os.access(directory if not path.exists() else path, os.W_OK):
            raise InputError(
                f"cannot write {path}: permission denied",
                remedy="name a place that you may write to",
            )


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path`, replacing a file there only once all of it is on disk.

    Raises:
        InputError: It cannot be written; what was there before still is.
    """
    with _told(path):
        if path.exists() and not path.is_file():
            path.write_text(text, "utf-8")  # a pipe or a device cannot be replaced, only fed
            return
        target = path.resolve()  # a link is followed, not replaced
        beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
        try:
            with beside.open("x", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            beside.replace(target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    """Make a directory to write into, with those above it.

    Raises:
        InputError: It cannot be made, or not be written into.
    """
    with _told(path):
        path.mkdir(parents=True, exist_ok=True)
    check_output(path / "file")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            remedy="nothing that was there is lost; make room, or name another place",
        ) from error
