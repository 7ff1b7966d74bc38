"""The one door through which plans see the past: what VMs used, and what was moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Integer, case, func, select, type_coerce

from balancer.model.cluster import Cluster, VmState
from balancer.model.outcome import MigrationState
from balancer.model.past import PastMove
from balancer.store import tables
from balancer.store.history import SubjectKind
from balancer.store.part import Part

if TYPE_CHECKING:
    from balancer.demand.readings import Readings
    from balancer.demand.season import Seasons

BUCKETS = 60  # readings that a window is reduced to; a plan needs no more
_LOAD = [state.value for state in VmState if state.is_load]
_TRIED = [MigrationState.DONE.value, MigrationState.FAILED.value]
HOUR = timedelta(hours=1)
_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Lately(Part):
    """Reads history as plans need it."""

    def __init__(self, engine: Engine, reading: Engine, location: str) -> None:
        super().__init__(engine, reading, location)
        self._seasons: dict[str, tuple[datetime, Seasons]] = {}

    def readings(
        self, cluster: Cluster, since: datetime, until: datetime, buckets: int = BUCKETS
    ) -> Readings:
        """Return what the VMs of a cluster used, averaged over each of `buckets` parts of a time.

        Samples of VMs that were not running do not count.
        """
        # Most that a store is opened for needs no arrays, so no numpy either.
        from balancer.demand.buckets import averaged  # noqa: PLC0415 -- start-up time

        width = max(_US, _us(until - since) // buckets)
        start = _us(since - _EPOCH)
        samples, subject, place = (
            tables.samples,
            tables.subjects.alias("subject"),
            tables.subjects.alias("place"),
        )
        bucket = (type_coerce(samples.c.at, Integer) - start) // width
        asked, held = samples.c.memory_demand_bytes, samples.c.memory_assigned_bytes
        needed = case((asked > held, asked), else_=held)
        query = (
            select(
                subject.c.key,
                place.c.key.label("host"),
                bucket.label("bucket"),
                func.avg(samples.c.cpu_used_cores).label("cores"),
                func.avg(needed).label("memory"),
                func.count().label("count"),
            )
            .select_from(
                samples.join(subject, samples.c.subject == subject.c.id).outerjoin(
                    place, samples.c.host == place.c.id
                )
            )
            .where(subject.c.cluster == cluster.name, subject.c.kind == SubjectKind.VM.value)
            .where(samples.c.at >= since, samples.c.at <= until, samples.c.state.in_(_LOAD))
            .group_by(subject.c.key, place.c.key, bucket)
        )
        rows = [tuple(row.values()) for row in self._read(query)]
        return averaged(cluster, rows, start, width)

    def seasons(self, cluster: Cluster, since: datetime, until: datetime) -> Seasons:
        """Return what repeats itself in the hours of a cluster's VMs; looked for once an hour."""
        from balancer.demand.season import seasons  # noqa: PLC0415 -- as above

        kept = self._seasons.get(cluster.name)
        if kept is not None and kept[0] <= until < kept[0] + HOUR:
            return kept[1]
        start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = max(1, (until - start) // HOUR)
        readings = self.readings(cluster, start, start + hours * HOUR, hours)
        found = seasons(readings.hourly())
        self._seasons[cluster.name] = (until, found)
        return found

    def moves(self, cluster: str, since: datetime) -> tuple[PastMove, ...]:
        """Return the migrations that ended from `since` on, oldest first."""
        table = tables.moves
        query = (
            select(
                table.c.vm,
                table.c.source,
                table.c.target,
                table.c.since.label("at"),
                table.c.bytes,
                table.c.state,
            )
            .where(table.c.cluster == cluster, table.c.state.in_(_TRIED), table.c.since >= since)
            .order_by(table.c.since, table.c.id)
        )
        return tuple(
            PastMove(**_without_state(row), done=row["state"] == MigrationState.DONE.value)
            for row in self._read(query)
        )


def _us(time: timedelta) -> int:
    return time // timedelta(microseconds=1)


def _without_state(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "state"}
