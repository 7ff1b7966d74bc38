"""`balancer approve`: let a recommended plan be carried out."""

from __future__ import annotations

import click

from balancer.cli.ask import have_carried_out
from balancer.cli.options import Source, examples, records_options
from balancer.cli.site import open_site
from balancer.cli.who import me
from balancer.clock import SystemClock
from balancer.execute.gate import check_plan
from balancer.service.verbs import check_approvable, stored_plan
from balancer.store.standing import Approval, Verdict


@click.command(
    name="approve", epilog=examples("balancer approve plan-d76629274378a1f9 --reason 'looks right'")
)
@records_options
@click.argument("plan")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit log.")
@click.option("--anytime", is_flag=True, help="Also outside the policy's windows.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(source: Source, plan: str, reason: str, *, anytime: bool, as_json: bool) -> int:
    """Approve PLAN (its id), have it carried out, and show how that goes.

    A plan lives for as long as the policy says, and only under the policy it was made by. Each
    migration is judged again before it starts; what the cluster has outgrown is left out.
    """
    site, clock = open_site(source), SystemClock()
    with site.store() as store:
        made = stored_plan(store, plan)
        check_plan(made, site.name, clock.now())
        check_approvable(made, store.approvals.of(made.id), site.policy)
        given = Approval(made.id, site.name, Verdict.APPROVED, me(), clock.now(), reason)
        check_approvable(made, store.approvals.give(given), site.policy)
        arguments = {"plan": made.id, "anytime": anytime}
        return have_carried_out(site, store, "approve", arguments, as_json=as_json)
