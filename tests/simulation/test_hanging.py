"""Several hosts hang at once: each costs the time of a request, and never two of them in a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest

from balancer.clock import VirtualClock
from balancer.errors import RefusedError, UnreachableError
from balancer.execute.charge import Charge
from balancer.execute.context import STEP_MAX_S
from balancer.execute.executor import execute
from balancer.execute.progress import OnInterrupt
from balancer.execute.recover import recover
from balancer.gateway.port import Gateway, MoveRequest, ReplyLostError, SettingAnswer, Sighting
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import inject
from balancer.model.cluster import Transport
from balancer.model.outcome import RunReport
from balancer.policy.policy import Policy, TransportPolicy
from balancer.store.store import Store
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway
from tests.stores import new_store

REQUEST_S = 60.0
POLL_S = 2.0
WRITING = Policy(transport=TransportPolicy(write_settings=True))
HANGING = {"h1", "h2", "h3"}
MOVES = [(f"m{n}", f"v{n}1", "h5") for n in range(1, 5)]


class Hanging(TrappedGateway):
    """Hosts that answer nothing but looks, each after the time of a request, for half an hour."""

    def __init__(self, inner: Gateway, clock: VirtualClock) -> None:
        super().__init__(inner, Trap())
        self._clock = clock
        self.looks: list[tuple[float, bool]] = []  # when, and whether something was seen moving
        self.cancels: list[str] = []
        self.dies = False

    def _ask(self, host: str) -> None:
        if host in HANGING and self._clock.monotonic_s() < 1800.0:
            self._clock.sleep(REQUEST_S)
            raise ReplyLostError(f"{host} did not answer")

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        found = super().look(vms)
        is_moving = any(one.moving for one in found.values())
        self.looks.append((self._clock.monotonic_s(), is_moving))
        return found

    def start(self, request: MoveRequest, fence: int) -> None:
        if self.dies and request.source == "h4":
            raise PowerCut
        super().start(request, fence)

    def cancel(self, vm: str, source: str, fence: int) -> None:
        self.cancels.append(source)
        self._ask(source)
        super().cancel(vm, source, fence)

    def read_transport(self, host: str) -> Transport:
        try:
            self._ask(host)
        except ReplyLostError as error:
            raise UnreachableError(error.message) from error
        return super().read_transport(host)

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        self._ask(host)
        return super().write_transport(host, expected, value, fence)

    def longest_s(self, *, moving: bool = False) -> float:
        """Return the longest time from a look (that showed something moving) to the next."""
        pairs = pairwise(self.looks)
        return max(after[0] - before[0] for before, after in pairs if before[1] or not moving)


def bench() -> tuple[Small, Hanging]:
    small = Small(hosts=5, each=2, slots=4)
    return small, Hanging(small.gateway, small.clock)


def run(
    small: Small, gateway: Hanging, store: Store, *, smb: tuple[str, ...] = (), stop_s: float = 1e9
) -> RunReport:
    with store.leases.hold("small", "me", small.clock, 5.0) as lease:
        return execute(
            small.plan(MOVES, smb=smb),
            Charge(
                WRITING,
                gateway,
                store,
                small.clock,
                lease,
                interrupted=lambda: small.clock.monotonic_s() >= stop_s,
                on_interrupt=lambda: OnInterrupt.CANCEL,
                poll_s=POLL_S,
            ),
        )


BOUND_S = REQUEST_S + STEP_MAX_S + POLL_S + 1.0


def test_a_cancellation_waits_for_one_of_them_at_most() -> None:
    small, gateway = bench()
    inject(small.world, Fault(FaultKind.MOVE_HANGS))
    with new_store() as store:
        run(small, gateway, store, stop_s=20.0)
    assert gateway.longest_s() <= BOUND_S
    # None of them is asked again before the healthy one has been asked.
    assert sorted(gateway.cancels[:4]) == ["h1", "h2", "h3", "h4"]


def test_settings_wait_for_one_of_them_at_most() -> None:
    small, gateway = bench()
    with new_store() as store:
        run(small, gateway, store, smb=("h1", "h2", "h3", "h5"))
    assert gateway.looks[0][0] <= 5 * BOUND_S
    assert small.host_of("v41") == "h5"
    assert gateway.longest_s(moving=True) <= BOUND_S


@pytest.mark.parametrize("dies", [False, True], ids=["a run", "recovery"])
def test_taking_note_of_a_newer_number_waits_for_one_of_them_at_most(*, dies: bool) -> None:
    small, gateway = bench()
    gateway.dies = dies
    inject(small.world, Fault(FaultKind.REQUEST_LOST, function="Start-LbMigration"))
    with new_store() as store:
        if dies:
            with pytest.raises(PowerCut):
                run(small, gateway, store)
            small.clock.sleep(10.0)
            gateway.looks.clear()
            with (
                store.leases.hold("small", "me", small.clock) as lease,
                pytest.raises(RefusedError, match="nobody can say"),
            ):
                recover(Charge(Policy(), gateway, store, small.clock, lease, poll_s=POLL_S))
        else:
            run(small, gateway, store)
    assert gateway.longest_s() <= BOUND_S
