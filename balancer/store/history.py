"""What was measured: load of hosts and VMs over time, and how migrations went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from balancer.model.cluster import Cluster, Transport
from balancer.store import tables
from balancer.store.part import Part, put_new


class SubjectKind(StrEnum):
    """What a sample is of."""

    HOST = "host"
    VM = "vm"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a host or VM; None is "not measured". `host` is where a VM was."""

    at: datetime
    host: str | None
    state: str
    cpu_used_cores: float | None
    memory_assigned_bytes: int | None
    memory_demand_bytes: int | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """How one migration went, beside what had been expected of it.

    `duration_s` runs from the request to the look that found the VM arrived, so it is too long
    by up to one poll. `bytes` is memory copied, as forecast.
    """

    cluster: str
    vm: str
    source: str
    target: str
    transport: Transport
    at: datetime
    duration_s: float
    expected_s: float
    bytes: int
    blackout_s: float | None

    @property
    def bytes_per_s(self) -> float:
        """Return the throughput over the whole migration."""
        return self.bytes / self.duration_s if self.duration_s > 0 else 0.0


Subject = tuple[SubjectKind, str]
_SUBJECTS = select(tables.subjects.c.kind, tables.subjects.c.key, tables.subjects.c.id).where(
    tables.subjects.c.cluster == bindparam("name")
)


class History(Part):
    """Samples and measurements of every cluster in the store."""

    def record(self, cluster: Cluster, at: datetime) -> None:
        """Add one sample for each host and VM; a second one for the same moment is ignored."""
        ids, wanted = self._subject_ids(cluster.name), _subjects(cluster)
        if missing := [subject for subject in wanted if subject not in ids]:
            with self._writing() as connection:
                # A stale executor may be at it as well; both in one order, so that neither waits
                # for ever.
                subjects = list(_subject_rows(cluster.name, sorted(missing)))
                put_new(connection, tables.subjects, subjects)
            ids = self._subject_ids(cluster.name)
        if rows := list(_samples(cluster, ids, at)):  # made before others have to wait
            with self._writing() as connection:
                put_new(connection, tables.samples, rows)

    def _subject_ids(self, cluster: str) -> dict[Subject, int]:
        rows = self._read(_SUBJECTS, name=cluster)
        return {(SubjectKind(row["kind"]), row["key"]): row["id"] for row in rows}

    def samples(
        self, cluster: str, kind: SubjectKind, key: str, since: datetime
    ) -> tuple[Sample, ...]:
        """Return the samples of one host (by name) or VM (by id) from `since` on, in order."""
        subject, place = tables.subjects.alias("subject"), tables.subjects.alias("place")
        table = tables.samples
        query = (
            select(
                table.c.at,
                place.c.key.label("host"),
                table.c.state,
                table.c.cpu_used_cores,
                table.c.memory_assigned_bytes,
                table.c.memory_demand_bytes,
            )
            .select_from(
                table.join(subject, table.c.subject == subject.c.id).outerjoin(
                    place, table.c.host == place.c.id
                )
            )
            .where(subject.c.cluster == cluster, subject.c.kind == kind.value)
            .where(subject.c.key == key, table.c.at >= since)
            .order_by(table.c.at)
        )
        return tuple(Sample(**row) for row in self._read(query))

    def record_measurement(self, measurement: Measurement) -> None:
        """Add how one migration went."""
        with self._writing() as connection:
            connection.execute(insert(tables.measurements), asdict(measurement))

    def measurements(self, cluster: str, since: datetime | None = None) -> tuple[Measurement, ...]:
        """Return how migrations went, oldest first."""
        table = tables.measurements
        columns = [column for column in table.c if column.name != "id"]
        query = select(*columns).where(table.c.cluster == cluster).order_by(table.c.at, table.c.id)
        if since is not None:
            query = query.where(table.c.at >= since)
        return tuple(
            Measurement(**{**row, "transport": Transport(row["transport"])})
            for row in self._read(query)
        )

    def prune(self, before: datetime) -> int:
        """Delete samples older than `before`; return how many. Measurements are few and stay."""
        with self._writing() as connection:
            return connection.execute(
                delete(tables.samples).where(tables.samples.c.at < before)
            ).rowcount


def _subjects(cluster: Cluster) -> list[Subject]:
    hosts = [(SubjectKind.HOST, host.name) for host in cluster.hosts]
    return hosts + [(SubjectKind.VM, vm.id) for vm in cluster.vms]


def _subject_rows(cluster: str, subjects: Iterable[Subject]) -> Iterator[dict[str, Any]]:
    for kind, key in subjects:
        yield {"cluster": cluster, "kind": kind.value, "key": key}


def _samples(cluster: Cluster, ids: dict[Subject, int], at: datetime) -> Iterator[dict[str, Any]]:
    for host in cluster.hosts:
        load = [vm for vm in cluster.vms_on[host.name] if vm.is_load]
        yield {
            "subject": ids[SubjectKind.HOST, host.name],
            "at": at,
            "host": None,
            "state": host.state.value,
            "cpu_used_cores": host.cpu_used_cores,
            "memory_assigned_bytes": sum(vm.memory_assigned_bytes for vm in load),
            "memory_demand_bytes": None,
        }
    for vm in cluster.vms:
        yield {
            "subject": ids[SubjectKind.VM, vm.id],
            "at": at,
            "host": ids[SubjectKind.HOST, vm.host],
            "state": vm.state.value,
            "cpu_used_cores": vm.cpu_demand_cores,  # what is planned for
            "memory_assigned_bytes": vm.memory_assigned_bytes,
            "memory_demand_bytes": vm.memory_demand_bytes,
        }
