"""Emptying hosts: what must hold before it is begun, and the report at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from balancer.errors import RefusedError, UnreachableError
from balancer.execute.charge import Charge
from balancer.execute.draining import Draining
from balancer.execute.held import check_health
from balancer.execute.leaving import check_may_leave, hosts_named, things_on
from balancer.execute.progress import NewsKind
from balancer.execute.recover import recover_into
from balancer.execute.window import MEASURED_SINCE, margin
from balancer.gateway.port import Observation
from balancer.model.drain import DrainReport, Kind, Order
from balancer.model.outcome import RunEnd
from balancer.planner import Evacuation
from balancer.store.drains import DrainRecord
from balancer.store.history import History
from balancer.store.store import Store

# What the forecast of the migrations does not hold: to look, pause and look again, and to move
# what stands still.
AROUND_S = 4.0
REST_S = 6.0
SHOWN_MAX = 5


def ignore(evacuation: Evacuation) -> None:
    """Take no notice of a plan."""
    del evacuation


def drain(
    order: Order, charge: Charge, *, on_planned: Callable[[Evacuation], None] = ignore
) -> DrainReport:
    """Empty hosts of everything, or say what keeps them from being empty.

    An open drain of the same hosts is carried on. VMs that cannot be live migrated at all are no
    reason not to move the others; a lack of room or a rule is, and then nothing is begun.

    `on_planned` is told each plan before it is carried out.

    Raises:
        InputError: No such host, or one that is down or silent.
        RefusedError: Quorum, storage, a freeze, room, a rule or the deadline stand against it.
        UnreachableError: The cluster cannot be read.
        HeldError: Another executor has the cluster; it carries the drain on.
    """
    context, store, lease = charge.context(), charge.store, charge.lease
    recover_into(context, charge)
    seen = charge.gateway.observe()
    order = replace(order, hosts=hosts_named(seen.cluster, order.hosts))
    begun = _begun(store, lease.cluster, order.hosts)
    work = Draining(charge, context, order, on_planned)
    try:
        evacuation = admitted(work, seen)
    except RefusedError as error:
        if begun is not None:
            work.record = begun.id
            work.give_up(RunEnd.IN_PART, error.message)
        raise
    started_at = context.now
    seconds = expected_s(evacuation, seen)
    if begun is None:
        things = things_on(seen, order.hosts)
        work.record = store.drains.begin(lease, order, things, started_at, seconds)
    else:
        work.record = begun.id
        text = f"carried on: the drain of {', '.join(order.hosts)} begun {begun.started_at:%H:%M}"
        context.tell(NewsKind.ADOPTED, lease.cluster, f"{text} UTC", note=True)
    on_planned(evacuation)
    end = work.run(evacuation)
    return _report(work, end, started_at, seconds)


def admitted(work: Draining, seen: Observation) -> Evacuation:
    """Return how the hosts are to be emptied, if they may be and can be, and in time.

    Raises:
        InputError: No such host, or one that is down or silent.
        RefusedError: Something stands against it.
    """
    check_health(seen)
    check_may_leave(seen, work.order.hosts)
    evacuation = work.plan(seen)
    refuse_stuck(evacuation)
    if work.order.by is not None:
        context = work.context
        stretch = stretch_of(context.store.history, context.lease.cluster, context.now)
        refuse_late(work.order.by, expected_s(evacuation, seen), stretch, context.now)
    return evacuation


def expected_s(evacuation: Evacuation, seen: Observation) -> float:
    """Return how long it will take to empty the hosts of a plan."""
    rest = any(one.kind is not Kind.VM for one in things_on(seen, evacuation.hosts))
    return evacuation.plan.makespan_s + AROUND_S + (REST_S if rest else 0.0)


def stretch_of(history: History, cluster: str, now: datetime) -> float:
    """Return by what factor forecasts of this cluster are to be stretched to hold mostly."""
    return margin(history.measurements(cluster, since=now - MEASURED_SINCE))


def latest_start(by: datetime, seconds: float, stretch: float) -> datetime:
    """Return when a drain must begin to be over by `by`, with its error band."""
    return by - timedelta(seconds=seconds * stretch)


def refuse_stuck(evacuation: Evacuation) -> None:
    """Refuse a drain for which there is no room, or against which a rule stands.

    Raises:
        RefusedError: It names each VM, what is missing and what to do.
    """
    stuck = evacuation.refused
    if not stuck:
        return
    shown = [f"{one.name}: {one.reason}; {one.remedy}" for one in stuck[:SHOWN_MAX]]
    if len(stuck) > SHOWN_MAX:
        shown.append(f"and {len(stuck) - SHOWN_MAX} more")
    raise RefusedError(
        f"{len(stuck)} VMs could not leave, so nothing is begun:\n  " + "\n  ".join(shown),
        remedy="make room as said, or drain fewer hosts at a time",
    )


def refuse_late(by: datetime, seconds: float, stretch: float, now: datetime) -> None:
    """Refuse a drain that would not be over in time.

    Raises:
        RefusedError: It says when it should have begun.
    """
    latest = latest_start(by, seconds, stretch)
    if now <= latest:
        return
    late_s = (now - latest).total_seconds()
    raise RefusedError(
        f"it is expected to take {seconds:.0f} s, {seconds * stretch:.0f} s with the error of "
        f"forecasts, and so to end after {by:%Y-%m-%d %H:%M} UTC",
        remedy=f"it should have begun by {latest:%Y-%m-%d %H:%M:%S} UTC: give it {late_s:.0f} s "
        "more, or leave out --by",
    )


def _begun(store: Store, cluster: str, hosts: tuple[str, ...]) -> DrainRecord | None:
    """Return the open drain of these hosts.

    Raises:
        RefusedError: One of other hosts is open.
    """
    for record in store.drains.open(cluster):
        if set(record.order.hosts) == set(hosts):
            return record
        named = " ".join(record.order.hosts)
        raise RefusedError(
            f"a drain of {named} is not over ({record.state.value})",
            remedy=f"carry it on with `balancer drain {named}`, or give it up with "
            f"`balancer resume {named}`",
        )
    return None


def _report(work: Draining, end: RunEnd, started_at: datetime, seconds: float) -> DrainReport:
    context = work.context
    try:
        estate = context.gateway.observe().estate
    except UnreachableError:
        estate = None
    nodes = [estate.node(host) for host in work.order.hosts] if estate is not None else []
    return DrainReport(
        cluster=context.lease.cluster,
        hosts=work.order.hosts,
        end=end,
        started_at=started_at,
        ended_at=context.now,
        expected_s=seconds,
        moved=tuple(sorted(work.moved.items())),
        left=work.left,
        paused=tuple(node.name for node in nodes if node is not None and node.paused),
        plans=tuple(work.plans),
        notes=tuple(context.notes),
    )
