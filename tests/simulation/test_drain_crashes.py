"""The power goes at every point of a drain; the next start carries it on, or gives it up."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.model.drain import DrainReport, DrainState, OnFailure
from balancer.model.outcome import RunEnd
from balancer.store.store import Store
from tests.simulation.draining import (
    empty,
    everything_is_somewhere,
    furnished,
    holds,
    is_paused,
    take_back,
)
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway, trapped
from tests.stores import new_store

LEASE_S = 5.0


def drained(small: Small, store: Store, trap: Trap, **more: Any) -> DrainReport | None:
    """Drain until the trap snaps."""
    trapped(store, trap)
    gateway = TrappedGateway(small.new_gateway(), trap)
    lease = store.leases.acquire("small", "me", LEASE_S, small.clock.now())
    store.leases.release(lease)
    try:
        return empty(small, store, "h1", gateway=gateway, ttl_s=LEASE_S, **more)
    except PowerCut:
        return None


def start_again(small: Small, store: Store, trap: Trap, **more: Any) -> DrainReport:
    small.clock.sleep(LEASE_S + 0.1)
    report = drained(small, store, trap, **more)
    assert report is not None
    return report


def points() -> int:
    small, trap = furnished(), Trap()
    with new_store() as store:
        report = drained(small, store, trap)
        assert report is not None
        assert report.end is RunEnd.DONE
    return trap.count


@pytest.mark.parametrize("at", range(1, points() + 1))
def test_power_cut_at_every_point(at: int) -> None:
    small, before, after = furnished(), Trap(at), Trap()
    everything = holds(small, "h1")
    with new_store() as store:
        assert drained(small, store, before) is None
        report = start_again(small, store, after)
        assert report.end is RunEnd.DONE, report
        assert holds(small, "h1") == set()
        assert is_paused(small, "h1")
        everything_is_somewhere(small)
        twice = {act[1] for act in before.acts if act[0] == "start"}
        twice &= {act[1] for act in after.acts if act[0] == "start"}
        assert not twice, "a migration was issued again"
        assert not store.journal.open_moves("small")
        assert not store.drains.open("small")
        (newest, *older) = store.drains.latest("small")
        assert newest.state is DrainState.DRAINED
        assert len(older) <= 1, "it is carried on, not begun anew"
        if not older:  # what was there is known from the first begin, and so is who paused it
            assert newest.paused == ("h1",)
            assert {thing.name for thing in store.drains.things(newest.id)} == everything


@pytest.mark.parametrize("at", range(3, points() + 1, 4))
def test_resumed_after_a_power_cut_it_is_given_up_and_comes_back(at: int) -> None:
    small = furnished()
    everything = holds(small, "h1")
    with new_store() as store:
        assert drained(small, store, Trap(at)) is None
        small.clock.sleep(LEASE_S + 0.1)
        trapped(store, Trap())
        report = take_back(small, store, "h1", restore=True)
        assert report.end is RunEnd.DONE, report
        assert not is_paused(small, "h1")
        assert holds(small, "h1") == everything
        assert not store.drains.open("small")
        everything_is_somewhere(small)


def test_power_cut_while_it_is_undone() -> None:
    """The state says that the host is to be resumed; draining again is asked for and done."""
    small = furnished()
    small.world.guests[small.vm("v11")].assigned_devices = 1
    with new_store() as store:
        trap = Trap()
        assert drained(small, store, trap, on_failure=OnFailure.RESUME) is not None
        count = trap.count
    for at in range(count - 5, count):
        small = furnished()
        small.world.guests[small.vm("v11")].assigned_devices = 1
        with new_store() as store:
            assert drained(small, store, Trap(at), on_failure=OnFailure.RESUME) is None
            report = start_again(small, store, Trap(), on_failure=OnFailure.RESUME)
            assert report.end is RunEnd.IN_PART
            assert not is_paused(small, "h1")
            assert not store.drains.open("small")
            assert holds(small, "h1") == {"v11"}
