"""`balancer audit`: who did what, why, and what came of it."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import click
from rich.table import Table
from rich.text import Text

from balancer.cli.options import Source, examples, records_options
from balancer.cli.output import print_json
from balancer.cli.terminal import out
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.policy.quantities import parse_duration
from balancer.store.audit import AuditEntry
from balancer.store.store import Store

LINES_SHOWN = 200


class Moment(click.ParamType[datetime]):
    """A point in time: a date with or without a time, or a duration back from now."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment; without a zone it is meant in this machine's."""
        text = str(value)
        try:
            return SystemClock().now() - timedelta(seconds=parse_duration(text))
        except ValueError:
            pass
        except OverflowError:
            self.fail(f"{text!r} is before all time", param, ctx)
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{text!r}: give a duration, as 24h, or a date, as 2026-03-01", param, ctx)


@click.command(
    name="audit",
    epilog=examples("balancer audit --since 24h", "balancer audit --since 2026-03-01 --json"),
)
@records_options
@click.option("--since", type=Moment(), metavar="TIME", help="From then on: 24h, or a date.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"At most the latest N lines; {LINES_SHOWN} unless --since or --json is given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: Source, since: datetime | None, limit: int | None, *, as_json: bool) -> int:
    """Show the audit log; no host is asked and nothing is changed."""
    config = load_config(source.config)
    cluster = None if source.cluster is None else config.cluster(source.cluster).name
    if limit is None and since is None and not as_json:
        limit = LINES_SHOWN
    entries: tuple[AuditEntry, ...] = ()
    if (store := Store.peek(config.store)) is not None:
        with store:
            entries = store.audit.entries(cluster=cluster, since=since, limit=limit)
    if as_json:
        print_json(json.dumps({"audit": [_plain(entry) for entry in entries]}, ensure_ascii=False))
    elif entries:
        out.print(_table(entries))
    else:
        out.print("nothing was done yet" if since is None else "nothing was done since then")
    return 0


def _plain(entry: AuditEntry) -> dict[str, str]:
    at = entry.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return {**dataclasses.asdict(entry), "at": at}


def _table(entries: tuple[AuditEntry, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("when", "cluster", "who", "what", "subject", "outcome"):
        table.add_column(heading, no_wrap=heading != "who")
    table.add_column("why", overflow="fold")
    for entry in entries:
        table.add_row(
            entry.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            Text(entry.cluster),
            Text(entry.who),
            entry.what.replace("_", " "),
            Text(entry.subject),
            Text(entry.outcome),
            Text(entry.why or entry.text),
        )
    return table
