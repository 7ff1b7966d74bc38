"""What a scenario file adds to its world beside faults and actors: roles, volumes, storage, VMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from balancer.errors import InputError
from balancer.gateway.simulator.things import FailoverCluster, Role, Volume
from balancer.gateway.simulator.windows import FILE_SERVER, VmStateCode
from balancer.gateway.simulator.world import World
from balancer.policy.fields import Count, Document, Flag, Size, Text

_WITNESS = {"online": True, "offline": False, "none": None}
_STATES = {"running": VmStateCode.RUNNING, "off": VmStateCode.OFF, "saved": VmStateCode.SAVED}
_PRIORITIES = {"high": 3000, "medium": 2000, "low": 1000, "none": 0}


class ClusterEntry(Document):
    """The cluster itself: its witness, its storage, and how its own drains move VMs."""

    witness: Literal["online", "offline", "none"] | None = None
    storage_direct: Flag = False
    storage_jobs: Count = 0
    unhealthy_disks: tuple[Text, ...] = ()
    move_type_threshold: Count | None = None


class RoleEntry(Document):
    """A group without a VM, such as a file server."""

    name: Text
    owner: Text
    nodes: tuple[Text, ...] = ()
    kind: Count = FILE_SERVER


class VolumeEntry(Document):
    """A cluster shared volume."""

    name: Text
    owner: Text


class VmEntry(Document):
    """What is different about a VM."""

    vm: Text
    priority: Literal["high", "medium", "low", "none"] | None = None
    state: Literal["running", "off", "saved"] | None = None
    assigned_devices: Count | None = None
    memory: Annotated[Size | None, Field(description="Assigned, for instance 64 GiB.")] = None


def furnish_cluster(world: World, entry: ClusterEntry) -> None:
    """Set what is said about the cluster.

    Raises:
        InputError: The hosts of this world stand alone.
    """
    cluster = _cluster(world)
    if entry.witness is not None:
        cluster.witness_online = _WITNESS[entry.witness]
    if entry.move_type_threshold is not None:
        cluster.move_type_threshold = entry.move_type_threshold
    cluster.storage_direct = entry.storage_direct
    cluster.storage_jobs = entry.storage_jobs
    cluster.unhealthy_disks = entry.unhealthy_disks


def furnish_role(world: World, entry: RoleEntry, host: Callable[[World, str], str]) -> None:
    """Add a role.

    Raises:
        InputError: There is no such host, or no cluster.
    """
    nodes = tuple(host(world, name) for name in entry.nodes)
    role = Role(entry.name, entry.kind, owner=host(world, entry.owner), nodes=nodes)
    _cluster(world).roles += (role,)


def furnish_volume(world: World, entry: VolumeEntry, host: Callable[[World, str], str]) -> None:
    """Add a shared volume.

    Raises:
        InputError: There is no such host, or no cluster.
    """
    path = rf"C:\ClusterStorage\{entry.name}"
    _cluster(world).volumes += (Volume(entry.name, host(world, entry.owner), path),)


def furnish_vm(world: World, entry: VmEntry, vm: str) -> None:
    """Change a VM; `vm` is its id."""
    guest = world.guests[vm]
    if entry.priority is not None:
        guest.priority = _PRIORITIES[entry.priority]
    if entry.state is not None:
        guest.state = _STATES[entry.state]
    if entry.assigned_devices is not None:
        guest.assigned_devices = entry.assigned_devices
    if entry.memory is not None:
        guest.assigned_bytes = guest.startup_bytes = entry.memory


def _cluster(world: World) -> FailoverCluster:
    if world.cluster is None:
        raise InputError("the hosts of this world stand alone: they form no cluster")
    return world.cluster
