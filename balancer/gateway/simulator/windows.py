"""The platform's own numbers and texts, as a simulated host gives them.

Values are documented ones; texts are German, because a program that reads them would fail here
as it fails on the first German host.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final


class VmStateCode(IntEnum):
    """VMState."""

    RUNNING = 2
    OFF = 3
    SAVED = 6
    PAUSED = 9
    STARTING = 10
    SAVING = 32773
    RUNNING_CRITICAL = 32785


class Operation(IntEnum):
    """VMOperationalStatus at index 1: what is being done to the VM."""

    MIGRATING = 32774
    BACKING_UP = 32776
    CREATING_CHECKPOINT = 32768
    MERGING_DISKS = 32772


STATUS_OK: Final = 2  # VMOperationalStatus at index 0
HEARTBEAT_LOST: Final = 4  # VMHeartbeatStatus
HEARTBEAT_HEALTHY: Final = 6


class NodeState(IntEnum):
    """ClusterNode.State."""

    UNKNOWN = -1
    UP = 0
    DOWN = 1
    PAUSED = 2
    JOINING = 3


class NodeStatus(IntFlag):
    """ClusterNode.StatusInformation."""

    NORMAL = 0
    ISOLATED = 1
    QUARANTINED = 2
    DRAIN_IN_PROGRESS = 4
    DRAIN_COMPLETED = 8
    DRAIN_FAILED = 16
    AVOID_PLACEMENT = 32


class GroupState(IntEnum):
    """ClusterGroup.State."""

    ONLINE = 0
    OFFLINE = 1
    FAILED = 2
    PENDING = 4


class GroupStatus(IntFlag):
    """ClusterGroup.StatusInformation."""

    NORMAL = 0
    LOCKED = 1
    QUEUED = 4


VIRTUAL_MACHINE_GROUP: Final = 111
CLUSTER_GROUP: Final = 1
FILE_SERVER: Final = 100


class MigrationState(IntEnum):
    """Private property MigrationState of the VM's cluster resource; FAILED is sticky."""

    NONE = 0
    SETUP = 1
    TRANSFER = 2
    GROUP_MOVE = 3
    CANCELED = 4
    FAILED = 5


class JobState(IntEnum):
    """Msvm_MigrationJob.JobState."""

    NEW = 2
    RUNNING = 4
    COMPLETED = 7
    TERMINATED = 8
    EXCEPTION = 10


MOVING_VM_JOB: Final = 305
JOB_KEPT_S: Final = 300.0  # TimeBeforeRemoval

TCP_OPTION: Final = 0  # VMMigrationPerformance
COMPRESSION_OPTION: Final = 1
SMB_OPTION: Final = 2


class AffinityRuleType(IntEnum):
    """RuleType of a cluster affinity rule."""

    SAME_FAULT_DOMAIN = 1
    SAME_NODE = 2
    DIFFERENT_FAULT_DOMAIN = 3
    DIFFERENT_NODE = 4


class Hresult(IntEnum):
    """What refuses or fails a move, unsigned."""

    UNSPECIFIED = 0x80004005
    DOTNET_EXCEPTION = 0x80131500
    ANOTHER_MIGRATION_RUNNING = 0x800700AA
    INSUFFICIENT_RESOURCES = 0x800705AA
    CONNECTION_TIMED_OUT = 0x8007274C
    CONNECTION_RESET = 0x80072746
    SERVICE_NOT_ACTIVE = 0x80070426
    GROUP_NOT_FOUND = 0x80071395  # 5013
    NOT_POSSIBLE_OWNER = 0x80071398  # 5016
    INVALID_STATE = 0x8007139F  # 5023
    NETWORK_NOT_AVAILABLE = 0x800713AB  # 5035
    NODE_NOT_FOUND = 0x800713B2  # 5042
    NODE_DOWN = 0x800713BA  # 5050
    NODE_PAUSED = 0x800713CE  # 5070
    NO_QUORUM = 0x80071725  # 5925
    GROUP_MOVING = 0x80071714  # 5908
    INCOMPATIBLE_NODES = 0x80071741  # 5953
    RESOURCE_LOCKED = 0x80071748  # 5960
    DRAIN_IN_PROGRESS = 0x8007174A  # 5962
    AFFINITY_CONFLICT = 0x80071753  # 5971
    REPLICA_VM = 0x80071754  # 5972
    DISK_PROVIDER_NOT_FOUND = 0xC03A0014


TEXTS: Final[Mapping[int, str]] = {
    Hresult.UNSPECIFIED: "Unbekannter Fehler",
    Hresult.DOTNET_EXCEPTION: "Fehler beim Vorgang.",
    Hresult.ANOTHER_MIGRATION_RUNNING: (
        "Der Grenzwert für gleichzeitige Migrationen virtueller Computer wurde erreicht. (21501)"
    ),
    Hresult.INSUFFICIENT_RESOURCES: (
        "Nicht genügend Systemressourcen, um den angeforderten Dienst auszuführen."
    ),
    Hresult.CONNECTION_TIMED_OUT: "Zeitüberschreitung beim Verbindungsversuch.",
    Hresult.CONNECTION_RESET: "Die Verbindung wurde vom Remotehost geschlossen.",
    Hresult.SERVICE_NOT_ACTIVE: "Der Clusterdienst wird nicht ausgeführt.",
    Hresult.GROUP_NOT_FOUND: "Die Clustergruppe wurde nicht gefunden.",
    Hresult.NOT_POSSIBLE_OWNER: "Der Knoten kann nicht Besitzer der Gruppe sein.",
    Hresult.INVALID_STATE: "Der Zustand der Ressource lässt den Vorgang nicht zu.",
    Hresult.NETWORK_NOT_AVAILABLE: "Kein Clusternetzwerk ist für diesen Vorgang verfügbar.",
    Hresult.NODE_NOT_FOUND: "Der Clusterknoten wurde nicht gefunden.",
    Hresult.NODE_DOWN: "Der Clusterknoten ist heruntergefahren.",
    Hresult.NODE_PAUSED: "Der Clusterknoten wurde angehalten.",
    Hresult.NO_QUORUM: "Der Cluster hat kein Quorum.",
    Hresult.GROUP_MOVING: "Die Gruppe wird gerade verschoben.",
    Hresult.INCOMPATIBLE_NODES: (
        "Der Zielknoten ist mit den Funktionen des virtuellen Computers nicht kompatibel."
    ),
    Hresult.RESOURCE_LOCKED: "Die Ressource ist durch einen laufenden Vorgang gesperrt.",
    Hresult.DRAIN_IN_PROGRESS: "Der Knoten wird gerade ausgeglichen.",
    Hresult.AFFINITY_CONFLICT: "Der Vorgang verletzt eine Affinitätsregel.",
    Hresult.REPLICA_VM: "Der virtuelle Computer ist ein Replikat.",
    Hresult.DISK_PROVIDER_NOT_FOUND: (
        "Der Anbieter des virtuellen Datenträgers wurde nicht gefunden."
    ),
}


def text(code: int) -> str:
    """Return the platform's words for an HRESULT, in German."""
    return f"{TEXTS.get(code, TEXTS[Hresult.UNSPECIFIED])} (0x{code:08X})"
