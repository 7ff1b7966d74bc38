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
from balancer.execute.underway import Underway, underway
from balancer.model.aside import Aside
from balancer.store.breakers import Breaker
from balancer.store.leases import Lease
from balancer.store.records import MoveRecord, RunRecord, SettingRecord
from balancer.store.requests import Request
from balancer.store.standing import Freeze
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
class _Waits:
    """A plan that somebody may approve."""

    plan: str
    migrations: int
    until: datetime


def _waits(store: Store, cluster: str, now: datetime) -> _Waits | None:
    """Return the newest plan if it lives, moves something, and nobody has decided on it."""
    for kept in store.plans.latest(cluster, 1):
        decided = store.approvals.of(kept.id) is not None
        carried_out = any(run.plan == kept.id for run in store.journal.runs(cluster))
        if now < kept.expires_at and not decided and not carried_out:
            from balancer.formats.plan import parse_plan  # noqa: PLC0415 -- start-up time

            many = len(parse_plan(kept.document, f"plan {kept.id}").migrations)
            return _Waits(kept.id, many, kept.expires_at) if many else None
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class _Status:
    cluster: str
    lease: Lease | None = None
    served: bool = False
    frozen: Freeze | None = None
    underway: tuple[Underway, ...] = ()
    waits: _Waits | None = None
    requests: tuple[Request, ...] = ()
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
        frozen=store.freezes.of(name),
        underway=underway(store, name, now),
        waits=_waits(store, name, now),
        requests=store.requests.open(name),
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


def _show_people(status: _Status) -> None:
    """Show what people said and asked for, and what waits for a word of theirs."""
    if (freeze := status.frozen) is not None:
        said = f"by {freeze.by} since {_when(freeze.at)}: {freeze.reason or 'no reason given'}"
        out.print(f"  [red]frozen[/] {escape(said)}", soft_wrap=True)
    for work in status.underway:
        _show_underway(work)
    for one in status.requests:
        said = f"request {one.id}: {one.verb} for {one.asked_by} since {_when(one.since)}"
        out.print(f"  [yellow]{one.state.value}[/] {escape(said)}", soft_wrap=True)
    if (waits := status.waits) is not None:
        said = f"{waits.migrations} migrations until {_when(waits.until)}: "
        out.print(f"  [yellow]waits[/] {said}balancer approve {escape(waits.plan)}", soft_wrap=True)


def _show_underway(work: Underway) -> None:
    """Show a drain or a campaign that is not over."""
    what = "VMs away" if work.kind == "drain" else "hosts through"
    parts = [f"{', '.join(work.hosts)}: {work.step}", f"{work.done} of {work.total} {what}"]
    if work.ends_at is not None:
        parts.append(f"over by about {_when(work.ends_at)}")
    said = f"{'; '.join(parts)} (for {work.asked_by or 'somebody'} since {_when(work.started_at)})"
    out.print(f"  [yellow]{work.kind}[/] {escape(said)}", soft_wrap=True)
    if work.reason:
        out.print(f"    {escape(work.reason)}", soft_wrap=True)


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
    _show_people(status)
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
