"""`balancer simulate`: serve a simulated cluster over WinRM, to try things on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.markup import escape

from balancer.cli.files import make_directory
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.options import Finite, examples
from balancer.cli.output import print_json
from balancer.cli.simulated import serve
from balancer.cli.terminal import out
from balancer.clock import ScaledClock, SystemClock
from balancer.gateway.simulator.scenario import SCENARIOS

LOOK_S = 0.2  # real seconds between two looks at whether Ctrl-C has come


@click.command(
    name="simulate",
    epilog=examples(
        "balancer simulate",
        "balancer simulate --scenario branch --speed 10 --directory /tmp/branch",
    ),
)
@click.option(
    "--scenario",
    metavar="NAME|FILE",
    default="demo",
    show_default=True,
    help=f"Which cluster: {', '.join(sorted(SCENARIOS))}, or a scenario file (YAML).",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="N", help="Of its VMs and their load."
)
@click.option(
    "--speed",
    type=Finite(min=0.1, max=1000.0),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="How much faster than life its time runs.",
)
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Govern it by this policy instead of the shipped one.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Put configuration, password and records there; by default into a new one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the endpoints as JSON.")
def command(
    scenario: str,
    seed: int,
    speed: float,
    policy: Path | None,
    directory: Path | None,
    *,
    as_json: bool,
) -> int:
    """Serve a simulated cluster on loopback until Ctrl-C; every verb works on it."""
    with tempfile.TemporaryDirectory(prefix="balancer-simulated-") as temporary:
        place = directory or Path(temporary)
        make_directory(place)
        clock = ScaledClock(speed)
        with (
            asked_to_stop() as interrupted,
            serve(scenario, clock, place, seed=seed, policy=policy) as simulated,
        ):
            config = simulated.config.absolute()
            if as_json:
                endpoints = {h: f"{a}:{p}" for h, (a, p) in simulated.site.endpoints.items()}
                print_json({"config": str(config), "endpoints": endpoints})
            else:
                hosts = len(simulated.site.endpoints)
                out.print(f"Serving {hosts} simulated hosts over WinRM. In another terminal:")
                out.print(
                    f"  export BALANCER_CONFIG={escape(str(config))}\n"
                    "  balancer check; balancer observe; balancer plan; balancer apply",
                    soft_wrap=True,
                )
                out.print("Ctrl-C ends it.")
            while not interrupted():
                SystemClock().sleep(LOOK_S)
    return 0
