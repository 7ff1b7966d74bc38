"""Snapshots: `balancer/snapshot/v1` to a `Cluster` and back."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from balancer.errors import InputError, Place
from balancer.formats.snapshot_document import (
    SNAPSHOT_SCHEMA,
    ClusterNetworkPart,
    HostPart,
    MigrationPart,
    NetworkPart,
    SettingsPart,
    SnapshotDocument,
    VmPart,
)
from balancer.formats.strict import parse_json, utc, validated, write_json
from balancer.model.cluster import (
    Blocker,
    Cluster,
    ClusterNetwork,
    ClusterSettings,
    Host,
    MigrationNetwork,
    MigrationSettings,
    Vm,
)
from balancer.policy.faults import FAULTS_MAX, nearest, raised
from balancer.policy.quantities import shown
from balancer.policy.reading import name_of, read_bytes
from balancer.policy.vocabulary import rule_of, rule_to_dict

WHAT = "snapshot"
BYTES_MAX = 512 * 2**20  # 64 hosts with 8000 VMs take 4 MiB
OF_THE_CLUSTER = "cluster"  # origin of the rules that the cluster itself declares


@dataclass(frozen=True, slots=True)
class SnapshotRead:
    """A snapshot as read: the cluster, the digest of the document's bytes, what to warn of."""

    cluster: Cluster
    sha256: str
    warnings: tuple[str, ...] = ()


def read_snapshot(path: Path | str) -> SnapshotRead:
    """Read the snapshot file at `path`; `-` is stdin, gzip is unpacked.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    return parse_snapshot(read_bytes(path, BYTES_MAX, WHAT), name_of(path))


def parse_snapshot(document: str | bytes, file: str) -> SnapshotRead:
    """Read a snapshot from its text; `file` names it in errors.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    data = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
    tree = parse_json(data, file, WHAT)
    read = validated(tree, file, SnapshotDocument, SNAPSHOT_SCHEMA, WHAT)
    hosts = tuple(_host(part) for part in read.hosts)
    spelled = {host.name.casefold(): host.name for host in hosts}
    _refuse_faults(read, spelled, file)
    cluster = Cluster(
        name=read.cluster,
        hosts=hosts,
        vms=tuple(_vm(part, spelled) for part in read.vms),
        rules=tuple(rule_of(entry, OF_THE_CLUSTER) for entry in read.rules),
        settings=ClusterSettings(**vars(read.settings)),
        networks=tuple(ClusterNetwork(**vars(part)) for part in read.networks),
        taken_at=read.taken_at,
    )
    warned = (*_unknown_keys(tree), *_unknown_blockers(cluster))
    return SnapshotRead(
        cluster,
        hashlib.sha256(data).hexdigest(),
        tuple(f"{file}: {text}" for text in warned),
    )


def _host(part: HostPart) -> Host:
    settings = vars(part.migration).copy()
    settings["networks"] = tuple(MigrationNetwork(**vars(n)) for n in part.migration.networks)
    return Host(**{**vars(part), "migration": MigrationSettings(**settings)})


def _vm(part: VmPart, spelled: dict[str, str]) -> Vm:
    fields = vars(part) | {"host": spelled[part.host.casefold()]}
    if part.migrating_to is not None:  # perhaps to a host that is none of this cluster's
        fields["migrating_to"] = spelled.get(part.migrating_to.casefold(), part.migrating_to)
    return Vm(**fields)


def _refuse_faults(read: SnapshotDocument, spelled: dict[str, str], file: str) -> None:
    """Refuse what no single value shows: names and ids twice, VMs on unknown hosts.

    Windows computer names do not differ by case alone; VM ids are taken exactly as given.
    """
    faults: list[InputError] = []
    first_host: dict[str, int] = {}
    for index, host in enumerate(read.hosts):
        before = first_host.setdefault(host.name.casefold(), index)
        if before != index:
            faults.append(_twice(file, "host name", host.name, f"hosts[{index}].name", before))
    first_vm: dict[str, int] = {}
    for index, vm in enumerate(read.vms):
        before = first_vm.setdefault(vm.id, index)
        if before != index:
            faults.append(_twice(file, "VM id", vm.id, f"vms[{index}].id", before))
        if vm.host.casefold() not in spelled:
            advice = nearest(vm.host, [*spelled.values()]) if len(faults) < FAULTS_MAX else ""
            faults.append(
                InputError(
                    f"VM {shown(vm.name)} ({shown(vm.id)}) is on host {shown(vm.host)}, which the "
                    "snapshot does not have",
                    place=Place(file, key=f"vms[{index}].host"),
                    remedy=f"add the host, or correct its name: {advice}",
                )
            )
    if faults:
        raise raised(faults)


