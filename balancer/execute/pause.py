"""Pausing and resuming a node: asked for, and believed only once the cluster shows it."""

from __future__ import annotations

from balancer.errors import UnreachableError
from balancer.execute.context import Context
from balancer.execute.progress import NewsKind
from balancer.gateway.port import MoveRefusedError, ReplyLostError

PAUSE_TRIES = 3


def set_paused(context: Context, host: str, *, paused: bool) -> bool:
    """Pause or resume a node and look; tell whether it is so.

    Raises:
        FencedError, LeaseLostError: A newer executor has the cluster.
    """
    word = "paused" if paused else "resumed"
    why = "it does not show"
    for _ in range(PAUSE_TRIES):
        context.renew()
        try:
            context.act_anywhere(
                lambda fence: context.gateway.set_node(host, paused=paused, fence=fence)
            )
        except MoveRefusedError as error:
            why = error.message
            break
        except (ReplyLostError, UnreachableError) as error:
            why = error.message
        try:
            estate = context.gateway.observe().estate
        except UnreachableError as error:
            why = error.message
            estate = None
        node = estate.node(host) if estate is not None else None
        if node is not None and node.paused is paused:
            context.tell(NewsKind.NOTED, host, f"{host} is {word}", note=True)
            return True
        context.clock.sleep(1.0)
    context.tell(NewsKind.FAILED, host, f"{host} could not be {word}: {why}", note=True)
    return False
