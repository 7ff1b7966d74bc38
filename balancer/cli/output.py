"""What the terminal shows: one console, JSON on stdout, bars and tables for people.

Results go to stdout and everything else (warnings, progress, errors) to stderr, so that
`--json` output is one document and nothing more. Colour appears only on a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.model.cluster import Cluster, HostState
from balancer.model.plan import Migration, Plan, Status
from balancer.policy.capacity import usable
from balancer.policy.policy import Policy

GIB = 2**30
BAR_CELLS = 20
MINUTE_S = 60
HOUR_S = 3600

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)


def print_json(document: str | Mapping[str, object]) -> None:
    """Write one JSON document, and nothing else, to stdout."""
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one warning line to stderr."""
    err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def bar(share: float, limit: float) -> Text:
    """Return a bar of the share 0..1 used, red above `limit`, with a mark at the limit."""
    cells = min(BAR_CELLS, round(share * BAR_CELLS))
    mark = min(BAR_CELLS - 1, round(limit * BAR_CELLS))
    style = "red" if share > limit + 1e-9 else "green"
    text = Text()
    for cell in range(BAR_CELLS):
        if cell < cells:
            text.append("█", style)
        else:
            text.append("│" if cell == mark else "·", "bright_black")
    text.append(f" {share:4.0%}", style if share > limit + 1e-9 else "")
    return text


def utilisation(cluster: Cluster, policy: Policy, host_name: str) -> tuple[float, float]:
    """Return the CPU and memory utilisation of a host's usable capacity."""
    host = cluster.host_by_name[host_name]
    room = usable(host, policy)
    vms = [vm for vm in cluster.vms_on[host_name] if vm.is_load]
    by_vms = sum(vm.cpu_used_cores for vm in vms)
    cpu = max(by_vms, host.cpu_used_cores or 0.0) / room.cpu_cores if room.cpu_cores else 0.0
    held = sum(vm.memory_assigned_bytes for vm in vms)
    memory = held / room.memory_bytes if room.memory_bytes else 0.0
    return cpu, memory


def hosts_table(cluster: Cluster, policy: Policy, title: str) -> Table:
    """Return the hosts as bars: CPU, memory, VMs, transport, state."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("host", "CPU", "memory", "VMs", "transport", "state"):
        table.add_column(heading, justify="right" if heading == "VMs" else "left", no_wrap=True)
    for host in sorted(cluster.hosts, key=lambda host: host.name):
        cpu, memory = utilisation(cluster, policy, host.name)
        up = host.state is HostState.UP
        table.add_row(
            Text(host.name),
            bar(cpu, policy.thresholds.cpu),
            bar(memory, policy.thresholds.memory),
            str(sum(vm.is_load for vm in cluster.vms_on[host.name])),
            host.migration.transport.value,
            Text(host.state.value, "" if up else "yellow"),
        )
    return table


def plan_table(plan: Plan) -> Table:
    """Return the migrations with transports and reasons."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("VM", no_wrap=True, max_width=28)
    table.add_column("from → to", no_wrap=True)
    table.add_column("transport", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for number, migration in enumerate(plan.migrations, 1):
        table.add_row(
            str(number),
            Text(migration.name),
            Text(f"{migration.source} → {migration.target}" + _stopover(migration)),
            migration.transport.value,
            f"{migration.bytes / GIB:.1f}",
            duration(migration.start_s),
            duration(migration.duration_s),
            Text(migration.reason),
        )
    return table


def _stopover(migration: Migration) -> str:
    return " (stop-over)" if migration.stopover else ""


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `8 s`, `2 min 05 s`, `1 h 12 min`."""
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"


def show_plan(plan: Plan, warnings: Sequence[str] = ()) -> None:
    """Print a plan for a person: what, why, how good, and what it leaves."""
    for text in warnings:
        warn(text)
    score = plan.score
    if plan.status is Status.NOTHING_TO_DO and not plan.unresolved:
        out.print(f"[green]Nothing to do[/] on {escape(plan.cluster)}: it is within policy.")
    elif plan.migrations:
        gib = sum(migration.bytes for migration in plan.migrations) / GIB
        out.print(
            f"[bold]{len(plan.migrations)} migrations[/], {gib:.0f} GiB, about "
            f"{duration(plan.makespan_s)} (no schedule is shorter than "
            f"{duration(plan.makespan_bound_s)})"
        )
        out.print(plan_table(plan))
        out.print(
            f"balance score {score.before:.4f} → {score.after:.4f}; proven bound "
            f"{score.bound:.4f} ({score.bound_kind}), {score.closed:.1%} of what could be gained"
            f" is gained; {plan.status.value}"
        )
    for change in plan.settings:
        out.print(
            f"setting: {escape(change.host)} {change.setting} {change.before} → "
            f"{change.during} for these migrations, then back"
        )
    if plan.status is Status.INFEASIBLE:
        out.print("[red]Infeasible[/]: something that must be done cannot be.")
    for left in plan.unresolved:
        out.print(
            f"[yellow]unresolved:[/] {escape(left.subject)}: {escape(left.problem)} "
            f"({escape(left.reason)})"
        )
    for stays in plan.not_moved:
        out.print(
            f"[bright_black]not moved:[/] {escape(stays.name)} on {escape(stays.host)}: "
            f"{escape(stays.reason)}"
        )
