"""`balancer backtest`: what a policy would have done with recorded days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import click
import numpy as np
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.backtest import Recording, Tally, by_policy, nothing, replay
from balancer.backtest.recording import from_snapshots
from balancer.backtest.tally import FIGURES
from balancer.backtest.trace import from_readings, read_trace
from balancer.cli.options import Source, examples, source_options
from balancer.cli.output import print_json
from balancer.cli.terminal import out
from balancer.clock import SystemClock
from balancer.errors import ExitCode, InputError
from balancer.formats.snapshot import read_snapshot
from balancer.policy.load import load_policy
from balancer.policy.policy import Policy
from balancer.policy.quantities import format_duration, parse_duration

HOUR_S = 3600.0
BAR_MOST, BAR_LEAST, GAP = 24, 8, 2  # columns
SAMPLE_S = 300  # of the store's history: finer than any decision
SUFFIXES = (".json", ".gz")


class Limit(click.ParamType[tuple[str, float]]):
    """A figure and the most it may be: `thrash=0`."""

    name = "figure=number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name of the figure and its limit."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        try:
            most = float(number)
        except ValueError:
            most = float("nan")
        if name not in FIGURES or not most >= 0:
            self.fail(f"{value!r}: expected one of {', '.join(FIGURES)}, =, a number", param, ctx)
        return name, most


class Every(click.ParamType[float]):
    """A duration with its unit."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds above zero."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("expected more than no time", param, ctx)
        return seconds


@click.command(
    name="backtest",
    epilog=examples(
        "balancer backtest --against changed.yaml --days 30",
        "balancer backtest recorded/ --policy now.yaml --against changed.yaml --limit thrash=0",
        "balancer backtest --snapshot inventory.json --trace loads.csv --policy new.yaml",
    ),
)
@source_options
@click.argument("snapshots", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--trace",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="CSV of time,vm,cpu_used_cores,memory_assigned_bytes for the VMs of --snapshot.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A changed policy, measured by the first one; may be given several times.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="N",
    help="How much of the service's own history to replay.",
)
@click.option(
    "--every",
    type=Every(),
    default="15m",
    show_default=True,
    help="Time between decisions.",
)
@click.option(
    "--limit",
    "limits",
    type=Limit(),
    multiple=True,
    help="The most that a figure of a policy --against may be, or of the only policy; passed, the "
    "exit code is 3. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    source: Source,
    snapshots: tuple[Path, ...],
    trace: Path | None,
    against: tuple[Path, ...],
    days: float,
    every: float,
    limits: tuple[tuple[str, float], ...],
    *,
    as_json: bool,
) -> int:
    """Replay recorded days through a policy, beside doing nothing; nothing is moved.

    The days are SNAPSHOTS (files, or directories of them), a --trace of loads for one --snapshot,
    or what the service has recorded of the configured cluster. Load is as it was recorded;
    where VMs are follows from the decisions, which succeed at once.

    The policy in force, --policy or the configured one, says in every replay what is overloaded
    and which rules there are to break; a changed one goes with --against, and is no better for
    higher thresholds. A policy alone measures itself.

    What a snapshot says of a VM's state and of what blocks it holds at its moment; migrations
    under way were somebody else's decision and are left out. How hosts and VMs are set up, the
    cluster's own rules and its settings are those of the last snapshot on all days. With a trace,
    or the service's records, one snapshot is all days: a backup that runs in it is left out too.
    """
    policy = source.policy()
    policies = [policy, *(load_policy(path) for path in against)]
    labels = _labels(policies, [source.policy_file, *against])
    record = _recorded(source, snapshots, trace, days)
    tallies = [replay(record, policy, nothing, label="doing nothing", every_s=every)]
    tallies += [
        replay(record, policy, by_policy(one), label=label, every_s=every, calendar=one.calendar)
        for one, label in zip(policies, labels, strict=True)
    ]
    passed = [
        f"{name} of {one.label} is {figure:g}, {most:g} is the limit"
        for name, most in limits
        for one in tallies[2:] or tallies[1:]
        for figure in [one.figures()[name]]
        if figure > most
    ]
    if as_json:
        print_json(_document(record, tallies, every, passed))
    else:
        _show(record, tallies, passed)
    return ExitCode.ANSWER_IS_NO if passed else ExitCode.DONE


def _labels(policies: list[Policy], paths: list[Path | None]) -> list[str]:
    """Return names to tell policies by: a changed one is mostly called as the one it was."""
    names = [one.name for one in policies]
    return [
        name if names.count(name) == 1 else f"{name} ({path or 'configured'})"
        for name, path in zip(names, paths, strict=True)
    ]


