"""Carrying out a plan before somebody's eyes: what `apply`, `move` and `demo` share."""

from __future__ import annotations

from collections.abc import Collection

from rich.markup import escape

from balancer.cli.output import duration, print_json, show_plan, warn
from balancer.cli.progress import Watch
from balancer.cli.terminal import err, out
from balancer.cycle import Watcher
from balancer.errors import ExitCode
from balancer.execute.executor import exit_code
from balancer.execute.progress import Progress
from balancer.formats.outcome import report_to_json
from balancer.model.outcome import MigrationState, RunReport
from balancer.model.plan import Plan


class Onlooker(Watcher):
    """Shows a cycle on the terminal: the plan on stdout, progress on stderr."""

    def __init__(self, watch: Watch, *, quiet: bool) -> None:
        """Report progress to `watch`; `quiet` keeps the plan to itself, for --json."""
        self._watch = watch
        self._quiet = quiet
        self.told: set[str] = set()

    def planned(self, plan: Plan, notes: tuple[str, ...]) -> None:
        """Print the plan, and on stderr what to know about it."""
        for text in notes:
            warn(text)
        if not self._quiet:
            show_plan(plan)

    def progress(self, progress: Progress) -> None:
        """Pass progress on, and remember what was told."""
        self._watch(progress)
        self.told.update(item.text for item in progress.news)


def finish(report: RunReport, told: Collection[str] = (), *, as_json: bool) -> ExitCode:
    """Print how a run ended and return the exit code it means."""
    if as_json:
        print_json(report_to_json(report))
    else:
        show_report(report, told)
    return exit_code(report.end)


def show_report(report: RunReport, told: Collection[str] = ()) -> None:
    """Print how a run ended: counts, then what went wrong, then notes that were not `told` yet."""
    count = {
        state: sum(one.state is state for one in report.migrations) for state in MigrationState
    }
    seconds = (report.ended_at - report.started_at).total_seconds()
    parts = [f"{count[MigrationState.DONE]} done"]
    parts += [
        f"{count[state]} {state.value}"
        for state in MigrationState
        if state is not MigrationState.DONE and count[state]
    ]
    out.print(f"[bold]{report.end.value}[/]: {', '.join(parts)} in {duration(seconds)}")
    for one in report.migrations:
        if one.state is not MigrationState.DONE:
            code = "" if one.code is None else f" (0x{one.code:08X})"
            err.print(
                f"[yellow]{one.state.value}[/] {escape(one.name)} {escape(one.source)} → "
                f"{escape(one.target)}: {escape(one.reason)}{code}",
                soft_wrap=True,
            )
    for note in report.notes:
        if note in told:
            continue
        err.print(f"[bright_black]note:[/] {escape(note)}", soft_wrap=True)
