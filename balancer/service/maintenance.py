"""Drains and returns that the service carries out for somebody."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from balancer.errors import BalancerError
from balancer.execute.drain import drain, expected_s
from balancer.execute.executor import exit_code
from balancer.execute.resume import resume
from balancer.gateway.port import Observation
from balancer.model.drain import DrainReport, OnFailure, Order
from balancer.model.outcome import RunEnd
from balancer.planner import Evacuation
from balancer.service.desk import Desk, Ended
from balancer.service.events import EventKind
from balancer.store.requests import Request


def serve_drain(desk: Desk, request: Request) -> Ended:
    """Empty hosts, and tell about it."""
    order = _order(request)
    hosts = ", ".join(order.hosts)

    def planned(evacuation: Evacuation) -> None:
        many, plan = len(evacuation.plan.migrations), evacuation.plan
        eta_s = expected_s(evacuation, Observation(evacuation.cluster))
        text = f"draining {hosts}: {many} migrations, about {eta_s:.0f} s"
        data = {"vms": many, "eta_s": eta_s}
        desk.tell(EventKind.DRAIN_STARTED, text, subject=hosts, data=data)
        if plan.migrations:
            desk.store.requests.planned(desk.lease, request.id, plan.id)

    try:
        report = drain(order, desk.charge, on_planned=planned)
    except BalancerError as error:
        desk.tell(EventKind.DRAIN_FAILED, error.message, subject=hosts)
        raise
    text = _said(report)
    if report.end is RunEnd.DONE:
        seconds = (report.ended_at - report.started_at).total_seconds()
        data = {"seconds": seconds, "left": len(report.left)}
        desk.tell(EventKind.DRAIN_ENDED, text, subject=hosts, data=data)
    else:
        desk.tell(EventKind.DRAIN_FAILED, text, subject=hosts)
    return Ended(exit_code(report.end), text)


def serve_resume(desk: Desk, request: Request) -> Ended:
    """Let VMs land on hosts again, and bring back what was there if that was asked."""
    restore = bool(request.arguments.get("restore"))
    report = resume(_hosts(request), desk.charge, restore=restore)
    for host in report.hosts:
        if host not in report.paused:
            desk.tell(EventKind.HOST_RESUMED, "VMs may land on it again", subject=host)
    return Ended(exit_code(report.end), _said(report))


def _order(request: Request) -> Order:
    given = request.arguments
    by: Any = given.get("by")
    return Order(
        hosts=_hosts(request),
        by=None if by is None else datetime.fromisoformat(str(by)),
        keep_reserve=bool(given.get("keep_reserve")),
        on_failure=OnFailure(str(given.get("on_failure", OnFailure.PAUSE.value))),
        asked_by=request.asked_by,
    )


def _hosts(request: Request) -> tuple[str, ...]:
    hosts: Any = request.arguments.get("hosts", ())
    return tuple(str(host) for host in hosts)


def _said(report: DrainReport) -> str:
    moved = ", ".join(f"{count} {kind.value}" for kind, count in report.moved) or "nothing"
    lines = [f"{report.end.value}: {', '.join(report.hosts)}: moved {moved}"]
    lines += [f"left {one.name} on {one.host}: {one.reason}; {one.remedy}" for one in report.left]
    return "\n".join(lines)
