"""`balancer resume`: take hosts back after maintenance, and bring back what was there."""

from __future__ import annotations

from dataclasses import replace

import click

from balancer.cli.carry import Onlooker
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.maintain import alone, ask, finish
from balancer.cli.options import Source, examples, site_options
from balancer.cli.output import show_plan
from balancer.cli.progress import watching
from balancer.cli.site import open_site
from balancer.clock import SystemClock
from balancer.execute.resume import resume
from balancer.model.plan import Plan


@click.command(
    name="resume", epilog=examples("balancer resume HV07", "balancer resume HV07 --restore")
)
@site_options
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--restore", is_flag=True, help="Bring back what the last drain took away.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(source: Source, hosts: tuple[str, ...], *, restore: bool, as_json: bool) -> int:
    """Let VMs land on HOSTs again; nothing comes back by itself.

    With --restore the VMs, roles and volumes that the last drain of the host took away return, as
    far as rules and room allow.
    """
    site, clock = open_site(source), SystemClock()
    with asked_to_stop() as interrupted, site.store() as store:
        arguments = {"hosts": list(hosts), "restore": restore}
        code = ask(store, site.name, clock, "resume", arguments, interrupted, as_json=as_json)
        if code is not None:
            return code
        with (
            site.gateway(clock) as gateway,
            alone(site, store, gateway, clock, interrupted) as charge,
            watching(as_json=as_json) as watch,
        ):
            onlooker = Onlooker(watch, quiet=as_json)

            def planned(plan: Plan) -> None:
                if not as_json:
                    show_plan(plan)

            watched = replace(charge, on_progress=onlooker.progress)
            report = resume(hosts, watched, restore=restore, on_plan=planned)
    return finish(report, onlooker.told, as_json=as_json, verb="resumed")
