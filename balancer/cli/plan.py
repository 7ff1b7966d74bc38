"""`balancer plan`: from a snapshot or a live cluster to a judged plan."""

from __future__ import annotations

from pathlib import Path

import click

from balancer.cli.explained import show_conflicts
from balancer.cli.files import check_output, write_file
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.options import SECONDS, Source, examples, seconds_since_start, source_options
from balancer.cli.output import print_json, show_plan, warn
from balancer.errors import ExitCode
from balancer.formats.plan import plan_to_json
from balancer.judged import plan_and_judge
from balancer.model.plan import Status, StoppedBy
from balancer.planner.conflict import conflicts
from balancer.planner.whynot import Inquiry
from balancer.policy.heed import heeding


@click.command(
    name="plan",
    epilog=examples(
        "balancer plan -o plan.json && balancer apply plan.json",
        "balancer plan --snapshot inventory.json --policy policies/conservative.yaml",
        "balancer plan --snapshot - --max-migrations 5 --json < inventory.json",
    ),
)
@source_options
@click.option(
    "--max-migrations",
    type=click.IntRange(min=0),
    metavar="N",
    help="Plan at most N migrations; the lowest of all caps wins.",
)
@click.option(
    "--time-limit",
    type=SECONDS,
    metavar="S",
    help="End the whole command within S seconds, with the best plan by then; beyond six, more is "
    "searched for than by default.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the search's choices.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the plan document there, for `balancer apply`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan document.")
def command(
    source: Source,
    max_migrations: int | None,
    time_limit: float | None,
    seed: int,
    output: Path | None,
    *,
    as_json: bool,
) -> int:
    """Plan the migrations that bring a cluster within policy; nothing is moved.

    The plan is proven safe by an independent judge before it is shown. The same snapshot, policy,
    seed and time limit give the same plan to the byte, unless that limit or Ctrl-C ends the search.
    """
    check_output(output)
    with asked_to_stop() as interrupted:
        seen = source.read()
        cluster, policy = heeding(seen.cluster, source.policy(), seen.asides)
        behind = source.behind(cluster, policy)
        made = plan_and_judge(
            cluster,
            policy,
            behind=behind,
            seed=seed,
            max_migrations=max_migrations,
            time_limit_s=time_limit,
            elapsed_s=seconds_since_start(),
            interrupted=interrupted,
            sha256=seen.sha256,
        )
    document = plan_to_json(made.plan)
    if output is not None:
        write_file(output, document)
    for text in (*seen.warnings, *made.warnings):
        warn(text)
    if as_json:
        print_json(document)
    else:
        show_plan(made.plan)
        # Whoever set a time limit asks `explain --conflict` for it: it was spent on the plan.
        if made.plan.status is Status.INFEASIBLE and time_limit is None:
            needed, past = (cluster, None) if behind is None else (behind.cluster, behind.past)
            asked = Inquiry(needed, policy, made.plan, past)
            show_conflicts(conflicts(asked.problem, asked.place))
    if made.plan.stopped_by is StoppedBy.INTERRUPT:
        return ExitCode.INTERRUPTED  # what was found by then is a whole plan, and judged
    if made.plan.status is Status.INFEASIBLE:
        return ExitCode.ANSWER_IS_NO
    return ExitCode.DONE
