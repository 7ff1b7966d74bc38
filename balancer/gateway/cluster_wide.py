"""Acts that concern the cluster as a whole, which any of its nodes can carry out.

A node that was never reached is passed over for the next; once an act was sent nobody else is
asked, because it may have been carried out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from balancer.errors import UnreachableError
from balancer.gateway.control import Control, ControlName
from balancer.gateway.doubt import fault_text
from balancer.gateway.gather import Failure
from balancer.gateway.host import HostFunctions
from balancer.gateway.port import FencedError, MoveRefusedError, ReplyLostError, SettingAnswer
from balancer.gateway.states import AUTO_BALANCER
from balancer.gateway.wire import ActAnswer, ControlPart, Section
from balancer.model.cluster import AutoBalancer

T = TypeVar("T")

_MODE_OF = {mode: number for number, mode in AUTO_BALANCER.items()}


class ClusterWide(ABC):
    """The part of a gateway that speaks to whichever node answers."""

    def read_control(self) -> Control:
        """Return lease, freeze and fence.

        Of hosts that stand alone the first one keeps the lease; a freeze on any of them counts.

        Raises:
            UnreachableError: No node that knows answered.
        """
        reasons: list[str] = []
        found: list[Control] = []
        for name in self._speakers():
            try:
                section = self._call(name, lambda way: way.read_control()).control
            except (UnreachableError, ReplyLostError) as error:
                reasons.append(f"{name}: {error.message}")
                continue
            if section.data is None:
                reasons.append(f"{name}: {fault_text(section.fault)}")
                continue
            found.append(control_of(section.data))
            if self.clustered:
                break
        if not found:
            raise UnreachableError(
                f"nobody tells who may act on {self.cluster_name}: " + "; ".join(reasons),
                remedy="look at the cluster service and the quorum with Get-ClusterNode on a node",
            )
        return Control(
            lease=found[0].lease,
            freeze=next((one.freeze for one in found if one.frozen), ""),
            fence=max(one.fence for one in found),
        )

    def write_control(self, name: ControlName, expected: str, value: str, fence: int) -> str:
        """Write a text if it is `expected`; return what is there now: `value` when written.

        Raises:
            ReplyLostError, UnreachableError, FencedError (a lease only).
        """
        answer = self._ask_one(lambda way: way.set_control(name.value, expected, value, fence))
        if answer.result == "fenced":
            raise _fenced(f"{self.cluster_name} refused the {name.value}")
        return answer.value

    def set_node(self, name: str, *, paused: bool, fence: int) -> None:
        """Let nothing land on a node any more, or again. Nothing is moved by it.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        state = "pause" if paused else "resume"
        answer = self._ask_one(lambda way: way.set_node(name, state, fence))
        accept(answer, f"the cluster refused to {state} {name}")

    def move_group(self, group: str, target: str, fence: int) -> None:
        """Ask for the move of a group (id) in which no VM runs; look whether it arrived.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        answer = self._ask_one(lambda way: way.move_group(group, target, fence))
        accept(answer, f"the cluster refused to move the group {group} to {target}")

    def move_volume(self, name: str, target: str, fence: int) -> None:
        """Ask for another owner of a shared volume; look whether it changed.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        answer = self._ask_one(lambda way: way.move_volume(name, target, fence))
        accept(answer, f"the cluster refused to move the volume {name} to {target}")

    def write_auto_balancer(
        self, expected: AutoBalancer, value: AutoBalancer, fence: int
    ) -> SettingAnswer:
        """Set the built-in balancer's mode if it still is `expected`.

        Raises:
            ReplyLostError, UnreachableError, FencedError.
        """
        answer = self._ask_one(
            lambda way: way.set_auto_balancer(_MODE_OF[expected], _MODE_OF[value], fence)
        )
        if answer.result == "fenced":
            raise _fenced(f"{self.cluster_name} refused to set its built-in balancer")
        return SettingAnswer(answer.result)

    @property
    @abstractmethod
    def clustered(self) -> bool:
        """Whether the hosts are nodes of one failover cluster."""

    @property
    @abstractmethod
    def cluster_name(self) -> str:
        """What snapshots call the cluster."""

    @abstractmethod
    def _speakers(self) -> Sequence[str]:
        """Return the hosts that may be asked, the best first."""

    @abstractmethod
    def _call(self, host: str, question: Callable[[HostFunctions], T]) -> T:
        """Call one host under the watchdog, and raise what failed."""

    def _ask_one(self, question: Callable[[HostFunctions], T]) -> T:
        failure: Failure | None = None
        for name in self._speakers():
            try:
                return self._call(name, question)
            except UnreachableError as error:
                failure = failure or error
            if not self.clustered:
                break
        raise failure or UnreachableError(f"{self.cluster_name} has no host")


def control_of(part: ControlPart) -> Control:
    """Return what the wire says."""
    return Control(lease=part.lease, freeze=part.freeze, fence=part.fence)


def control_in(section: Section[ControlPart]) -> Control | None:
    """Return what a reading of the cluster says, None when it says nothing."""
    return control_of(section.data) if section.data is not None else None


def accept(answer: ActAnswer, refusal: str) -> None:
    """Raise unless an act was taken."""
    if answer.fenced:
        raise _fenced(refusal)
    if not answer.accepted:
        code = answer.fault.hresult if answer.fault else None
        raise MoveRefusedError(f"{refusal}: {fault_text(answer.fault)}", code)


def _fenced(refusal: str) -> FencedError:
    return FencedError(
        f"{refusal}: an executor with a newer number has acted there",
        remedy="let the newer executor finish; this one must not go on",
    )
