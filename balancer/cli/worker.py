"""`balancer worker`: carry out what `balancer run` and other commands ask for, beside others."""

from __future__ import annotations

import click

from balancer.cli.options import Source, examples, records_options
from balancer.service.daemon import Daemon


@click.command(
    name="worker",
    epilog=examples("balancer worker", "systemctl enable --now balancer-worker"),
)
@records_options
def command(source: Source) -> int:
    """Visit clusters when a cycle or a reading is due, or something was asked for.

    Any number of workers on any number of machines share one store in PostgreSQL; `balancer run`
    tells them what is due when. One that dies is replaced by the others. Signals are those
    of `run`.
    """
    return Daemon(source.config, source.cluster, leads=False, works=True).run()
