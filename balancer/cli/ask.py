"""Having something carried out: by the service if it holds the cluster, else by ourselves.

Either way it is a request in the store, and the same function carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from balancer.cli.carry import Onlooker, finish
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.maintain import AnsweredError
from balancer.cli.output import print_json
from balancer.cli.progress import watching
from balancer.cli.site import Site
from balancer.cli.terminal import err
from balancer.cli.who import me
from balancer.clock import Clock, SystemClock
from balancer.errors import ExitCode, InputError
from balancer.execute.requests import follow, is_served, run_of
from balancer.formats.plan import plan_to_json
from balancer.gateway.port import Gateway
from balancer.model.outcome import RunReport
from balancer.model.plan import Plan
from balancer.service.alone import carry_out_alone
from balancer.service.verbs import stored_plan
from balancer.store.requests import Request, RequestState
from balancer.store.store import Store


def have_carried_out(
    site: Site,
    store: Store,
    verb: str,
    arguments: Mapping[str, Any],
    *,
    own_policy: bool = False,
    as_json: bool,
) -> ExitCode:
    """Have a verb carried out on a cluster, show how it goes, and print what came of it.

    `own_policy` says that a policy was given that the service does not go by.

    Raises:
        AnsweredError: It was refused.
        HeldError: Somebody holds the cluster who does not carry out requests.
    """
    clock = SystemClock()
    with asked_to_stop() as interrupted, watching(as_json=as_json) as watch:
        onlooker = Onlooker(watch, quiet=as_json)
        request: Request | None = None
        report: RunReport | None = None
        if is_served(store, site.name, clock):
            _refuse_own_policy(own_policy)
            request = _asked(store, site.name, verb, arguments, clock, interrupted, onlooker)
        if request is None:
            with site.gateway(clock) as gateway:
                request, report = _alone(
                    site, store, gateway, (verb, arguments), clock, interrupted, onlooker
                )
    if request.state is RequestState.REFUSED:
        raise AnsweredError(request.text, _code(request))
    if report is None and (run := run_of(store, request)) is not None and run.end is not None:
        report = store.journal.report(run.id)
    if report is not None:
        return finish(report, onlooker.told, as_json=as_json)
    if as_json and request.plan:
        print_json(plan_to_json(stored_plan(store, request.plan)))
    return _code(request)


def _refuse_own_policy(own_policy: bool) -> None:  # noqa: FBT001 -- one question
    if own_policy:
        raise InputError(
            "the service holds the cluster and goes by the configured policy",
            remedy="leave out --policy, or change the configured one and reload the service",
        )


def _asked(
    store: Store,
    cluster: str,
    verb: str,
    arguments: Mapping[str, Any],
    clock: Clock,
    interrupted: Any,
    onlooker: Onlooker,
) -> Request | None:
    number = store.requests.submit(cluster, verb, arguments, me(), clock.now())
    err.print(f"[bright_black]asked the service: request {number}[/]", soft_wrap=True)

    def planned(plan: str) -> None:
        onlooker.planned(stored_plan(store, plan), ())

    return follow(
        store,
        number,
        clock,
        interrupted=interrupted,
        on_plan=planned,
        on_progress=onlooker.progress,
    )


def _alone(
    site: Site,
    store: Store,
    gateway: Gateway,
    what: tuple[str, Mapping[str, Any]],
    clock: Clock,
    interrupted: Any,
    onlooker: Onlooker,
) -> tuple[Request, RunReport | None]:
    reports: list[RunReport] = []

    def planned(plan: Plan, notes: tuple[str, ...]) -> None:
        onlooker.planned(plan, notes)

    request = carry_out_alone(
        site.name,
        site.policy,
        gateway,
        store,
        clock,
        what,
        asked_by=me(),
        hooks=site.part.hooks,
        interrupted=interrupted,
        planned=planned,
        progress=onlooker.progress,
        reported=reports.append,
    )
    return request, reports[-1] if reports else None


def _code(request: Request) -> ExitCode:
    return ExitCode(ExitCode.OUR_FAULT if request.exit_code is None else request.exit_code)


def said(request: Request) -> None:
    """Print the answer to a request on stderr."""
    err.print(escape(request.text), soft_wrap=True)
