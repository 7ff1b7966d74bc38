"""`balancer drain`: empty hosts before maintenance, or show how that would go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import click
from rich.markup import escape

from balancer.cli.carry import Onlooker
from balancer.cli.explained import show_conflicts
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.maintain import alone, ask, finish, local_zone, show_stuck
from balancer.cli.options import Source, examples, source_options
from balancer.cli.output import duration, print_json, show_plan, warn
from balancer.cli.progress import watching
from balancer.cli.site import Site, open_site
from balancer.cli.terminal import out
from balancer.cli.who import me
from balancer.clock import SystemClock
from balancer.errors import ExitCode, InputError
from balancer.execute.drain import drain, expected_s, latest_start, refuse_late, stretch_of
from balancer.execute.leaving import check_may_leave, hosts_named
from balancer.execute.window import MARGIN_UNMEASURED
from balancer.formats.plan import plan_to_json
from balancer.formats.snapshot import snapshot_sha256
from balancer.gateway.port import Observation
from balancer.judged import judged, moment_of
from balancer.model.drain import OnFailure, Order
from balancer.model.plan import Status
from balancer.planner import Evacuation
from balancer.planner import drain as plan_drain
from balancer.planner.conflict import conflicts
from balancer.planner.whynot import Inquiry
from balancer.policy.deadline import read_deadline


@click.command(
    name="drain",
    epilog=examples(
        "balancer drain HV07 --dry-run",
        'balancer drain HV07 --by "06:00 Europe/Berlin"',
        "balancer drain HV07 HV08 --keep-reserve --on-failure resume",
        "balancer drain HV07 --dry-run --snapshot inventory.json --json",
    ),
)
@source_options
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option(
    "--by",
    metavar="TIME",
    help="Refuse unless it ends by then: 06:00, 06:00 Europe/Berlin, 2026-10-25T02:30+01:00.",
)
@click.option("--dry-run", is_flag=True, help="Only print the plan, with its latest start.")
@click.option("--keep-reserve", is_flag=True, help="Never use the reserve, nor room for failures.")
@click.option(
    "--on-failure",
    type=click.Choice([each.value for each in OnFailure]),
    default=OnFailure.PAUSE.value,
    show_default=True,
    help="How a host is left that could not be emptied.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the report as JSON.")
def command(
    source: Source,
    hosts: tuple[str, ...],
    by: str | None,
    on_failure: str,
    *,
    dry_run: bool,
    keep_reserve: bool,
    as_json: bool,
) -> int:
    """Empty HOSTs of everything: VMs by live migration, roles, volumes and stopped VMs.

    Room and rules are checked first; the node is paused, so that nothing lands on it, and stays
    paused. Draining again carries on where a drain ended; `balancer resume` takes the host back.
    """
    if source.snapshot is not None and not dry_run:
        raise InputError(
            "a host in a snapshot cannot be drained", remedy="add --dry-run, or leave it out"
        )
    if source.snapshot is not None:
        return _on_snapshot(source, hosts, by, keep_reserve=keep_reserve, as_json=as_json)
    site, clock = open_site(source), SystemClock()
    deadline = None if by is None else read_deadline(by, clock.now(), local_zone())
    order = Order(hosts, deadline, keep_reserve, OnFailure(on_failure), me())
    if dry_run:
        return _would(site, order, as_json=as_json)
    return _drain(site, order, as_json=as_json)


def _drain(site: Site, order: Order, *, as_json: bool) -> int:
    clock = SystemClock()
    with asked_to_stop() as interrupted, site.store() as store:
        arguments = _arguments(order)
        code = ask(store, site.name, clock, "drain", arguments, interrupted, as_json=as_json)
        if code is not None:
            return code
        with (
            site.gateway(clock) as gateway,
            alone(site, store, gateway, clock, interrupted) as charge,
            watching(as_json=as_json) as watch,
        ):
            onlooker = Onlooker(watch, quiet=as_json)

            def planned(evacuation: Evacuation) -> None:
                if not as_json:
                    _show(evacuation, Observation(evacuation.cluster), order.by, MARGIN_UNMEASURED)

            watched = replace(charge, on_progress=onlooker.progress)
            report = drain(order, watched, on_planned=planned)
    return finish(report, onlooker.told, as_json=as_json, verb="drained")


def _arguments(order: Order) -> dict[str, object]:
    return {
        "hosts": list(order.hosts),
        "by": None if order.by is None else order.by.isoformat(),
        "keep_reserve": order.keep_reserve,
        "on_failure": order.on_failure.value,
    }


def _would(site: Site, order: Order, *, as_json: bool) -> int:
    """Print how a drain of the live cluster would go; nothing is touched."""
    clock = SystemClock()
    with site.gateway(clock) as gateway:
        seen = gateway.observe()
    for text in seen.notes:
        warn(text)
    hosts = hosts_named(seen.cluster, order.hosts)
    check_may_leave(seen, hosts)
    found = plan_drain(
        seen.cluster,
        site.policy,
        hosts,
        now=clock.now(),
        keep_reserve=order.keep_reserve,
        snapshot_sha256=snapshot_sha256(seen.cluster),
    )
    with site.store() as store:
        stretch = stretch_of(store.history, site.name, clock.now())
    return _print(found, seen, order.by, clock.now(), stretch, as_json=as_json)


def _on_snapshot(
    source: Source, hosts: tuple[str, ...], by: str | None, *, keep_reserve: bool, as_json: bool
) -> int:
    read = source.read()
    for text in read.warnings:
        warn(text)
    now = moment_of(read.cluster)
    found = plan_drain(
        read.cluster,
        source.policy(),
        hosts_named(read.cluster, hosts),
        now=now,
        keep_reserve=keep_reserve,
        snapshot_sha256=read.sha256,
    )
    deadline = None if by is None else read_deadline(by, now, local_zone())
    seen = Observation(read.cluster)
    return _print(found, seen, deadline, now, MARGIN_UNMEASURED, as_json=as_json)


def _print(
    found: Evacuation,
    seen: Observation,
    by: datetime | None,
    now: datetime,
    stretch: float,
    *,
    as_json: bool,
) -> int:
    judged(found.cluster, found.policy, found.plan)
    if as_json:
        print_json(plan_to_json(found.plan))
        for text in found.concessions:
            warn(text)
    else:
        _show(found, seen, by, stretch)
    show_stuck(found.stuck)
    if found.refused and not as_json:
        asked = Inquiry(found.cluster, found.policy, found.plan)
        show_conflicts(conflicts(asked.problem, asked.place, others_stay=True))
    if by is not None:
        refuse_late(by, expected_s(found, seen), stretch, now)
    infeasible = found.plan.status is Status.INFEASIBLE
    return ExitCode.ANSWER_IS_NO if infeasible else ExitCode.DONE


def _show(found: Evacuation, seen: Observation, by: datetime | None, stretch: float) -> None:
    """Print concessions first, then the plan, then how long it takes."""
    for text in found.concessions:
        warn(text)
    show_plan(found.plan)
    seconds = expected_s(found, seen)
    out.print(
        f"empty in about {duration(seconds)}, at most {duration(seconds * stretch)} "
        f"({escape(', '.join(found.hosts))})"
    )
    if by is not None:
        latest = latest_start(by, seconds, stretch).astimezone()
        out.print(f"latest start {latest:%Y-%m-%d %H:%M:%S %Z} to be over by {by:%H:%M} UTC")
