"""What goes wrong in a simulated world, as a table: one kind a row, set at an instant.

The board holds the faults that are on now. Those of a call are struck by whoever answers the
call: in process they become the exceptions of the protocol, behind a WinRM endpoint they
become faults of the wire. What happens to whole hosts is done by `mishaps`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from balancer.errors import InputError
from balancer.gateway.simulator.physics import Spoiler
from balancer.gateway.simulator.things import Guest, Machine
from balancer.gateway.simulator.windows import Hresult


class FaultKind(StrEnum):
    """What goes wrong."""

    # One call, or all calls, to a host.
    UNREACHABLE = "unreachable"  # nobody listens: nothing is sent
    SILENT = "silent"  # what is sent is neither done nor answered
    GARBAGE = "garbage"  # not done, and answered with nonsense
    REPLY_LOST = "reply_lost"  # it is done, and the answer gets lost
    REQUEST_LOST = "request_lost"  # it gets lost on the way there
    SECTION_FAILS = "section_fails"  # one section of a host's or its cluster's reading
    # Migrations.
    MOVE_FAILS = "move_fails"  # at `percent`, with `code`
    MOVE_HANGS = "move_hangs"  # at `percent`, until somebody cancels it
    INCOMPATIBLE = "incompatible"  # processors from `host` to `target`; the way back may work
    # Hosts and cluster.
    HOST_DIES = "host_dies"
    HOST_REBOOTS = "host_reboots"  # it is back after `lasts_s`
    NODE_ISOLATED = "node_isolated"  # it runs, the other nodes do not hear it
    NODE_PAUSED = "node_paused"
    NO_QUORUM = "no_quorum"  # the cluster service stops on all nodes


CALL_KINDS = frozenset(
    {
        FaultKind.UNREACHABLE,
        FaultKind.SILENT,
        FaultKind.GARBAGE,
        FaultKind.REPLY_LOST,
        FaultKind.REQUEST_LOST,
    }
)
HOST_KINDS = frozenset(
    {
        FaultKind.HOST_DIES,
        FaultKind.HOST_REBOOTS,
        FaultKind.NODE_ISOLATED,
        FaultKind.NODE_PAUSED,
    }
)
MOVE_KINDS = frozenset({FaultKind.MOVE_FAILS, FaultKind.MOVE_HANGS, FaultKind.INCOMPATIBLE})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Empty words mean "any".

    Attributes:
        kind: What goes wrong.
        host: Whom it befalls; of a migration, its source.
        target: Of a migration, its target.
        vm: Id of the VM whose migration it befalls.
        function: Of a call, the function that must be called.
        section: Which section of a reading fails.
        code: HRESULT that a migration or section fails with, unsigned.
        percent: How far a migration comes.
        count: How many calls or migrations it befalls before it is over; None while it lasts.
        lasts_s: After how long it is over by itself; None when somebody must end it.
    """

    kind: FaultKind
    host: str = ""
    target: str = ""
    vm: str = ""
    function: str = ""
    section: str = ""
    code: int = Hresult.UNSPECIFIED
    percent: float = 50.0
    count: int | None = None
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A row of the table: a fault and when it begins, in seconds of the world."""

    at_s: float
    fault: Fault


_TRANSIENT_CODES = (
    Hresult.CONNECTION_TIMED_OUT,
    Hresult.CONNECTION_RESET,
    Hresult.INSUFFICIENT_RESOURCES,
    Hresult.UNSPECIFIED,
)


def draw_table(
    random: Random, hosts: Sequence[str], count: int, until_s: float
) -> tuple[Scheduled, ...]:
    """Return `count` faults of all kinds at random instants; each ends by itself.

    What befalls calls and migrations befalls one; the rest lasts some minutes at most.
    """
    rows: list[Scheduled] = []
    for _ in range(count):
        kind = random.choice(sorted(FaultKind))
        source, target = random.sample(list(hosts), 2) if len(hosts) > 1 else (hosts[0], "")
        fault = Fault(
            kind,
            host="" if kind is FaultKind.NO_QUORUM else source,
            target=target if kind is FaultKind.INCOMPATIBLE else "",
            section=random.choice(("vps", "jobs", "smb_limit", "groups")),
            code=random.choice(_TRANSIENT_CODES),
            percent=random.uniform(0.0, 100.0),
            count=1 if kind in MOVE_KINDS or kind in CALL_KINDS else None,
            lasts_s=random.uniform(10.0, 300.0),
        )
        rows.append(Scheduled(random.uniform(0.0, until_s), fault))
    return tuple(sorted(rows, key=lambda row: row.at_s))


class FaultBoard:
    """The faults of calls, readings and migrations that are on. Guarded by the world's lock."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(hosts)
        self._on: list[tuple[Fault, Fault]] = []  # as set, and as it is now that some were used
        self._listeners: list[Callable[[], None]] = []

    def check(self, fault: Fault) -> None:
        """Raise for a fault that cannot befall.

        Raises:
            InputError: It names a host that is not there, or none where it must.
        """
        if fault.kind in HOST_KINDS and not fault.host:
            raise InputError(f"the fault {fault.kind.value} must name a host")
        for name in (fault.host, fault.target):
            if name and name not in self._hosts:
                raise InputError(
                    f"the fault {fault.kind.value} names the host {name}, which is not there"
                )

    def set(self, fault: Fault) -> None:
        """Let a fault begin."""
        self._on.append((fault, fault))
        self.changed()

    def clear(self, fault: Fault) -> None:
        """End a fault; one that is over is no error."""
        self._on = [pair for pair in self._on if pair[0] is not fault]
        self.changed()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever faults of calls may have changed."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)

    def of_calls(self, host: str) -> Fault | None:
        """Return the fault that calls to a host meet now, the newest if several."""
        return next(
            (
                fault
                for fault, now in reversed(self._on)
                if now.kind in CALL_KINDS and now.host in ("", host)
            ),
            None,
        )

    def strike(self, host: str, function: str) -> FaultKind | None:
        """Return what befalls this call, and count it."""
        for index in reversed(range(len(self._on))):
            now = self._on[index][1]
            hit = now.kind in CALL_KINDS and now.host in ("", host)
            if hit and now.function in ("", function):
                self._use(index)
                return now.kind
        return None

    def failing(self, host: str) -> dict[str, int]:
        """Return the sections that fail on a host, with their HRESULTs."""
        return {
            now.section: now.code
            for _, now in self._on
            if now.kind is FaultKind.SECTION_FAILS and now.host in ("", host)
        }

    def spoil(self, guest: Guest, source: Machine, target: Machine) -> Spoiler | None:
        """Return how a migration that begins now is to go wrong, and count it."""
        for index in range(len(self._on)):
            now = self._on[index][1]
            if (
                now.kind in MOVE_KINDS
                and now.vm in ("", guest.id)
                and now.host in ("", source.name)
                and now.target in ("", target.name)
            ):
                self._use(index)
                if now.kind is FaultKind.INCOMPATIBLE:
                    return Spoiler(2.0, Hresult.INCOMPATIBLE_NODES)
                return Spoiler(now.percent, now.code if now.kind is FaultKind.MOVE_FAILS else None)
        return None

    def _use(self, index: int) -> None:
        fault, now = self._on[index]
        if now.count is None:
            return
        if now.count > 1:
            self._on[index] = (fault, replace(now, count=now.count - 1))
        else:
            del self._on[index]
        self.changed()

    def changed(self) -> None:
        """Tell all listeners to look again."""
        for listener in self._listeners:
            listener()
