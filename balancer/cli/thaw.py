"""`balancer thaw`: lift a freeze."""

from __future__ import annotations

import click

from balancer.cli.freezing import named, write_freeze
from balancer.cli.options import Source, examples, records_options
from balancer.cli.terminal import out
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.errors import UnreachableError
from balancer.store.standing import EVERY_CLUSTER
from balancer.store.store import Store


@click.command(name="thaw", epilog=examples("balancer thaw", "balancer thaw --all"))
@records_options
@click.option("--all", "everywhere", is_flag=True, help="Every cluster of the configuration.")
def command(source: Source, *, everywhere: bool) -> int:
    """Let migrations run again: in our records, and in the cluster itself, whoever froze it.

    A cluster that only recommends because too many runs in a row failed acts unattended again.
    """
    config, clock = load_config(source.config), SystemClock()
    parts = named(config, source.cluster, everywhere=everywhere)
    tried = {part.name: write_freeze(config, part, clock, "") for part in parts}
    failed = [f"{name}: {why}" for name, why in tried.items() if why]
    with Store.open(config.store) as store:
        if everywhere:
            store.freezes.thaw(EVERY_CLUSTER)
        for part in parts:
            store.freezes.thaw(part.name)
            if store.breakers.close(part.name):
                out.say(f"failed runs are forgotten: {part.name}")
            if (still := store.freezes.of(part.name)) is not None:
                out.say(f"{part.name} stays frozen with all others, by {still.by}: thaw --all")
            else:
                out.say(f"thawed: {part.name}")
    if failed:
        raise UnreachableError(
            "a freeze in the cluster itself may still stand: " + "; ".join(failed),
            remedy="run it again once the cluster answers",
        )
    return 0
