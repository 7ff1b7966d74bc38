"""`balancer backup`: copy the records to a file while everything goes on."""

from __future__ import annotations

from pathlib import Path

import click

from balancer.cli.files import check_output
from balancer.cli.options import Source, examples, records_options
from balancer.cli.output import print_json
from balancer.cli.terminal import out
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.store.backup import back_up


@click.command(name="backup", epilog=examples("balancer backup /srv/backup/balancer.sqlite"))
@records_options
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: Source, file: Path, *, as_json: bool) -> int:
    """Copy journal, history, plans and audit log to FILE, whole and checked.

    The service need not be stopped and is not held up. To restore, stop it and put the file where
    the store is; a store in PostgreSQL is dumped by pg_dump and restored by pg_restore.
    """
    config = load_config(source.config)
    check_output(file)
    size = back_up(config.store, file, SystemClock().now())
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        out.say(f"{size / 2**20:.1f} MiB in {file}")
    return 0
