"""Migrations while they run: bars with an ETA on a terminal, lines elsewhere, or JSON lines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.cli.output import duration
from balancer.cli.terminal import err
from balancer.execute.progress import MoveProgress, NewsKind, Progress
from balancer.model.outcome import MigrationState

# The least and the most columns of names and bars, and what the rest of a line takes beside each.
NAME_CELLS_MIN, NAME_CELLS_MAX, BESIDE_NAME = 8, 22, 53
BAR_CELLS_MIN, BAR_CELLS_MAX, BESIDE_BAR = 8, 24, 66
# More migrations than this at a time would scroll the terminal; the rest is counted.
SHOWN_MAX = 12
GOOD = frozenset(
    {NewsKind.STARTED, NewsKind.MOVED, NewsKind.SETTING_WRITTEN, NewsKind.SETTING_RESTORED}
)
Watch = Callable[[Progress], None]


@contextmanager
def watching(*, as_json: bool) -> Iterator[Watch]:
    """Yield what the executor should report to; everything goes to stderr.

    With `as_json` each report is one JSON object a line, so that a script can follow along while
    stdout stays one document.
    """
    if as_json:
        yield _json_line
    elif err.is_terminal and not err.is_dumb_terminal:
        with Live(console=err, refresh_per_second=8, transient=True) as live:

            def show(progress: Progress) -> None:
                for text in _news(progress):
                    live.console.print(text)
                live.update(_picture(progress))

            yield show
    else:
        yield _lines


def _json_line(progress: Progress) -> None:
    with contextlib.suppress(OSError):  # that nobody listens is no reason to stop half-way
        sys.stderr.write(json.dumps(progress, default=_written) + "\n")
        sys.stderr.flush()


def _written(value: object) -> object:
    """Return what to write for a value that JSON does not know."""
    if dataclasses.is_dataclass(value):  # asdict() would copy every value of every migration
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)


def _lines(progress: Progress) -> None:
    for text in _news(progress):
        err.print(text, soft_wrap=True)


def _news(progress: Progress) -> Iterator[Text]:
    for item in progress.news:
        good = item.kind in GOOD
        clock = f"{duration(progress.elapsed_s):>12}  "
        yield Text(clock, "bright_black").append(item.text, "" if good else "yellow")


def _picture(progress: Progress) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    width = max(NAME_CELLS_MIN, min(NAME_CELLS_MAX, err.width - BESIDE_NAME))
    table.add_column(no_wrap=True, max_width=width)
    for _ in range(3):
        table.add_column(no_wrap=True)
    active = [move for move in progress.moves if _is_active(move)]
    for move in active[:SHOWN_MAX]:
        table.add_row(
            Text(move.name),
            Text(f"{move.source} → {move.target}"),
            Text(move.transport.value),
            _bar(move),
        )
    more = len(active) - SHOWN_MAX
    eta = "" if progress.eta_s is None else f", about {duration(progress.eta_s)} left"
    failed = f", {progress.failed} failed" if progress.failed else ""
    summary = Text.from_markup(
        f"[bold]{progress.done} of {progress.total}[/] done{escape(failed)}{eta}"
        + (f", {more} more running" if more > 0 else "")
    )
    return Group(table, summary)


def _is_active(move: MoveProgress) -> bool:
    return not move.state.is_final and move.state is not MigrationState.PLANNED


def _bar(move: MoveProgress) -> Text:
    if move.queued:
        return Text("queued by the cluster", "bright_black")
    width = max(BAR_CELLS_MIN, min(BAR_CELLS_MAX, err.width - BESIDE_BAR))
    cells = round(move.percent / 100 * width)
    text = Text("━" * cells, "green").append("·" * (width - cells), "bright_black")
    return text.append(f" {move.percent:3d} %  {move.state.value}")
