"""The next start after a death: wherever it looks from, however long it was away, by any clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import pytest

from balancer.clock import VirtualClock
from balancer.errors import RefusedError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.progress import Progress
from balancer.execute.recover import recover
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.port import MoveRequest, Observation, Sighting
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.mishaps import heal, inject
from balancer.model.outcome import MigrationState, RunEnd
from balancer.policy.policy import Policy, TransportPolicy
from balancer.store.store import Store
from tests.cycles import one_cycle
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway
from tests.stores import new_store

POLICY = Policy(transport=TransportPolicy(write_settings=True))
HOURS = 3600.0


class SettableClock(VirtualClock):
    """A clock whose wall time somebody sets; its seconds go on."""

    off = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.off


class Dying(TrappedGateway):
    """The process ends right after the n-th poll that shows something in flight."""

    def __init__(self, small: Small, polls: int) -> None:
        super().__init__(small.new_gateway(), Trap())
        self._polls = polls

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        seen = super().look(vms)
        if any(one.moving for one in seen.values()):
            self._polls -= 1
        if not self._polls:
            raise PowerCut
        return seen


def die(small: Small, store: Store, polls: int = 1) -> None:
    """Leave v31 on its way from h3 to h4, both of them set to SMB."""
    plan = small.plan([("m1", "v31", "h4")], smb=("h3", "h4"))
    lease = store.leases.acquire("small", "first", 1.0, small.clock.now())
    with pytest.raises(PowerCut):
        execute(plan, Charge(POLICY, Dying(small, polls), store, small.clock, lease))
    store.leases.release(lease)
    assert [move.state for move in store.journal.open_moves("small")] == [MigrationState.RUNNING]


@pytest.mark.parametrize("seeds", [["h1"], ["h3.corp.example"], ["h1.corp.example", "h4"]])
def test_one_configured_node_by_any_name_is_enough_to_mend_the_whole_cluster(
    seeds: list[str],
) -> None:
    small = Small()
    with new_store() as store:
        die(small, store)
        hosts = hosts_of(small.world)

        def way(name: str) -> object:
            return hosts[name.partition(".")[0]]

        gateway = ClusterGateway("small", seeds, way, in_turn, small.clock)  # type: ignore[arg-type]
        with store.leases.hold("small", "second", small.clock) as lease:
            recover(Charge(Policy(), gateway, store, small.clock, lease))
        assert [move.state for move in store.journal.moves(1)] == [MigrationState.DONE]
        assert small.host_of("v31") == "h4"
        assert set(small.options().values()) == {1}
        assert not store.journal.open_settings("small")


@pytest.mark.parametrize("off_s", [3 * HOURS, -3 * HOURS, 400 * 24 * HOURS])
def test_a_healthy_migration_is_not_cancelled_because_somebody_set_the_clock(off_s: float) -> None:
    clock = SettableClock()
    small = Small(clock=clock)
    with new_store() as store:
        die(small, store)
        clock.off = timedelta(seconds=off_s)
        second = TrappedGateway(small.new_gateway(), Trap())
        with store.leases.hold("small", "second", clock) as lease:
            recover(Charge(Policy(), second, store, clock, lease))
        assert not [act for act in second._trap.acts if act[0] in ("cancel", "start")]
        assert [move.state for move in store.journal.moves(1)] == [MigrationState.DONE]


@pytest.mark.parametrize("off_s", [3 * HOURS, -3 * HOURS])
def test_a_clock_set_while_a_run_goes_on_changes_nothing_of_it(off_s: float) -> None:
    clock = SettableClock()
    small = Small(clock=clock)
    plan = small.plan([("m1", "v11", "h2"), ("m2", "v12", "h3")], after={"m2": ("m1",)})

    def set_clock(_: object) -> None:
        clock.off = timedelta(seconds=off_s)

    with (
        new_store() as store,
        store.leases.hold("small", "me", clock) as lease,
    ):
        report = execute(
            plan, Charge(POLICY, small.gateway, store, clock, lease, on_progress=set_clock)
        )
        assert report.end is RunEnd.DONE


def test_a_vm_that_an_earlier_run_lost_keeps_the_next_from_moving_others() -> None:
    small = Small()
    with new_store() as store:
        die(small, store)
        small.clock.sleep(60.0)
        with small.world.present():
            small.world.guests[small.vm("v31")].host = "h2"
        second = TrappedGateway(small.new_gateway(), Trap())
        with pytest.raises(RefusedError, match="v31 went astray"):
            one_cycle("small", POLICY, second, store, small.clock)
        assert not [act for act in second._trap.acts if act[0] == "start"]
        assert not store.journal.open_runs("small")
        assert set(small.options().values()) == {1}
        assert store.leases.current("small", small.clock.now()) is None
        again = one_cycle("small", POLICY, second, store, small.clock)  # it was told
        assert again.plan is not None


class Sluggish(TrappedGateway):
    """Takes its time to read the cluster and to accept a migration."""

    def __init__(self, small: Small, *, observe_s: float = 0.0, start_s: float = 0.0) -> None:
        super().__init__(small.gateway, Trap())
        self._small = small
        self._observe_s, self._start_s = observe_s, start_s
        self._looked_s = 0.0
        self.ages_s: list[float] = []
        self.in_force: list[bool] = []
        self.before_start: Callable[[], None] = lambda: None

    def observe(self) -> Observation:
        self._small.clock.sleep(self._observe_s)
        return super().observe()

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        self._looked_s = self._small.clock.monotonic_s()
        return super().look(vms)

    def start(self, request: MoveRequest, fence: int) -> None:
        self.before_start()
        self.ages_s.append(self._small.clock.monotonic_s() - self._looked_s)
        self._small.clock.sleep(self._start_s)
        super().start(request, fence)


def test_nothing_begins_on_a_look_from_before_another_host_took_its_time() -> None:
    small = Small(hosts=8)
    moves = [(f"m{n}", f"v{n}1", f"h{n + 1}") for n in (1, 3, 5, 7)]
    with new_store() as store, store.leases.hold("small", "me", small.clock) as lease:
        slow = Sluggish(small, start_s=50.0)
        report = execute(small.plan(moves), Charge(POLICY, slow, store, small.clock, lease))
        assert report.end is RunEnd.DONE
        assert max(slow.ages_s) <= 10.0


def test_a_lease_that_ran_out_while_planning_is_renewed_before_the_first_act() -> None:
    small = Small()
    with new_store() as store:
        lease = store.leases.acquire("small", "me", 60.0, small.clock.now())
        plan = small.plan([("m1", "v11", "h2")])
        small.clock.sleep(300.0)
        slow = Sluggish(small)

        def check() -> None:
            assert store.leases.current("small", small.clock.now()) is not None

        slow.before_start = check
        report = execute(plan, Charge(POLICY, slow, store, small.clock, lease))
        assert report.end is RunEnd.DONE


@pytest.mark.parametrize("host", ["h3", "h4"])
def test_a_host_that_dies_in_mid_move_ends_the_run_and_its_debt_is_paid_later(host: str) -> None:
    small = Small()
    plan = small.plan([("m1", "v31", "h4")], smb=("h3", "h4"))
    fault = Fault(FaultKind.HOST_DIES, host=host)
    died: list[str] = []
    died_at: list[datetime] = []

    def die_once(progress: Progress) -> None:
        if progress.running and not died:
            died.append(host)
            died_at.append(small.clock.now())
            inject(small.world, fault)

    with new_store() as store:
        with store.leases.hold("small", "me", small.clock) as lease:
            report = execute(
                plan, Charge(POLICY, small.gateway, store, small.clock, lease, on_progress=die_once)
            )
        outcome = report.migrations[0]
        if host == "h3":  # the cluster restarts the VM, and says so together with its new host
            assert (outcome.state, small.host_of("v31")) == (MigrationState.DONE, "h4")
        else:
            assert (outcome.state, small.host_of("v31")) == (MigrationState.SKIPPED, "h3")
            assert "h4 is down" in outcome.reason
        left = [line for line in store.journal.transitions(1) if line.before == "running"]
        assert (left[0].at - died_at[0]).total_seconds() <= 60.0
        assert [setting.host for setting in store.journal.open_settings("small")] == [host]
        heal(small.world, fault)
        with store.leases.hold("small", "me", small.clock) as lease:
            recover(Charge(Policy(), small.new_gateway(), store, small.clock, lease))
        assert set(small.options().values()) == {1}
        assert not store.journal.open_settings("small")
