"""The rules that a cluster and its hosts' facts impose, in the policy's own vocabulary. Pure.

Facts that rule out single targets (a switch that is missing there, another make of processor,
a configuration version that is not supported, possible owners, a shared volume that a node
cannot reach) become one `allow` rule for each distinct set of hosts. They are intersected for
each VM first: two facts with no host in common leave the VM where it is, and never make the
cluster impossible to plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from balancer.gateway.blockers import below
from balancer.gateway.heard import HeardVm
from balancer.gateway.names import host_key, id_key
from balancer.gateway.wire import (
    EVERY_NODE,
    AffinityRow,
    ClusterAnswer,
    GroupRow,
    HostAnswer,
    VmRow,
    VolumeRow,
)
from balancer.model.cluster import Host
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.rules import Allow, Apart, AsOne, Prefer, Together

ORIGIN = "cluster"

_SAME_DOMAIN, _SAME_NODE, _DIFFERENT_DOMAIN, _DIFFERENT_NODE = 1, 2, 3, 4
# StateInfo Unavailable, Paused, BlockRedirected: I/O fails, waits, or takes the way over another
# node. FileSystemRedirected (3) is how every node but the owner reaches a volume with ReFS.
_BLOCK_REDIRECTED = 4
_VOLUME_ACCESS_POOR = frozenset({0, 1, _BLOCK_REDIRECTED})


class Seen(NamedTuple):
    """A VM that a believed host shows, that host, and the VM's cluster group if it has one."""

    vm: HeardVm
    host: str
    group: GroupRow | None


def cluster_rules(
    hosts: Sequence[Host],
    answers: Mapping[str, HostAnswer],
    vms: Sequence[Seen],
    cluster: ClusterAnswer | None,
    id_of_group: Mapping[str, str],
) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """Return the rules, and notes on what could not be put as one.

    Args:
        hosts: All hosts of the snapshot.
        answers: What the believed ones among them said, by name.
        vms: The VMs seen on those.
        cluster: None for hosts that stand alone.
        id_of_group: VM ids by folded group name and by group id.
    """
    affinity, confined, notes = _affinity(cluster, id_of_group)
    allowed: dict[str, frozenset[str]] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    facts = _Facts(hosts, answers, cluster)
    for seen in vms:
        hosts_left, why = facts.targets(seen, confined=seen.vm.key in confined)
        if why:
            vm = seen.vm.row.id
            allowed[vm], reasons[vm] = hosts_left, why
    rules = (
        *_allow_rules(allowed, reasons),
        *_anti_affinity(cluster, id_of_group),
        *affinity,
        *_preferred(vms, hosts),
        *_owners_of_volumes(vms, hosts, cluster),
    )
    return _without_contradiction(rules, allowed, frozenset(h.name for h in hosts)), notes


class _Kind(NamedTuple):
    """All that decides over a VM's targets: few VMs of a cluster differ in it."""

    host: str
    switches: tuple[str, ...]
    version: str
    volumes: tuple[str, ...]  # the paths of those it uses and not every host reaches
    owners: tuple[str, ...]  # empty: every node
    confined: bool


_Targets = tuple[frozenset[str], tuple[str, ...]]


