"""Requests whose reply is lost and that are carried out late: never behind our back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest

from balancer.errors import RefusedError
from balancer.execute.charge import Charge
from balancer.execute.context import Context
from balancer.execute.executor import execute
from balancer.execute.machine import SETTLE_UNKNOWN_S
from balancer.execute.pause import set_paused
from balancer.execute.recover import recover
from balancer.gateway.port import Sighting
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import inject
from balancer.model.outcome import MigrationState, RunEnd, RunReport
from balancer.model.plan import Plan
from balancer.policy.policy import Policy, TransportPolicy
from balancer.store.records import TransitionKind
from balancer.store.store import Store
from tests.simulation.draining import empty, furnished, holds, is_paused
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway
from tests.stores import new_store

POLICY = Policy(transport=TransportPolicy(write_settings=True))
START, WRITE = "Start-LbMigration", "Set-LbTransport"
FAILED, DONE = MigrationState.FAILED, MigrationState.DONE


class Bench:
    """A small world with two moves, h3 and h4 of which are set to SMB, and what came of them."""

    def __init__(self, store: Store, *, clustered: bool = True) -> None:
        self.small = Small(clustered=clustered)
        self.store = store
        moves = [("m1", "v11", "h2"), ("m2", "v31", "h4")]
        self.plan: Plan = self.small.plan(moves, smb=("h3", "h4"))

    def fault(
        self,
        kind: FaultKind,
        host: str,
        function: str,
        *,
        count: int | None = None,
        delay_s: float = 0.0,
        lasts_s: float | None = None,
    ) -> None:
        fault = Fault(
            kind, host=host, function=function, count=count, delay_s=delay_s, lasts_s=lasts_s
        )
        inject(self.small.world, fault)

    def run(self) -> RunReport:
        small = self.small
        with self.store.leases.hold("small", "me", small.clock) as lease:
            return execute(self.plan, Charge(POLICY, small.gateway, self.store, small.clock, lease))

    def mend(self) -> tuple[str, ...]:
        small = self.small
        with self.store.leases.hold("small", "me", small.clock) as lease:
            return recover(Charge(Policy(), small.new_gateway(), self.store, small.clock, lease))

    def states_of(self, migration: str) -> list[str]:
        (record,) = [m for m in self.store.journal.moves(1) if m.migration == migration]
        lines = self.store.journal.transitions(1)
        return [
            line.state
            for line in lines
            if line.kind is TransitionKind.MOVE and line.subject == record.id
        ]

    def check_the_journal_tells_the_truth(self) -> None:
        for move in self.store.journal.moves(1):
            at = move.target if move.state is DONE else move.source
            assert self.small.host_of(move.name) == at
        owed = {setting.host for setting in self.store.journal.open_settings("small")}
        assert {host for host, option in self.small.options().items() if option != 1} <= owed


@pytest.mark.parametrize("clustered", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("delay_s", [1.0, 15.0, 100.0, 1000.0])
def test_a_late_start_is_seen_or_turned_away(
    delay_s: float, count: int, *, clustered: bool
) -> None:
    with new_store() as store:
        bench = Bench(store, clustered=clustered)
        bench.fault(FaultKind.LATE, "h1", START, count=count, delay_s=delay_s)
        report = bench.run()
        seen = delay_s < 2.0 or count < 3  # by then the host has been told
        assert [move.state for move in report.migrations] == [DONE if seen else FAILED, DONE]
        bench.check_the_journal_tells_the_truth()
        bench.small.clock.sleep(5000.0)
        bench.check_the_journal_tells_the_truth()
        assert not store.journal.open_settings("small")


@pytest.mark.parametrize("clustered", [True, False])
@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("delay_s", [1.0, 15.0, 1000.0, 4000.0])
def test_a_late_write_is_restored_or_turned_away(
    delay_s: float, count: int, *, clustered: bool
) -> None:
    with new_store() as store:
        bench = Bench(store, clustered=clustered)
        bench.fault(FaultKind.LATE, "h3", WRITE, count=count, delay_s=delay_s, lasts_s=2000.0)
        bench.run()
        bench.check_the_journal_tells_the_truth()
        bench.small.clock.sleep(5000.0)
        bench.check_the_journal_tells_the_truth()
        bench.mend()
        assert set(bench.small.options().values()) == {1}
        assert not store.journal.open_settings("small")


@pytest.mark.parametrize("clustered", [True, False])
def test_while_the_host_does_not_take_note_of_our_number_nothing_is_concluded(
    *, clustered: bool
) -> None:
    with new_store() as store:
        bench = Bench(store, clustered=clustered)
        bench.fault(FaultKind.LATE, "h1", START, count=1, delay_s=400.0)
        bench.fault(FaultKind.SILENT, "h1", WRITE, lasts_s=500.0)
        began = bench.small.clock.now()
        report = bench.run()
        assert report.migrations[0].state is DONE
        # In a cluster all nodes know what one was told; that is not counted on.
        again = ["planned", "intended"] if clustered else []
        assert bench.states_of("m1") == ["intended", "unknown", *again, "running", "done"]
        at = [line.at for line in store.journal.transitions(1) if line.subject == 1]
        _, concluded = max(pairwise(at), key=lambda pair: pair[1] - pair[0])
        waited_s = (concluded - began).total_seconds()
        assert waited_s >= (500.0 + SETTLE_UNKNOWN_S if clustered else 390.0)
        bench.check_the_journal_tells_the_truth()


def test_a_host_that_never_takes_note_leaves_a_question_and_says_so() -> None:
    with new_store() as store:
        bench = Bench(store)
        bench.fault(FaultKind.REQUEST_LOST, "h1", START, count=1)
        bench.fault(FaultKind.REQUEST_LOST, "h1", WRITE)
        report = bench.run()
        assert report.end is RunEnd.IN_PART
        assert report.migrations[0].state is FAILED
        assert "still unknown" in report.migrations[0].reason
        assert any("nobody can say" in note for note in report.notes)


def test_a_setting_stays_a_debt_while_the_host_does_not_take_note() -> None:
    with new_store() as store:
        bench = Bench(store)
        bench.fault(FaultKind.SILENT, "h3", WRITE, lasts_s=2000.0)
        bench.fault(FaultKind.LATE, "h3", WRITE, count=1, delay_s=1500.0)
        bench.run()
        assert bench.small.options()["h3"] == 1  # it lies there still
        assert [setting.host for setting in store.journal.open_settings("small")] == ["h3"]
        bench.small.clock.sleep(1600.0)
        bench.check_the_journal_tells_the_truth()
        bench.small.clock.sleep(1000.0)
        bench.mend()
        assert set(bench.small.options().values()) == {1}
        assert not store.journal.open_settings("small")


class DiesAtLook(TrappedGateway):
    """The process ends with the first look after a request was sent."""

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        if any(act[0] == "start" for act in self._trap.acts):
            raise PowerCut
        return super().look(vms)


@pytest.mark.parametrize("silent_s", [0.0, 500.0])
@pytest.mark.parametrize("delay_s", [30.0, 200.0, 2000.0])
def test_what_a_dead_executor_asked_for_is_turned_away_as_well(
    delay_s: float, silent_s: float
) -> None:
    with new_store() as store:
        bench = Bench(store)
        small = bench.small
        plan = small.plan([("m1", "v11", "h2")])
        bench.fault(FaultKind.LATE, "h1", START, count=1, delay_s=delay_s)
        lease = store.leases.acquire("small", "first", 60.0, small.clock.now())
        with pytest.raises(PowerCut):
            execute(
                plan, Charge(POLICY, DiesAtLook(small.gateway, Trap()), store, small.clock, lease)
            )
        store.leases.release(lease)
        if silent_s:
            bench.fault(FaultKind.SILENT, "h1", WRITE, lasts_s=silent_s)
        bench.mend()
        (move,) = store.journal.moves(1)
        assert move.state is (DONE if delay_s < silent_s else FAILED)
        small.clock.sleep(5000.0)
        bench.check_the_journal_tells_the_truth()


def test_a_start_that_mends_does_not_conclude_for_a_host_that_does_not_take_note() -> None:
    with new_store() as store:
        bench = Bench(store)
        small = bench.small
        bench.fault(FaultKind.REQUEST_LOST, "h1", START, count=1)
        lease = store.leases.acquire("small", "first", 60.0, small.clock.now())
        with pytest.raises(PowerCut):
            execute(
                small.plan([("m1", "v11", "h2")]),
                Charge(POLICY, DiesAtLook(small.gateway, Trap()), store, small.clock, lease),
            )
        store.leases.release(lease)
        bench.fault(FaultKind.SILENT, "h1", WRITE)
        with pytest.raises(RefusedError, match="nobody can say"):
            bench.mend()


def test_a_late_pause_does_not_come_over_a_node_that_was_taken_back() -> None:
    small = Small()
    late = Fault(FaultKind.LATE, function="Set-LbNode", count=1, delay_s=100.0)
    inject(small.world, late)
    with new_store() as store, store.leases.hold("small", "me", small.clock) as lease:
        context = Context(small.gateway, store, small.clock, lease)
        assert set_paused(context, "h2", paused=True)
        assert set_paused(context, "h2", paused=False)
        small.clock.sleep(200.0)
        assert not is_paused(small, "h2")


def test_a_late_move_of_a_role_does_not_come_over_a_newer_one() -> None:
    small = furnished()
    late = Fault(FaultKind.LATE, function="Move-LbGroup", count=1, delay_s=500.0)
    inject(small.world, late)
    with new_store() as store:
        report = empty(small, store, "h1")
        assert report.end is RunEnd.DONE
        where = {host: holds(small, host) for host in small.world.machines}
        small.clock.sleep(600.0)
        assert {host: holds(small, host) for host in small.world.machines} == where
