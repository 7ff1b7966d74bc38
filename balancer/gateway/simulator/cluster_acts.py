"""What happens when a node is paused, a group or a volume is moved, or a control text is written.

Called with the world's lock held and everything done that was due. The rule of the fence is the
same as for migrations: an executor with a lower number than one seen before is turned away.
"""

from __future__ import annotations

from collections.abc import Callable

from balancer.gateway import wire
from balancer.gateway.simulator.acts import (
    ACCEPTED,
    FENCED,
    TARGET_UNKNOWN,
    find_machine,
    let_in,
    not_taken,
    refused,
)
from balancer.gateway.simulator.admission import refusal_of_node
from balancer.gateway.simulator.rows import group_id
from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine, Role, Volume
from balancer.gateway.simulator.windows import (
    Hresult,
    NodeState,
    NodeStatus,
    text,
)
from balancer.gateway.simulator.winrm import CommandFailed
from balancer.gateway.simulator.world import World

GROUP_MOVE_S = 2.0  # a group without a running VM, or the ownership of a volume
_UNSPECIFIED_CATEGORY = 0  # ErrorCategory NotSpecified


def read_control(world: World, machine: Machine) -> wire.ControlPart:
    """Return what is kept for the cluster, or for a host that stands alone."""
    kept = world.controls.get(world.fence_key(machine), {})
    return wire.ControlPart(
        fence=world.fences.get(world.fence_key(machine), 0),
        lease=kept.get("lease", ""),
        freeze=kept.get("freeze", ""),
    )


def set_control(
    world: World, machine: Machine, name: str, expected: str, value: str, fence: int
) -> wire.ControlWriteAnswer:
    """Write one of the two texts if it is as expected."""
    if world.cluster is not None and not world.has_quorum(machine):
        raise CommandFailed(
            "Set-ClusterParameter,Microsoft.FailoverClusters.PowerShell.SetClusterParameterCommand",
            _UNSPECIFIED_CATEGORY,
            Hresult.NO_QUORUM,
            text(Hresult.NO_QUORUM),
        )

    def answer(result: str) -> wire.ControlWriteAnswer:
        now = getattr(read_control(world, machine), name)
        return wire.ControlWriteAnswer(module=wire.MODULE_VERSION, result=result, value=now)

    if name == "lease" and not let_in(world, machine, fence):
        return answer("fenced")
    if getattr(read_control(world, machine), name) != expected:
        return answer("differs")
    world.controls.setdefault(world.fence_key(machine), {})[name] = value
    return answer("written")


def set_node(world: World, machine: Machine, name: str, state: str, fence: int) -> wire.ActAnswer:
    """Pause a node, so that nothing lands on it, or resume it."""
    if not let_in(world, machine, fence):
        return FENCED
    if world.cluster is None:
        return not_taken("LbNotClustered", "a host that stands alone cannot be paused")
    node = find_machine(world, name)
    if node is None:
        return not_taken(TARGET_UNKNOWN, "that is no node of this cluster")
    cmdlet = "Suspend-ClusterNode" if state == "pause" else "Resume-ClusterNode"
    if not world.has_quorum(machine):
        return refused(_fqid(cmdlet), Hresult.NO_QUORUM)
    if state == "pause" and node.node_state is NodeState.DOWN:
        return refused(_fqid(cmdlet), Hresult.NODE_DOWN)
    if state == "pause" and node.node_state is NodeState.UP:
        node.node_state = NodeState.PAUSED
    elif state == "resume" and node.node_state is NodeState.PAUSED:
        node.node_state, node.node_status, node.drain = NodeState.UP, NodeStatus.NORMAL, 0
    return ACCEPTED


def move_group(
    world: World, machine: Machine, group: str, target: str, fence: int
) -> wire.ActAnswer:
    """Move a group that holds no running VM; it arrives a little later."""
    found = _group(world, group)
    if isinstance(found, Guest) and found.is_load:
        return (
            not_taken("LbGroupRuns", "a VM of the group runs: it is live migrated, not moved")
            if let_in(world, machine, fence)
            else FENCED
        )
    return _move(world, machine, found, "LbGroupNotFound", target, fence)