class _Facts:
    """What hosts and cluster say about where a VM can run."""

    def __init__(
        self,
        hosts: Sequence[Host],
        answers: Mapping[str, HostAnswer],
        cluster: ClusterAnswer | None,
    ) -> None:
        self._hosts = hosts
        self._names = frozenset(host.name for host in hosts)
        self._domain_of = {host.name: host.fault_domain for host in hosts}
        self._by_key = {host_key(host.name): host.name for host in hosts}
        self._closed_volumes = _closed_volumes(cluster, self._by_key)
        self._switches = {
            name: {switch.casefold() for switch in answer.switches.data or []}
            for name, answer in answers.items()
        }
        self._found: dict[tuple[object, ...], _Targets] = {}  # by kind
        systems = {name: answer.os.data for name, answer in answers.items()}
        self._makes = {name: one.cpu_vendor.strip() if one else "" for name, one in systems.items()}
        self._domains = {
            name: one.domain.casefold() if one else "" for name, one in systems.items()
        }
        self._versions = {
            name: frozenset(answer.host.data.vm_versions if answer.host.data else ())
            for name, answer in answers.items()
        }

    def targets(self, seen: Seen, *, confined: bool) -> _Targets:
        """Return the hosts `seen` may be on, and why not the others; no reason, no limit."""
        owners = seen.group.possible_owners if seen.group else []
        key = (
            seen.host,
            seen.vm.switches,
            seen.vm.row.version,
            self._closed_volumes_of(seen.vm.row) if self._closed_volumes else (),
            () if EVERY_NODE in owners else tuple(owners),
            confined,
        )
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._targets(_Kind(*key))
        return found

    def _targets(self, kind: _Kind) -> _Targets:
        left = set(self._names)
        why: list[str] = []
        for reason, out in (
            ("virtual switch", self._without_switch(kind.switches)),
            ("processor make", _others(self._makes, kind.host)),
            ("configuration version", self._without_version(kind.version)),
            ("domain", _others(self._domains, kind.host)),
            ("shared volume", self._without_volume(kind.volumes)),
            ("fault domain", _others(self._domain_of, kind.host) if kind.confined else set()),
        ):
            out.discard(kind.host)  # it runs there, whatever we think
            if out:
                left -= out
                why.append(reason)
        owners = self._possible_owners(kind.owners)
        if owners is not None:
            left = left & owners or {kind.host}
            why.append("possible owners")
        return frozenset(left), tuple(why)

    def _without_switch(self, switches: Iterable[str]) -> set[str]:
        needed = {switch.casefold() for switch in switches if switch}
        return {name for name, have in self._switches.items() if not needed <= have}

    def _without_version(self, version: str) -> set[str]:
        return {name for name, have in self._versions.items() if version not in have}

    def _without_volume(self, volumes: Iterable[str]) -> set[str]:
        return set().union(*(self._closed_volumes[path] for path in volumes))

    def _closed_volumes_of(self, row: VmRow) -> tuple[str, ...]:
        paths = [disk.path for disk in row.disks if disk.path] + row.media
        return tuple(
            volume for volume in self._closed_volumes if any(below(path, volume) for path in paths)
        )

    def _possible_owners(self, nodes: Iterable[str]) -> set[str] | None:
        keys = {host_key(name) for name in nodes}
        if not keys:
            return None
        owners = {name for key, name in self._by_key.items() if key in keys}
        return None if owners == self._names else owners


def _others(by_host: Mapping[str, object], host: str) -> set[str]:
    """Return the hosts of which something else is known than of `host`."""
    here = by_host[host]
    return {name for name, there in by_host.items() if there != here}


def _closed_volumes(
    cluster: ClusterAnswer | None, names: Mapping[str, str]
) -> Mapping[str, set[str]]:
    """Return the hosts that cannot reach it for each volume that some cannot, by its path."""
    found: dict[str, set[str]] = {}
    for volume in (cluster.volumes.data or []) if cluster else []:
        for node, access in volume.access.items():
            if access in _VOLUME_ACCESS_POOR and host_key(node) in names:
                found.setdefault(volume.path, set()).add(names[host_key(node)])
    return found


