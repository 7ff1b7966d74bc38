"""Beginning a campaign, or going on with the one that is not over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balancer.clock import Clock
from balancer.errors import InputError, RefusedError
from balancer.execute.campaign import Rolling, those_up, turns_of
from balancer.execute.charge import Charge
from balancer.execute.leaving import hosts_named
from balancer.execute.rolling import OnStep, Walk, unheard
from balancer.execute.working import StartCommand
from balancer.store.campaigns import Campaign, CampaignState
from balancer.store.leases import Lease
from balancer.store.store import Store

BY_SERVICE = "by_service"  # an option of its own: the service goes on with it by itself


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes:
        hosts: Names; none means every host that is up, or those of the open campaign.
        options: What of `Rolling` was given; the rest is as the open campaign has it.
        by_service: The service carries it out, and goes on with it in later windows.
        by_itself: It does so now, without being asked: hosts that failed have no other turn.
    """

    hosts: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    asked_by: str = ""
    by_service: bool = False
    by_itself: bool = False


def roll(
    wanted: Wanted, charge: Charge, start_command: StartCommand, *, on_step: OnStep = unheard
) -> Campaign:
    """Walk hosts as asked, or go on with the campaign that is not over.

    Raises:
        InputError: No such host, or other hosts than those of the open campaign.
        RefusedError: Somebody has frozen the cluster.
        UnreachableError: The cluster cannot be read.
        HeldError: Another executor has the cluster.
    """
    campaign, rolling, is_new = _take_up(wanted, charge)
    walk = Walk(rolling, charge, start_command, on_step)
    if not is_new and not wanted.by_itself:
        walk.take_up(campaign)
    return walk.run(campaign)


def _take_up(wanted: Wanted, charge: Charge) -> tuple[int, Rolling, bool]:
    """Return the campaign, written down, what it does, and whether it is a new one."""
    seen = charge.gateway.observe()
    if seen.control is not None and seen.control.frozen:
        raise RefusedError(
            f"{seen.cluster.name} is frozen: {seen.control.freeze.strip()}",
            remedy="thaw it first: `balancer thaw`",
        )
    hosts = hosts_named(seen.cluster, wanted.hosts)
    campaigns, lease = charge.store.campaigns, charge.lease
    begun = campaigns.open(lease.cluster)
    if begun is not None:
        _check_same(begun, hosts)
        before = {key: value for key, value in begun.options.items() if key != BY_SERVICE}
        rolling = Rolling().but(before).but(wanted.options)
        campaigns.change(lease, begun.id, _written(rolling, wanted))
        return begun.id, rolling, False
    rolling = Rolling(asked_by=wanted.asked_by).but(wanted.options)
    turns = turns_of(seen, charge.policy, rolling, hosts or those_up(seen.cluster))
    options = _written(rolling, wanted)
    now = charge.clock.now()
    return campaigns.begin(lease, turns, options, wanted.asked_by, now), rolling, True


def _check_same(begun: Campaign, hosts: tuple[str, ...]) -> None:
    if hosts and set(hosts) != {one.host for one in begun.hosts}:
        named = " ".join(one.host for one in begun.hosts)
        raise InputError(
            f"a campaign over {named}, begun {begun.started_at:%Y-%m-%d %H:%M} UTC, is not over",
            remedy="`balancer rolling` goes on with it, `balancer rolling --abandon` gives it up",
        )


def _written(rolling: Rolling, wanted: Wanted) -> dict[str, Any]:
    return dataclasses.asdict(rolling) | {BY_SERVICE: wanted.by_service}


def abandon(store: Store, clock: Clock, lease: Lease, asked_by: str) -> Campaign | None:
    """Give up the campaign that is not over; hosts stay as they are. None if there is none."""
    begun = store.campaigns.open(lease.cluster)
    if begun is None:
        return None
    reason = f"given up by {asked_by}"
    store.campaigns.enter(lease, begun.id, CampaignState.ABANDONED, clock.now(), reason)
    return store.campaigns.get(begun.id)
