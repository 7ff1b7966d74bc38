"""The platform's enumerations, as words of the model. Integers only: texts are localised."""

from __future__ import annotations

import re
from functools import lru_cache

from balancer.gateway.wire import NodeRow, VmRow
from balancer.model.cluster import AutoBalancer, HostState, Priority, Transport, VmState

# VMState
_VM_STATES = {
    2: VmState.RUNNING,
    3: VmState.OFF,
    6: VmState.SAVED,
    9: VmState.PAUSED,
    32779: VmState.SAVED,  # FastSaved
    32783: VmState.SAVED,  # Hibernated
}
# Stopping, Starting, Reset, Saving, Pausing, Resuming, FastSaving, ForceShutdown, ForceReboot and
# ComponentServicing: the memory is taken for as long as it lasts, so it is load; it cannot move.
_CHANGING = frozenset({4, 10, 11, 32773, 32776, 32777, 32780, 32781, 32782, 32784})
_CRITICAL = range(32785, 32797)

MIGRATING_STATUS = frozenset({32774, 32778, 32779, 32780, 32781})  # VMOperationalStatus
BUSY_STATUS = frozenset({23769, 32768, 32770, 32772, 32773, 32776, 32777})

GROUP_ONLINE, GROUP_PENDING = 0, 4
GROUP_LOCKED_FLAG, GROUP_QUEUED_FLAG = 1, 4
NODE_UP, NODE_DOWN, NODE_PAUSED, NODE_JOINING = 0, 1, 2, 3
NODE_ISOLATED_FLAG, NODE_QUARANTINED_FLAG = 1, 2
# Its VMs run, the cluster does not trust it.
NODE_APART_FLAGS = NODE_ISOLATED_FLAG | NODE_QUARANTINED_FLAG
_NODE_CLOSED_FLAGS = 4 | 8 | 16 | 32  # draining, drained, drain failed, AvoidPlacement
_NODE_DRAINING_FLAG = 4
_DRAIN_IN_PROGRESS = 1

MIGRATION_STATES_MOVING = frozenset({1, 2, 3})  # set up, data transfer, move of the group
JOB_STATES_MOVING = frozenset({2, 3, 4, 5, 6})  # New to ShuttingDown; 7 and up have ended
JOB_TYPES_MOVING = frozenset({305, 306})  # moving a VM, a VM and its storage

TRANSPORTS = {0: Transport.TCP, 1: Transport.COMPRESSION, 2: Transport.SMB}
OPTION_OF = {transport: option for option, transport in TRANSPORTS.items()}
AUTO_BALANCER = {0: AutoBalancer.OFF, 1: AutoBalancer.ON_JOIN, 2: AutoBalancer.ALWAYS}

# VMReplicationState: the first copy is under way, or the copy is made anew.
_REPLICATION_BUSY = frozenset({2, 11})
_REPLICA_MODES = frozenset({2, 3, 4})  # Replica, TestReplica, ExtendedReplica


@lru_cache(maxsize=64)
def vm_state(state: int) -> VmState:
    """Return the model's word for a VMState; one we have never heard of is unknown."""
    if state in _CHANGING:
        return VmState.RUNNING
    if state in _CRITICAL:
        return VmState.CRITICAL
    return _VM_STATES.get(state, VmState.UNKNOWN)


def is_changing(state: int) -> bool:
    """Tell whether a VMState is on the way from one to another."""
    return state in _CHANGING


def is_replica(vm: VmRow) -> bool:
    """Tell whether the VM is the receiving end of Hyper-V Replica."""
    return vm.replication_mode in _REPLICA_MODES


def node_state(node: NodeRow) -> HostState:
    """Return what the cluster lets a node be used for.

    A drain that somebody else runs shows as paused: it is theirs to finish.
    """
    if node.state == NODE_DOWN:
        return HostState.DOWN
    if node.state not in (NODE_UP, NODE_PAUSED) or node.status & NODE_APART_FLAGS:
        return HostState.UNKNOWN
    closed = node.status & _NODE_CLOSED_FLAGS or node.drain == _DRAIN_IN_PROGRESS
    return HostState.PAUSED if node.state == NODE_PAUSED or closed else HostState.UP


def node_drains(node: NodeRow) -> bool:
    """Tell whether the platform's own drain is at work on a node."""
    return node.drain == _DRAIN_IN_PROGRESS or bool(node.status & _NODE_DRAINING_FLAG)


def is_busy(vm: VmRow) -> bool:
    """Tell whether something is being done to the VM that a migration would disturb."""
    return not BUSY_STATUS.isdisjoint(vm.status) or vm.replication_state in _REPLICATION_BUSY


@lru_cache(maxsize=64)
def priority(value: int) -> Priority:
    """Return the word for a group's Priority (3000, 2000, 1000, 0)."""
    for least, word in ((3000, Priority.HIGH), (2000, Priority.MEDIUM), (1000, Priority.LOW)):
        if value >= least:
            return word
    return Priority.NONE


def version_number(version: str) -> tuple[int, int] | None:
    """Return a configuration version such as "10.0" as numbers, or None when it is not one."""
    match = re.fullmatch(r"\s*(\d+)\.(\d+)(?:\.\d+)*\s*", version)
    return (int(match[1]), int(match[2])) if match else None


_TAG = re.compile(r"(?:^|(?<=\s))#(\w[\w.:/-]*)")


@lru_cache(maxsize=4096)  # VMs are made from templates, notes and all
def tags(notes: str) -> tuple[str, ...]:
    """Return the words that a VM's notes mark with a hash, such as `prod` for `#prod`.

    The one convention for tags: a word after white space or at the start, of letters, digits
    and `_ . : / -`. Punctuation that ends a sentence does not belong to it.
    """
    words = (word.rstrip(".:/-") for word in _TAG.findall(notes))
    return tuple(dict.fromkeys(words))
