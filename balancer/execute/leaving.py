"""Whether hosts may be taken away at all, and what they hold. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from balancer.errors import InputError, RefusedError
from balancer.gateway.estate import Estate, Role
from balancer.gateway.names import host_key, id_key
from balancer.gateway.port import Observation
from balancer.model.cluster import Cluster, HostState
from balancer.model.drain import Kind, Left, Thing
from balancer.planner import Stuck


def hosts_named(cluster: Cluster, names: Collection[str]) -> tuple[str, ...]:
    """Return the snapshot's own names of these hosts, each once, in the order given.

    Raises:
        InputError: There is no such host.
    """
    known = {host_key(host.name): host.name for host in cluster.hosts}
    found: dict[str, None] = {}
    for name in names:
        if host_key(name) not in known:
            raise InputError(
                f"no host named {name!r} in {cluster.name}",
                remedy="the hosts are: " + ", ".join(sorted(cluster.host_by_name)),
            )
        found[known[host_key(name)]] = None
    return tuple(found)


def check_may_leave(seen: Observation, hosts: Collection[str]) -> None:
    """Refuse to take hosts out of a cluster that would not bear it.

    Raises:
        RefusedError: It is frozen, would lose its quorum, repairs its storage, or somebody else
            drains one of the hosts.
    """
    if seen.control is not None and seen.control.frozen:
        raise RefusedError(
            f"{seen.cluster.name} is frozen: {seen.control.freeze.strip()}",
            remedy="thaw it first: `balancer thaw`",
        )
    if seen.estate is not None:
        _check_quorum(seen.estate, hosts)
        _check_storage(seen.estate)
        for name in hosts:
            node = seen.estate.node(name)
            if node is not None and node.draining:
                raise RefusedError(
                    f"somebody else's drain is at work on {name}",
                    remedy="let it end, or stop it with Resume-ClusterNode",
                )


def _check_quorum(estate: Estate, hosts: Collection[str]) -> None:
    left, total = estate.votes_without(frozenset(host.casefold() for host in hosts))
    if 2 * left > total:
        return
    witness = {None: "there is no witness", False: "the witness is offline", True: ""}
    why = witness[estate.witness_online]
    raise RefusedError(
        f"without {', '.join(hosts)} the cluster would have {left} of {total} votes, no majority"
        + (f" ({why})" if why else ""),
        remedy="bring other nodes or the witness back first, or configure a witness",
    )


def storage_is_sound(estate: Estate) -> bool:
    """Tell whether Storage Spaces Direct, where there is any, is known to miss no copies."""
    storage = estate.storage
    return storage.known and not (storage.direct and (storage.jobs or storage.unhealthy))


def may_leave_together(seen: Observation, hosts: Collection[str]) -> bool:
    """Tell whether a cluster bears to be without several hosts at once: votes, copies of data.

    Storage Spaces Direct keeps copies on all nodes; more than one is never taken away from it.
    """
    estate = seen.estate
    if estate is None or len(hosts) <= 1:
        return True
    left, total = estate.votes_without(frozenset(host.casefold() for host in hosts))
    return not estate.storage.direct and 2 * left > total


def _check_storage(estate: Estate) -> None:
    storage = estate.storage
    if not storage.known:
        raise RefusedError(
            "nobody can tell whether Storage Spaces Direct repairs: the nodes do not say",
            remedy="run Get-StorageJob and Get-VirtualDisk on a node as the account used here",
        )
    if storage_is_sound(estate):
        return
    what = [f"{storage.jobs} storage jobs run"] if storage.jobs else []
    if storage.unhealthy:
        what.append(f"not healthy: {', '.join(storage.unhealthy)}")
    raise RefusedError(
        f"Storage Spaces Direct misses copies as it is: {'; '.join(what)}",
        remedy="wait until Get-StorageJob is empty and Get-VirtualDisk shows Healthy",
    )


def things_on(seen: Observation, hosts: Collection[str]) -> tuple[Thing, ...]:
    """Return everything that these hosts hold and that is to leave, VMs that run first."""
    wanted = {host_key(host): host for host in hosts}
    found = [
        Thing(vm.host, Kind.VM, vm.id, vm.name)
        for vm in seen.cluster.vms
        if vm.host in hosts and vm.is_load
    ]
    if seen.estate is None:
        return tuple(found)
    found += [
        Thing(wanted[host_key(role.owner)], _kind(role), role.id, role.name)
        for role in seen.estate.roles
        if host_key(role.owner) in wanted
    ]
    found += [
        Thing(wanted[host_key(volume.owner)], Kind.VOLUME, volume.name, volume.name)
        for volume in seen.estate.volumes
        if host_key(volume.owner) in wanted
    ]
    return tuple(found)


def _kind(role: Role) -> Kind:
    return Kind.STANDING_VM if role.vm else Kind.ROLE


def odd_vms(seen: Observation, hosts: Collection[str]) -> tuple[Left, ...]:
    """Return VMs on these hosts that neither run nor stand still: nothing moves them."""
    if seen.estate is None:
        return ()
    wanted = {host_key(host): host for host in hosts}
    runs = {id_key(vm.id) for vm in seen.cluster.vms if vm.is_load}
    vms = {id_key(vm.id): vm for vm in seen.cluster.vms}
    found: list[Left] = []
    for key, owner in (seen.estate.vm_owners or {}).items():
        if host_key(owner) in wanted and key not in runs:
            vm = vms.get(key)
            name, state = (vm.name, vm.state.value) if vm else (key, "unknown")
            why = f"its group is on the host and the VM is {state}"
            remedy = "mend or stop the VM; one that stands still is moved with the rest"
            found.append(Left(wanted[host_key(owner)], Kind.VM, name, why, remedy))
    return tuple(found)


def remains(
    seen: Observation,
    hosts: Collection[str],
    stuck: Mapping[str, Stuck],
    known: Collection[Left],
    *,
    clustered: bool,
) -> tuple[Left, ...]:
    """Return everything that is still on hosts; nothing only if hosts and cluster say so.

    Args:
        seen: A fresh reading.
        hosts: The hosts to be empty.
        stuck: Why VMs that run cannot leave, by id.
        known: What is left of the rest, and why.
        clustered: The hosts are nodes, so the cluster must be heard as well.
    """
    found = [
        Left(host.name, Kind.VM, host.name, "the host does not answer", "look at the host")
        for host in seen.cluster.hosts
        if host.name in hosts and host.state in (HostState.UNKNOWN, HostState.DOWN)
    ]
    if clustered and seen.estate is None:
        why = "the cluster does not say what its nodes own"
        found.append(Left(min(hosts), Kind.ROLE, "roles", why, "drain again"))
    reasons = {(one.kind, one.name): one for one in known}
    for thing in things_on(seen, hosts):
        if thing.kind is Kind.VM:
            found.append(_running(thing, stuck.get(thing.key)))
        else:
            other = Left(thing.host, thing.kind, thing.name, "it was not moved", "drain again")
            found.append(reasons.get((thing.kind, thing.name), other))
    return (*found, *odd_vms(seen, hosts))


def _running(thing: Thing, stuck: Stuck | None) -> Left:
    why, remedy = "its migration did not come about", "drain again"
    if stuck is not None:
        why, remedy = stuck.reason, stuck.remedy
    return Left(thing.host, Kind.VM, thing.name, why, remedy)
