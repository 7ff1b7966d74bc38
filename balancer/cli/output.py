"""What the verbs print: JSON for programs, bars, tables and sentences for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.cli.terminal import err, out, write_document
from balancer.model.cluster import Cluster, HostState
from balancer.model.plan import Lost, Migration, Plan, Score, Status, StoppedBy
from balancer.policy.capacity import fixed_cores, usable
from balancer.policy.policy import Policy
from balancer.policy.survival import RANKS

GIB = 2**30
BAR_CELLS_MIN, BAR_CELLS_MAX = 5, 20
BESIDE_BARS = 58  # columns that the rest of the table of hosts takes, with names of 15 letters
WIDE = 110  # columns from which reasons stand beside their migrations
REASONS_SHOWN = 8  # of hosts that stay awake
MINUTE_S = 60
HOUR_S = 3600


def print_json(document: str | Mapping[str, object]) -> None:
    """Write one JSON document, and nothing else, to stdout."""
    write_document(
        document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    )


def warn(text: str) -> None:
    """Write one warning line to stderr."""
    err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def bar(share: float, limit: float) -> Text:
    """Return a bar of the share 0..1 used, red above `limit`, with a mark at the limit."""
    width = max(BAR_CELLS_MIN, min(BAR_CELLS_MAX, (out.width - BESIDE_BARS) // 2))
    cells = min(width, round(share * width))
    mark = min(width - 1, round(limit * width))
    style = "red" if share > limit + 1e-9 else "green"
    text = Text()
    for cell in range(width):
        if cell < cells:
            text.append("█", style)
        else:
            text.append("│" if cell == mark else "·", "bright_black")
    text.append(f" {share:4.0%}", style if share > limit + 1e-9 else "")
    return text


def utilisation(cluster: Cluster, policy: Policy, host_name: str) -> tuple[float, float]:
    """Return the CPU and memory utilisation of a host's usable capacity, as plans see it."""
    host = cluster.host_by_name[host_name]
    room = usable(host, policy)
    vms = [vm for vm in cluster.vms_on[host_name] if vm.is_load]
    cores = fixed_cores(cluster, host) + sum(vm.cpu_demand_cores for vm in vms)
    cpu = cores / room.cpu_cores if room.cpu_cores else 0.0
    held = sum(vm.memory_needed_bytes for vm in vms)
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
    """Return the migrations with transports and reasons, on two lines each where it is narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("VM", no_wrap=out.width >= WIDE, max_width=28, overflow="fold")
    table.add_column("from → to", no_wrap=True)
    table.add_column("transport", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    if out.width >= WIDE:
        table.add_column("why", overflow="fold")
    for number, migration in enumerate(plan.migrations, 1):
        row: list[str | Text] = [
            str(number),
            Text(migration.name),
            Text(f"{migration.source} → {migration.target}" + _stopover(migration)),
            migration.transport.value,
            f"{migration.bytes / GIB:.1f}",
            duration(migration.start_s),
            duration(migration.duration_s),
        ]
        table.add_row(*row, *([Text(migration.reason)] if out.width >= WIDE else []))
    return table


def print_migrations(plan: Plan) -> None:
    """Print the migrations of a plan; where it is narrow, their reasons below the table."""
    out.print(plan_table(plan))
    if out.width >= WIDE:
        return
    by_reason: dict[str, list[str]] = {}
    for number, migration in enumerate(plan.migrations, 1):
        by_reason.setdefault(migration.reason, []).append(str(number))
    out.print("why")
    for reason, numbers in by_reason.items():
        out.print(Text(f"  {', '.join(numbers)}: {reason}"))


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


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 migration`, `2 migrations`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _balance(score: Score) -> str:
    change = f"balance score {score.before:.4f} → {score.after:.4f}"
    if score.after > score.before:
        return f"{change}, worse for what comes before balance"
    return (
        f"{change}; proven bound {score.bound:.4f} ({score.bound_kind}), {score.closed:.1%} of "
        "what could be gained is gained"
    )


def _show_settings(plan: Plan) -> None:
    alike: dict[tuple[str, str, str], list[str]] = {}
    for change in plan.settings:
        alike.setdefault((change.setting, change.before, change.during), []).append(change.host)
    for (setting, before, during), hosts in alike.items():
        out.say(
            f"setting: {setting} {before} → {during} for these migrations, then back: "
            f"{escape(', '.join(hosts))}"
        )


def _show_sleep(plan: Plan) -> None:
    """Print which hosts may sleep, and what keeps the others awake; alike reasons once."""
    alike: dict[tuple[bool, str], list[str]] = {}
    for one in plan.sleep:
        alike.setdefault((one.may_sleep, one.reason), []).append(one.host)
    ordered = sorted(alike.items(), key=lambda pair: (not pair[0][0], -len(pair[1])))
    left = sum(not may_sleep for may_sleep, _ in alike) - REASONS_SHOWN
    for (may_sleep, reason), hosts in ordered[: len(ordered) - max(0, left)]:
        words = "[green]may sleep:[/]" if may_sleep else "[bright_black]stays awake:[/]"
        out.say(f"{words} {escape(', '.join(hosts))}: {escape(reason)}")
    if left > 0:
        out.say(f"[bright_black]and {counted(left, 'host')} more, each for a reason of its own[/]")
    if any(one.may_sleep for one in plan.sleep):
        out.say(
            "Nothing is switched off here; `balancer drain` pauses a host and clears it of roles."
        )


def _show_survival(plan: Plan) -> None:
    """Print what may fail, or how much would not be survived."""
    if (one := plan.survival) is None:
        return
    for left in one.beyond_help:
        out.say(f"[yellow]beyond any plan:[/] {escape(left.problem)} ({escape(left.reason)})")
    if one.unseen:
        out.say(
            f"[yellow]not looked into:[/] {counted(one.unseen, 'set')} of hosts that may fail:"
            " there are too many of them, and a glance does not show that they are survived"
        )
    if one.beyond_help and not (one.before or one.after):
        return
    failures = f"{one.failures[:1].upper()}{one.failures[1:]}"
    failures += ", that aside," if one.beyond_help or one.unseen else ""
    if not one.after:
        now = f"; {counted(one.before, 'restart')} would find no host now" if one.before else ""
        when = "" if one.during else ", now, at the end and at every instant of the plan"
        when = when if plan.migrations and one.during is not None and not one.before else ""
        out.say(
            f"{escape(failures)} may fail{when}: every clustered VM that starts by itself finds "
            f"another{now}."
        )
        return
    out.say(
        f"[yellow]not survived:[/] {escape(failures)}: {counted(one.after, 'restart')}"
        f"{_sizes(one.lost_after)} would find no host at the end, {one.before}"
        f"{_sizes(one.lost_before)} now"
    )


def _sizes(lost: Lost | None) -> str:
    """Return how large losses are by priority, in brackets; empty for none."""
    sizes = [] if lost is None else zip(RANKS, lost, strict=True)
    parts = [f"{size / GIB:.1f} GiB of {rank} priority" for rank, size in sizes if size]
    return f" ({', '.join(parts)})" if parts else ""


def _why_nothing(plan: Plan) -> str:
    """Return why nothing is to be done; what a cap or a rule holds back is not within policy."""
    if plan.not_moved:
        return "no migration that may be made helps"
    if plan.survival is not None and plan.survival.beyond_help:
        return "nothing that a plan could mend"
    if any(not one.may_sleep for one in plan.sleep):
        return "no migration that may be made lets another host sleep"
    return "it is within policy"


def show_plan(plan: Plan, warnings: Sequence[str] = ()) -> None:
    """Print a plan for a person: what, why, how good, and what it leaves."""
    for text in warnings:
        warn(text)
    if plan.status is Status.NOTHING_TO_DO and not plan.unresolved:
        out.say(f"[green]Nothing to do[/] on {escape(plan.cluster)}: {_why_nothing(plan)}.")
    elif plan.migrations:
        gib = sum(migration.bytes for migration in plan.migrations) / GIB
        out.say(
            f"[bold]{counted(len(plan.migrations), 'migration')}[/], {gib:.0f} GiB, about "
            f"{duration(plan.makespan_s)} (no schedule is shorter than "
            f"{duration(plan.makespan_bound_s)})"
        )
        print_migrations(plan)
        out.say(f"{_balance(plan.score)}; {plan.status.value}")
    elif plan.status is not Status.INFEASIBLE:
        cut_short = plan.stopped_by in (StoppedBy.TIME, StoppedBy.INTERRUPT)
        stopped = "the search was stopped before it found any"
        out.say(f"No migrations: {stopped if cut_short else 'none that may be made helps'}.")
    _show_settings(plan)
    _show_sleep(plan)
    _show_survival(plan)
    if plan.status is Status.INFEASIBLE:
        out.say("[red]Infeasible[/]: something that must be done cannot be.")
    for left in plan.unresolved:
        out.say(
            f"[yellow]unresolved:[/] {escape(left.subject)}: {escape(left.problem)} "
            f"({escape(left.reason)})"
        )
    for stays in plan.not_moved:
        out.say(
            f"[bright_black]not moved:[/] {escape(stays.name)} on {escape(stays.host)}: "
            f"{escape(stays.reason)}"
        )
