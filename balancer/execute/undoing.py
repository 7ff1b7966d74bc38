"""Giving back the nodes of a drain that was given up: at once, or at a later start."""

from __future__ import annotations

from balancer.errors import UnreachableError
from balancer.execute.context import Context
from balancer.execute.pause import set_paused
from balancer.model.drain import DrainState
from balancer.store.drains import DrainRecord


def undo(context: Context, record: DrainRecord) -> bool:
    """Resume what a drain had paused and still is; tell whether all of it is resumed."""
    try:
        estate = context.gateway.observe().estate
    except UnreachableError:
        return False
    nodes = {host: estate.node(host) for host in record.paused} if estate is not None else {}
    paused = [host for host, node in nodes.items() if node is not None and node.paused]
    failed = [host for host in paused if not set_paused(context, host, paused=False)]
    return not failed


def undo_left(context: Context) -> None:
    """Try again what drains that were given up could not undo, and close those that now are."""
    for record in context.store.drains.open(context.lease.cluster):
        if record.state is not DrainState.UNDOING or not undo(context, record):
            continue
        context.renew()
        context.store.drains.enter(
            context.lease, record.id, DrainState.FAILED, context.now, reason=record.reason
        )
