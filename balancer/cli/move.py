"""`balancer move`: live migrate one VM, to a named host or to the best one."""

from __future__ import annotations

import click

from balancer.cli.apply import apply
from balancer.cli.options import Source, examples, source_options
from balancer.cli.output import print_json, show_plan, warn
from balancer.cli.pick import pick_host, pick_vm
from balancer.cli.site import open_site
from balancer.errors import InputError
from balancer.formats.plan import plan_to_json
from balancer.judged import judged, moment_of
from balancer.planner import move

BEST = "best"


@click.command(
    name="move",
    epilog=examples(
        "balancer move web01 --to HV03",
        "balancer move 85a248df-454a-5f69-b040-02dd91d1bda7 --dry-run",
    ),
)
@source_options
@click.argument("vm")
@click.option(
    "--to", "to", default=BEST, show_default=True, metavar="HOST", help="A host, or `best`."
)
@click.option("--dry-run", is_flag=True, help="Only print the plan.")
@click.option("--anytime", is_flag=True, help="Also outside the policy's windows.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the report as JSON.")
def command(
    source: Source, vm: str, to: str, *, dry_run: bool, anytime: bool, as_json: bool
) -> int:
    """Live migrate VM (an id or a name); rules and capacity are kept, or it is refused."""
    if source.snapshot is not None and not dry_run:
        raise InputError(
            "a VM in a snapshot cannot be moved", remedy="add --dry-run, or leave out --snapshot"
        )
    seen = source.read()
    for text in seen.warnings:
        warn(text)
    policy = source.policy()
    chosen = pick_vm(seen.cluster, vm)
    target = None if to.casefold() == BEST else pick_host(seen.cluster, to).name
    now = moment_of(seen.cluster)
    made = move(seen.cluster, policy, chosen.id, target, now=now, snapshot_sha256=seen.sha256)
    judged(seen.cluster, policy, made)
    if dry_run or not made.migrations:
        if as_json:
            print_json(plan_to_json(made))
        else:
            show_plan(made)
        return 0
    if not as_json:
        show_plan(made)
    return apply(
        open_site(source),
        made,
        {"anytime": anytime},
        verb="move",
        own_policy=source.policy_file is not None,
        as_json=as_json,
    )
