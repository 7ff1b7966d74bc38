"""The terminal as it is: what it can show, and what becomes of output that nobody reads.

Results go to `out` (stdout), everything else to `err` (stderr). Names come from hosts and files, so
what would steer the terminal is shown instead of sent; a terminal that knows ASCII only gets
characters that look alike.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_ALIKE = str.maketrans("→━█·│─…", ">=#.|-~")
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HANDLER = "balancer.alike"


def harmless(text: str) -> str:
    """Return text with what would steer a terminal made visible; line ends are kept."""
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _alike(error: UnicodeError) -> tuple[str, int]:
    """Encode what a terminal lacks as something alike, else as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_ALIKE)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


def prepare_streams() -> None:
    """Make the three standard streams usable, however the process was started.

    A stream that was closed becomes the null device, and characters that a stream's encoding
    lacks are replaced rather than refused.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    codecs.register_error(_HANDLER, _alike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def discard_output() -> None:
    """Send stdout nowhere from here on: its reader has gone (`| head`).

    The work goes on and the exit code says how it ended; nor may the interpreter flush into the
    closed pipe on its way out.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_document(text: str) -> None:
    """Write a document to stdout: UTF-8 whatever the terminal's encoding, one final line end."""
    data = (text.rstrip("\n") + "\n").encode()
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(data.decode())
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


class Screen(Console):
    """A console that shows names as they are, and outlives its reader."""

    def __init__(self, *, stderr: bool = False) -> None:
        """Write to stdout, or to `stderr`; colour appears only on a terminal."""
        super().__init__(stderr=stderr, highlight=False)
        self._is_aside = stderr

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render to segments whose text cannot steer the terminal."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(harmless(text), style)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; what goes aside to stderr may get lost without harm to the work."""
        try:
            super().print(*objects, **options)
        except OSError:
            if not self._is_aside:
                raise

    def say(self, markup: str) -> None:
        """Print one sentence: wrapped for people, on one line for what reads a pipe."""
        self.print(markup, soft_wrap=not self.is_terminal)

    def on_broken_pipe(self) -> None:
        """Print no more, and go on."""
        self.quiet = True
        if not self._is_aside:
            discard_output()


out = Screen()
err = Screen(stderr=True)
