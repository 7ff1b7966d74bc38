"""`balancer apply`: execute a plan that was made before, or plan and execute in one go."""

from __future__ import annotations

from pathlib import Path

import click

from balancer.cli.ask import have_carried_out
from balancer.cli.options import Source, examples, site_options
from balancer.cli.site import Site, open_site
from balancer.errors import ExitCode, InputError
from balancer.formats.plan import plan_to_json, read_plan
from balancer.judged import UNDATED
from balancer.model.plan import Plan


@click.command(
    name="apply",
    epilog=examples(
        "balancer apply",
        "balancer plan -o plan.json && balancer apply plan.json",
        "balancer apply --max-migrations 3 --json > report.json",
    ),
)
@site_options
@click.argument("plan_file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--max-migrations", type=click.IntRange(min=0), metavar="N", help="Execute at most N."
)
@click.option("--anytime", is_flag=True, help="Also outside the policy's windows.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    source: Source,
    plan_file: Path | None,
    max_migrations: int | None,
    *,
    anytime: bool,
    as_json: bool,
) -> int:
    """Execute the plan in PLAN_FILE; without one, plan now and execute that.

    Each migration is judged again on a fresh reading before it starts. Ctrl-C starts nothing
    more, lets what moves arrive, restores host settings and reports. Where the service holds the
    cluster, it is asked to do all this.
    """
    given = None if plan_file is None else read_plan(plan_file)
    site = open_site(source)
    arguments: dict[str, object] = {"max_migrations": max_migrations, "anytime": anytime}
    own_policy = source.policy_file is not None
    if given is not None:
        return apply(site, given, arguments, own_policy=own_policy, as_json=as_json)
    with site.store() as store:
        return have_carried_out(
            site, store, "apply", arguments, own_policy=own_policy, as_json=as_json
        )


def apply(
    site: Site,
    plan: Plan,
    arguments: dict[str, object],
    *,
    verb: str = "apply",
    own_policy: bool = False,
    as_json: bool,
) -> ExitCode:
    """Have `plan` executed on `site`, with progress on stderr, and print the report.

    Raises:
        InputError: It is a plan for another cluster, or has gone stale.
        HeldError: Somebody holds the cluster who does not carry out requests.
    """
    if plan.cluster.casefold() != site.name.casefold():
        raise InputError(
            f"the plan {plan.id} is for {plan.cluster!r}, not for {site.name!r}",
            remedy="choose its cluster with --cluster, or make a plan for this one",
        )
    if plan.created_at == UNDATED:
        raise InputError(
            f"the plan {plan.id} was made from a snapshot that does not say when it was taken",
            remedy="add taken_at to the snapshot, or plan on the cluster itself: `balancer plan`",
        )
    with site.store() as store:
        store.plans.save(plan, plan_to_json(plan))
        arguments = {**arguments, "plan": plan.id}
        return have_carried_out(
            site, store, verb, arguments, own_policy=own_policy, as_json=as_json
        )
