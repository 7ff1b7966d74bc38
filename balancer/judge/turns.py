"""Migrations that take turns: what the order of a plan must say for rules about when VMs move.

One at a time: of any two migrations of the VMs, one waits for the other. As one: all wait for the
same migrations of others, so that once one may start all may, and none steps over a third host.
Last: they wait for all migrations of VMs that need not be last. First is a wish, and no law.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from balancer.judge.finding import Code, Finding
from balancer.judge.moment import Moment
from balancer.judge.order import Order
from balancer.model.cluster import Cluster
from balancer.model.rule import InTurn, OnlyWhen, Turn
from balancer.policy.said import Said


def turn_faults(said: Sequence[Said], order: Order) -> Iterator[Finding]:
    """Find migrations that could be under way when a rule about their turn forbids it."""
    last = _last(said)
    for one in said:
        if not isinstance(one.form, InTurn):
            continue
        legs = [at for vm in sorted(one.form.vms & order.legs.keys()) for at in order.legs[vm]]
        match one.form.turn:
            case Turn.ONE_AT_A_TIME:
                texts = _two_at_once(order, legs)
            case Turn.AS_ONE:
                texts = _torn_apart(order, legs)
            case Turn.LAST:
                texts = _too_early(order, legs, last)
            case Turn.FIRST:
                texts = iter(())
        for text in texts:
            yield Finding(Code.RULE_DURING, str(one.rule), f"{one.rule}: {text}")


def _last(said: Sequence[Said]) -> frozenset[str]:
    """Return the VMs that move last."""
    forms = [one.form for one in said if isinstance(one.form, InTurn)]
    return frozenset[str]().union(*(form.vms for form in forms if form.turn is Turn.LAST))


def _two_at_once(order: Order, legs: Sequence[int]) -> Iterator[str]:
    for number, at in enumerate(legs):
        for other in legs[:number]:
            if not (order.before[at] >> other & 1 or order.before[other] >> at & 1):
                names = f"{order.migrations[other].id} and {order.migrations[at].id}"
                yield f"{names} could be under way at once"


def _torn_apart(order: Order, legs: Sequence[int]) -> Iterator[str]:
    own = sum(1 << at for at in legs)
    for at in legs:
        if order.migrations[at].stopover:
            yield f"{order.migrations[at].id} would leave {order.migrations[at].name} on the way"
    waits = {order.before[at] & ~own for at in legs}
    if len(waits) > 1:
        names = ", ".join(order.migrations[at].id for at in legs)
        yield f"{names} do not wait for the same migrations of others"


def _too_early(order: Order, legs: Sequence[int], last: frozenset[str]) -> Iterator[str]:
    others = sum(1 << at for vm, ats in order.legs.items() if vm not in last for at in ats)
    for at in legs:
        if others & ~order.before[at]:
            yield f"{order.migrations[at].id} does not wait for all other migrations"


def hour_faults(said: Sequence[Said], order: Order, begin: datetime) -> Iterator[Finding]:
    """Find migrations that are not forecast to be over within the hours of their VM.

    Args:
        said: What the rules in force say.
        order: The migrations.
        begin: When the plan begins.
    """
    for one in said:
        if not (one.hard and isinstance(one.form, OnlyWhen)):
            continue
        for vm in sorted(one.form.vms & order.legs.keys()):
            for leg in (order.migrations[at] for at in order.legs[vm]):
                start = begin + timedelta(seconds=leg.start_s)
                if not one.form.hours.may_start(start, leg.duration_s):
                    text = f"{leg.id} would move {leg.name} outside its window"
                    yield Finding(Code.WINDOW, str(one.rule), f"{one.rule}: {text}")


def turn_texts(now: Moment, form: InTurn, cluster: Cluster) -> list[str]:
    """Say why a migration of one of the VMs may not start while others are under way."""
    others = sorted(now.arriving.keys() - {now.vm.id})
    if form.turn is Turn.ONE_AT_A_TIME:
        others = [vm for vm in others if vm in form.vms]
    elif form.turn is not Turn.LAST:
        others = []
    names = ", ".join(cluster.vm_by_id[vm].name for vm in others)
    return [f"may not start while {names} is under way"] if others else []
