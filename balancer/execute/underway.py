"""Drains and campaigns that are not over, as the store alone knows them: where, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from balancer.execute.progress import TRUSTED_PERCENT
from balancer.model.drain import DrainState, Kind
from balancer.model.outcome import MigrationState
from balancer.store.campaigns import Campaign, CampaignState
from balancer.store.drains import DrainRecord
from balancer.store.store import Store

RUNS_LOOKED_AT = 100  # a drain is planned anew a dozen times at most, a host a turn of a campaign


@dataclass(frozen=True, slots=True)
class Underway:
    """A drain or a campaign that is not over.

    Attributes:
        kind: "drain" or "campaign".
        hosts: Those that it is about now: of a campaign whose turn it is, else all.
        step: Where it stands, in a word.
        done: VMs that have left, or hosts that are through; of `total`.
        ends_at: When it should be over, going on as it does; None while nobody can say.
        reason: Why it stands where it does; may be empty.
    """

    kind: str
    hosts: tuple[str, ...]
    step: str
    started_at: datetime
    asked_by: str
    done: int
    total: int
    ends_at: datetime | None
    reason: str


def underway(store: Store, cluster: str, now: datetime) -> tuple[Underway, ...]:
    """Return what is under way on a cluster, or waits there to go on; drains first."""
    drains = store.drains.open(cluster)
    found = [_drain(store, record, now) for record in drains]
    if (campaign := store.campaigns.open(cluster)) is not None:
        found.append(_campaign(campaign, max((one.expected_s for one in drains), default=0.0), now))
    return tuple(found)


def _drain(store: Store, record: DrainRecord, now: datetime) -> Underway:
    things = store.drains.things(record.id)
    vms = {(one.host, one.key) for one in things if one.kind is Kind.VM}
    left: set[tuple[str, str]] = set()
    for run in store.journal.runs(record.cluster, RUNS_LOOKED_AT):
        if run.started_at < record.started_at:
            break
        moves = store.journal.moves(run.id)
        left |= {(one.source, one.vm) for one in moves if one.state is MigrationState.DONE}
    done = len(left & vms)
    moves_now = record.state in (DrainState.PLANNED, DrainState.PAUSING, DrainState.MOVING)
    share = done / len(vms) if vms and moves_now else 0.0
    return Underway(
        kind="drain",
        hosts=record.order.hosts,
        step=record.state.value,
        started_at=record.started_at,
        asked_by=record.order.asked_by,
        done=done,
        total=len(vms),
        ends_at=_ends_at(record.started_at, record.expected_s, share, now),
        reason=record.reason,
    )


def _ends_at(began: datetime, expected_s: float, share: float, now: datetime) -> datetime:
    """Return when something should be over of which a share is done: by its pace, or forecast."""
    if 100 * share < TRUSTED_PERCENT:
        return max(now, began + timedelta(seconds=expected_s))
    return max(now, began + (now - began) / share)


def _campaign(campaign: Campaign, drain_s: float, now: datetime) -> Underway:
    begun = campaign.begun
    steps = sorted({one.step.value for one in begun})
    goes = campaign.state is CampaignState.GOING
    waits = "waiting" if goes else campaign.state.value
    return Underway(
        kind="campaign",
        hosts=tuple(one.host for one in begun or campaign.hosts),
        step=", ".join(steps) if begun and goes else waits,
        started_at=campaign.started_at,
        asked_by=campaign.asked_by,
        done=sum(one.step.is_final for one in campaign.hosts),
        total=len(campaign.hosts),
        ends_at=_campaign_ends_at(campaign, drain_s, now) if begun and goes else None,
        reason=campaign.reason,
    )


def _campaign_ends_at(campaign: Campaign, drain_s: float, now: datetime) -> datetime:
    """Return when the last turn should be over, by how long turns have taken; windows aside."""
    turns = {one.batch for one in campaign.hosts}
    open_ones = {one.batch for one in campaign.hosts if not one.step.is_final}
    over = sorted(
        max(one.since for one in campaign.hosts if one.batch == turn) for turn in turns - open_ones
    )
    spans = [end - begin for begin, end in pairwise([campaign.started_at, *over])]
    if spans:
        span = sorted(spans)[len(spans) // 2]
    else:
        wanted = campaign.options
        back_s = drain_s if wanted.get("restore") else 0.0
        work_s = float(wanted.get("work_s", 0.0)) if wanted.get("commands") else 0.0
        span = timedelta(seconds=drain_s + back_s + work_s)
    began = over[-1] if over else campaign.started_at
    rest = max(timedelta(0), span - (now - began))
    return now + rest + (len(open_ones) - 1) * span
