"""Being the executor, in the store and in the cluster: kept while hosts hang, lost when it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TypeVar, cast

import pytest

from balancer.cli.maintain import alone
from balancer.cli.site import Site
from balancer.clock import VirtualClock
from balancer.errors import HeldError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.tenure import CLUSTER_TTL_S, Tenure, holding, read_written
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.control import ControlName
from balancer.gateway.gather import Calls, Failure, Outcomes, in_turn, present_beat
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.mishaps import inject
from balancer.model.outcome import MigrationState, RunEnd, Why
from balancer.policy.policy import Policy
from balancer.service.daemon import keep_leases
from balancer.service.loop import IDLE_S
from balancer.store.leases import LEASE_TTL_S, Lease, LeaseLostError
from balancer.store.store import Store
from tests.simulation.daemon import Daemon, setup
from tests.simulation.small import Small
from tests.stores import new_store

T = TypeVar("T")

DEADLINE_S = 72.0  # what a call to a host may take as configured by default


class Ticking(VirtualClock):
    """A clock on which something happens each second, however long one sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.tick: Callable[[], None] = lambda: None
        self._within = False

    def sleep(self, seconds: float) -> None:
        while seconds > 0:
            super().sleep(min(1.0, seconds))
            seconds -= 1.0
            if not self._within:
                self._within = True
                self.tick()
                self._within = False


@dataclass
class SideBySide:
    """Calls hosts as `InParallel` does, on a virtual clock: those that hang cost a deadline."""

    clock: VirtualClock
    hung: set[str] = field(default_factory=set)
    longest_s: float = 0.0

    def __call__(self, calls: Calls[T]) -> Outcomes[T]:
        silent = [key for key in calls if key in self.hung]
        outcomes: dict[str, T | Failure] = {
            **in_turn({key: call for key, call in calls.items() if key not in silent})
        }
        if silent:
            self._wait()
        outcomes |= {key: ReplyLostError(f"{key} hangs") for key in silent}
        return {key: outcomes[key] for key in calls}

    def _wait(self) -> None:
        beat = present_beat()
        end_s = self.clock.monotonic_s() + DEADLINE_S
        while (left_s := end_s - self.clock.monotonic_s()) > 0:
            self.clock.sleep(left_s if beat is None else min(left_s, beat.every_s))
            if beat is not None:
                beat.act()


@dataclass
class Rivals:
    """Two that want the cluster: one with our store, one with a store of its own."""

    small: Small
    store: Store
    other: Store
    asked: int = 0
    taken: list[str] = field(default_factory=list)

    def try_(self) -> None:
        self.asked += 1
        now = self.small.clock.now()
        try:
            self.store.leases.acquire("small", "same store", LEASE_TTL_S, now)
            self.taken.append("same store")
        except HeldError:
            pass
        rival = Tenure("small", self.other, self.small.new_gateway(), self.small.clock)
        try:
            rival.confirm()
            self.taken.append("other store")
        except HeldError:
            pass


def gateway_of(small: Small, gather: SideBySide) -> ClusterGateway:
    hosts = hosts_of(small.world)
    return ClusterGateway(
        "small", list(small.world.machines), lambda name: hosts[name], gather, small.clock
    )


@contextmanager
def held(small: Small, store: Store, gateway: ClusterGateway) -> Iterator[Tenure]:
    """Hold the cluster as `holding` does, without threads."""
    with holding("small", store, gateway, small.clock, aside=lambda act: act()) as tenure:
        yield tenure


def written(small: Small) -> str:
    return small.new_gateway().read_control().lease


