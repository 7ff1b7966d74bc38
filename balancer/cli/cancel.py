"""`balancer cancel`: stop what is being carried out, or withdraw a request."""

from __future__ import annotations

import click
from rich.markup import escape

from balancer.cli.options import Source, examples, records_options
from balancer.cli.terminal import err, out
from balancer.cli.who import me
from balancer.clock import Clock, SystemClock
from balancer.config import load_config
from balancer.errors import ExitCode, InputError, RefusedError
from balancer.execute.requests import is_served
from balancer.store.requests import HowToStop, Request, RequestState
from balancer.store.store import Store

ANSWER_S = 60.0  # a run looks for cancellations every two seconds, between calls to hosts
LOOK_S = 0.5


@click.command(
    name="cancel",
    epilog=examples("balancer cancel", "balancer cancel 17", "balancer cancel --in-flight"),
)
@records_options
@click.argument("request", required=False, type=click.IntRange(min=1))
@click.option("--in-flight", is_flag=True, help="Cancel what moves now, too.")
def command(source: Source, request: int | None, *, in_flight: bool) -> int:
    """Begin nothing more of what runs on the cluster, or of REQUEST (its number).

    What moves arrives, unless --in-flight is given: then it is cancelled and its VMs stay.
    """
    config, clock = load_config(source.config), SystemClock()
    how = HowToStop.CANCEL if in_flight else HowToStop.FINISH
    with Store.open(config.store) as store:
        if request is not None:
            return _one(store, request, how, clock)
        return _running(store, config.cluster(source.cluster).name, how, clock)


def _one(store: Store, number: int, how: HowToStop, clock: Clock) -> int:
    request = store.requests.cancel(number, how, clock.now(), ExitCode.INTERRUPTED)
    if request.cancel_asked is HowToStop.GO_ON and request.state is not RequestState.CANCELLED:
        raise InputError(
            f"request {number} is over: {request.state.value}", remedy="there is nothing to cancel"
        )
    if request.state is RequestState.CANCELLED:
        out.say(f"withdrawn: request {number}")
    else:
        out.say(f"request {number} begins nothing more")
    return ExitCode.DONE


def _running(store: Store, cluster: str, how: HowToStop, clock: Clock) -> int:
    if not is_served(store, cluster, clock):
        raise RefusedError(
            f"no service holds {cluster}, so there is nobody to ask",
            remedy="press Ctrl-C in the command that runs, or freeze: `balancer freeze`",
        )
    number = store.requests.submit(cluster, "cancel", {"in_flight": how.value}, me(), clock.now())
    request = _answer(store, number, clock)
    out.say(escape(request.text))
    return ExitCode.DONE


def _answer(store: Store, number: int, clock: Clock) -> Request:
    end_s = clock.monotonic_s() + ANSWER_S
    while not (request := store.requests.get(number)).state.is_over:
        if clock.monotonic_s() > end_s:
            err.print("it has not answered yet and will do so: `balancer status` tells")
            return request
        clock.sleep(LOOK_S)
    return request
