"""Campaigns over whole clusters that the service carries out, over several windows if need be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from balancer.errors import ExitCode, InputError
from balancer.execute.roll import BY_SERVICE, Wanted, abandon, roll
from balancer.execute.rolling import NEVER_FITS
from balancer.policy.windows import Calendar
from balancer.service.desk import Desk, Ended
from balancer.service.events import EventKind
from balancer.service.hooks import StartedHook
from balancer.store.campaigns import Campaign, CampaignState, HostStep
from balancer.store.requests import Request
from balancer.store.store import Store

ROLLING = "rolling"
_BY_ITSELF = "by_itself"  # the argument of a request that nobody but the service made

_KINDS = {
    HostStep.FAILED: EventKind.DRAIN_FAILED,
    HostStep.DONE: EventKind.HOST_RESUMED,
}


def start_command(
    words: Sequence[str], variables: Mapping[str, str], timeout_s: float
) -> StartedHook:
    """Start a command of a campaign."""
    return StartedHook(words, variables, timeout_s)


def serve_rolling(desk: Desk, request: Request) -> Ended:
    """Walk the cluster, or give a campaign up, and tell about it."""
    given = request.arguments
    if given.get("abandon"):
        return _abandoned(abandon(desk.store, desk.clock, desk.lease, request.asked_by))

    def stepped(host: str, step: HostStep, text: str) -> None:
        said = f"{host}: {step.value}" + (f": {text}" if text else "")
        desk.tell(_KINDS.get(step, EventKind.NOTED), said, subject=host)

    hosts: Any = given.get("hosts", ())
    options: Any = given.get("options", {})
    before = desk.store.campaigns.open(desk.lease.cluster)
    campaign = roll(
        Wanted(
            tuple(map(str, hosts)),
            dict(options),
            request.asked_by,
            by_service=True,
            by_itself=bool(given.get(_BY_ITSELF)),
        ),
        desk.charge,
        start_command,
        on_step=stepped,
    )
    reason = desk.stop.reason
    if campaign.state is CampaignState.STOPPED and reason is not None and reason.word in _PASSES:
        # Without a reason on record: it waits for nothing, see `goes_on`.
        desk.store.campaigns.enter(desk.lease, campaign.id, CampaignState.GOING, desk.clock.now())
        campaign = replace(desk.store.campaigns.get(campaign.id), reason=reason.text)
    if _never_fits(campaign) and not (before is not None and _never_fits(before)):
        text = f"the campaign waits for ever: {campaign.reason}; open a longer window or give it up"
        desk.tell(EventKind.DRAIN_FAILED, text)
    return Ended(code_of(campaign), said_of(campaign))


# Why the service stops what it does, though nobody wants the campaign to be over.
_PASSES = frozenset({"interrupted", "lease"})


def _never_fits(campaign: Campaign) -> bool:
    return campaign.state is CampaignState.GOING and campaign.reason.endswith(NEVER_FITS)


def _abandoned(campaign: Campaign | None) -> Ended:
    if campaign is None:
        raise InputError("there is no campaign that could be given up")
    return Ended(ExitCode.DONE, said_of(campaign))


def code_of(campaign: Campaign) -> ExitCode:
    """Return the exit code that tells a script how a campaign stands."""
    steps = {one.step for one in campaign.hosts}
    whole = campaign.state is CampaignState.DONE and steps <= {HostStep.DONE}
    given_up = campaign.state is CampaignState.ABANDONED
    return ExitCode.DONE if whole or given_up else ExitCode.EXECUTED_IN_PART


def said_of(campaign: Campaign) -> str:
    """Return in words how a campaign stands."""
    done = sum(one.step is HostStep.DONE for one in campaign.hosts)
    why = f" ({campaign.reason})" if campaign.reason else ""
    lines = [f"{campaign.state.value}{why}: {done} of {len(campaign.hosts)} hosts"]
    lines += [
        f"{one.step.value} {one.host}: {one.reason}"
        for one in campaign.hosts
        if one.step in (HostStep.FAILED, HostStep.SKIPPED)
    ]
    return "\n".join(lines)


def goes_on(store: Store, cluster: str, calendar: Calendar, now: datetime) -> bool:
    """Ask for the next turns of the service's own campaign, if one may go on; tell whether."""
    campaign = store.campaigns.open(cluster)
    if campaign is None or campaign.state is not CampaignState.GOING:
        return False
    if not campaign.options.get(BY_SERVICE):
        return False
    if not campaign.begun and (not calendar.is_open(now) or _waits(campaign, calendar, now)):
        return False
    store.requests.submit(cluster, ROLLING, {_BY_ITSELF: True}, campaign.asked_by, now)
    return True


def _waits(campaign: Campaign, calendar: Calendar, now: datetime) -> bool:
    """Tell whether this very opening was found too short for what is left."""
    if not campaign.reason:
        return False
    closes = calendar.closes(campaign.since)
    return closes is None or campaign.since <= now < closes
