"""`balancer rolling`: walk a whole cluster, host by host, with the administrator's commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial

import click
from rich.markup import escape

from balancer.cli.interrupt import asked_to_stop
from balancer.cli.maintain import alone, me
from balancer.cli.options import SECONDS, Source, examples, site_options
from balancer.cli.output import print_json, warn
from balancer.cli.progress import watching
from balancer.cli.site import open_site
from balancer.cli.terminal import err, out
from balancer.clock import SystemClock
from balancer.errors import ExitCode, InputError
from balancer.execute.leaving import hosts_named
from balancer.execute.rolling import Rolling, Walk, order_of
from balancer.model.cluster import Cluster, HostState
from balancer.service.hooks import run_hook
from balancer.store.campaigns import Campaign, CampaignState, HostStep

_ENDS = {CampaignState.DONE: ExitCode.DONE, CampaignState.STOPPED: ExitCode.EXECUTED_IN_PART}


@click.command(
    name="rolling",
    epilog=examples(
        "balancer rolling --dry-run",
        "balancer rolling --run '/usr/local/bin/patch {host}' --run '/usr/local/bin/reboot {host}'",
        "balancer rolling HV01 HV02 --max-failed 2",
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
@click.option("--timeout", type=SECONDS, default=7200.0, show_default=True, help="Of a command, s.")
@click.option(
    "--healthy", type=SECONDS, default=3600.0, show_default=True, help="Wait for a host, s."
)
@click.option(
    "--max-failed",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Stop after so many failed hosts.",
)
@click.option("--restore/--no-restore", default=True, show_default=True, help="Refill each host.")
@click.option("--keep-reserve", is_flag=True, help="Never use the reserve that the policy keeps.")
@click.option("--dry-run", is_flag=True, help="Only show the order of the hosts.")
@click.option("--json", "as_json", is_flag=True, help="Print the campaign as JSON.")
def command(
    source: Source,
    hosts: tuple[str, ...],
    commands: tuple[str, ...],
    timeout: float,
    healthy: float,
    max_failed: int,
    *,
    restore: bool,
    keep_reserve: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Drain each HOST (or all), run the commands, wait until it is healthy, and take it back.

    A campaign that was stopped, failed or lost its process goes on where it was when this is run
    again. A host begins only inside the policy's windows.
    """
    site, clock = open_site(source), SystemClock()
    words = tuple(_words(each) for each in commands)
    rolling = Rolling(words, timeout, healthy, max_failed, restore, keep_reserve, me())
    with (
        asked_to_stop() as interrupted,
        site.store() as store,
        site.gateway(clock) as gateway,
    ):
        cluster = gateway.observe().cluster
        order = order_of(cluster, hosts_named(cluster, hosts or _able(cluster)))
        if dry_run:
            if as_json:
                print_json({"cluster": cluster.name, "hosts": list(order)})
            else:
                out.print(escape(" → ".join(order)), soft_wrap=True)
            return ExitCode.DONE
        with (
            alone(site, store, gateway, clock, interrupted) as (lease, stop),
            watching(as_json=as_json) as watch,
        ):
            walk = Walk(
                rolling,
                site.policy,
                gateway,
                store,
                clock,
                lease,
                partial(_run, stop),
                interrupted=stop,
                on_progress=watch,
                on_step=_say,
            )
            open_ = store.campaigns.open(site.name)
            if open_ is None:
                options = {"commands": [list(each) for each in words]}
                batches = [(host,) for host in order]
                number = store.campaigns.begin(lease, batches, options, me(), clock.now())
            else:
                number = open_.id
                warn(f"going on with the campaign begun {open_.started_at:%Y-%m-%d %H:%M} UTC")
                walk.take_up(number)
            campaign = walk.run(number)
    return _finish(campaign, as_json=as_json)


def _words(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"--run {text!r}: {error}", remedy="close the quotes") from None
    if not words:
        raise InputError("--run needs a command", remedy="leave it out, or name a program")
    return words


def _able(cluster: Cluster) -> list[str]:
    return [host.name for host in cluster.hosts if host.state is HostState.UP]


def _run(keep: Callable[[], object], words: Sequence[str], host: str, timeout_s: float) -> str:
    """Run a command of up to hours, keeping the lease meanwhile."""
    result = run_hook(words, {"BALANCER_HOST": host}, timeout_s, beat=keep)
    return "" if result.ok else result.text or f"exit code {result.exit_code}"


def _say(host: str, step: str, text: str) -> None:
    tail = f": {escape(text)}" if text else ""
    err.print(f"[bold]{escape(host)}[/] {step}{tail}", soft_wrap=True)


def _finish(campaign: Campaign, *, as_json: bool) -> ExitCode:
    if as_json:
        hosts = [
            {"host": one.host, "step": one.step.value, "reason": one.reason}
            for one in campaign.hosts
        ]
        print_json(
            {"campaign": campaign.id, "state": campaign.state.value, "reason": campaign.reason}
            | {"hosts": hosts}
        )
    else:
        done = sum(one.step is HostStep.DONE for one in campaign.hosts)
        why = f": {escape(campaign.reason)}" if campaign.reason else ""
        out.print(f"[bold]{campaign.state.value}[/]{why}; {done} of {len(campaign.hosts)} hosts")
    skipped = any(one.step in (HostStep.FAILED, HostStep.SKIPPED) for one in campaign.hosts)
    code = _ENDS.get(campaign.state, ExitCode.EXECUTED_IN_PART)
    return ExitCode.EXECUTED_IN_PART if skipped else code
