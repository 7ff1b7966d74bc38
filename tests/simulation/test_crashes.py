"""The power goes at every point of a run, before and after each write and act; a start mends it."""

from __future__ import annotations

import pytest

from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.recover import recover
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState, RunEnd
from balancer.model.plan import Plan
from balancer.policy.policy import Policy, TransportPolicy
from balancer.store.records import SettingState, TransitionKind
from balancer.store.store import Store
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway, trapped
from tests.stores import new_store

POLICY = Policy(transport=TransportPolicy(write_settings=True))
LEASE_S = 5.0  # so short that a start after a crash finds migrations in flight
MOVES = [("m1", "v11", "h2"), ("m2", "v12", "h3"), ("m3", "v21", "h1"), ("m4", "v22", "h4")]


def crash(small: Small, store: Store, plan: Plan, trap: Trap) -> bool:
    """Run until the trap snaps; tell whether it did."""
    trapped(store, trap)
    gateway = TrappedGateway(small.new_gateway(), trap)
    lease = store.leases.acquire("small", "first", LEASE_S, small.clock.now())
    try:
        execute(plan, Charge(POLICY, gateway, store, small.clock, lease))
    except PowerCut:
        return True
    return False


def start_again(small: Small, store: Store, trap: Trap) -> tuple[str, ...]:
    """Do what the next start of the program does."""
    small.clock.sleep(LEASE_S + 0.1)
    trapped(store, trap)
    gateway = TrappedGateway(small.new_gateway(), trap)
    with store.leases.hold("small", "second", small.clock) as lease:
        return recover(Charge(Policy(), gateway, store, small.clock, lease))


def check_mended(small: Small, store: Store, plan: Plan, before: Trap, after: Trap) -> None:
    assert not [act for act in after.acts if act[0] == "start"], "something was issued again"
    started = [act[1] for act in before.acts if act[0] == "start"]
    assert len(started) == len(set(started))
    assert set(small.options().values()) == {1}, "a setting was not restored"
    assert not store.journal.open_moves("small")
    assert not store.journal.open_settings("small")
    assert not store.journal.open_runs("small")
    for run in store.journal.runs("small"):
        moves = store.journal.moves(run.id)
        lines = store.journal.transitions(run.id)
        for move in moves:
            migration = plan.migration_by_id[move.migration]
            states = [
                line.state
                for line in lines
                if line.kind is TransitionKind.MOVE and line.subject == move.id
            ]
            assert (move.vm in started) <= (MigrationState.INTENDED in states)
            at = migration.target if move.state is MigrationState.DONE else migration.source
            assert small.host_of(migration.name) == at
        written = {act[1] for act in before.acts if act[0] == "write" and act[2] == "smb"}
        announced = {setting.host for setting in store.journal.settings(run.id)}
        assert written <= announced


def points() -> int:
    small, trap = Small(), Trap()
    plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
    with new_store() as store:
        assert not crash(small, store, plan, trap)
    return trap.count


@pytest.mark.parametrize("at", range(1, points() + 1))
def test_power_cut_at_every_point(at: int) -> None:
    small, before, after = Small(), Trap(at), Trap()
    plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
    with new_store() as store:
        assert crash(small, store, plan, before)
        start_again(small, store, after)
        check_mended(small, store, plan, before, after)


@pytest.mark.parametrize("at", range(1, points() + 1, 5))
def test_power_cut_again_while_mending(at: int) -> None:
    again = 1
    while True:
        small, before, mending = Small(), Trap(at), Trap(again)
        plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
        with new_store() as store:
            assert crash(small, store, plan, before)
            try:
                start_again(small, store, mending)
            except PowerCut:
                after = Trap()
                start_again(small, store, after)
                check_mended(small, store, plan, before, after)
                again += 3
                continue
            break


def test_a_host_that_was_away_gets_its_setting_back_later() -> None:
    small, trap = Small(), Trap(14)  # both settings are written, nothing has moved
    plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
    with new_store() as store:
        assert crash(small, store, plan, trap)
        assert small.options()["h1"] == 2
        small.world.machines["h1"].powered = False
        notes = start_again(small, store, Trap())
        assert any("h1 still may be smb" in note for note in notes)
        assert small.options()["h1"] == 2
        small.world.machines["h1"].powered = True
        start_again(small, store, Trap())
        assert small.options()["h1"] == 1
        assert not store.journal.open_settings("small")


def test_a_setting_that_somebody_changed_meanwhile_is_theirs() -> None:
    small, trap = Small(), Trap(14)
    plan = small.plan(MOVES, smb=("h1", "h2"))
    with new_store() as store:
        assert crash(small, store, plan, trap)
        small.world.machines["h1"].option = 0
        notes = start_again(small, store, Trap())
        assert small.options() == {"h1": 0, "h2": 1, "h3": 1, "h4": 1}
        states = {s.host: s.state for s in store.journal.settings(1)}
        assert states == {"h1": SettingState.LEFT, "h2": SettingState.RESTORED}
        assert any("somebody else" in note for note in notes)


def test_a_run_closes_what_an_earlier_one_left_before_its_own_first_move() -> None:
    small, trap = Small(), Trap(18)
    plan = small.plan(MOVES, after={"m3": ("m1",)}, smb=("h1", "h2"))
    with new_store() as store:
        assert crash(small, store, plan, trap)
        small.clock.sleep(LEASE_S + 0.1)
        other = small.plan([("n1", "v31", "h4")])
        with store.leases.hold("small", "second", small.clock) as lease:
            report = execute(other, Charge(POLICY, small.gateway, store, small.clock, lease))
        assert report.end is RunEnd.DONE
        assert any(note.startswith("adopted") for note in report.notes)
        assert set(small.options().values()) == {1}
        assert small.gateway.read_transport("h1") is Transport.COMPRESSION


def test_two_changes_of_one_host_are_taken_back_in_order() -> None:
    small = Small()
    with new_store() as store:
        lease = store.leases.acquire("small", "first", LEASE_S, small.clock.now())
        for values in (("compression", "smb"), ("smb", "tcp")):
            run, _ = store.journal.begin_run(lease, "p", [], small.clock.now())
            store.journal.intend_setting(lease, run, "h1", "transport", values, small.clock.now())
        small.world.machines["h1"].option = 0
        start_again(small, store, Trap())
        assert small.options()["h1"] == 1
        states = [record.state for run in (1, 2) for record in store.journal.settings(run)]
        assert states == [SettingState.RESTORED, SettingState.RESTORED]


def test_interrupted_while_mending_the_rest_is_left_to_the_next_start() -> None:
    small, before = Small(), Trap(18)
    plan = small.plan(MOVES, smb=("h1", "h2"))
    with new_store() as store:
        assert crash(small, store, plan, before)
        small.clock.sleep(LEASE_S + 0.1)
        with store.leases.hold("small", "second", small.clock) as lease:
            recover(
                Charge(Policy(), small.gateway, store, small.clock, lease, interrupted=lambda: True)
            )
        assert store.journal.open_moves("small")
        assert store.journal.open_settings("small")
        after = Trap()
        start_again(small, store, after)
        check_mended(small, store, plan, before, after)
