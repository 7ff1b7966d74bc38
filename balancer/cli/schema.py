"""`balancer schema`: the JSON Schemas of our documents, for editors and other tools."""

from __future__ import annotations

import json

import click

from balancer.cli.options import examples
from balancer.cli.output import print_json


@click.command(name="schema", epilog=examples("balancer schema policy > policy.schema.json"))
@click.argument("document", type=click.Choice(["snapshot", "plan", "policy", "config"]))
@click.option("--json", "as_json", is_flag=True, help="On one line; the output is JSON anyway.")
def command(document: str, *, as_json: bool) -> None:
    """Print the JSON Schema of DOCUMENT (draft 2020-12)."""
    # Imported here: only this verb needs them.
    from balancer.config import config_schema  # noqa: PLC0415
    from balancer.formats.schema import schema  # noqa: PLC0415

    found = config_schema() if document == "config" else schema(document)
    print_json(json.dumps(found, indent=None if as_json else 2, ensure_ascii=False))
