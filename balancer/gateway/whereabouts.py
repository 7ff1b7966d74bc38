"""On which host each VM is, when several witnesses speak. Pure.

A VM at the instant of its switch, or one whose migration ended between two readings, is shown
by two hosts, or by another host than the cluster says. Jobs stay listed for minutes after
their end, so such a movement leaves traces; a contradiction without any is a wrong witness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from balancer.gateway.blockers import is_moving
from balancer.gateway.names import host_key, id_key
from balancer.gateway.states import JOB_TYPES_MOVING
from balancer.gateway.wire import ClusterAnswer, GroupRow, HostAnswer, VmRow
from balancer.model.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where VMs are; all keys are folded ids.

    Attributes:
        host_of: The host each VM that a believed host shows is on.
        moving: VMs whose place may have changed while we read.
        groups: The cluster group of each clustered VM.
        doubted: Hosts that claim VMs they cannot have.
        answered: Hosts whose word about VMs stands.
        trails: Targets of migrations that hosts list, running or just over.
    """

    host_of: Mapping[str, str]
    moving: frozenset[str]
    groups: Mapping[str, GroupRow]
    doubted: frozenset[str]
    answered: frozenset[str]
    trails: Mapping[str, str]


def groups_by_vm(cluster: ClusterAnswer | None) -> Mapping[str, GroupRow]:
    """Return the cluster's VM groups by the folded id of their VM."""
    rows = (cluster.groups.data or []) if cluster else []
    return {id_key(row.vm): row for row in rows if row.vm}


def contested(answers: Mapping[str, HostAnswer], cluster: ClusterAnswer | None) -> frozenset[str]:
    """Return the hosts to read once more: those that contradict each other or the cluster.

    A migration that began and ended between two readings leaves no trace in the earlier one.
    Read again, a host that is right agrees with the others, and one that is wrong does not.
    """
    names = {host_key(answer.computer): name for name, answer in answers.items()}
    found: set[str] = set()
    groups = groups_by_vm(cluster)
    for vm, rows in _unexplained(_claims(answers), groups, traces(answers)):
        found.update(rows)
        if vm in groups and host_key(groups[vm].owner) in names:
            found.add(names[host_key(groups[vm].owner)])
    return frozenset(found)


def settle(
    believed: Mapping[str, HostAnswer],
    groups: Mapping[str, GroupRow],
    last: Cluster | None,
    notes: list[str],
) -> Whereabouts:
    """Decide where each VM is, and which hosts to doubt; notes say why."""
    claims, trails = _claims(believed), traces(believed)
    before = {id_key(vm.id): vm.host for vm in last.vms} if last else {}
    unexplained = dict(_unexplained(claims, groups, trails))
    doubted: dict[str, str] = {}
    for vm, rows in unexplained.items():
        group = groups.get(vm)
        for host, row in rows.items():
            if group is None or host_key(host) != host_key(group.owner):
                doubted.setdefault(host, _contradiction(row, host, rows, group))
    notes.extend(f"{host} is unknown: {why}" for host, why in doubted.items())
    host_of = {
        vm: _choose([host for host in rows if host not in doubted], groups.get(vm), before.get(vm))
        for vm, rows in claims.items()
        if any(host not in doubted for host in rows)
    }
    moving = {vm for vm, rows in claims.items() if not _agreed(rows, groups.get(vm))}
    return Whereabouts(
        host_of=host_of,
        moving=frozenset(moving - unexplained.keys()),
        groups=groups,
        doubted=frozenset(doubted),
        answered=frozenset(believed) - frozenset(doubted),
        trails=trails,
    )


_Rows = Mapping[str, VmRow]


def _claims(answers: Mapping[str, HostAnswer]) -> Mapping[str, dict[str, VmRow]]:
    """Return for each VM the hosts that show it, and what they show."""
    found: dict[str, dict[str, VmRow]] = {}
    for host, answer in answers.items():
        for row in answer.vms.data or []:
            found.setdefault(id_key(row.id), {})[host] = row
    return found


def _unexplained(
    claims: Mapping[str, _Rows], groups: Mapping[str, GroupRow], trails: Mapping[str, str]
) -> Iterator[tuple[str, _Rows]]:
    """Yield the VMs about whose place witnesses disagree without a migration to explain it."""
    for vm, rows in claims.items():
        group = groups.get(vm)
        if _agreed(rows, group) or vm in trails:
            continue
        if not any(is_moving(row, group) for row in rows.values()):
            yield vm, rows


def _agreed(rows: _Rows, group: GroupRow | None) -> bool:
    if len(rows) != 1:
        return False
    owner = host_key(group.owner) if group else ""
    return not owner or owner in {host_key(host) for host in rows}


def _contradiction(row: VmRow, host: str, rows: Mapping[str, VmRow], group: GroupRow | None) -> str:
    others = ", ".join(sorted(other for other in rows if other != host))
    said = (
        f"{others} shows it too" if others else f"the cluster says {group.owner if group else ''}"
    )
    return f"it shows the VM {row.name!r} ({row.id}), but {said}, and no migration explains that"


def _choose(hosts: list[str], group: GroupRow | None, before: str | None) -> str:
    """Return where a VM shown by `hosts` most likely is: its owner, else where it was not."""
    if group is not None:
        for host in hosts:
            if host_key(host) == host_key(group.owner):
                return host
    elsewhere = [host for host in hosts if host != before]
    return (elsewhere or hosts)[0]


def traces(answers: Mapping[str, HostAnswer]) -> Mapping[str, str]:
    """Return where VMs go or went, of which some host lists a migration, running or just over."""
    return {
        id_key(job.vm): job.target
        for answer in answers.values()
        for job in answer.jobs.data or []
        if job.job_type in JOB_TYPES_MOVING
    }
