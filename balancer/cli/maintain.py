"""What `drain`, `resume` and `rolling` share: who carries them out, and how they are told about."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape

from balancer.cli.output import duration, print_json, warn
from balancer.cli.progress import watching
from balancer.cli.site import Site
from balancer.cli.terminal import err, out
from balancer.cli.who import me
from balancer.clock import Clock
from balancer.errors import BalancerError, ExitCode, RefusedError
from balancer.execute.charge import Charge
from balancer.execute.executor import exit_code
from balancer.execute.requests import follow, is_served
from balancer.execute.tenure import holding
from balancer.formats.drain import drain_report_to_json
from balancer.gateway.port import Gateway
from balancer.model.drain import DrainReport
from balancer.planner import Stuck
from balancer.service.events import Bus
from balancer.service.sight import Sight
from balancer.service.stop import Reason, Stop
from balancer.service.telling import Teller
from balancer.store.requests import Request, RequestState
from balancer.store.store import Store

_ZONES = "zoneinfo/"


def local_zone() -> str:
    """Return the machine's time zone by its name in the tz database; UTC where it has none."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if named:
        return named
    target = str(Path("/etc/localtime").resolve())
    return target.partition(_ZONES)[2] or "UTC"


def ask(
    store: Store,
    cluster: str,
    clock: Clock,
    verb: str,
    arguments: Mapping[str, Any],
    interrupted: Callable[[], bool],
    *,
    as_json: bool,
) -> ExitCode | None:
    """Ask the service that holds the cluster, wait, and print what it answers.

    None if none holds it, or it went away. Interrupted, it asks for a clean stop and waits for
    that.

    Raises:
        AnsweredError: The service refused.
    """
    request = asked(store, cluster, clock, verb, arguments, interrupted, as_json=as_json)
    if request is None:
        return None
    code = _code(request)
    if as_json:
        state = {"request": request.id, "state": request.state.value, "text": request.text}
        print_json(state | {"exit_code": int(code)})
    else:
        out.print(escape(request.text), soft_wrap=True)
    return code


def asked(
    store: Store,
    cluster: str,
    clock: Clock,
    verb: str,
    arguments: Mapping[str, Any],
    interrupted: Callable[[], bool],
    *,
    as_json: bool,
    on_look: Callable[[], None] = lambda: None,
) -> Request | None:
    """Ask as `ask` does, and return the answered request.

    Raises:
        AnsweredError: The service refused.
    """
    if not is_served(store, cluster, clock):
        return None
    number = store.requests.submit(cluster, verb, arguments, me(), clock.now())
    err.print(f"[bright_black]asked the service: request {number}[/]", soft_wrap=True)
    with watching(as_json=as_json) as watch:
        request = follow(
            store,
            number,
            clock,
            interrupted=interrupted,
            on_plan=_ignore,
            on_progress=watch,
            on_look=on_look,
        )
    if request is not None and request.state is RequestState.REFUSED:
        raise AnsweredError(request.text, _code(request))
    return request


def _code(request: Request) -> ExitCode:
    return ExitCode.OUR_FAULT if request.exit_code is None else ExitCode(request.exit_code)


def _ignore(plan: str) -> None:
    del plan


@contextmanager
def alone(
    site: Site, store: Store, gateway: Gateway, clock: Clock, interrupted: Callable[[], bool]
) -> Iterator[Charge]:
    """Hold the cluster without the service.

    Asking whether it is interrupted keeps the lease, in the store and in the cluster; a freeze
    that comes interrupts as well.

    Raises:
        HeldError: Somebody else holds the cluster.
        RefusedError: Somebody has frozen it.
        UnreachableError: The cluster does not answer.
    """
    freeze = store.freezes.of(site.name)
    if freeze is not None:
        raise RefusedError(
            f"{site.name} is frozen by {freeze.by}: {freeze.reason}",
            remedy="`balancer thaw` lifts it",
        )
    sight = Sight(store, clock, Teller(Bus(), clock, site.name))
    with holding(site.name, store, gateway, clock) as tenure:
        sight.look_at_freeze(gateway)
        at_first = sight.frozen  # what may be done under it, each verb decides for itself

        def reasons() -> Iterator[Reason]:
            tenure.keep()
            if interrupted():
                yield Reason("interrupted", "asked to stop")
            sight.look_at_freeze(gateway)
            if sight.frozen and sight.frozen != at_first:
                yield Reason("frozen", sight.frozen)

        stop = Stop(clock, reasons)
        yield Charge(site.policy, gateway, store, clock, tenure.confirm(), stop)


class AnsweredError(BalancerError):
    """What was asked for was refused, in the words of whoever refused it."""

    def __init__(self, text: str, exit_code: ExitCode) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def finish(
    report: DrainReport, told: Collection[str] = (), *, as_json: bool, verb: str
) -> ExitCode:
    """Print how a drain or a return ended and return the exit code it means."""
    if as_json:
        print_json(drain_report_to_json(report))
        return exit_code(report.end)
    seconds = (report.ended_at - report.started_at).total_seconds()
    moved = ", ".join(f"{count} {kind.value}" for kind, count in report.moved) or "nothing"
    hosts = escape(", ".join(report.hosts))
    out.print(f"[bold]{report.end.value}[/]: {verb} {hosts}: {moved} in {duration(seconds)}")
    for one in report.left:
        err.print(
            f"[yellow]left[/] {one.kind.value} {escape(one.name)} on {escape(one.host)}: "
            f"{escape(one.reason)}\n  remedy: {escape(one.remedy)}",
            soft_wrap=True,
        )
    for host in report.hosts:
        state = "paused" if host in report.paused else "not paused"
        out.print(f"{escape(host)} is {state}")
    for note in report.notes:
        if note not in told:
            err.print(f"[bright_black]note:[/] {escape(note)}", soft_wrap=True)
    return exit_code(report.end)


def show_stuck(stuck: Collection[Stuck]) -> None:
    """Name the VMs that cannot leave, on stderr."""
    for one in stuck:
        warn(f"{one.name} cannot leave {one.host}: {one.reason}; {one.remedy}")
