"""What each turn of a campaign will take: the drains themselves, planned one after the other.

The order comes from `campaign`; here it is held against rules, single VMs and the clock. Several
hosts that cannot be emptied together have their turns one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from balancer.model.cluster import Cluster, HostState
from balancer.model.rule import SelectBy, Selector
from balancer.planner.campaign import Turns
from balancer.planner.drain import Evacuation, Stuck, drain
from balancer.policy.policy import Policy
from balancer.policy.rules import Avoid
from balancer.policy.windows import Calendar

WAIT_MAX = timedelta(days=35)  # for a window: every month has its patch day


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as planned.

    Attributes:
        migrations: Out of the hosts; as many return if VMs are brought back.
        moved_bytes: Of memory, out and back.
        drain_s: Until nothing runs there any more.
        return_s: Until VMs are back; nothing where they stay.
        stuck: What cannot leave. Hosts that hold such VMs are not begun.
    """

    hosts: tuple[str, ...]
    migrations: int
    moved_bytes: int
    drain_s: float
    return_s: float
    stuck: tuple[Stuck, ...] = ()


def stay_clear_of(policy: Policy, later: Collection[str]) -> Policy:
    """Return the policy with a wish that nothing lands on hosts whose turns come later."""
    if not later:
        return policy
    wish = Avoid(
        vms=(Selector(SelectBy.GLOB, "*"),),
        hosts=tuple(Selector(SelectBy.EXACT, host) for host in sorted(later)),
        hard=False,
        name="hosts whose turn comes later",
        origin="rolling",
    )
    return replace(policy, rules=(*policy.rules, wish))


def plan_turns(
    cluster: Cluster,
    policy: Policy,
    turns: Turns,
    *,
    restore: bool,
    keep_reserve: bool,
    now: datetime,
    on_turn: Callable[[int], None] = lambda _: None,
) -> tuple[Turn, ...]:
    """Plan every turn on the cluster that the turns before it leave behind.

    `on_turn` is told how many hosts are through: each turn is a plan of its own and takes a while
    in a large cluster.

    Raises:
        InputError: No such host, or one that is down or silent; contradicting rules.
    """
    found: list[Turn] = []
    left, through = [list(turn) for turn in turns], 0
    while left:
        hosts = left.pop(0)
        later = () if restore else [host for turn in left for host in turn]
        wishes = stay_clear_of(policy, later)
        made = drain(cluster, wishes, hosts, now=now, keep_reserve=keep_reserve)
        if made.stuck and len(hosts) > 1:
            left = [[host] for host in hosts] + left
            continue
        found.append(_turn(made, tuple(hosts), restore=restore))
        through += len(hosts)
        on_turn(through)
        if not restore and not made.stuck:
            cluster = _afterwards(cluster, made)
    return tuple(found)


def _turn(made: Evacuation, hosts: tuple[str, ...], *, restore: bool) -> Turn:
    if made.stuck:
        return Turn(hosts, 0, 0, 0.0, 0.0, made.stuck)
    plan, times = made.plan, 2 if restore else 1
    sizes = {vm.id: vm.memory_assigned_bytes for vm in made.cluster.vms}
    moved = sum(sizes[one.vm] for one in plan.migrations)
    back_s = plan.makespan_s if restore else 0.0
    return Turn(hosts, len(plan.migrations), times * moved, plan.makespan_s, back_s)


def _afterwards(cluster: Cluster, made: Evacuation) -> Cluster:
    """Return the cluster once a drain is over and the hosts are back."""
    ends = {one.vm: one.target for one in made.plan.migrations}
    return replace(
        cluster,
        vms=tuple(replace(vm, host=ends.get(vm.id, vm.host)) for vm in cluster.vms),
        hosts=tuple(
            replace(host, state=HostState.UP) if host.name in made.hosts else host
            for host in cluster.hosts
        ),
    )


def timetable(
    seconds: Sequence[float], calendar: Calendar, now: datetime
) -> tuple[tuple[datetime, datetime] | None, ...]:
    """Return begin and end of each turn if each begins as soon as it would end in its window.

    None for a turn that no window is long enough for soon; the others go on without it.
    """
    at, found = now, list[tuple[datetime, datetime] | None]()
    for needed_s in seconds:
        begin = _begin(calendar, at, needed_s)
        found.append(None if begin is None else (begin, begin + timedelta(seconds=needed_s)))
        at = at if begin is None else begin + timedelta(seconds=needed_s)
    return tuple(found)


def _begin(calendar: Calendar, since: datetime, needed_s: float) -> datetime | None:
    at: datetime | None = since
    while at is not None and at <= since + WAIT_MAX:
        if calendar.may_start(at, needed_s):
            return at
        closes = calendar.closes(at)
        at = None if closes is None else calendar.next_opening(closes)
    return None
