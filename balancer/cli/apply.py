"""`balancer apply`: execute a plan that was made before, or plan and execute in one go."""

from __future__ import annotations

from pathlib import Path

import click

from balancer.cli.carry import Onlooker, finish
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.options import Source, examples, site_options
from balancer.cli.output import print_json
from balancer.cli.progress import watching
from balancer.cli.site import Site, open_site
from balancer.clock import SystemClock
from balancer.cycle import UNDATED, run_cycle
from balancer.errors import ExitCode, InputError
from balancer.execute.executor import execute
from balancer.formats.plan import plan_to_json, read_plan
from balancer.model.plan import Plan, Status
from balancer.store.leases import holder_name


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
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    source: Source, plan_file: Path | None, max_migrations: int | None, *, as_json: bool
) -> int:
    """Execute the plan in PLAN_FILE; without one, plan now and execute that.

    Each migration is judged again on a fresh reading before it starts. Ctrl-C starts nothing
    more, lets what moves arrive, restores host settings and reports.
    """
    given = None if plan_file is None else read_plan(plan_file)
    site = open_site(source)
    if given is not None:
        return apply(site, given, max_migrations, as_json=as_json)
    clock = SystemClock()
    with (
        asked_to_stop() as interrupted,
        site.store() as store,
        site.gateway(clock) as gateway,
        watching(as_json=as_json) as watch,
    ):
        onlooker = Onlooker(watch, quiet=as_json)
        cycle = run_cycle(
            site.name,
            site.policy,
            gateway,
            store,
            clock,
            act=True,
            max_migrations=max_migrations,
            interrupted=interrupted,
            watcher=onlooker,
        )
    if cycle.report is not None:
        return finish(cycle.report, onlooker.told, as_json=as_json)
    if as_json:
        print_json(plan_to_json(cycle.plan))
    if interrupted():
        return ExitCode.INTERRUPTED
    infeasible = cycle.plan.status is Status.INFEASIBLE
    return ExitCode.ANSWER_IS_NO if infeasible else ExitCode.DONE


def apply(site: Site, plan: Plan, max_migrations: int | None, *, as_json: bool) -> ExitCode:
    """Execute `plan` on `site`, with progress on stderr, and print the report.

    Raises:
        InputError: It is a plan for another cluster, or has gone stale.
        HeldError: Another executor holds the cluster.
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
    clock = SystemClock()
    with (
        asked_to_stop() as interrupted,
        site.store() as store,
        site.gateway(clock) as gateway,
        store.leases.hold(site.name, holder_name(), clock) as lease,
        watching(as_json=as_json) as watch,
    ):
        store.plans.save(plan, plan_to_json(plan))
        onlooker = Onlooker(watch, quiet=as_json)
        report = execute(
            plan,
            site.policy,
            gateway,
            store,
            clock,
            lease=lease,
            interrupted=interrupted,
            on_progress=onlooker.progress,
            max_migrations=max_migrations,
        )
    return finish(report, onlooker.told, as_json=as_json)
