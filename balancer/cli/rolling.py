"""`balancer rolling`: walk a whole cluster, turn by turn, with the administrator's commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from balancer.cli.campaign import say_step, show_campaign, show_preview
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.maintain import alone, asked
from balancer.cli.options import SECONDS, Source, examples, site_options
from balancer.cli.output import counted, warn
from balancer.cli.progress import watching
from balancer.cli.site import Site, open_site
from balancer.cli.terminal import err
from balancer.cli.who import me
from balancer.clock import SystemClock
from balancer.errors import ExitCode, InputError
from balancer.execute.campaign import Rolling, preview, those_up
from balancer.execute.drain import stretch_of
from balancer.execute.leaving import check_may_leave, hosts_named
from balancer.execute.roll import Wanted, abandon, roll
from balancer.service.rolling import ROLLING, start_command
from balancer.store.campaigns import Campaign, HostStep
from balancer.store.store import Store

_DEFAULT = Rolling()


@click.command(
    name="rolling",
    epilog=examples(
        "balancer rolling --dry-run",
        "balancer rolling --run '/usr/local/bin/patch {host}' --run '/usr/local/bin/reboot {host}'",
        "balancer rolling HV01 HV02 HV03 --at-once 2 --max-failed 2",
    ),
)
@site_options
@click.argument("hosts", nargs=-1, metavar="[HOST...]")
@click.option(
    "--run",
    "commands",
    multiple=True,
    metavar="COMMAND",
    help="Run this for each empty host, in the order given; no shell, {host} is the host.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=SECONDS,
    help=f"Kill a command after so many seconds.  [default: {_DEFAULT.timeout_s:.0f}]",
)
@click.option(
    "--work-time",
    "work_s",
    type=SECONDS,
    help="How long the commands and the restart of a host will take, in seconds, until that was "
    f"measured.  [default: {_DEFAULT.work_s:.0f}]",
)
@click.option(
    "--healthy",
    "healthy_s",
    type=SECONDS,
    help="Wait so many seconds for a host to be a healthy member again.  "
    f"[default: {_DEFAULT.healthy_s:.0f}]",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    metavar="N",
    help="Let up to so many hosts be away together, where room, rules, quorum and storage allow.  "
    f"[default: {_DEFAULT.at_once}]",
)
@click.option(
    "--max-failed",
    "failures_max",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Stop after so many failed hosts.  [default: {_DEFAULT.failures_max}]",
)
@click.option(
    "--restore/--no-restore",
    default=None,
    help="Bring VMs back after each turn, or leave them where they are, which moves less.  "
    "[default: restore]",
)
@click.option(
    "--keep-reserve",
    is_flag=True,
    default=None,
    help="Never use the reserve that the policy keeps.",
)
@click.option("--dry-run", is_flag=True, help="Only print turns, GiB and times.")
@click.option("--abandon", "give_up", is_flag=True, help="Give up the campaign that is not over.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the campaign as JSON.")
def command(
    source: Source,
    /,
    hosts: tuple[str, ...],
    commands: tuple[str, ...],
    *,
    dry_run: bool,
    give_up: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Drain each HOST (or all), run the commands, wait until it is healthy, and take it back.

    A campaign that was stopped, failed, met the end of a window or lost its process goes on where
    it was when this is run again; then only what is to change need be given. A turn begins only if
    it is expected to be over inside the policy's windows.
    """
    site = open_site(source)
    options = {key: value for key, value in given.items() if value is not None}
    if commands:
        options["commands"] = [list(_words(each)) for each in commands]
    if dry_run:
        return _would(site, hosts, Rolling().but(options), as_json=as_json)
    return _roll(site, hosts, options, give_up=give_up, as_json=as_json)


def _words(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"--run {text!r}: {error}", remedy="close the quotes") from None
    if not words:
        raise InputError("--run needs a command", remedy="leave it out, or name a program")
    return words


def _would(site: Site, hosts: tuple[str, ...], rolling: Rolling, *, as_json: bool) -> ExitCode:
    """Print how a campaign would go; nothing is touched."""
    clock = SystemClock()
    with site.gateway(clock) as gateway:
        seen = gateway.observe()
    for text in seen.notes:
        warn(text)
    named = hosts_named(seen.cluster, hosts) or those_up(seen.cluster)
    for host in named:
        check_may_leave(seen, (host,))
    with site.store() as store:
        stretch = stretch_of(store.history, site.name, clock.now())
        begun = store.campaigns.open(site.name)
    if begun is not None:
        warn(f"a campaign begun {begun.started_at:%Y-%m-%d %H:%M} UTC is not over; this is another")
    found = preview(
        seen,
        site.policy,
        rolling,
        named,
        stretch=stretch,
        now=clock.now(),
        on_turn=_planning(len(named)),
    )
    return show_preview(found, as_json=as_json)


def _planning(hosts: int) -> Callable[[int], None]:
    """Return what says on a terminal how far the planning is."""

    def told(through: int) -> None:
        if err.is_terminal:
            err.print(f"[bright_black]planned {through} of {counted(hosts, 'host')}[/]", end="\r")

    return told


def _roll(
    site: Site, hosts: tuple[str, ...], options: dict[str, Any], *, give_up: bool, as_json: bool
) -> ExitCode:
    clock = SystemClock()
    with asked_to_stop() as interrupted, site.store() as store:
        arguments = {"hosts": list(hosts), "options": options, "abandon": give_up}
        steps = _Steps(store, site.name)
        answer = asked(
            *(store, site.name, clock, ROLLING, arguments, interrupted),
            as_json=as_json,
            on_look=steps.tell,
        )
        if answer is not None:
            latest = store.campaigns.latest(site.name)
            if latest is None:
                raise InputError("there is no campaign")
            return show_campaign(latest, as_json=as_json)
        with (
            site.gateway(clock) as gateway,
            alone(site, store, gateway, clock, interrupted) as charge,
            watching(as_json=as_json) as watch,
        ):
            campaign: Campaign | None
            if give_up:
                campaign = abandon(store, clock, charge.lease, me())
            else:
                campaign = roll(
                    Wanted(hosts, options, me()),
                    replace(charge, on_progress=watch),
                    start_command,
                    on_step=say_step,
                )
    if campaign is None:
        raise InputError("there is no campaign that could be given up")
    return show_campaign(campaign, as_json=as_json)


class _Steps:
    """Tells on the terminal what the service does with hosts, step by step."""

    def __init__(self, store: Store, cluster: str) -> None:
        self._store, self._cluster = store, cluster
        self._told: dict[str, tuple[HostStep, str]] = {}

    def tell(self) -> None:
        campaign = self._store.campaigns.open(self._cluster)
        for one in campaign.hosts if campaign is not None else ():
            now = (one.step, one.reason)
            if self._told.get(one.host, (HostStep.WAITING, "")) != now:
                say_step(one.host, *now)
            self._told[one.host] = now
