"""`balancer observe`: read a cluster, show it, or write it down as a snapshot."""

from __future__ import annotations

from pathlib import Path

import click

from balancer.cli.files import check_output, write_file
from balancer.cli.options import Source, examples, source_options
from balancer.cli.output import hosts_table, print_json, warn
from balancer.cli.terminal import out
from balancer.formats.snapshot import snapshot_to_json


@click.command(
    name="observe",
    epilog=examples("balancer observe", "balancer observe -o snapshot.json"),
)
@source_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the snapshot there, for `balancer plan --snapshot`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot document.")
def command(source: Source, output: Path | None, *, as_json: bool) -> int:
    """Read a cluster: hosts, load, VMs, rules and settings; nothing is changed."""
    check_output(output)
    seen = source.read()
    for text in seen.warnings:
        warn(text)
    document = snapshot_to_json(seen.cluster)
    if output is not None:
        write_file(output, document)
    if as_json:
        print_json(document)
    else:
        vms = seen.cluster.vms
        running = sum(vm.is_load for vm in vms)
        title = f"{seen.cluster.name}: {len(vms)} VMs, {running} of them running"
        out.print(hosts_table(seen.cluster, source.policy(), title))
    return 0
