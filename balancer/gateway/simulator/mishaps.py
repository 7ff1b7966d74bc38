"""What befalls whole hosts and the cluster: they die, restart, are cut off or paused.

A guest is never lost and never doubled: it stays where it was, or is restarted elsewhere by
the cluster once that has noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from balancer.gateway.simulator.admission import refusal_of_node
from balancer.gateway.simulator.cluster_acts import fail_over_roles
from balancer.gateway.simulator.faults import Fault, FaultKind, Scheduled
from balancer.gateway.simulator.things import Guest, Machine
from balancer.gateway.simulator.windows import Hresult, NodeState, NodeStatus, VmStateCode
from balancer.gateway.simulator.world import World

NOTICED_S = 20.0  # until a cluster takes a silent node for dead: heartbeats and regrouping
RESILIENCY_S = 240.0  # how long guests of an isolated node are left alone
REBOOT_S = 300.0


def inject(world: World, fault: Fault) -> None:
    """Let a fault begin now, and end by itself where it says so.

    Raises:
        InputError: It names a host that is not there.
    """
    world.faults.check(fault)
    with world.present() as now_s:
        world.charge()
        _begin(world, fault, now_s)
        world.engine.settle(now_s)


def heal(world: World, fault: Fault) -> None:
    """End a fault now."""
    with world.present() as now_s:
        world.charge()
        _end(world, fault, now_s)
        world.engine.settle(now_s)


def schedule(world: World, table: Iterable[Scheduled]) -> None:
    """Let faults begin at their instants of virtual time.

    Raises:
        InputError: One names a host that is not there.
    """
    for row in table:
        world.faults.check(row.fault)
        world.at(row.at_s, partial(_begin, world, row.fault))


def power_off(world: World, machine: Machine, now_s: float) -> None:
    """Let a host die: its migrations fail, its guests stop, the cluster notices a little later."""
    machine.powered = False
    machine.node_state = NodeState.DOWN
    world.engine.fail_all(machine, Hresult.CONNECTION_RESET, now_s)
    for guest in world.guests_on[machine.name].values():
        if guest.is_load:
            guest.state = VmStateCode.OFF
            guest.crashed = True
    world.at(now_s + NOTICED_S, lambda later_s: _fail_over(world, machine, later_s))


def power_on(world: World, machine: Machine, now_s: float) -> None:
    """Let a host start: it joins its cluster, and what was not restarted elsewhere starts."""
    if machine.powered:
        return
    machine.powered = True
    machine.booted_s = now_s
    machine.node_state, machine.node_status = NodeState.UP, NodeStatus.NORMAL
    _restart_here(world, machine)


def isolate(world: World, machine: Machine, now_s: float) -> None:
    """Cut a node off from the others; its guests run on, and fail over if it lasts."""
    machine.node_state, machine.node_status = NodeState.DOWN, NodeStatus.ISOLATED
    world.engine.fail_all(machine, Hresult.CONNECTION_RESET, now_s)

    def give_up(later_s: float) -> None:
        if machine.powered and machine.node_status & NodeStatus.ISOLATED:
            for guest in world.guests_on[machine.name].values():
                if guest.is_load and guest.clustered:
                    guest.state, guest.crashed = VmStateCode.OFF, True
            _fail_over(world, machine, later_s)

    world.at(now_s + RESILIENCY_S, give_up)


def rejoin(world: World, machine: Machine) -> None:
    """Let an isolated or paused node be a full member again."""
    if machine.powered:
        machine.node_state, machine.node_status = NodeState.UP, NodeStatus.NORMAL
        _restart_here(world, machine)


def _fail_over(world: World, machine: Machine, now_s: float) -> None:
    """Restart a lost node's clustered guests on the nodes with most memory left, largest first."""
    if world.cluster is None or machine.node_state is not NodeState.DOWN:
        return
    lost = [g for g in world.guests_on[machine.name].values() if g.crashed and g.clustered]
    for guest in sorted(lost, key=lambda g: (-g.priority, -g.startup_bytes, g.id)):
        target = _refuge(world, guest)
        if target is not None and guest.priority > 0:
            world.engine.place(guest, target)
            _restart(guest)
    left = [node for node in world.machines.values() if refusal_of_node(node) is None]
    fail_over_roles(world.cluster, machine, left)
    world.engine.reshare(now_s)


def _refuge(world: World, guest: Guest) -> Machine | None:
    fit = [
        machine
        for machine in world.machines.values()
        if refusal_of_node(machine) is None
        and (not guest.possible_owners or machine.name in guest.possible_owners)
        and world.engine.available(machine) >= guest.assigned_bytes
    ]
    return max(fit, key=lambda m: (world.engine.available(m), m.name), default=None)


def _restart_here(world: World, machine: Machine) -> None:
    """Start what stopped here and was not restarted elsewhere, as far as there is memory."""
    for guest in world.guests_on[machine.name].values():
        if guest.assigned_bytes <= world.engine.available(machine):
            _restart(guest)


def _restart(guest: Guest) -> None:
    if guest.crashed:
        guest.state, guest.crashed, guest.operation = VmStateCode.RUNNING, False, None


def _begin(world: World, fault: Fault, now_s: float) -> None:
    action = _HOST_ACTIONS.get(fault.kind)
    if action is not None:
        action(world, world.machines[fault.host], now_s)
    elif fault.kind is FaultKind.NO_QUORUM:
        world.service_up = False
    else:
        world.faults.set(fault)
    lasts_s = fault.lasts_s
    if lasts_s is None and fault.kind is FaultKind.HOST_REBOOTS:
        lasts_s = REBOOT_S
    if lasts_s is not None:
        world.at(now_s + lasts_s, lambda later_s: _end(world, fault, later_s))


def _end(world: World, fault: Fault, now_s: float) -> None:
    if fault.kind in (FaultKind.HOST_DIES, FaultKind.HOST_REBOOTS):
        power_on(world, world.machines[fault.host], now_s)
        world.faults.changed()
    elif fault.kind in (FaultKind.NODE_ISOLATED, FaultKind.NODE_PAUSED):
        rejoin(world, world.machines[fault.host])
    elif fault.kind is FaultKind.NO_QUORUM:
        world.service_up = True
    else:
        world.faults.clear(fault)


def _die(world: World, machine: Machine, now_s: float) -> None:
    power_off(world, machine, now_s)
    world.faults.changed()


def _pause(_world: World, machine: Machine, _now_s: float) -> None:
    machine.node_state = NodeState.PAUSED


_HOST_ACTIONS: dict[FaultKind, Callable[[World, Machine, float], None]] = {
    FaultKind.HOST_DIES: _die,
    FaultKind.HOST_REBOOTS: _die,
    FaultKind.NODE_ISOLATED: isolate,
    FaultKind.NODE_PAUSED: _pause,
}
