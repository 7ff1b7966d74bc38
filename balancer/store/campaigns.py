"""Campaigns: the walk over a whole cluster, host by host, kept over restarts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part


class CampaignState(StrEnum):
    """Where a campaign stands."""

    GOING = "going"  # also between windows, and after a crash
    STOPPED = "stopped"  # by a rule or by somebody; it can be taken up again
    DONE = "done"
    ABANDONED = "abandoned"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will be done."""
        return self in (CampaignState.DONE, CampaignState.ABANDONED)


class HostStep(StrEnum):
    """Where one host of a campaign stands. Each is written down before what it announces."""

    WAITING = "waiting"
    DRAINING = "draining"
    WORKING = "working"  # hook commands run: patch, reboot, wait until healthy
    RESUMING = "resuming"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Tell whether the campaign is through with the host."""
        return self in (HostStep.DONE, HostStep.FAILED, HostStep.SKIPPED)


@dataclass(frozen=True, slots=True)
class CampaignHost:
    """One host of a campaign. `hook` counts the hook commands that have ended well."""

    host: str
    batch: int
    step: HostStep
    hook: int
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign and its hosts in the order of their turns."""

    id: int
    cluster: str
    state: CampaignState
    options: Mapping[str, Any]
    asked_by: str
    started_at: datetime
    since: datetime
    reason: str
    hosts: tuple[CampaignHost, ...]

    @property
    def begun(self) -> tuple[CampaignHost, ...]:
        """The hosts that are on their way: they go on whatever the time."""
        return tuple(
            one for one in self.hosts if one.step is not HostStep.WAITING and not one.step.is_final
        )


_LATEST = (
    select(tables.campaigns)
    .where(tables.campaigns.c.cluster == bindparam("name"))
    .order_by(tables.campaigns.c.id.desc())
    .limit(1)
)


class Campaigns(Part):
    """The campaigns of every cluster in the store."""

    def begin(
        self,
        lease: Lease,
        batches: Sequence[Sequence[str]],
        options: Mapping[str, Any],
        asked_by: str,
        at: datetime,
    ) -> int:
        """Write down a campaign over batches of hosts; return its id."""
        with self._writing() as connection:
            require_held(connection, lease)
            done = connection.execute(
                insert(tables.campaigns).values(
                    cluster=lease.cluster,
                    state=CampaignState.GOING.value,
                    options=json.dumps(dict(options), ensure_ascii=False),
                    asked_by=asked_by,
                    started_at=at,
                    since=at,
                    reason="",
                )
            )
            (key,) = done.inserted_primary_key or (0,)
            for batch, hosts in enumerate(batches):
                for host in hosts:
                    connection.execute(
                        insert(tables.campaign_hosts).values(
                            campaign=key,
                            host=host,
                            batch=batch,
                            step=HostStep.WAITING.value,
                            hook=0,
                            since=at,
                            reason="",
                        )
                    )
        return int(key)

    def enter(
        self, lease: Lease, campaign: int, state: CampaignState, at: datetime, reason: str = ""
    ) -> None:
        """Take a campaign to its next state."""
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(
                update(tables.campaigns)
                .where(tables.campaigns.c.id == campaign)
                .values(state=state.value, since=at, reason=reason)
            )

    def change(self, lease: Lease, campaign: int, options: Mapping[str, Any]) -> None:
        """Write down what else is wanted from here on."""
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(
                update(tables.campaigns)
                .where(tables.campaigns.c.id == campaign)
                .values(options=json.dumps(dict(options), ensure_ascii=False))
            )

    def step(
        self,
        lease: Lease,
        campaign: int,
        host: str,
        step: HostStep,
        at: datetime,
        *,
        hook: int = 0,
        reason: str = "",
    ) -> None:
        """Take one host to its next step."""
        table = tables.campaign_hosts
        with self._writing() as connection:
            require_held(connection, lease)
            connection.execute(
                update(table)
                .where(table.c.campaign == campaign, table.c.host == host)
                .values(step=step.value, hook=hook, since=at, reason=reason)
            )

    def open(self, cluster: str) -> Campaign | None:
        """Return the newest campaign of a cluster unless it is over."""
        newest = self.latest(cluster)
        return None if newest is None or newest.state.is_final else newest

    def latest(self, cluster: str) -> Campaign | None:
        """Return the newest campaign of a cluster."""
        rows = self._read(_LATEST, name=cluster)
        return self._campaign(rows[0]) if rows else None

    def get(self, campaign: int) -> Campaign:
        """Return the campaign with this id."""
        (row,) = self._read(select(tables.campaigns).where(tables.campaigns.c.id == campaign))
        return self._campaign(row)

    def _campaign(self, row: dict[str, Any]) -> Campaign:
        table = tables.campaign_hosts
        query = select(table).where(table.c.campaign == row["id"]).order_by(table.c.id)
        hosts = tuple(
            CampaignHost(
                host=one["host"],
                batch=one["batch"],
                step=HostStep(one["step"]),
                hook=one["hook"],
                since=one["since"],
                reason=one["reason"],
            )
            for one in self._read(query)
        )
        return Campaign(
            id=row["id"],
            cluster=row["cluster"],
            state=CampaignState(row["state"]),
            options=json.loads(row["options"]),
            asked_by=row["asked_by"],
            started_at=row["started_at"],
            since=row["since"],
            reason=row["reason"],
            hosts=hosts,
        )
