"""What stands open in records that nobody has kept for long: it does not go on by itself.

The records were restored from a backup, or their machine was off for hours. Whoever wanted a host
emptied then may have done it otherwise, or want it no more. So a person has to ask again: for the
rest of it, or for its end.
"""

from __future__ import annotations

from datetime import datetime

from balancer.execute.context import Context
from balancer.execute.progress import NewsKind
from balancer.model.drain import DrainState
from balancer.store.campaigns import CampaignState


def set_down(context: Context) -> None:
    """Take note that drains and campaigns from before the records were left alone wait for us."""
    before = context.store.marks.left_alone(context.lease.cluster)
    if before is None:
        return
    _campaign(context, before)
    _drains(context, before)


def _campaign(context: Context, before: datetime) -> None:
    campaign = context.store.campaigns.open(context.lease.cluster)
    if campaign is None or campaign.state is not CampaignState.GOING or campaign.since > before:
        return
    text = (
        f"it does not go on by itself: {why(before)}; `balancer rolling` goes on with it, "
        "`balancer rolling --abandon` gives it up"
    )
    context.renew()
    context.store.campaigns.enter(
        context.lease, campaign.id, CampaignState.STOPPED, context.now, text
    )
    begun = f"the campaign begun {campaign.started_at:%Y-%m-%d %H:%M} UTC"
    context.tell(NewsKind.SET_DOWN, context.lease.cluster, f"{begun}: {text}", note=True)


def _drains(context: Context, before: datetime) -> None:
    for record in context.store.drains.open(context.lease.cluster):
        if record.since > before:
            continue
        named = " ".join(record.order.hosts)
        gave_up = record.state is DrainState.UNDOING
        state = DrainState.FAILED if gave_up else record.state
        carry_on = "" if gave_up else f"`balancer drain {named}` carries it on, "
        text = (
            f"it does not go on by itself: {why(before)}; {carry_on}"
            f"`balancer resume {named}` takes back what is paused"
        )
        context.renew()
        context.store.drains.enter(context.lease, record.id, state, context.now, reason=text)
        context.tell(
            NewsKind.SET_DOWN, context.lease.cluster, f"the drain of {named}: {text}", note=True
        )


def why(before: datetime) -> str:
    """Say why what was begun until then is set down."""
    return (
        f"nothing was written here after {before:%Y-%m-%d %H:%M} UTC until now, "
        "as in a backup that was restored"
    )