def test_several_hosts_that_hang_at_once_cost_time_and_not_the_cluster() -> None:
    clock = Ticking()
    small = Small(hosts=8, clock=clock)
    gather = SideBySide(clock)
    gateway = gateway_of(small, gather)
    plan = small.plan([(f"m{n}", f"v{n}1", f"h{n % 8 + 1}") for n in range(1, 9)])
    with new_store() as store, new_store() as other:
        rivals = Rivals(small, store, other)
        polls: list[float] = []
        with held(small, store, gateway) as tenure:

            def tick() -> None:
                since_s = clock.monotonic_s() - began_s
                gather.hung = {"h3", "h4", "h5", "h6"} if 4.0 <= since_s < 900.0 else set()
                if int(since_s) % 10 == 0:
                    rivals.try_()

            def interrupted() -> bool:
                polls.append(clock.monotonic_s())
                tenure.keep()
                return False

            began_s = clock.monotonic_s()
            clock.tick = tick
            report = execute(
                plan,
                Charge(Policy(), gateway, store, clock, tenure.confirm(), interrupted=interrupted),
            )
        steps = [after - before for before, after in pairwise(polls)]
        assert max(steps) > 2 * LEASE_TTL_S, "the hosts did not hang long enough to matter"
        assert rivals.asked > 60
        assert rivals.taken == []
        assert not any("newer executor" in note for note in report.notes)
        assert not store.journal.open_moves("small")
        assert report.end in (RunEnd.DONE, RunEnd.IN_PART)
        assert sum(one.state is MigrationState.DONE for one in report.migrations) >= 4


def test_who_wants_it_to_stop_is_heard_before_each_start_however_long_a_step_takes() -> None:
    clock = Ticking()
    small = Small(hosts=6, clock=clock)
    gather = SideBySide(clock)
    gateway = gateway_of(small, gather)
    moves = [("m1", "v51", "h2"), ("m2", "v31", "h4"), ("m3", "v11", "h3")]
    plan = small.plan(moves, after={"m3": ("m2",)})

    def tick() -> None:
        if clock.monotonic_s() >= 4.0:
            gather.hung = {"h5"}

    clock.tick = tick
    with new_store() as store, held(small, store, gateway) as tenure:
        report = execute(
            plan,
            Charge(
                Policy(),
                gateway,
                store,
                clock,
                tenure.confirm(),
                interrupted=lambda: clock.monotonic_s() > 2.5 * DEADLINE_S,
            ),
        )
    assert report.end is RunEnd.CANCELLED
    assert [one.why for one in report.migrations][1:] == [None, Why.INTERRUPTED]
    assert small.host_of("v11") == "h1"


def test_who_does_not_beat_any_more_loses_the_cluster() -> None:
    small = Small()
    with new_store() as store, new_store() as other:
        rivals = Rivals(small, store, other)
        tenure = Tenure("small", store, small.gateway, small.clock, aside=lambda act: act())
        tenure.confirm()
        for _ in range(10):
            small.clock.sleep(IDLE_S)
            tenure.beat()
            rivals.try_()
        assert rivals.taken == []
        small.clock.sleep(CLUSTER_TTL_S + 1.0)  # stuck
        rivals.try_()
        assert rivals.taken == ["same store", "other store"]
        tenure.beat()
        assert not tenure.confirmed
        with pytest.raises(HeldError):
            tenure.confirm()


def test_a_number_raised_by_a_lost_reply_does_not_put_us_out() -> None:
    small = Small()
    with new_store() as store:
        tenure = Tenure("small", store, small.gateway, small.clock)
        lease = tenure.confirm()
        small.clock.sleep(CLUSTER_TTL_S / 2)
        tenure.keep_in_store()
        newer = store.leases.advance(lease)
        small.gateway.set_node("h1", paused=False, fence=newer.fence)
        tenure.keep()
        assert tenure.confirmed
        now = read_written(written(small))
        assert now is not None
        assert now.fence == newer.fence


def test_a_renewal_whose_reply_is_lost_does_not_put_us_out() -> None:
    small = Small()
    with new_store() as store:
        tenure = Tenure("small", store, small.gateway, small.clock)
        tenure.confirm()
        lost = Fault(FaultKind.REPLY_LOST, "h1", function="Set-LbControl", count=1)
        inject(small.world, lost)
        before = written(small)
        small.clock.sleep(CLUSTER_TTL_S / 2)
        tenure.keep()
        after = written(small)
        assert after != before
        small.clock.sleep(CLUSTER_TTL_S / 2)
        tenure.keep()
        assert tenure.confirmed
        assert written(small) not in (before, after)
        inject(small.world, lost)
        small.clock.sleep(CLUSTER_TTL_S / 2)
        tenure.keep()
        tenure.release()
        assert written(small).endswith("|ended")


