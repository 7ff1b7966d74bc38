"""What lets a VM go that cannot be live migrated: a sentence for each condition."""

from __future__ import annotations

from collections.abc import Mapping

from balancer.model.cluster import Blocker, Vm

_SHUT_DOWN = "shut it down; a VM that stands still is moved with the rest"

REMEDIES: Mapping[str, str] = {
    Blocker.PASS_THROUGH_DISK: f"replace the pass-through disk by a virtual one, or {_SHUT_DOWN}",
    Blocker.ASSIGNED_DEVICE: f"take the assigned device from it, or {_SHUT_DOWN}",
    Blocker.GPU_PARTITION: f"take the GPU partition from it, or {_SHUT_DOWN}",
    Blocker.FIBRE_CHANNEL: "zone both world wide names of its adapters on every host",
    Blocker.SR_IOV: "switch SR-IOV off for its adapters",
    Blocker.KEY_PROTECTOR: "bring the certificates of its key protector to the other hosts",
    Blocker.LOCAL_MEDIA: "eject the ISO image, or put it where all hosts reach it",
    Blocker.OPERATION_RUNNING: "wait until its backup, checkpoint, merge or export has ended",
    Blocker.MIGRATING: "wait until the migration that somebody else began has ended",
    Blocker.REPLICA: "fail it over, or leave it: it receives a replica and serves nobody",
    Blocker.LOCAL_STORAGE: f"move its files to a shared volume, or {_SHUT_DOWN}",
    Blocker.SHARED_DISK: f"allow it by a rule one_at_a_time with shared_disks, or {_SHUT_DOWN}",
    Blocker.LOCKED: "unlock its group (LockedFromMoving), or let the cluster's rules be read",
    Blocker.CPU_FEATURES: "turn on processor compatibility while it is off",
    Blocker.CPU_VENDOR: _SHUT_DOWN,
    Blocker.MISSING_SWITCH: "give the other hosts a virtual switch of the same name",
    Blocker.CONFIGURATION_VERSION: "upgrade the other hosts first",
}


def remedy_of(vm: Vm) -> str:
    """Return what would let `vm` go."""
    known = [REMEDIES[word] for word in vm.blocked_by if word in REMEDIES]
    return "; ".join(dict.fromkeys(known)) or _SHUT_DOWN
