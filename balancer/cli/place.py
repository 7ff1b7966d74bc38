"""`balancer place`: the best host for a VM that does not exist yet."""

from __future__ import annotations

import dataclasses

import click
from rich.table import Table
from rich.text import Text

from balancer.cli.options import Finite, Source, examples, source_options
from balancer.cli.output import print_json, warn
from balancer.cli.terminal import out
from balancer.errors import ExitCode, InputError
from balancer.planner import place
from balancer.policy.quantities import parse_size


@click.command(name="place", epilog=examples('balancer place --cpu 4 --memory "16 GiB"'))
@source_options
@click.option(
    "--cpu",
    type=Finite(min=0.0),
    required=True,
    metavar="CORES",
    help="Cores it is expected to use.",
)
@click.option("--memory", required=True, metavar="SIZE", help='Its memory, for example "16 GiB".')
@click.option("--json", "as_json", is_flag=True, help="Print the ranking as JSON.")
def command(source: Source, cpu: float, memory: str, *, as_json: bool) -> int:
    """Rank the hosts for a new VM; exit code 3 when none can take it."""
    try:
        memory_bytes = parse_size(memory)
    except ValueError as error:
        raise InputError(f"--memory: {error}", remedy='write for example "16 GiB"') from error
    seen = source.read()
    for text in seen.warnings:
        warn(text)
    ranking = place(seen.cluster, source.policy(), cpu, memory_bytes)
    if as_json:
        print_json({"hosts": [dataclasses.asdict(advice) for advice in ranking]})
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("", "host", "why"):
            table.add_column(heading, overflow="fold")
        for rank, advice in enumerate(ranking, 1):
            mark = "" if advice.obstacle else f"{rank}."
            table.add_row(mark, Text(advice.host), Text(advice.obstacle or advice.reason))
        out.print(table)
    fits = any(not advice.obstacle for advice in ranking)
    return ExitCode.DONE if fits else ExitCode.ANSWER_IS_NO
