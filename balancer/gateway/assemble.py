"""From what hosts and a cluster answered to one observation. Pure and total.

Whom to believe. A host's own answer is the best witness for the VMs on it, the cluster for who
owns which VM and which nodes are in. A host that is silent, or whose numbers cannot be true, is
`unknown`: its capacity and load are what they were in the last snapshot, the VMs that the
cluster says it owns stay on it, and nothing is planned to or from it. Where host and cluster
contradict each other about a VM, a migration that is going on explains it for the moment (the
readings are not of one instant); without one, the host is doubted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from balancer.gateway.cluster_rules import Seen, cluster_rules
from balancer.gateway.cluster_wide import control_in
from balancer.gateway.doubt import failed_sections, why_doubt_clock
from balancer.gateway.flights import in_flight
from balancer.gateway.heard import Heard
from balancer.gateway.inventory import estate_of
from balancer.gateway.names import host_key, id_key
from balancer.gateway.networks import ALONE, UNREAD, cluster_networks
from balancer.gateway.observed import host_of, lost_host, lost_vms, vm_of
from balancer.gateway.port import InFlight, Observation
from balancer.gateway.signs import others_of, troubles_of
from balancer.gateway.states import AUTO_BALANCER, node_state
from balancer.gateway.whereabouts import Whereabouts, groups_by_vm, settle
from balancer.gateway.wire import ClusterAnswer, NodeRow
from balancer.model.cluster import Cluster, ClusterSettings, Host, HostState, Vm, VmState


def assemble(
    name: str,
    cluster: ClusterAnswer | None,
    hosts: Mapping[str, Heard | None],
    now: datetime,
    last: Cluster | None = None,
    silence: Mapping[str, str] | None = None,
) -> Observation:
    """Return the observation that these answers make.

    Args:
        name: What the snapshot calls the cluster.
        cluster: Of a node that is believed; None for hosts that stand alone.
        hosts: The answer of each host by name, None where there is none. With a cluster, a
            host that is no node of it is left out.
        now: When the answers came.
        last: The snapshot before this one.
        silence: Why a host did not answer, for the notes.
    """
    notes = list(_failures(cluster))
    nodes, answers = _roster(cluster, hosts, notes)
    believed = _believe(cluster, answers, now, silence or {}, notes)
    groups = groups_by_vm(cluster)
    where = settle({name: heard.answer for name, heard in believed.items()}, groups, last, notes)
    for host in where.doubted:
        believed.pop(host, None)
    observed = _Assembly(name, cluster, nodes, believed, where, now, last)
    return observed.observation(notes)


def _roster(
    cluster: ClusterAnswer | None, hosts: Mapping[str, Heard | None], notes: list[str]
) -> tuple[dict[str, NodeRow | None], dict[str, Heard | None]]:
    """Return the hosts of the snapshot in order, and their answers by the same names."""
    if cluster is None:
        return dict.fromkeys(hosts), dict(hosts)
    by_key = {host_key(name): (name, answer) for name, answer in hosts.items()}
    rows = cluster.nodes.data
    if rows is None:
        return dict.fromkeys(hosts), dict(hosts)
    nodes: dict[str, NodeRow | None] = {}
    answers: dict[str, Heard | None] = {}
    for row in rows:
        nodes.setdefault(row.name, row)
        answers[row.name] = by_key.pop(host_key(row.name), (row.name, None))[1]
    notes.extend(
        f"{name} is configured but is no node of the cluster; it is left out"
        for name, _ in by_key.values()
    )
    return nodes, answers


def _believe(
    cluster: ClusterAnswer | None,
    answers: Mapping[str, Heard | None],
    now: datetime,
    silence: Mapping[str, str],
    notes: list[str],
) -> dict[str, Heard]:
    """Return the answers that can be planned on; a note says why each other cannot."""
    came = {name: heard.answer for name, heard in answers.items() if heard is not None}
    clocks = why_doubt_clock(came, now)
    reasons = {host_key(name): reason for name, reason in silence.items()}
    believed: dict[str, Heard] = {}
    computers: dict[str, str] = {}
    for name, heard in answers.items():
        if heard is None:
            notes.append(f"{name} is unknown: {reasons.get(host_key(name), 'no answer came')}")
            continue
        answer = heard.answer
        computer = host_key(answer.computer)
        doubt = heard.doubt or clocks.get(name)
        if cluster is not None and computer != host_key(name):
            doubt = f"the computer that answered for it calls itself {answer.computer}"
        elif computer in computers:
            doubt = f"it is the same computer as {computers[computer]}"
        if doubt:
            notes.append(f"{name} is unknown: {doubt}")
            continue
        computers[computer] = name
        believed[name] = heard
        failed = failed_sections(answer)
        notes.extend(f"{name}: its {part} section failed: {why}" for part, why in failed.items())
    return believed


class _Assembly:
    """The snapshot taking shape: what was decided so far, in one place."""

    def __init__(
        self,
        name: str,
        cluster: ClusterAnswer | None,
        nodes: Mapping[str, NodeRow | None],
        believed: Mapping[str, Heard],
        where: Whereabouts,
        now: datetime,
        last: Cluster | None,
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._nodes = nodes
        self._heard = believed
        self._believed = {name: heard.answer for name, heard in believed.items()}
        self._where = where
        self._now = now
        self._last = last
        self._known = {host_key(host.name): host for host in last.hosts} if last else {}
        self._networks = cluster_networks(cluster) if cluster else ()
        unread = cluster is not None and cluster.networks.data is None
        self._offered = UNREAD if unread else self._networks if cluster else ALONE

    def observation(self, notes: list[str]) -> Observation:
        """Put hosts, VMs, rules and movements together."""
        hosts = tuple(self._host(name) for name in self._nodes)
        paths = [row.path for row in (self._cluster.volumes.data or [])] if self._cluster else []
        host_of, groups = self._where.host_of, self._where.groups
        seen = [
            Seen(vm, host, groups.get(vm.key))
            for host, heard in self._heard.items()
            for vm in heard.vms
            if host_of.get(vm.key) == host
        ]
        locked = _rules_unknown(self._cluster)
        vms = [
            vm_of(
                one,
                csv_paths=paths,
                node_of_cluster=self._cluster is not None,
                moving=one.vm.key in self._where.moving,
                locked=locked,
            )
            for one in seen
        ]
        names = {host_key(host.name): host.name for host in hosts}
        vms.extend(lost_vms(self._where, names, self._last, {one.vm.key for one in seen}))
        rules, said = cluster_rules(
            hosts, self._believed, seen, self._cluster, self._ids_of_groups(vms)
        )
        notes.extend(said)
        snapshot = Cluster(
            name=self._name,
            hosts=hosts,
            vms=tuple(vms),
            rules=rules,
            settings=_settings(self._cluster),
            networks=self._networks,
            taken_at=self._now,
        )
        flights = in_flight(snapshot, self._believed, self._where.groups)
        snapshot = _with_targets(snapshot, flights)
        standing = frozenset(
            id_key(vm.id) for vm in snapshot.vms if vm.state in (VmState.OFF, VmState.SAVED)
        )
        answer = self._cluster
        return Observation(
            snapshot,
            flights,
            tuple(notes),
            estate=estate_of(answer, standing) if answer is not None else None,
            control=control_in(answer.control) if answer is not None else None,
            troubles=troubles_of(answer),
            others=others_of(answer, self._believed),
        )

    def _host(self, name: str) -> Host:
        row = self._nodes[name]
        before = self._known.get(host_key(name))
        domain = tuple(row.fault_domain) if row else ()
        answer = self._believed.get(name)
        if answer is None:
            down = row is not None and node_state(row) is HostState.DOWN
            state = HostState.DOWN if down else HostState.UNKNOWN
            return lost_host(name, state, domain, before)
        if row is not None:
            state = node_state(row)
        else:
            state = HostState.UP if self._cluster is None else HostState.UNKNOWN
        return host_of(name, answer, state, domain, self._offered, before)

    def _ids_of_groups(self, vms: Iterable[Vm]) -> Mapping[str, str]:
        """Map group names and ids, folded, to the ids of VMs, where a rule may ask for them."""
        if not _has_rules(self._cluster):
            return {}
        ids = {id_key(vm.id): vm.id for vm in vms}
        found: dict[str, str] = {}
        for vm, group in self._where.groups.items():
            if vm in ids:
                found[group.name.casefold()] = found[id_key(group.id)] = ids[vm]
        return found


def _has_rules(cluster: ClusterAnswer | None) -> bool:
    """Tell whether the cluster holds any group to a rule of its own."""
    if cluster is None:
        return False
    return bool(cluster.affinity.data) or any(
        row.anti_affinity for row in cluster.groups.data or []
    )


def _rules_unknown(cluster: ClusterAnswer | None) -> bool:
    """Tell whether the cluster's own rules are not known well enough to move its VMs."""
    return cluster is not None and (cluster.groups.data is None or cluster.affinity.data is None)


def _failures(cluster: ClusterAnswer | None) -> Iterator[str]:
    """Yield a note for each section of the cluster's answer that failed."""
    if cluster is None:
        return
    for part, why in failed_sections(cluster).items():
        yield f"the cluster's {part} section failed: {why}"
    if _rules_unknown(cluster):
        yield "the cluster's own rules are not known, so no clustered VM is moved"


def _with_targets(cluster: Cluster, flights: tuple[InFlight, ...]) -> Cluster:
    """Return `cluster` with what is known of where VMs are being migrated to."""
    targets = {flight.vm: flight.target for flight in flights if flight.target is not None}
    if not targets:
        return cluster
    vms = tuple(
        replace(vm, migrating_to=targets[vm.id]) if vm.id in targets else vm for vm in cluster.vms
    )
    return replace(cluster, vms=vms)


def _settings(cluster: ClusterAnswer | None) -> ClusterSettings:
    part = cluster.cluster.data if cluster else None
    if part is None:
        return ClusterSettings()
    mode = part.auto_balancer_mode
    return ClusterSettings(
        concurrent_per_host=part.migrations_max,
        auto_balancer=AUTO_BALANCER.get(mode) if mode is not None else None,
        functional_level=part.functional_level,
    )
