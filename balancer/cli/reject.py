"""`balancer reject`: say no to a recommended plan."""

from __future__ import annotations

import click

from balancer.cli.options import Source, examples, records_options
from balancer.cli.terminal import out
from balancer.cli.who import me
from balancer.clock import SystemClock
from balancer.config import load_config
from balancer.errors import RefusedError
from balancer.service.verbs import stored_plan
from balancer.store.standing import Approval, Verdict
from balancer.store.store import Store


@click.command(
    name="reject",
    epilog=examples("balancer reject plan-d76629274378a1f9 --reason 'backup tonight'"),
)
@records_options
@click.argument("plan")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit log.")
def command(source: Source, plan: str, reason: str) -> int:
    """Reject PLAN (its id): it will not be carried out. The next one is another question."""
    config = load_config(source.config)
    with Store.open(config.store) as store:
        made = stored_plan(store, plan)
        now = SystemClock().now()
        given = Approval(made.id, made.cluster, Verdict.REJECTED, me(), now, reason)
        stands = store.approvals.give(given)
    if stands.verdict is not Verdict.REJECTED:
        raise RefusedError(
            f"plan {made.id} was approved by {stands.by} at {stands.at:%Y-%m-%d %H:%M} UTC",
            remedy="`balancer cancel` stops what is being carried out",
        )
    out.say(f"rejected {made.id}")
    return 0