def _twice(file: str, what: str, value: str, key: str, before: int) -> InputError:
    return InputError(
        f"the {what} {shown(value)} is taken already, by {key.partition('[')[0]}[{before}]",
        place=Place(file, key=key),
        remedy=f"each {what} stands once; remove or rename one of the two",
    )


def _unknown_blockers(cluster: Cluster) -> Iterator[str]:
    known = set(Blocker)
    unknown = Counter(word for vm in cluster.vms for word in vm.blocked_by if word not in known)
    for word, count in sorted(unknown.items()):
        who = "1 VM: it is" if count == 1 else f"{count} VMs: they are"
        yield f"unknown word {shown(word)} in blocked_by of {who} not moved"


def _unknown_keys(tree: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each key that is ignored, once however often it stands there."""
    found: Counter[tuple[str, str]] = Counter()
    for where, model, part in _parts(tree):
        for key in part.keys() - _KEYS[model]:
            found[where, key] += 1
    for (where, key), count in sorted(found.items()):
        times = f" ({count} times)" if count > 1 else ""
        yield f"unknown key {shown(key)} in {where or 'the snapshot'} is ignored{times}"


def _parts(
    tree: dict[str, Any],
) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    """Yield every object of a validated document: where it stands, its model, itself."""
    yield "", SnapshotDocument, tree
    yield "settings", SettingsPart, tree.get("settings", {})
    for network in tree.get("networks", ()):
        yield "networks[]", ClusterNetworkPart, network
    for vm in tree["vms"]:
        yield "vms[]", VmPart, vm
    for host in tree["hosts"]:
        yield "hosts[]", HostPart, host
        migration = host.get("migration", {})
        yield "hosts[].migration", MigrationPart, migration
        for network in migration.get("networks", ()):
            yield "hosts[].migration.networks[]", NetworkPart, network


_KEYS: dict[type[BaseModel], frozenset[str]] = {
    model: frozenset(field.alias or name for name, field in model.model_fields.items())
    for model in (
        SnapshotDocument,
        SettingsPart,
        ClusterNetworkPart,
        VmPart,
        HostPart,
        MigrationPart,
        NetworkPart,
    )
}


def snapshot_to_json(cluster: Cluster) -> str:
    """Return `cluster` as a snapshot document: same cluster, same bytes; it reads back equal.

    What is not known is left out; hosts and VMs keep their order.
    """
    document: dict[str, Any] = {"schema": SNAPSHOT_SCHEMA, "cluster": cluster.name}
    if cluster.taken_at is not None:
        document["taken_at"] = utc(cluster.taken_at)
    document["hosts"] = [_said(HostPart, host) for host in cluster.hosts]
    document["vms"] = [_said(VmPart, vm) for vm in cluster.vms]
    if cluster.rules:
        document["rules"] = [rule_to_dict(rule) for rule in cluster.rules]
    if cluster.networks:
        document["networks"] = [_said(ClusterNetworkPart, network) for network in cluster.networks]
    if cluster.settings != ClusterSettings():
        document["settings"] = _said(SettingsPart, cluster.settings)
    return write_json(document)


def _said(part: type[BaseModel], noun: object) -> dict[str, Any]:
    """Return what `noun` says as its part of the document: without what is unknown or empty."""
    said: dict[str, Any] = {}
    for name in part.model_fields:
        value = getattr(noun, name)
        if isinstance(value, MigrationSettings):
            said[name] = _said(MigrationPart, value)
            said[name]["networks"] = [_said(NetworkPart, network) for network in value.networks]
        elif isinstance(value, tuple) and name != "networks":
            if value:
                said[name] = list(value)
        elif value is not None:
            said[name] = value
    return said


def snapshot_sha256(cluster: Cluster) -> str:
    """Return the SHA-256 of the canonical document, as plans carry it."""
    return hashlib.sha256(snapshot_to_json(cluster).encode()).hexdigest()
