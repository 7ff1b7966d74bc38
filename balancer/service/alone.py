"""Carrying out one request without the service: the lease is taken for as long as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from balancer.clock import Clock
from balancer.execute.progress import Progress
from balancer.execute.tenure import Tenure, holding
from balancer.gateway.port import Gateway
from balancer.model.outcome import RunReport
from balancer.model.plan import Plan
from balancer.policy.policy import Policy
from balancer.service.asked import Asked
from balancer.service.audit import AuditLog
from balancer.service.desk import Desk, end_left
from balancer.service.events import Bus
from balancer.service.sight import Sight
from balancer.service.stop import Reason, Stop
from balancer.service.telling import Teller
from balancer.service.verbs import VERBS
from balancer.store.requests import Request
from balancer.store.store import Store
from balancer.unattended import HooksPart


def carry_out_alone(
    cluster: str,
    policy: Policy,
    gateway: Gateway,
    store: Store,
    clock: Clock,
    what: tuple[str, Mapping[str, Any]],
    *,
    asked_by: str,
    hooks: HooksPart,
    interrupted: Callable[[], bool],
    planned: Callable[[Plan, tuple[str, ...]], None],
    progress: Callable[[Progress], None],
    reported: Callable[[RunReport], None],
) -> Request:
    """Carry out a verb with its arguments as the service would, and return the answered request.

    Raises:
        HeldError: Somebody else holds the cluster.
        UnreachableError: The cluster does not answer.
    """
    bus = Bus()
    bus.subscribe("audit", AuditLog(store).hear)
    tell = Teller(bus, clock, cluster)
    sight = Sight(store, clock, tell)
    verb, arguments = what
    with holding(cluster, store, gateway, clock) as tenure:
        lease = tenure.confirm()
        sight.look_at_freeze(gateway)
        stop = Stop(clock, lambda: _reasons(tenure, sight, gateway, interrupted))
        desk = Desk(
            cluster=cluster,
            policy=policy,
            gateway=gateway,
            store=store,
            clock=clock,
            lease=lease,
            tell=tell,
            stop=stop,
            progress=progress,
            hooks=hooks,
            planned=planned,
            reported=reported,
        )
        end_left(desk)
        number = store.requests.submit(cluster, verb, arguments, asked_by, clock.now())
        store.requests.take(lease, number, clock.now())
        asked = Asked(store, clock, tell, VERBS)
        asked.serve(store.requests.get(number), desk, sight.frozen)
        asked.answer_left(lease)
    bus.close()
    return store.requests.get(number)


def _reasons(
    tenure: Tenure, sight: Sight, gateway: Gateway, interrupted: Callable[[], bool]
) -> Iterator[Reason]:
    tenure.keep()
    if interrupted():
        yield Reason("interrupted", "asked to stop")
    sight.look_at_freeze(gateway)
    if sight.frozen:
        yield Reason("frozen", sight.frozen)
