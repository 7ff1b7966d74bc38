"""Whether a plan keeps what room there is for failures, at its end and on the way: clause 12."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite

from balancer.judge.drill import Drill, Loss
from balancer.judge.finding import Code, Finding, gib
from balancer.judge.goal import ROUNDING, broken, overload, stranded
from balancer.judge.losses import lost, weight
from balancer.judge.migrations import ends_s
from balancer.judge.moment import Moment
from balancer.judge.order import Order
from balancer.judge.way import Way
from balancer.model.cluster import Cluster
from balancer.model.plan import Migration, Plan
from balancer.policy.lifted import lifted
from balancer.policy.policy import Goal, Policy
from balancer.policy.said import Said
from balancer.policy.survival import RANKS, restart_bytes

Place = Mapping[str, str]


def survival_faults(
    cluster: Cluster, policy: Policy, said: Sequence[Said], order: Order
) -> Iterator[Finding]:
    """Find that more would find no host at the end than at the start, or on the way.

    More is more memory of high priority, or as much of it and more of medium, and so on. What
    empties a draining host, mends a hard rule or lowers overload comes first. On the way, in the
    order of the forecast, no more is lost than at the worse end; in a drain nothing is asked of it.
    """
    if not policy.reserve.for_failures or not order.migrations:
        return
    drill = Drill(cluster, policy)
    before = {vm.id: vm.host for vm in cluster.vms}
    after = {vm: order.end(vm, host) for vm, host in before.items()}
    was, ends = (lost(drill, place) for place in (before, after))
    drains = stranded(cluster, after) < stranded(cluster, before)
    first = _mends_rules(said, before, after) or (
        not policy.firm and (drains or _relieves(cluster, policy, before, after))
    )
    weights = [weight(cluster, losses) for losses in (was, ends)]
    if weights[1] > weights[0] and not first:
        now, then = (_in_words(cluster, losses) for losses in (was, ends))
        text = f"{_told(cluster, was, ends)}; {then} would find no host at the end, {now} do now"
        yield Finding(Code.SURVIVAL_END, _named(ends[0]), text)

    if not drains:
        yield from _on_the_way(drill, order, before, max(was, ends, key=partial(weight, cluster)))


def unseen_on_the_way(cluster: Cluster, policy: Policy, plan: Plan) -> int:
    """Return how many failures may lose something on the way and are not looked at there.

    They are too many. A plan is not refused for them, and whoever reads it is to know.
    """
    moves = [(one.vm, one.target) for one in plan.migrations]
    if not policy.reserve.for_failures or not moves:
        return 0
    cluster = lifted(cluster, policy)
    drill, place = Drill(cluster, policy), {vm.id: vm.host for vm in cluster.vms}
    if drill.sees_all:
        return 0
    after = place | {one.vm: one.target for one in plan.migrations}
    if stranded(cluster, after) < stranded(cluster, place):
        return 0
    return len(drill.in_doubt(place, moves, beyond=True))


def _on_the_way(
    drill: Drill, order: Order, place: Place, worse: Sequence[Loss]
) -> Iterator[Finding]:
    """Find the first instant at which more is lost than at the worse end."""
    migrations, most = order.migrations, weight(drill.cluster, worse)
    way = Way(drill, place, [(one.vm, one.target) for one in migrations])
    for one, is_start in _instants(migrations) if way.in_doubt else ():
        (way.start if is_start else way.end)(one.vm, one.target)
        now = list(way.losses())
        if weight(drill.cluster, now) > most:
            when = f"once {one.id} has {'begun' if is_start else 'ended'}"
            yield _of_instant(drill.cluster, one.id, f"{when}, ", now, worse)
            return


def _instants(migrations: Sequence[Migration]) -> Iterator[tuple[Migration, bool]]:
    """Yield each start (True) and each end, by the forecast, ends first; none if there is none."""
    if not all(isfinite(one.start_s) and isfinite(one.duration_s) for one in migrations):
        return  # that is found elsewhere
    events: list[tuple[int, bool, int]] = []
    for at, one in enumerate(migrations):
        begin = round(1000 * one.start_s)
        events.append((begin, True, at))
        events.append((max(begin + 1, round(1000 * ends_s(one))), False, at))
    for _, is_start, at in sorted(events):
        yield migrations[at], is_start


def survival_start_faults(now: Moment, policy: Policy) -> Iterator[Finding]:
    """Find that a start would lose more than is lost now, and than at either end of the plan."""
    if not policy.reserve.for_failures or now.evacuates:
        return
    drill = Drill(now.cluster, policy)
    place = {vm.id: vm.host for vm in now.cluster.vms}
    flying = [
        (vm, host)
        for vm, hosts in now.arriving.items()
        if vm in place
        for host in sorted(hosts - {place[vm]})
        if now.cluster.vm_by_id[vm].migrating_to != host  # that is counted as it is
    ]
    started = list(drill.losses(place, flying=flying))
    if not started:
        return
    mine = (now.vm.id, now.migration.target)
    others = [one for one in flying if one != mine]
    # Looked at one after another: mostly the first allows it already.
    weigh = partial(weight, now.cluster)
    allowed = [list(drill.losses(place, flying=others))]
    for where in (
        {vm.id: vm.host for vm in now.start.vms},
        {vm: min(now.ends(vm)) for vm in place},
    ):
        if weigh(started) <= weigh(allowed[-1]):
            return
        allowed.append(lost(drill, where))
    if weigh(started) > weigh(allowed[-1]):
        worst = max(allowed, key=weigh)
        yield _of_instant(now.cluster, now.migration.id, "meanwhile ", started, worst)


def _mends_rules(said: Sequence[Said], before: Place, after: Place) -> bool:
    hard = [one.form for one in said if one.hard]
    return sum(broken(form, after) for form in hard) < sum(broken(form, before) for form in hard)


def _relieves(cluster: Cluster, policy: Policy, before: Place, after: Place) -> bool:
    if policy.goal is Goal.RULES_ONLY:
        return False
    return overload(cluster, policy, after) < overload(cluster, policy, before) - ROUNDING


def _in_words(cluster: Cluster, losses: Sequence[Loss]) -> str:
    """Say how many restarts these are, and how large by priority."""
    sizes = zip(RANKS, weight(cluster, losses), strict=True)
    parts = [f"{gib(size)} of {name} priority" for name, size in sizes if size]
    count = "1 restart" if len(losses) == 1 else f"{len(losses)} restarts"
    return count + (f" ({', '.join(parts)})" if parts else "")


def _of_instant(
    cluster: Cluster, subject: str, when: str, now: Sequence[Loss], worse: Sequence[Loss]
) -> Finding:
    lost, allowed = (_in_words(cluster, losses) for losses in (now, worse))
    text = f"{when}{lost} would find no host, {allowed} are allowed: {_told(cluster, worse, now)}"
    return Finding(Code.SURVIVAL_DURING, subject, text)


def _told(cluster: Cluster, was: Sequence[Loss], now: Sequence[Loss]) -> str:
    """Say the first loss that there was not before."""
    known = set(was)
    one = next((loss for loss in now if loss not in known), now[0])
    vm = cluster.vm_by_id[one.vm]
    return f"if {_named(one)} fails, {vm.name} ({gib(restart_bytes(vm))}) would find no host"


def _named(loss: Loss) -> str:
    return ", ".join(sorted(loss.failed))
