"""`balancer status`: what runs, what ran last, and who holds the cluster."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.cli.options import Source, records_options
from balancer.cli.output import print_json
from balancer.cli.terminal import out
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.execute.requests import is_served
from balancer.model.aside import Aside
from balancer.store.breakers import Breaker
from balancer.store.leases import Lease
from balancer.store.records import MoveRecord, RunRecord, SettingRecord
from balancer.store.store import Store

RUNS_SHOWN = 10


@click.command(name="status")
@records_options
@click.option(
    "--runs",
    type=click.IntRange(min=1, max=1000),
    default=RUNS_SHOWN,
    show_default=True,
    metavar="N",
    help="Show the last N runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: Source, runs: int, *, as_json: bool) -> int:
    """Read journal and history; no host is asked and nothing is changed."""
    config = load_config(source.config)
    names = [part.name for part in config.document.clusters]
    if source.cluster is not None:
        names = [config.cluster(source.cluster).name]
    if (store := Store.peek(config.store)) is None:
        found = [_Status(name) for name in names]
    else:
        with store:
            found = [_status(store, name, runs, SystemClock().now()) for name in names]
    if as_json:
        document = {"clusters": [dataclasses.asdict(status) for status in found]}
        print_json(json.dumps(document, default=_plain, ensure_ascii=False))
    else:
        for status in found:
            _show(status)
    return 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Status:
    cluster: str
    lease: Lease | None = None
    served: bool = False
    runs: tuple[RunRecord, ...] = ()
    open_moves: tuple[MoveRecord, ...] = ()
    open_settings: tuple[SettingRecord, ...] = ()
    set_aside: tuple[Aside, ...] = ()
    breaker: Breaker | None = None
    only_recommends: bool = False


def _status(store: Store, name: str, runs: int, now: datetime) -> _Status:
    breaker = store.breakers.of(name)
    return _Status(
        cluster=name,
        lease=store.leases.current(name, now),
        served=is_served(store, name, SystemClock()),
        runs=store.journal.runs(name, runs),
        open_moves=store.journal.open_moves(name),
        open_settings=store.journal.open_settings(name),
        set_aside=store.asides.active(name, now),
        breaker=breaker,
        only_recommends=breaker is not None and breaker.is_open(now),
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _when(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_caution(status: _Status) -> None:
    """Show what is left alone because it failed."""
    breaker = status.breaker
    if breaker is not None and breaker.open_until is not None and status.only_recommends:
        out.print(
            f"  [red]only recommends[/] until {_when(breaker.open_until)}: {breaker.failed_runs} "
            f"runs in a row failed, the last by {escape(breaker.reason)}",
            soft_wrap=True,
        )
        out.print("  remedy: mend it, then `balancer thaw`, or approve a plan that goes well")
    for one in status.set_aside:
        out.print(
            f"  [yellow]set aside[/] {escape(one.label)} until {_when(one.until)}: "
            f"{escape(one.reason)}",
            soft_wrap=True,
        )


def _show(status: _Status) -> None:
    out.print(f"[bold]{escape(status.cluster)}[/]")
    if status.lease is None:
        out.print("  workers look after it" if status.served else "  nobody holds it")
    else:
        lease = status.lease
        out.print(f"  held by {escape(lease.holder)} until {_when(lease.expires_at)}")
    for move in status.open_moves:
        out.print(
            f"  [yellow]{move.state.value}[/] {escape(move.name)} {escape(move.source)} → "
            f"{escape(move.target)} since {_when(move.since)}"
        )
    for setting in status.open_settings:
        out.print(
            f"  [yellow]to restore[/] {escape(setting.host)} {setting.setting} to "
            f"{setting.before}, since {_when(setting.since)}"
        )
    _show_caution(status)
    if not status.runs:
        out.print("  no run yet")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("  run", "started", "ended", "how", "plan"):
        table.add_column(heading, no_wrap=True)
    for run in status.runs:
        ended = "" if run.ended_at is None else _when(run.ended_at)
        how = "runs, or was cut off" if run.end is None else run.end.value
        table.add_row(f"  {run.id}", _when(run.started_at), ended, how, Text(run.plan))
    out.print(table)
