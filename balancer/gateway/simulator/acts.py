"""What a host does when it is told to: start and stop migrations, write the transport.

An act carries a fencing number; a lower one than was seen before is turned away. Called with
the world's lock held and everything done that was due.
"""

from __future__ import annotations

from balancer.gateway import wire
from balancer.gateway.simulator.things import Guest, Machine
from balancer.gateway.simulator.windows import Hresult, text
from balancer.gateway.simulator.world import World

_CLUSTER_MOVE = (
    "Move-ClusterVirtualMachineRole,"
    "Microsoft.FailoverClusters.PowerShell.MoveClusterVirtualMachineRoleCommand"
)
_HOST_MOVE = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.MoveVM"
# Our module's own refusals: stable ids without an HRESULT.
_VM_NOT_FOUND = "LbVmNotFound"
_CLUSTERED_DIFFERS = "LbClusteredDiffers"
TARGET_UNKNOWN = "LbTargetUnknown"

ACCEPTED = wire.ActAnswer(module=wire.MODULE_VERSION, accepted=True)
FENCED = wire.ActAnswer(module=wire.MODULE_VERSION, accepted=False, fenced=True)


def start(
    world: World, machine: Machine, vm: str, target: str, *, clustered: bool, fence: int
) -> wire.ActAnswer:
    """Start a live migration of the one VM with this id from this machine."""
    if not let_in(world, machine, fence):
        return FENCED
    guest = _resolve(world, machine, vm)
    if guest is None:
        return not_taken(_VM_NOT_FOUND, f"no VM with the id {vm} is on this host")
    if guest.clustered != clustered:  # a clustered VM is moved by its cluster, and no other is
        return not_taken(
            _CLUSTERED_DIFFERS, "whether the VM is clustered has changed since it was planned"
        )
    to = find_machine(world, target)
    if clustered and to is None:
        return not_taken(TARGET_UNKNOWN, "the target is no node of this cluster")
    code = _refusal(world, machine, guest, to, clustered=clustered)
    if code is not None:
        return refused(_CLUSTER_MOVE if clustered else _HOST_MOVE, code)
    if to is not None and to is not machine:  # where it is already, there is nothing to do
        world.charge()
        world.engine.ask(guest, machine, to, world.now_s, clustered=clustered)
    return ACCEPTED


def stop(world: World, machine: Machine, vm: str, fence: int) -> wire.ActAnswer:
    """Cancel the VM's migration; nothing to cancel, or too late for it, counts as accepted."""
    if not let_in(world, machine, fence):
        return FENCED
    guest = _resolve(world, machine, vm)
    if guest is not None:
        world.charge()
        world.engine.cancel(guest, world.now_s)
    return ACCEPTED


def set_transport(
    world: World, machine: Machine, expected: int, value: int, fence: int
) -> wire.SettingWriteAnswer:
    """Write the performance option if it is as expected and nothing migrates here."""

    def answer(result: str) -> wire.SettingWriteAnswer:
        return wire.SettingWriteAnswer(
            module=wire.MODULE_VERSION, result=result, value=machine.option
        )

    if not let_in(world, machine, fence):
        return answer("fenced")
    if machine.atc:
        return answer("managed")
    if machine.option == value:
        return answer("written")
    if machine.option != expected:
        return answer("differs")
    if world.engine.engaged(machine):
        return answer("busy")
    machine.option = value
    return answer("written")


def find_machine(world: World, name: str) -> Machine | None:
    """Return the machine of that name, however it is written."""
    wanted = name.strip().casefold().partition(".")[0]
    return next((m for m in world.machines.values() if m.name.casefold() == wanted), None)


def _refusal(
    world: World, machine: Machine, guest: Guest, to: Machine | None, *, clustered: bool
) -> Hresult | None:
    """Return why the platform does not even begin."""
    if clustered and not world.has_quorum(machine):
        return Hresult.NO_QUORUM
    if to is None:
        return Hresult.CONNECTION_TIMED_OUT
    if to is machine:
        return None
    code = world.engine.refusal(guest, to, clustered=clustered)
    if code is None and not clustered and not world.engine.has_slot(machine, to):
        return Hresult.ANOTHER_MIGRATION_RUNNING
    return code


def let_in(world: World, machine: Machine, fence: int) -> bool:
    """Remember the highest number ever seen and turn lower ones away."""
    key = world.fence_key(machine)
    if fence < world.fences.get(key, fence):
        return False
    world.fences[key] = fence
    return True


def _resolve(world: World, machine: Machine, vm: str) -> Guest | None:
    return world.guests_on[machine.name].get(vm)


def refused(fqid: str, code: int) -> wire.ActAnswer:
    """Return the record of a cmdlet that failed."""
    fault = wire.Fault(hresult=code, fqid=fqid, category="NotSpecified", message=text(code))
    return wire.ActAnswer(module=wire.MODULE_VERSION, accepted=False, fault=fault)


def not_taken(fqid: str, message: str) -> wire.ActAnswer:
    """Return a refusal of our own module, which never asked the platform."""
    fault = wire.Fault(fqid=fqid, category="InvalidOperation", message=message)
    return wire.ActAnswer(module=wire.MODULE_VERSION, accepted=False, fault=fault)