def test_who_was_fenced_out_lets_go_and_renews_nothing() -> None:
    small = Small()
    plan = small.plan([("m1", "v11", "h2")])
    with new_store() as store:
        tenure = Tenure("small", store, small.gateway, small.clock)
        lease = tenure.confirm()
        newer = Lease("small", "another store", lease.fence + 100, 60.0, lease.expires_at)
        small.gateway.set_node("h1", paused=False, fence=newer.fence)
        report = execute(plan, Charge(Policy(), small.gateway, store, small.clock, lease))
        assert report.end is RunEnd.IN_PART
        assert store.leases.current("small", small.clock.now()) is None
        small.clock.sleep(LEASE_TTL_S / 2)
        tenure.beat()
        assert store.leases.current("small", small.clock.now()) is None
        assert not tenure.confirmed


def test_a_loop_without_a_sign_of_life_is_not_kept_by_the_thread_that_keeps_leases() -> None:
    daemon = Daemon(Small(), setup(Small(), mode="observe"))
    daemon.loop.turn()
    rivals = Rivals(daemon.small, daemon.store, new_store())
    for _ in range(12):
        daemon.clock.sleep(IDLE_S)
        keep_leases([daemon.loop], daemon.store, daemon.clock)
    rivals.try_()
    assert rivals.taken == ["other store"], "the thread that keeps many leases waits for no cluster"
    for _ in range(12):
        daemon.clock.sleep(IDLE_S)
        keep_leases([daemon.loop], daemon.store, daemon.clock)
    rivals.try_()
    assert "same store" in rivals.taken


def test_a_command_without_the_service_holds_the_cluster_in_the_cluster_too() -> None:
    small = Small()
    site = cast("Site", SimpleNamespace(name="small", policy=Policy()))
    with new_store() as store, new_store() as other:
        with alone(site, store, small.gateway, small.clock, lambda: False) as charge:
            now = read_written(written(small))
            assert now is not None
            assert now.fence == charge.lease.fence
            for _ in range(20):
                small.clock.sleep(IDLE_S)
                assert not charge.interrupted()
            with (
                pytest.raises(HeldError, match="another store"),
                holding("small", other, small.new_gateway(), small.clock),
            ):
                pass
            small.gateway.write_control(ControlName.FREEZE, "", "backup", 0)
            small.clock.sleep(IDLE_S)
            assert charge.interrupted()
        assert written(small).endswith("|ended")
        assert store.leases.current("small", small.clock.now()) is None
        with holding("small", other, small.new_gateway(), small.clock) as tenure:
            assert tenure.confirmed


def test_a_command_that_lost_the_cluster_is_told_at_its_next_question() -> None:
    small = Small()
    site = cast("Site", SimpleNamespace(name="small", policy=Policy()))
    with (
        new_store() as store,
        alone(site, store, small.gateway, small.clock, lambda: False) as charge,
    ):
        small.clock.sleep(LEASE_TTL_S + 1.0)
        store.leases.acquire("small", "newer", 3600.0, small.clock.now())
        with pytest.raises(LeaseLostError):
            charge.interrupted()


def test_a_copy_of_our_store_on_another_machine_does_not_put_us_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small()
    with new_store() as store, new_store() as copy:
        at = small.clock.now()
        store.marks.identity(at)
        monkeypatch.setattr(copy.marks, "identity", store.marks.identity)
        for one in (store, copy):  # both remember when it was one store
            one.leases.release(one.leases.acquire("small", "before", LEASE_TTL_S, at))
        first = Tenure("small", store, small.gateway, small.clock)
        first.confirm()
        for _ in range(5):  # each try takes a newer number in the copy
            small.clock.sleep(IDLE_S)
            first.keep()
            with pytest.raises(HeldError, match="another store"):
                Tenure("small", copy, small.new_gateway(), small.clock).confirm()
        first.keep()
        assert first.confirmed
        small.clock.sleep(CLUSTER_TTL_S + 1.0)  # the first one died
        second = Tenure("small", copy, small.new_gateway(), small.clock)
        second.confirm()
        with pytest.raises(HeldError, match="another store"):
            Tenure("small", store, small.gateway, small.clock).confirm()
        second.keep()
        assert second.confirmed


def test_whoever_has_our_store_after_us_need_not_wait_for_what_we_wrote() -> None:
    small = Small()
    with new_store() as store:
        Tenure("small", store, small.gateway, small.clock).confirm()
        small.clock.sleep(LEASE_TTL_S + 1.0)  # it died
        after = Tenure("small", store, small.new_gateway(), small.clock)
        after.confirm()
        assert after.confirmed
