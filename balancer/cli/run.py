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
def command(source: Source) -> int:
    """Read, plan and balance by schedule, and carry out what other commands ask for.

    Runs in the foreground and logs to stderr. SIGHUP reads the configuration again; SIGTERM ends
    it as the configuration says, a second one at once: the next start takes over what moves.
    """
    return Daemon(source.config, source.cluster).run()