def _recorded(
    source: Source, snapshots: tuple[Path, ...], trace: Path | None, days: float
) -> Recording:
    if trace is not None:
        if source.snapshot is None or snapshots:
            raise InputError(
                "a trace says what the VMs of one snapshot used",
                remedy="give --snapshot FILE with --trace, and no other snapshots",
            )
        return read_trace(source.read().cluster, trace)
    if snapshots and source.snapshot is not None:
        raise InputError(
            f"days are given twice: {snapshots[0]} and --snapshot {source.snapshot}",
            remedy="leave out --snapshot, or give it with the other snapshots",
        )
    if snapshots:
        return from_snapshots([read_snapshot(path).cluster for path in _files(snapshots)])
    if source.snapshot is not None:
        raise InputError(
            "one snapshot is no history", remedy="give --trace with it, or several snapshots"
        )
    from balancer.cli.site import open_site  # noqa: PLC0415 -- start-up time
    from balancer.store.store import Store  # noqa: PLC0415 -- start-up time

    base = source.read().cluster
    now = SystemClock().now() if base.taken_at is None else base.taken_at
    since = now - timedelta(days=days)
    with Store.open_read_only(open_site(source).config.store) as store:
        buckets = max(2, int(days * 24 * HOUR_S / SAMPLE_S))
        return from_readings(base, store.lately.readings(base, since, now, buckets))


def _files(paths: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES)
            if not inside:
                raise InputError(
                    f"there are no snapshots in {path}",
                    remedy=f"give a directory with files that end in {' or '.join(SUFFIXES)}",
                )
            found += inside
        else:
            found.append(path)
    return found


def _document(
    record: Recording, tallies: list[Tally], every_s: float, passed: list[str]
) -> dict[str, object]:
    return {
        "cluster": record.base.name,
        "from": datetime.fromtimestamp(record.at_s[0], UTC).isoformat(),
        "to": datetime.fromtimestamp(record.at_s[-1], UTC).isoformat(),
        "every_s": every_s,
        "measured_by": tallies[1].label,
        "replays": [
            {"label": one.label, **one.figures(), "overload_hours_by_day": by_day(record, one)}
            for one in tallies
        ],
        "limits_passed": passed,
    }


def by_day(record: Recording, tally: Tally) -> list[float]:
    """Return the overload hours of each day of the recording, in UTC."""
    day = (record.at_s // (24 * HOUR_S)).astype(np.int64)
    hours = np.bincount(day - day[0], tally.overloaded * record.hours)
    return [round(float(one), 3) for one in hours]


HEADINGS = {
    "migrations": ("migrations", "{:.0f}"),
    "migrations_per_vm_week": ("a VM and week", "{:.3f}"),
    "gib": ("GiB", "{:.0f}"),
    "thrash": ("undone in a day", "{:.0f}"),
    "overload_hours": ("host hours overloaded", "{:.1f}"),
    "violation_hours": ("rule hours broken", "{:.1f}"),
    "awake_hours": ("host hours awake", "{:.1f}"),
    "imbalance_p95": ("furthest off the mean, P95", "{:.1%}"),
}


def _show(record: Recording, tallies: list[Tally], passed: list[str]) -> None:
    took = format_duration(round(tallies[0].hours) * HOUR_S)
    out.say(f"{took} of {len(record.base.hosts)} hosts and {tallies[0].vms:.0f} VMs")
    out.say(f"measured by thresholds, reserve and rules of {escape(tallies[1].label)}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for one in tallies:
        table.add_column(Text(one.label), justify="right", overflow="fold")
    for name, (heading, form) in HEADINGS.items():
        table.add_row(heading, *(form.format(one.figures()[name]) for one in tallies))
    out.print(table)
    _chart(record, tallies)
    for text in passed:
        out.say(f"[red]limit passed:[/] {escape(text)}")


def _chart(record: Recording, tallies: list[Tally]) -> None:
    """Print the overload hours of each day as bars, as many replays beside each other as fit."""
    days = [by_day(record, one) for one in tallies]
    most = max((max(one) for one in days), default=0.0)
    if most <= 0:
        return
    first = datetime.fromtimestamp(record.at_s[0], UTC).date()
    dates = [str(first + timedelta(days=number)) for number in range(len(days[0]))]
    number, room = len(f"{most:.1f}"), out.width - len(dates[0])
    beside = max(1, min(len(tallies), room // (BAR_LEAST + number + 2 * GAP)))
    bar = max(1, min(BAR_MOST, room // beside - number - 2 * GAP))
    out.say("host hours overloaded, day by day")
    for at in range(0, len(tallies), beside):
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column("", no_wrap=True, min_width=len(dates[0]))
        for one in tallies[at : at + beside]:
            table.add_column(Text(one.label), width=bar, overflow="fold")
            table.add_column("", no_wrap=True, min_width=number, justify="right")
        for date, row in zip(dates, zip(*days[at : at + beside], strict=True), strict=True):
            cells = (("█" * round(bar * value / most), f"{value:.1f}") for value in row)
            table.add_row(date, *chain.from_iterable(cells))
        out.print(table)
