"""The gateway protocol: everything the program can ask of a cluster, real or simulated.

Reading never raises for one bad host: such a host is `unknown` in the snapshot and named in
the notes. Acting raises exactly one of three things, because they call for three different
reactions: `MoveRefusedError` (it will not happen; the code says why), `ReplyLostError` (it may
have happened; only looking again tells), `UnreachableError` (it was never sent).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from balancer.errors import BalancerError, HeldError
from balancer.gateway.control import Control, ControlName
from balancer.gateway.estate import Estate
from balancer.gateway.pulse import Heartbeat
from balancer.gateway.signs import Other
from balancer.model.cluster import AutoBalancer, Cluster, Transport, VmState


class MoveRefusedError(BalancerError):
    """The platform refused or failed the act at once. `code` is an unsigned HRESULT or None."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class FencedError(HeldError):
    """Somebody with a newer fencing number has acted: this executor must stop at once."""


class ReplyLostError(BalancerError):
    """The act was sent and no answer came: whether it happened is unknown."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A migration that is running or queued in the cluster, whoever asked for it."""

    vm: str
    source: str
    target: str | None
    percent: int
    queued: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """One reading of the cluster: the snapshot, what moves in it, and what went wrong."""

    cluster: Cluster
    in_flight: tuple[InFlight, ...] = ()
    notes: tuple[str, ...] = ()  # one sentence each: unreachable hosts, doubtful readings
    estate: Estate | None = None  # None for hosts that stand alone, and where it was not read
    control: Control | None = None  # the same; `Gateway.read_control` asks again
    troubles: tuple[str, ...] = ()  # what ails the cluster: see `balancer.gateway.signs`
    others: tuple[Other, ...] = ()  # who else acts on it


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a look at one VM showed just now.

    Attributes:
        hosts: The hosts that hold the realised VM; one, except at the instant of a switch.
        answered: Whether every host and node that had to be asked did answer.
        moving: A migration of this VM is queued or running.
        percent: Progress of that migration, 0..100.
        failure_code: Unsigned HRESULT of the VM's last migration if that failed, else None.
        blackout_s: Measured at the last migration's switch, where the platform recorded it.
        heartbeat: As the host it is on shows it; None when the guest has none.
    """

    vm: str
    hosts: tuple[str, ...]
    state: VmState
    answered: bool = True
    moving: bool = False
    queued: bool = False
    percent: int = 0
    failure_code: int | None = None
    failure_text: str = ""
    blackout_s: float | None = None
    heartbeat: Heartbeat | None = None


class SettingAnswer(StrEnum):
    """What became of a request to write a host's transport."""

    WRITTEN = "written"
    DIFFERS = "differs"  # it holds another value: somebody else changed it
    BUSY = "busy"  # a migration runs or queues on the host
    MANAGED = "managed"  # Network ATC owns it


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """Live migrate one VM. `clustered` picks the cluster's move or the host's own."""

    vm: str
    source: str
    target: str
    clustered: bool


class Gateway(Protocol):
    """One cluster (or set of stand-alone hosts). Methods block; each keeps its deadline.

    Acts carry the fencing number of the executor's lease; a host that has seen a higher one
    raises `FencedError`.
    """

    def observe(self) -> Observation:
        """Read every host and the cluster.

        Raises:
            UnreachableError: No node that can be believed answered for the cluster.
        """
        ...

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        """Look at these VMs (ids) wherever they are; one sighting for each id asked."""
        ...

    def start(self, request: MoveRequest, fence: int) -> None:
        """Ask for a live migration and return once it is accepted or queued.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        ...

    def cancel(self, vm: str, source: str, fence: int) -> None:
        """Ask for the cancellation of a VM's migration; a migration already over is no error."""
        ...

    def read_transport(self, host: str) -> Transport:
        """Return the host's live migration performance option as set now."""
        ...

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        """Set the option if it still is `expected`, nothing moves there, and ATC is not in charge.

        Already being `value` counts as written.
        """
        ...

    def read_control(self) -> Control:
        """Return lease, freeze and fence as the cluster itself keeps them.

        Raises:
            UnreachableError: Nobody who knows answered.
        """
        ...

    def write_control(self, name: ControlName, expected: str, value: str, fence: int) -> str:
        """Write a text if it is `expected`; return what is there now: `value` when written.

        Raises:
            ReplyLostError, UnreachableError, FencedError (a lease only; anybody may freeze).
        """
        ...

    def set_node(self, name: str, *, paused: bool, fence: int) -> None:
        """Let nothing land on a node any more, or again. Nothing is moved by it.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        ...

    def move_group(self, group: str, target: str, fence: int) -> None:
        """Ask for the move of a group (id) in which no VM runs; look whether it arrived.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        ...

    def move_volume(self, name: str, target: str, fence: int) -> None:
        """Ask for another owner of a shared volume; look whether it changed.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        ...

    def write_auto_balancer(
        self, expected: AutoBalancer, value: AutoBalancer, fence: int
    ) -> SettingAnswer:
        """Set the built-in balancer's mode if it still is `expected`.

        Raises:
            ReplyLostError, UnreachableError, FencedError.
        """
        ...

    def close(self) -> None:
        """Let go of connections; the gateway is not used afterwards."""
        ...
