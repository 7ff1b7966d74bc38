"""`balancer freeze`: nothing moves any more until it is thawed."""

from __future__ import annotations

import click

from balancer.cli.freezing import named, write_freeze
from balancer.cli.options import Source, examples, records_options
from balancer.cli.output import warn
from balancer.cli.terminal import out
from balancer.cli.who import me
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.store.standing import EVERY_CLUSTER, Freeze
from balancer.store.store import Store


@click.command(
    name="freeze",
    epilog=examples("balancer freeze --reason 'storage update'", "balancer freeze --all"),
)
@records_options
@click.option("--reason", default="", metavar="TEXT", help="Why, for all who ask.")
@click.option("--all", "everywhere", is_flag=True, help="Every cluster of the configuration.")
def command(source: Source, reason: str, *, everywhere: bool) -> int:
    """Begin no migration on the cluster; what moves arrives. Reading goes on.

    It is written into our records and into the cluster itself (property BalancerFreeze), so that
    executors elsewhere keep to it too. An administrator of the cluster can set the same property.
    """
    config, clock = load_config(source.config), SystemClock()
    parts = named(config, source.cluster, everywhere=everywhere)
    with Store.open(config.store) as store:
        for name in [EVERY_CLUSTER] if everywhere else [part.name for part in parts]:
            store.freezes.freeze(Freeze(name, me(), clock.now(), reason))
    for part in parts:
        text = f"{me()}: {reason or 'no reason given'}"
        if why := write_freeze(config, part, clock, text):
            warn(f"{part.name} could not be told itself, our own executors keep to it: {why}")
        out.say(f"frozen: {part.name}")
    return 0
