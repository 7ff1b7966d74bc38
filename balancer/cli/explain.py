"""`balancer explain`: why a plan does what it does, and why a VM is not elsewhere."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from balancer.cli.options import Source, examples, source_options
from balancer.cli.output import print_json, show_plan, warn
from balancer.cli.pick import pick_host, pick_vm
from balancer.cli.terminal import out
from balancer.cycle import plan_and_judge
from balancer.execute.aside import heeding
from balancer.formats.plan import plan_to_json, read_plan
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.planner import why_not


@click.command(
    name="explain",
    epilog=examples(
        "balancer explain plan.json",
        "balancer explain --why-not SQL01:HV07",
        "balancer explain --snapshot inventory.json --why-not SQL01",
    ),
)
@source_options
@click.argument("plan_file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--why-not",
    "question",
    metavar="VM[:HOST]",
    help="What keeps a VM (id or name) from a host, or from every other host.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: Source, plan_file: Path | None, question: str | None, *, as_json: bool) -> int:
    """Say why: of the plan in PLAN_FILE, or of the plan that would be made now."""
    if question is not None:
        return _answer(source, question, as_json=as_json)
    if plan_file is not None:
        plan = read_plan(plan_file)
    else:
        seen = source.read()
        cluster, policy = heeding(seen.cluster, source.policy(), seen.asides)
        behind = source.behind(cluster, policy)
        made = plan_and_judge(cluster, policy, behind=behind, sha256=seen.sha256)
        for text in (*seen.warnings, *made.warnings):
            warn(text)
        plan = made.plan
    if as_json:
        print_json(plan_to_json(plan))
    else:
        show_plan(plan)
        _show_tiers(plan)
    return 0


def _show_tiers(plan: Plan) -> None:
    if not plan.score.tiers:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("goal, most important first", no_wrap=True)
    for heading in ("before", "after", "proven at least"):
        table.add_column(heading, justify="right")
    for tier in plan.score.tiers:
        bound = "" if tier.bound is None else f"{tier.bound:.4g}"
        table.add_row(tier.name, f"{tier.before:.4g}", f"{tier.after:.4g}", bound)
    out.print(table)


def _answer(source: Source, question: str, *, as_json: bool) -> int:
    seen = source.read()
    for text in seen.warnings:
        warn(text)
    cluster, policy = heeding(seen.cluster, source.policy(), seen.asides)
    vm_text, host = _split(cluster, question)
    vm = pick_vm(cluster, vm_text)
    behind = source.behind(cluster, policy)
    needed, past = (cluster, None) if behind is None else (behind.cluster, behind.past)
    hosts = [host] if host else sorted(h.name for h in cluster.hosts if h.name != vm.host)
    found = {name: list(why_not(needed, policy, vm.id, name, past)) for name in hosts}
    if as_json:
        print_json({"vm": vm.id, "name": vm.name, "host": vm.host, "against": found})
        return 0
    out.print(f"[bold]{escape(vm.name)}[/] is on {escape(vm.host)}.")
    for name, against in found.items():
        if against:
            for sentence in against:
                out.print(f"  {escape(name)}: {escape(sentence)}")
        else:
            out.print(f"  {escape(name)}: nothing stands against it; a plan tells if it pays")
    return 0


def _split(cluster: Cluster, question: str) -> tuple[str, str | None]:
    """Split VM:HOST at the last colon, unless the whole is a VM: names may hold colons."""
    head, colon, tail = question.rpartition(":")
    if not colon or not head or pick_vm(cluster, question, or_none=True) is not None:
        return question, None
    return head, pick_host(cluster, tail).name
