"""Which migrations run or queue, whoever asked for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from balancer.gateway.names import host_key, id_key
from balancer.gateway.port import InFlight
from balancer.gateway.states import (
    GROUP_QUEUED_FLAG,
    JOB_STATES_MOVING,
    JOB_TYPES_MOVING,
    MIGRATING_STATUS,
    MIGRATION_STATES_MOVING,
)
from balancer.gateway.wire import GroupRow, HostAnswer, JobRow
from balancer.model.cluster import Cluster


def in_flight(
    cluster: Cluster, answers: Mapping[str, HostAnswer], groups: Mapping[str, GroupRow]
) -> tuple[InFlight, ...]:
    """Return the migrations that hosts' jobs, VMs' status or the cluster's groups show.

    Source and target are names of the snapshot; a job may be listed at both ends.
    """
    names = {host_key(host.name): host.name for host in cluster.hosts}
    jobs = _jobs(answers)
    status = {
        id_key(row.id)
        for answer in answers.values()
        for row in answer.vms.data or []
        if MIGRATING_STATUS.intersection(row.status)
    }
    found: list[InFlight] = []
    for vm in cluster.vms:
        key = id_key(vm.id)
        group = groups.get(key)
        queued = group is not None and bool(group.status & GROUP_QUEUED_FLAG)
        moving = group is not None and group.migration_state in MIGRATION_STATES_MOVING
        job = _best(jobs.get(key, []), vm.host)
        if not (queued or moving or job or key in status):
            continue
        percents = [
            job.percent if job else 0,
            (group.migration_progress or 0) if moving and group else 0,
        ]
        found.append(
            InFlight(
                vm=vm.id,
                source=vm.host,
                target=names.get(host_key(job.target)) if job else None,
                percent=max(0, min(100, *[max(percents)])),
                queued=queued and job is None,
            )
        )
    return tuple(found)


def _jobs(answers: Mapping[str, HostAnswer]) -> Mapping[str, list[tuple[str, JobRow]]]:
    found: dict[str, list[tuple[str, JobRow]]] = {}
    for host, answer in answers.items():
        for job in answer.jobs.data or []:
            if job.job_type in JOB_TYPES_MOVING and job.state in JOB_STATES_MOVING:
                found.setdefault(id_key(job.vm), []).append((host, job))
    return found


def _best(jobs: list[tuple[str, JobRow]], source: str) -> JobRow | None:
    """Return the job as the VM's own host lists it, else as any other does."""
    at_home = [job for host, job in jobs if host == source]
    return next(iter(at_home or [job for _, job in jobs]), None)
