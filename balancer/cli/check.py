"""`balancer check`: can the hosts be reached, logged in to and driven?"""

from __future__ import annotations

import dataclasses

import click
from rich.table import Table
from rich.text import Text

from balancer.cli.options import Source, records_options
from balancer.cli.output import print_json
from balancer.cli.site import open_site
from balancer.cli.terminal import out
from balancer.connect import reach
from balancer.errors import ExitCode


@click.command(name="check")
@records_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(source: Source, *, as_json: bool) -> int:
    """Ask every configured host who it is and whether it can be read; nothing is changed."""
    site = open_site(source)
    found = reach(site.config, site.part)
    if as_json:
        print_json({"cluster": site.name, "hosts": [dataclasses.asdict(one) for one in found]})
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("", "host", "module", "what"):
            table.add_column(heading, overflow="fold")
        for one in found:
            mark = Text("ok", "green") if one.ok else Text("no", "red")
            module = "" if one.module is None else str(one.module)
            table.add_row(mark, Text(one.host), module, Text(one.text))
        out.print(table)
    return ExitCode.DONE if all(one.ok for one in found) else ExitCode.CANNOT_REACH
