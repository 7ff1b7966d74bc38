"""`balancer run`: look after the configured clusters until told to stop."""

from __future__ import annotations

import click

from balancer.cli.options import Source, examples, records_options
from balancer.service.daemon import Daemon


@click.command(
    name="run",
    epilog=examples("balancer run", "systemctl enable --now balancer", "systemctl reload balancer"),
)
@records_options
@click.option("--worker", "works", is_flag=True, help="Be a worker as well: see `balancer worker`.")
def command(source: Source, *, works: bool) -> int:
    """Read, plan and balance by schedule, and carry out what other commands ask for.

    Runs in the foreground and logs to stderr. SIGHUP reads the configuration again; SIGTERM ends
    it as the configuration says, a second one at once: the next start takes over what moves.

    With a store in PostgreSQL it says what is due, and workers do it.
    """
    return Daemon(source.config, source.cluster, works=works).run()