def _allow_rules(
    allowed: Mapping[str, frozenset[str]], reasons: Mapping[str, tuple[str, ...]]
) -> Iterable[Rule]:
    """Return one rule for all VMs that are held to the same hosts for the same reasons."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for vm, hosts in allowed.items():
        alike.setdefault((tuple(sorted(hosts)), reasons[vm]), []).append(vm)
    for (hosts_left, why), ids in sorted(alike.items()):
        yield Allow(
            vms=_exactly(sorted(ids)),
            hosts=_exactly(hosts_left),
            origin=ORIGIN,
            name=" and ".join(why),
        )


def _preferred(vms: Sequence[Seen], hosts: Sequence[Host]) -> Iterable[Rule]:
    """Return preferred owners as wishes: one rule for all VMs that prefer the same nodes."""
    by_key = {host_key(host.name): host.name for host in hosts}
    alike: dict[tuple[str, ...], list[str]] = {}
    for seen in vms:
        nodes = seen.group.preferred_owners if seen.group else []
        owners = {by_key[key] for key in map(host_key, nodes) if key in by_key}
        if owners and len(owners) < len(hosts):
            alike.setdefault(tuple(sorted(owners)), []).append(seen.vm.row.id)
    for names, ids in sorted(alike.items()):
        yield Prefer(
            vms=_exactly(sorted(ids)),
            hosts=_exactly(names),
            origin=ORIGIN,
            name="preferred owners",
        )


def _owners_of_volumes(
    vms: Sequence[Seen], hosts: Sequence[Host], cluster: ClusterAnswer | None
) -> Iterable[Rule]:
    """Return what speaks for the owner of a VM's volume.

    That is little, but a wish of those that reach the volume only by way of it.
    """
    by_key = {host_key(host.name): host.name for host in hosts}
    volumes = (cluster.volumes.data or []) if cluster else []
    at = {volume.path.casefold().rstrip("\\"): volume for volume in volumes}
    redirected = {
        (volume.path, by_key.get(host_key(node)))
        for volume in volumes
        for node, access in volume.access.items()
        if access == _BLOCK_REDIRECTED
    }
    alike: dict[tuple[bool, str], list[str]] = {}
    by_root: dict[str, VolumeRow | None] = {}  # as paths write it: few roots, many disks
    for seen in vms if at else ():
        found: list[VolumeRow] = []
        for disk in seen.vm.row.disks:
            root = "\\".join(disk.path.split("\\", 3)[:3])
            if root not in by_root:
                by_root[root] = at.get(root.casefold())
            if (volume := by_root[root]) is not None:
                found.append(volume)
        owners = {one.owner for one in found}
        owner = by_key.get(host_key(owners.pop())) if len(owners) == 1 else None
        if owner is not None:  # volumes with several owners pull nowhere
            detour = bool(redirected) and any((one.path, seen.host) in redirected for one in found)
            alike.setdefault((detour, owner), []).append(seen.vm.row.id)
    for (detour, owner), ids in sorted(alike.items()):
        yield Prefer(
            vms=_exactly(sorted(ids)),
            hosts=_exactly([owner]),
            tie_break=not detour,
            origin=ORIGIN,
            name="block-redirected volume" if detour else "owner of the volume",
        )


def _anti_affinity(cluster: ClusterAnswer | None, id_of_group: Mapping[str, str]) -> Iterable[Rule]:
    """Return AntiAffinityClassNames as rules: soft unless the cluster enforces them."""
    if cluster is None or cluster.cluster.data is None:
        return
    classes: dict[str, tuple[str, list[str]]] = {}
    for group in cluster.groups.data or []:
        vm = id_of_group.get(group.name.casefold()) if group.anti_affinity else None
        if vm is None:
            continue
        for word in dict.fromkeys(group.anti_affinity):
            classes.setdefault(word.casefold(), (word, []))[1].append(vm)
    for _, (word, ids) in sorted(classes.items()):
        if len(ids) > 1:
            yield Apart(
                vms=_exactly(sorted(ids)),
                hard=cluster.cluster.data.enforced_anti_affinity,
                origin=ORIGIN,
                name=word,
            )


def _affinity(
    cluster: ClusterAnswer | None, id_of_group: Mapping[str, str]
) -> tuple[tuple[Rule, ...], frozenset[str], tuple[str, ...]]:
    """Return affinity rules over nodes, the VMs of those over fault domains, and notes.

    A VM of a rule over fault domains is confined to hosts of the fault domain it is in: that
    never breaks such a rule, nor makes a broken one worse.
    """
    rules: list[Rule] = []
    confined: set[str] = set()
    notes: list[str] = []
    for row in (cluster.affinity.data or []) if cluster else []:
        if not row.enabled:
            continue
        ids = _members(row, id_of_group)
        if row.rule_type in (_SAME_DOMAIN, _DIFFERENT_DOMAIN):
            confined.update(id_key(one) for one in ids)
        elif row.rule_type == _SAME_NODE and len(ids) > 1:
            rules.append(AsOne(vms=_exactly(ids), origin=ORIGIN, name=row.name))
        elif row.rule_type == _DIFFERENT_NODE and len(ids) > 1:
            rules.append(Apart(vms=_exactly(ids), origin=ORIGIN, name=row.name))
        elif row.rule_type not in (_SAME_NODE, _DIFFERENT_NODE):
            notes.append(
                f"the cluster's affinity rule {row.name!r} is of a kind ({row.rule_type}) that "
                "is not known here; its VMs stay within their fault domains"
            )
            confined.update(id_key(one) for one in ids)
    return tuple(rules), frozenset(confined), tuple(notes)


def _members(row: AffinityRow, id_of_group: Mapping[str, str]) -> list[str]:
    """Return the ids of the VMs of a rule; it may name shared volumes as well, by GUID."""
    keys = [word for name in row.groups for word in (name.casefold(), id_key(name))]
    return sorted({id_of_group[key] for key in keys if key in id_of_group})


def _without_contradiction(
    rules: Iterable[Rule], allowed: Mapping[str, frozenset[str]], everywhere: frozenset[str]
) -> tuple[Rule, ...]:
    """Keep a set whose members have no host in common from binding: nothing could."""
    by_key = {id_key(vm): hosts for vm, hosts in allowed.items()}
    kept: list[Rule] = []
    for rule in rules:
        common = everywhere
        if isinstance(rule, AsOne):
            for selector in rule.vms:
                common &= by_key.get(id_key(selector.value), everywhere)
        kept.append(
            rule if common else Together(vms=rule.vms, hard=False, origin=ORIGIN, name=rule.name)
        )
    return tuple(kept)


def _exactly(names: Iterable[str]) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in names)
