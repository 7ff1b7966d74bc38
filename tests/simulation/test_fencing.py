"""Two executors on one cluster: the older one is kept out, wherever it fell asleep."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.errors import HeldError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.recover import recover
from balancer.gateway.port import FencedError, MoveRequest, SettingAnswer
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState, RunEnd
from tests.simulation.small import Small
from tests.simulation.test_crashes import MOVES, POLICY
from tests.simulation.traps import Trap, TrappedGateway
from tests.stores import new_store


class Sleepy(TrappedGateway):
    """Falls asleep just before its n-th act; meanwhile a newer executor takes over."""

    def __init__(self, small: Small, at: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(small.new_gateway(), Trap())
        self._left = at
        self._meanwhile = meanwhile

    def _doze(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._meanwhile()

    def start(self, request: MoveRequest, fence: int) -> None:
        self._doze()
        super().start(request, fence)

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        self._doze()
        return super().write_transport(host, expected, value, fence)


@pytest.mark.parametrize("at", range(1, 9))
def test_an_executor_that_slept_through_its_lease_does_nothing_more(at: int) -> None:
    small = Small()
    plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
    with new_store() as store:
        notes: list[str] = []

        def take_over() -> None:
            small.clock.sleep(61.0)
            gateway = small.new_gateway()
            with store.leases.hold("small", "newer", small.clock) as lease:
                notes.extend(recover(Charge(POLICY, gateway, store, small.clock, lease)))
                # Whatever the older one does from now on must bounce.
            acts_before.extend(sleepy._trap.acts)

        acts_before: list[tuple[str, ...]] = []
        sleepy = Sleepy(small, at, take_over)
        lease = store.leases.acquire("small", "older", 60.0, small.clock.now())
        report = execute(plan, Charge(POLICY, sleepy, store, small.clock, lease))
        assert report.end is RunEnd.IN_PART
        assert any("newer executor" in note for note in report.notes)
        after = sleepy._trap.acts[len(acts_before) :]
        assert len(after) <= 1  # the one it was about to do, turned away by the host
        assert set(small.options().values()) == {1}
        assert not small.gateway.observe().in_flight
        assert not store.journal.open_moves("small")
        for move in store.journal.moves(1):
            migration = plan.migration_by_id[move.migration]
            at_target = move.state is MigrationState.DONE
            assert small.host_of(migration.name) == (
                migration.target if at_target else migration.source
            )


def test_while_one_holds_the_cluster_the_other_is_told_who() -> None:
    small = Small()
    with new_store() as store:
        lease = store.leases.acquire("small", "night shift", 60.0, small.clock.now())
        with pytest.raises(HeldError, match="night shift"):
            store.leases.acquire("small", "day shift", 60.0, small.clock.now())
        assert store.leases.acquire("other", "day shift", 60.0, small.clock.now()).fence
        small.gateway.observe()
        small.gateway.write_transport("h1", Transport.TCP, Transport.TCP, lease.fence + 1)
        with pytest.raises(FencedError):
            small.gateway.write_transport("h1", Transport.TCP, Transport.TCP, lease.fence)