def move_volume(
    world: World, machine: Machine, name: str, target: str, fence: int
) -> wire.ActAnswer:
    """Move the ownership of a shared volume; it arrives a little later."""
    volumes = world.cluster.volumes if world.cluster is not None else ()
    found = next((volume for volume in volumes if volume.name == name), None)
    return _move(world, machine, found, "LbVolumeNotFound", target, fence)


def set_auto_balancer(
    world: World, machine: Machine, expected: int, value: int, fence: int
) -> wire.SettingWriteAnswer:
    """Write the mode of the built-in balancer if it is as expected."""
    cluster = world.cluster
    if cluster is None:
        raise CommandFailed(
            _fqid("Get-Cluster"),
            _UNSPECIFIED_CATEGORY,
            Hresult.SERVICE_NOT_ACTIVE,
            text(Hresult.SERVICE_NOT_ACTIVE),
        )
    result = "written"
    if not let_in(world, machine, fence):
        result = "fenced"
    elif cluster.auto_balancer_mode not in (value, expected):
        result = "differs"
    else:
        cluster.auto_balancer_mode = value
    return wire.SettingWriteAnswer(
        module=wire.MODULE_VERSION, result=result, value=cluster.auto_balancer_mode
    )


def _group(world: World, group: str) -> Guest | Role | None:
    wanted = group.casefold()
    for guest in world.groups.values():
        if group_id(guest) == wanted:
            return guest
    roles = world.cluster.roles if world.cluster is not None else ()
    return next((role for role in roles if role.id == wanted), None)


def _move(
    world: World,
    machine: Machine,
    thing: Guest | Role | Volume | None,
    missing: str,
    target: str,
    fence: int,
) -> wire.ActAnswer:
    if not let_in(world, machine, fence):
        return FENCED
    to = find_machine(world, target)
    if world.cluster is None or to is None:
        return not_taken(TARGET_UNKNOWN, "the target is no node of this cluster")
    if thing is None:
        return not_taken(missing, "the cluster has nothing of this name or id")
    if (code := _refusal(world, machine, thing, to)) is not None:
        cmdlet = "Move-ClusterSharedVolume" if isinstance(thing, Volume) else "Move-ClusterGroup"
        return refused(_fqid(cmdlet), code)
    world.at(world.now_s + GROUP_MOVE_S, arrival(world, thing, to))
    return ACCEPTED


def _refusal(
    world: World, machine: Machine, thing: Guest | Role | Volume, to: Machine
) -> Hresult | None:
    if not world.has_quorum(machine):
        return Hresult.NO_QUORUM
    if (code := refusal_of_node(to)) is not None:
        return code
    if isinstance(thing, Guest):
        if thing.locked:
            return Hresult.RESOURCE_LOCKED
        if thing.possible_owners and to.name not in thing.possible_owners:
            return Hresult.NOT_POSSIBLE_OWNER
    if isinstance(thing, Role) and thing.nodes and to.name not in thing.nodes:
        return Hresult.NOT_POSSIBLE_OWNER
    return None


def arrival(world: World, thing: Guest | Role | Volume, to: Machine) -> Callable[[float], None]:
    """Return what ends the move: the thing is on its target, unless either has gone meanwhile."""

    def arrive(_now_s: float) -> None:
        if not to.powered or to.node_state is not NodeState.UP:
            return
        if not isinstance(thing, Guest):
            thing.owner = to.name
        elif not thing.is_load:
            world.engine.place(thing, to)

    return arrive


def fail_over_roles(cluster: FailoverCluster, lost: Machine, left: list[Machine]) -> None:
    """Give what a lost node owned, beside its VMs, to a node that is up."""
    things: tuple[Role | Volume, ...] = (*cluster.roles, *cluster.volumes)
    for thing in things:
        able = [m for m in left if not isinstance(thing, Role) or m.name in (thing.nodes or m.name)]
        if thing.owner == lost.name and able:
            thing.owner = able[0].name


def _fqid(cmdlet: str) -> str:
    return f"{cmdlet},Microsoft.FailoverClusters.PowerShell.{cmdlet.replace('-', '')}Command"
